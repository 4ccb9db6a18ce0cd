//! The command line's words, checked once into a [`Plan`] in which nothing can fail any more.
//!
//! Whatever makes no sense is refused here, with the value and a way out, before anything is sent.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::options::Options;
use super::pacing::Pacing;
use super::tally::Expect;
use super::target::Targets;

/// More sockets than one address has ephemeral ports for cannot be opened.
const CLIENTS_MAX: usize = 28_000;
const THREADS_MAX: usize = 256;
/// More than servers allow by far.
const STREAMS_MAX: usize = 1000;
const CHAIN_MAX: u32 = 10_000;
const TIME_MAX: Duration = Duration::from_secs(366 * 86_400);

/// The options, checked.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) targets: Targets,
    pub(super) head_request: bool,
    pub(super) keep_alive: bool,
    /// Requests of one operation, at least one.
    pub(super) chain: u32,
    /// CoAP blocks have `16 << block_exponent` bytes at most.
    pub(super) block_exponent: u8,
    pub(super) confirmable: bool,
    pub(super) ack_timeout: Duration,
    pub(super) clients: usize,
    /// Clients that share one connection.
    pub(super) streams: usize,
    pub(super) threads: usize,
    pub(super) pacing: Pacing,
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
        let targets = Targets::check(options, &method, &body)?;
        let sockets = options.clients.saturating_mul(targets.len());
        ensure!(
            sockets <= CLIENTS_MAX,
            "{} clients of {} targets need {sockets} sockets, use at most {CLIENTS_MAX}",
            options.clients,
            targets.len()
        );
        let expect = Expect {
            status: options
                .expect_status
                .as_deref()
                .map(|text| targets.parse_status(text))
                .transpose()?,
            body: options.expect_body.clone().map(String::into_bytes),
            echo: options.expect_echo,
        };
        let (pacing, warmup) = Pacing::check(options)?;
        Ok(Self {
            targets,
            head_request: method.eq_ignore_ascii_case("HEAD"),
            keep_alive: !options.no_keep_alive,
            chain: options.chain,
            block_exponent: block_exponent(options.block_size)?,
            confirmable: !options.non,
            ack_timeout: options.ack_timeout,
            clients: options.clients,
            streams: options.streams,
            threads: options.threads.min(options.clients),
            pacing,
            warmup,
            timeout: options.timeout,
            expect,
        })
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
        (1..=STREAMS_MAX).contains(&options.streams),
        "{} streams, use 1 to {STREAMS_MAX}",
        options.streams
    );
    ensure!(
        options.streams == 1 || options.http2,
        "--streams is about HTTP/2, add --http2"
    );
    ensure!(
        !options.timeout.is_zero(),
        "timeout of 0, use for example --timeout 1s"
    );
    for (name, time) in [
        ("--timeout", Some(options.timeout)),
        ("--ack-timeout", Some(options.ack_timeout)),
        ("--warmup", options.warmup),
        ("--duration", options.duration),
    ] {
        ensure!(
            time.is_none_or(|time| time <= TIME_MAX),
            "{name} of {:?}, use at most a year",
            time.unwrap_or_default()
        );
    }
    ensure!(
        (1..=CHAIN_MAX).contains(&options.chain),
        "chain of {} requests, use 1 to {CHAIN_MAX}",
        options.chain
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
        refused(|o| o.clients = 0, "clients");
        refused(|o| o.threads = 0, "threads");
        refused(
            |o| o.targets = vec!["http://127.0.0.1/".into(); 1000],
            "sockets",
        );
        refused(|o| o.warmup = Some(Duration::MAX), "--warmup");
        refused(|o| o.chain = 0, "chain");
        refused(|o| o.streams = 2, "--http2");
        refused(
            |o| {
                o.http2 = true;
                o.no_keep_alive = true;
            },
            "--no-keep-alive",
        );
        refused(|o| o.block_size = 100, "--block-size");
        refused(
            |o| {
                o.targets = vec!["coap://127.0.0.1/x".into()];
                o.no_keep_alive = true;
            },
            "--no-keep-alive",
        );
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
        let Targets::Http(targets) = &plan.targets else {
            panic!("{plan:?}")
        };
        assert_eq!(
            String::from_utf8_lossy(&targets[0].request),
            "POST /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nconnection: close\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nhi"
        );
        assert_eq!(plan.warmup, Duration::from_secs(1));
    }

    #[test]
    fn reads_coap_targets() {
        let mut options = Options::new("coap://[::1]/hello");
        options.expect_status = Some("2.05".into());
        options.requests = Some(3);
        let plan = Plan::check(&options).unwrap();
        let Targets::Coap(targets) = &plan.targets else {
            panic!("{plan:?}")
        };
        assert_eq!(targets[0].address.port(), 5683);
        assert_eq!(
            (plan.expect.status, plan.warmup),
            (Some(205), Duration::ZERO)
        );
    }
}
