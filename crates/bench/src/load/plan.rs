//! The command line's words, checked once into a [`Plan`] in which nothing can fail any more.
//!
//! Whatever makes no sense is refused here, with the value and a way out, before anything is sent.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use ::http::Uri;
use anyhow::{Context, Result, bail, ensure};

use super::options::Options;
use super::tally::Expect;
use super::{coap, http};

/// More sockets than one address has ephemeral ports for cannot be opened.
const CLIENTS_MAX: usize = 28_000;
const THREADS_MAX: usize = 256;
const CHAIN_MAX: u32 = 10_000;
const DURATION_DEFAULT: Duration = Duration::from_secs(5);
const WARMUP_DEFAULT: Duration = Duration::from_secs(1);

/// Where requests go, by protocol.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Http(Arc<http::Target>),
    Coap(Arc<coap::Target>),
}

/// When measuring ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    For(Duration),
    /// This many measured requests per client.
    Each(u64),
}

/// The options, checked.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) target: Target,
    pub(super) head_request: bool,
    pub(super) keep_alive: bool,
    /// Requests of one operation, at least one.
    pub(super) chain: u32,
    /// CoAP blocks have `16 << block_exponent` bytes at most.
    pub(super) block_exponent: u8,
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
        check_numbers(options)?;
        let body = match (&options.body, &options.body_file) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(path)) => std::fs::read(path)
                .with_context(|| format!("cannot read body file {}", path.display()))?,
            (None, None) => Vec::new(),
        };
        let method = options.method.clone().unwrap_or_else(|| {
            // All requests of a chain but the first have a body.
            let bodiless = body.is_empty() && options.chain == 1;
            if bodiless { "GET" } else { "POST" }.to_owned()
        });
        let target = Target::check(options, &method, &body)?;
        let length = options.requests.map_or(
            Length::For(options.duration.unwrap_or(DURATION_DEFAULT)),
            Length::Each,
        );
        let expect = Expect {
            status: options
                .expect_status
                .as_deref()
                .map(|text| parse_status(&target, text))
                .transpose()?,
            body: options.expect_body.clone().map(String::into_bytes),
            echo: options.expect_echo,
        };
        Ok(Self {
            target,
            head_request: method.eq_ignore_ascii_case("HEAD"),
            keep_alive: !options.no_keep_alive,
            chain: options.chain,
            block_exponent: block_exponent(options.block_size)?,
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
            expect,
        })
    }
}

impl Target {
    fn check(options: &Options, method: &str, body: &[u8]) -> Result<Self> {
        let url = &options.target;
        let uri: Uri = url.parse().with_context(|| {
            format!(
                "target `{url}` is not a URL, use http://HOST:PORT/PATH or coap://HOST:PORT/PATH"
            )
        })?;
        let host = uri.host().with_context(|| {
            format!("target `{url}` has no scheme or host, use http://HOST:PORT/PATH")
        })?;
        match uri.scheme_str() {
            Some("http") => {
                let keep_alive = !options.no_keep_alive;
                let head = http::request::Head::new(&uri, method, &options.headers, keep_alive)?;
                let address = resolve(host, uri.port_u16().unwrap_or(80))?;
                Ok(Self::Http(Arc::new(http::Target::new(address, head, body))))
            }
            Some("coap") => {
                ensure!(
                    options.headers.is_empty(),
                    "CoAP has no headers, leave out --header"
                );
                ensure!(
                    !options.no_keep_alive,
                    "CoAP has no connections, leave out --no-keep-alive"
                );
                // RFC 7252 §6.4: left out when it is the address the request goes to.
                let named = literal(host).is_none().then_some(host);
                let (path, query) = (uri.path(), uri.query());
                let head = coap::request::Head::new(method, named, path, query, !options.non)?;
                let address = resolve(host, uri.port_u16().unwrap_or(5683))?;
                Ok(Self::Coap(Arc::new(coap::Target::new(
                    address,
                    head,
                    body.to_vec(),
                ))))
            }
            other => bail!(
                "scheme `{}` of target `{url}` is not supported, use http or coap",
                other.unwrap_or("none")
            ),
        }
    }
}

fn check_numbers(options: &Options) -> Result<()> {
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
        (1..=CHAIN_MAX).contains(&options.chain),
        "chain of {} requests, use 1 to {CHAIN_MAX}",
        options.chain
    );
    ensure!(
        options
            .rate
            .is_none_or(|rate| rate.is_finite() && rate > 0.0 && rate <= 1e7),
        "rate of {} requests per second, use more than 0 and at most 10,000,000",
        options.rate.unwrap_or_default()
    );
    Ok(())
}

/// RFC 7959 §2.2: a power of two from 16 to 1,024.
fn block_exponent(bytes: u16) -> Result<u8> {
    ensure!(
        bytes.is_power_of_two() && (16..=1024).contains(&bytes),
        "blocks of {bytes} bytes, use --block-size 16, 32, 64, 128, 256, 512 or 1024"
    );
    Ok(u8::try_from(bytes.ilog2() - 4).expect("at most 6"))
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

/// `200`, or `2.05` for CoAP, which is 205 inside.
fn parse_status(target: &Target, text: &str) -> Result<u16> {
    let digits = match target {
        Target::Http(_) => text.to_owned(),
        Target::Coap(_) => text.replace('.', ""),
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
        refused(|o| o.chain = 0, "chain");
        refused(|o| o.block_size = 100, "--block-size");
        refused(
            |o| {
                o.target = "coap://127.0.0.1/x".into();
                o.no_keep_alive = true;
            },
            "--no-keep-alive",
        );
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
        options.no_keep_alive = true;
        let plan = Plan::check(&options).unwrap();
        let Target::Http(target) = &plan.target else {
            panic!("{plan:?}")
        };
        assert_eq!(
            String::from_utf8_lossy(&target.request),
            "POST /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nconnection: close\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nhi"
        );
        assert_eq!(plan.warmup, WARMUP_DEFAULT);
    }

    #[test]
    fn reads_coap_targets() {
        let mut options = Options::new("coap://[::1]/hello");
        options.expect_status = Some("2.05".into());
        options.requests = Some(3);
        let plan = Plan::check(&options).unwrap();
        let Target::Coap(target) = &plan.target else {
            panic!("{plan:?}")
        };
        assert_eq!(target.address.port(), 5683);
        assert_eq!(
            (plan.expect.status, plan.warmup),
            (Some(205), Duration::ZERO)
        );
    }
}
