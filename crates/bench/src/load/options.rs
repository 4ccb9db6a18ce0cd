//! What to send, how fast and for how long: the command line's words, checked once into a [`Plan`].

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::coap_message;
use super::tally::Expect;

/// More sockets than one address has ephemeral ports for cannot be opened.
const CLIENTS_MAX: usize = 28_000;
const THREADS_MAX: usize = 256;
const DURATION_DEFAULT: Duration = Duration::from_secs(5);
const WARMUP_DEFAULT: Duration = Duration::from_secs(1);

/// Load to put on one server: a target, a number of clients and a length.
///
/// Without `--rate` the loop is closed: each client sends its next request when the last one is answered. With it the
/// loop is open: requests are due at fixed times whatever the server does, and latency counts from when they were due.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where to send requests: http://HOST:PORT/PATH or coap://HOST:PORT/PATH
    pub target: String,

    /// Connections (HTTP) or sockets (CoAP), each with one request in flight at most
    #[arg(long, short = 'c', default_value_t = 64)]
    pub clients: usize,

    /// How long to measure [default: 5s]
    #[arg(long, short = 'd', value_parser = humantime::parse_duration, conflicts_with = "requests")]
    pub duration: Option<Duration>,

    /// Measure this many requests per client instead of a duration
    #[arg(long, short = 'n')]
    pub requests: Option<u64>,

    /// Requests per second of all clients together, sent at fixed times (open loop)
    #[arg(long, short = 'r')]
    pub rate: Option<f64>,

    /// Method of every request [default: GET, or POST with a body]
    #[arg(long, short = 'X')]
    pub method: Option<String>,

    /// Body of every request
    #[arg(long, conflicts_with = "body_file")]
    pub body: Option<String>,

    /// File with the body of every request
    #[arg(long)]
    pub body_file: Option<PathBuf>,

    /// Header of every HTTP request, as "name: value"; may be given several times
    #[arg(long = "header", short = 'H')]
    pub headers: Vec<String>,

    /// An answer later than this counts as failed
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,

    /// A reply with another body counts as failed (a single newline at the end aside)
    #[arg(long)]
    pub expect_body: Option<String>,

    /// A reply with another status counts as failed: 200, or 2.05 for CoAP [default: any success]
    #[arg(long)]
    pub expect_status: Option<String>,

    /// Send CoAP requests as NON: no acknowledgement, no retransmission
    #[arg(long)]
    pub non: bool,

    /// First wait for an acknowledgement of a CoAP CON; longer than --timeout means no retransmissions (RFC 7252 ACK_TIMEOUT)
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub ack_timeout: Duration,

    /// Threads that send and receive
    #[arg(long, short = 't', default_value_t = 1)]
    pub threads: usize,

    /// Time before measuring starts, at the same load [default: 1s with a duration, none with --requests]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub warmup: Option<Duration>,

    /// Measure processor time and memory of this process and its children
    #[arg(long)]
    pub server_pid: Option<u32>,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// The command line's defaults for `target`.
    #[must_use]
    pub fn new(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            clients: 64,
            duration: None,
            requests: None,
            rate: None,
            method: None,
            body: None,
            body_file: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(1),
            expect_body: None,
            expect_status: None,
            non: false,
            ack_timeout: Duration::from_secs(2),
            threads: 1,
            warmup: None,
            server_pid: None,
            json: false,
        }
    }
}

/// Protocol of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Http,
    Coap,
}

/// When measuring ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    For(Duration),
    /// This many measured requests per client.
    Each(u64),
}

/// The options, checked. Nothing in here can fail any more.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) door: Door,
    pub(super) address: SocketAddr,
    /// The request as it goes over the wire; for CoAP without id and token.
    pub(super) request: Vec<u8>,
    pub(super) head_request: bool,
    pub(super) confirmable: bool,
    pub(super) ack_timeout: Duration,
    pub(super) clients: usize,
    pub(super) threads: usize,
    pub(super) length: Length,
    pub(super) rate: Option<f64>,
    pub(super) warmup: Duration,
    pub(super) timeout: Duration,
    pub(super) expect: Expect,
}

impl Plan {
    pub(super) fn check(options: &Options) -> Result<Self> {
        let uri: http::Uri = options.target.parse().with_context(|| {
            format!(
                "target `{}` is not a URL, use http://HOST:PORT/PATH or coap://HOST:PORT/PATH",
                options.target
            )
        })?;
        let (door, default_port) = match uri.scheme_str() {
            Some("http") => (Door::Http, 80),
            Some("coap") => (Door::Coap, 5683),
            other => bail!(
                "scheme `{}` is not supported, use http or coap",
                other.unwrap_or("none")
            ),
        };
        let host = uri
            .host()
            .context("target without a host, use http://HOST:PORT/PATH")?;
        let address = resolve(host, uri.port_u16().unwrap_or(default_port))?;
        ensure!(
            (1..=CLIENTS_MAX).contains(&options.clients),
            "{} clients, use 1 to {CLIENTS_MAX}",
            options.clients
        );
        ensure!(
            (1..=THREADS_MAX).contains(&options.threads),
            "{} threads, use 1 to {THREADS_MAX}",
            options.threads
        );
        ensure!(
            !options.timeout.is_zero(),
            "timeout of 0, use for example --timeout 1s"
        );
        ensure!(
            options
                .rate
                .is_none_or(|rate| rate.is_finite() && rate > 0.0 && rate <= 1e7),
            "rate of {} requests per second, use more than 0 and at most 10,000,000",
            options.rate.unwrap_or_default()
        );
        let length = options.requests.map_or(
            Length::For(options.duration.unwrap_or(DURATION_DEFAULT)),
            Length::Each,
        );
        let body = match (&options.body, &options.body_file) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(path)) => std::fs::read(path)
                .with_context(|| format!("cannot read body file {}", path.display()))?,
            (None, None) => Vec::new(),
        };
        let method = options
            .method
            .clone()
            .unwrap_or_else(|| if body.is_empty() { "GET" } else { "POST" }.to_owned());
        let request = match door {
            Door::Http => http_request(&uri, &method, &options.headers, &body)?,
            Door::Coap => {
                ensure!(
                    options.headers.is_empty(),
                    "CoAP has no headers, leave out --header"
                );
                coap_message::Request {
                    method: &method,
                    // RFC 7252 §6.4: left out when it is the address the request goes to.
                    host: literal(host).is_none().then_some(host),
                    path: uri.path(),
                    query: uri.query(),
                    body: &body,
                    confirmable: !options.non,
                }
                .encode()?
            }
        };
        Ok(Self {
            door,
            address,
            request,
            head_request: method.eq_ignore_ascii_case("HEAD"),
            confirmable: !options.non,
            ack_timeout: options.ack_timeout,
            clients: options.clients,
            threads: options.threads.min(options.clients),
            length,
            rate: options.rate,
            warmup: options.warmup.unwrap_or(match length {
                Length::For(_) => WARMUP_DEFAULT,
                Length::Each(_) => Duration::ZERO,
            }),
            timeout: options.timeout,
            expect: Expect {
                status: options
                    .expect_status
                    .as_deref()
                    .map(|text| parse_status(door, text))
                    .transpose()?,
                body: options.expect_body.clone().map(String::into_bytes),
            },
        })
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr> {
    if let Some(address) = literal(host) {
        return Ok(SocketAddr::new(address, port));
    }
    (host, port)
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve host `{host}`, check the name or use an address"))?
        .next()
        .with_context(|| format!("host `{host}` has no address"))
}

fn http_request(uri: &http::Uri, method: &str, headers: &[String], body: &[u8]) -> Result<Vec<u8>> {
    http::Method::from_bytes(method.as_bytes())
        .with_context(|| format!("method `{method}` is not a method"))?;
    let path = uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n");
    for header in headers {
        let (name, value) = header
            .split_once(':')
            .with_context(|| format!("header `{header}` has no colon, write \"name: value\""))?;
        let name = http::HeaderName::from_bytes(name.trim().as_bytes())
            .with_context(|| format!("header name `{name}` is not valid"))?;
        let value = value.trim();
        http::HeaderValue::from_str(value)
            .with_context(|| format!("header value `{value}` is not valid"))?;
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    Ok(request)
}

/// `200`, or `2.05` for CoAP, which is 205 inside.
fn parse_status(door: Door, text: &str) -> Result<u16> {
    let digits = match door {
        Door::Http => text.to_owned(),
        Door::Coap => text.replace('.', ""),
    };
    digits
        .parse()
        .ok()
        .filter(|status| digits.len() == 3 && (100..1000).contains(status))
        .with_context(|| {
            format!("status `{text}` is not a status, use for example 200, or 2.05 for CoAP")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Options), word: &str) {
        let mut options = Options::new("http://127.0.0.1:1/x");
        change(&mut options);
        let error = format!("{:#}", Plan::check(&options).unwrap_err());
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn says_what_is_wrong() {
        refused(|o| o.target = "https://127.0.0.1/".into(), "https");
        refused(|o| o.target = "/x".into(), "scheme");
        refused(|o| o.clients = 0, "clients");
        refused(|o| o.threads = 0, "threads");
        refused(|o| o.rate = Some(0.0), "rate");
        refused(|o| o.timeout = Duration::ZERO, "timeout");
        refused(|o| o.headers = vec!["a: b\r\nc: d".into()], "header value");
        refused(|o| o.method = Some("A B".into()), "method");
        refused(|o| o.expect_status = Some("2.05".into()), "2.05");
        refused(
            |o| o.body_file = Some("/nonexistent".into()),
            "/nonexistent",
        );
    }

    #[test]
    fn writes_the_request() {
        let mut options = Options::new("http://127.0.0.1:8000/a?b=c");
        options.body = Some("hi".into());
        options.headers = vec!["X-A:  1".into()];
        let plan = Plan::check(&options).unwrap();
        assert_eq!(
            String::from_utf8(plan.request).unwrap(),
            "POST /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nhi"
        );
        assert_eq!(plan.warmup, WARMUP_DEFAULT);
    }

    #[test]
    fn reads_coap_targets() {
        let mut options = Options::new("coap://[::1]/hello");
        options.expect_status = Some("2.05".into());
        options.requests = Some(3);
        let plan = Plan::check(&options).unwrap();
        assert_eq!((plan.door, plan.address.port()), (Door::Coap, 5683));
        assert_eq!(
            (plan.expect.status, plan.warmup),
            (Some(205), Duration::ZERO)
        );
    }

    #[test]
    fn the_command_line_has_the_same_defaults() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            options: Options,
        }
        let cli = <Cli as clap::Parser>::parse_from(["load", "http://h/"]);
        assert_eq!(
            format!("{:?}", cli.options),
            format!("{:?}", Options::new("http://h/"))
        );
    }
}
