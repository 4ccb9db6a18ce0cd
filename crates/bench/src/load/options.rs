//! What to send, how fast and for how long, in the command line's words. [`super::plan`] checks them.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::arrivals::Spacing;
use super::trace::Format;

/// Load to put on a server: targets, a number of clients and a length.
///
/// The loop is closed: each client sends its next request when the last one is answered. With `--rate`, `--steps` or
/// `--trace` it is open: requests are due at times of their own whatever the server does, and latency counts from then.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where to send requests: http://HOST:PORT/PATH or coap://HOST:PORT/PATH. Several targets of one protocol take
    /// turns, or with a trace each gets its functions; {function} in a path is the number of the trace's function
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<String>,

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

    /// Requests per second one after the other instead of one rate, as RATE:DURATION,RATE:DURATION,… (open loop)
    #[arg(long, value_name = "STEPS")]
    pub steps: Option<String>,

    /// How requests of the open loop lie in time [default: constant]
    #[arg(long, value_enum)]
    pub arrivals: Option<Spacing>,

    /// What chance depends on in the open loop: the same seed gives the same load
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// File with recorded load to replay (open loop)
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// Format of the trace
    #[arg(long, value_enum)]
    pub trace_format: Option<Format>,

    /// Replay the trace this many times as fast as it was recorded
    #[arg(long, default_value_t = 1.0)]
    pub trace_speed: f64,

    /// Replay only these minutes of the trace, A..B without B [default: all]
    #[arg(long, value_name = "A..B", value_parser = parse_minutes)]
    pub trace_minutes: Option<Range<u32>>,

    /// Method of every request [default: GET, or POST with a body or a chain]
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

    /// A reply that is not the request's body counts as failed
    #[arg(long, conflicts_with = "expect_body")]
    pub expect_echo: bool,

    /// A reply with another status counts as failed: 200, or 2.05 for CoAP [default: any success]
    #[arg(long)]
    pub expect_status: Option<String>,

    /// Speak HTTP/2 without TLS from the first byte on (prior knowledge, h2c)
    #[arg(long)]
    pub http2: bool,

    /// Streams of each HTTP/2 connection, each with one request in flight at most
    #[arg(long, default_value_t = 1)]
    pub streams: usize,

    /// Open a new connection for each HTTP request; latency includes connecting
    #[arg(long)]
    pub no_keep_alive: bool,

    /// Make each operation a chain of this many requests on one client, each with the body of the last reply;
    /// counts and latency are of operations, and an operation fails with its first failing request
    #[arg(long, default_value_t = 1)]
    pub chain: u32,

    /// Send CoAP requests as NON: no acknowledgement, no retransmission
    #[arg(long)]
    pub non: bool,

    /// First wait for an acknowledgement of a CoAP CON; longer than --timeout means no retransmissions (RFC 7252 ACK_TIMEOUT)
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub ack_timeout: Duration,

    /// Largest CoAP block in bytes: 16 to 1024, a power of two; larger bodies go block by block (RFC 7959)
    #[arg(long, default_value_t = 1024)]
    pub block_size: u16,

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
            targets: vec![target.into()],
            clients: 64,
            duration: None,
            requests: None,
            rate: None,
            steps: None,
            arrivals: None,
            seed: 1,
            trace: None,
            trace_format: None,
            trace_speed: 1.0,
            trace_minutes: None,
            method: None,
            body: None,
            body_file: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(1),
            expect_body: None,
            expect_echo: false,
            expect_status: None,
            http2: false,
            streams: 1,
            no_keep_alive: false,
            chain: 1,
            non: false,
            ack_timeout: Duration::from_secs(2),
            block_size: 1024,
            threads: 1,
            warmup: None,
            server_pid: None,
            json: false,
        }
    }
}

/// `A..B`, as ranges are written in Rust: B is the first minute that is left out.
fn parse_minutes(text: &str) -> Result<Range<u32>, String> {
    text.split_once("..")
        .and_then(|(from, to)| Some(from.trim().parse().ok()?..to.trim().parse().ok()?))
        .filter(|minutes| minutes.start < minutes.end)
        .ok_or_else(|| "write A..B with A less than B, such as 0..10 for the first ten".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_a_range() {
        assert_eq!(parse_minutes("3..10"), Ok(3..10));
        for text in ["", "3", "3..", "..3", "3..3", "a..b", "3...4"] {
            assert!(parse_minutes(text).is_err(), "{text}");
        }
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
