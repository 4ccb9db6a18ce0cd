//! What a load run found, for people and for programs.

mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::pacing::Pacing;
use super::plan::Plan;
use super::tally::{Counts, Tally};
use super::target::Targets;
use crate::environment::Environment;
use crate::footprint::Footprint;

/// Above this share of its threads' time, computing or kept from it, the generator may be what limits the result.
const CPU_SHARE_MAX: f64 = 0.9;
/// Above this share of late requests the schedule was not kept.
const LATE_SHARE_MAX: f64 = 0.01;

/// Result of one run of [`super::run`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where the requests went; several targets with a comma between them.
    pub target: String,
    /// Connections or sockets.
    pub clients: usize,
    /// Streams of each, which are clients of their own (HTTP/2).
    #[serde(default = "one_stream")]
    pub streams: usize,
    /// Threads of the generator.
    pub threads: usize,
    /// Operations per second that were due on average (open loop), or nothing (closed loop).
    pub rate: Option<f64>,
    /// How they lay in time (open loop): `constant`, `poisson`, or steps or a trace in a few words.
    #[serde(default)]
    pub arrivals: Option<String>,
    /// Requests of one operation. Where it is more than one, counts, rate and latency below are of operations.
    #[serde(default = "one")]
    pub chain: u32,
    /// Whether connections were used again, or one opened for each request.
    #[serde(default = "yes")]
    pub keep_alive: bool,
    /// Length of the measured window.
    pub seconds: f64,
    /// Measured requests that were sent. `ok` and `failed` together are these and the ones never sent.
    pub sent: u64,
    /// Answers in time, with the status and body that were expected.
    pub ok: u64,
    /// All others, by reason.
    pub failed: Failed,
    /// Good answers per second inside the window.
    pub requests_per_second: f64,
    /// Latency of good answers; a request that timed out counts with the time it was waited for.
    pub latency_us: Latency,
    /// The whole distribution behind `latency_us`, of the same requests: microseconds and how many took that long,
    /// shortest first. Three digits are kept, so each value stands for up to 0.1 % less. Runs are merged by adding counts.
    #[serde(default)]
    pub histogram: Vec<(f64, u64)>,
    /// The same for each target, in their order, when there are several.
    #[serde(default)]
    pub targets: Vec<Part>,
    /// CoAP requests sent again because no acknowledgement came.
    pub retransmissions: u64,
    /// CoAP requests sent again because the server remembered their id from an earlier exchange.
    pub id_collisions: u64,
    /// Replies or datagrams that broke the protocol.
    pub malformed: u64,
    /// Connections or sockets opened after the start.
    pub reconnects: u64,
    /// What the generator itself needed.
    pub generator: Generator,
    /// The generator, not the server, may have set the numbers: see `warnings`.
    pub fell_behind: bool,
    /// Why not to trust this report, one sentence each.
    pub warnings: Vec<String>,
    /// What the server needed, when its process was given.
    pub server: Option<Server>,
    /// Where and how to repeat it.
    pub environment: Environment,
}

/// What went to one of several targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its URL.
    pub target: String,
    /// As in [`Report`].
    pub sent: u64,
    /// As in [`Report`].
    pub ok: u64,
    /// As in [`Report`].
    pub failed: Failed,
    /// As in [`Report`].
    pub latency_us: Latency,
    /// As in [`Report`].
    pub histogram: Vec<(f64, u64)>,
}

/// Failed requests by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Sum of all reasons.
    pub total: u64,
    /// No answer, or one that came late.
    pub timeout: u64,
    /// The right status and another body.
    pub wrong_body: u64,
    /// Connection refused, reset or closed, or a reply that is not the protocol.
    pub transport: u64,
    /// Due in the open loop, but no client became free within the timeout.
    pub unsent: u64,
    /// Another status, such as `503` or `5.03`.
    pub status: BTreeMap<String, u64>,
}

/// Quantiles in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of quantiles say it all")]
pub struct Latency {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// What the generator needed to put on the load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Part of its threads' time in which it was computing, 0 to 1.
    pub cpu_share: f64,
    /// Part of its threads' time in which it could have computed and the processors did something else, 0 to 1.
    pub starved_share: f64,
    /// Its processor time per request.
    pub cpu_us_per_request: f64,
    /// Longest time from when a request was due until it was sent (open loop).
    pub lag_us_max: f64,
    /// Requests sent more than a millisecond after they could have been (open loop).
    pub late: u64,
    /// Requests sent more than a millisecond late because all clients were waiting for answers (open loop).
    pub waited: u64,
}

/// What the server's process tree needed in the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// The process that was given.
    pub pid: u32,
    /// It and its descendants, at the end.
    pub processes: usize,
    /// User and system time in the window.
    pub cpu_seconds: f64,
    /// The same for each answered request.
    pub cpu_us_per_request: f64,
    /// Proportional memory when measuring started; nothing when the kernel refuses it.
    pub pss_mb_before: Option<f64>,
    /// Proportional memory when measuring ended.
    pub pss_mb_after: Option<f64>,
}

/// The server's footprint at both ends of the window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) pid: u32,
    pub(super) before: Footprint,
    pub(super) after: Footprint,
}

impl Report {
    pub(super) fn new(
        urls: &[String],
        plan: &Plan,
        tally: &Tally,
        window: Duration,
        server: Option<Window>,
    ) -> Self {
        let seconds = window.as_secs_f64();
        let generator = Generator {
            cpu_share: ratio(tally.cpu.as_secs_f64(), tally.wall.as_secs_f64()),
            starved_share: ratio(tally.starved.as_secs_f64(), tally.wall.as_secs_f64()),
            cpu_us_per_request: ratio(micros(tally.cpu), count(tally.replies_in_window)),
            lag_us_max: micros(tally.lag_max),
            late: tally.late,
            waited: tally.waited,
        };
        let open = match &plan.pacing {
            Pacing::Closed(_) => None,
            Pacing::Open(open) => Some(open),
        };
        let targets = urls
            .iter()
            .zip(&tally.targets)
            .map(|(url, counts)| Part {
                target: url.clone(),
                sent: counts.sent,
                ok: counts.ok,
                failed: Failed::new(&plan.targets, counts),
                latency_us: Latency::new(&counts.latency),
                histogram: histogram(&counts.latency),
            })
            .collect();
        let warnings = warnings(plan, tally, &generator);
        Self {
            target: urls.join(", "),
            clients: plan.clients,
            streams: plan.streams,
            threads: plan.threads,
            rate: open.map(|open| open.rate),
            arrivals: open.map(|open| open.what.clone()),
            chain: plan.chain,
            keep_alive: plan.keep_alive,
            seconds,
            sent: tally.all.sent,
            ok: tally.all.ok,
            requests_per_second: ratio(count(tally.ok_in_window), seconds),
            latency_us: Latency::new(&tally.all.latency),
            histogram: histogram(&tally.all.latency),
            targets,
            retransmissions: tally.wire.retransmissions,
            id_collisions: tally.wire.id_collisions,
            malformed: tally.wire.malformed,
            reconnects: tally.wire.connects,
            generator,
            fell_behind: !warnings.is_empty(),
            warnings,
            server: server.map(|window| Server::new(window, tally.replies_in_window)),
            failed: Failed::new(&plan.targets, &tally.all),
            environment: Environment::read(),
        }
    }
}

fn warnings(plan: &Plan, tally: &Tally, generator: &Generator) -> Vec<String> {
    let mut warnings = Vec::new();
    if generator.cpu_share + generator.starved_share > CPU_SHARE_MAX {
        warnings.push(format!(
            "the generator computed {:.0} % and waited for a processor {:.0} % of the time of its {} thread(s): it limits \
             requests per second and latency, raise --threads, use a quieter machine or compare processor time per request",
            generator.cpu_share * 100.0,
            generator.starved_share * 100.0,
            plan.threads
        ));
    }
    if tally.wire.no_port > 0 {
        warnings.push(format!(
            "{} connections could not be opened because all local ports were taken: lower the rate, or leave out --no-keep-alive",
            tally.wire.no_port
        ));
    }
    if tally.all.unsent > 0 {
        warnings.push(format!(
            "{} requests were due and not sent: all {} clients were waiting for answers, lower the rate or raise --clients",
            tally.all.unsent, plan.clients
        ));
    }
    if count(tally.waited) > count(tally.all.sent) * LATE_SHARE_MAX {
        warnings.push(format!(
            "{} of {} requests waited more than 1 ms for a free client: the server is slower than this rate, or raise --clients",
            tally.waited, tally.all.sent
        ));
    }
    if count(tally.late) > count(tally.all.sent) * LATE_SHARE_MAX {
        warnings.push(format!(
            "{} of {} requests were sent more than 1 ms late though a client was free: the machine is too busy for this rate",
            tally.late, tally.all.sent
        ));
    }
    warnings
}

impl Failed {
    fn new(targets: &Targets, counts: &Counts) -> Self {
        let by_status: u64 = counts.by_status.values().sum();
        Self {
            total: counts.timeout
                + counts.wrong_body
                + counts.transport
                + counts.unsent
                + by_status,
            timeout: counts.timeout,
            wrong_body: counts.wrong_body,
            transport: counts.transport,
            unsent: counts.unsent,
            status: counts
                .by_status
                .iter()
                .map(|(&status, &count)| (targets.write_status(status), count))
                .collect(),
        }
    }
}

impl Latency {
    fn new(latency: &Histogram<u64>) -> Self {
        if latency.is_empty() {
            return Self::default();
        }
        let at = |quantile| count(latency.value_at_quantile(quantile)) / 1000.0;
        Self {
            min: count(latency.min()) / 1000.0,
            mean: latency.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: count(latency.max()) / 1000.0,
        }
    }
}

/// Every value by the upper end of its bucket, as quantiles are.
fn histogram(latency: &Histogram<u64>) -> Vec<(f64, u64)> {
    latency
        .iter_recorded()
        .map(|bucket| {
            let microseconds = count(bucket.value_iterated_to()) / 1000.0;
            (microseconds, bucket.count_at_value())
        })
        .collect()
}

impl Server {
    fn new(window: Window, replies: u64) -> Self {
        let cpu = window.after.cpu.saturating_sub(window.before.cpu);
        let megabytes = |footprint: Footprint| footprint.pss_bytes.map(|bytes| count(bytes) / 1e6);
        Self {
            pid: window.pid,
            processes: window.after.processes,
            cpu_seconds: cpu.as_secs_f64(),
            cpu_us_per_request: ratio(micros(cpu), count(replies)),
            pss_mb_before: megabytes(window.before),
            pss_mb_after: megabytes(window.after),
        }
    }
}

/// Reports from before there were chains.
fn one() -> u32 {
    1
}

fn one_stream() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
fn count(value: u64) -> f64 {
    value as f64
}

/// Nothing divided by nothing is nothing, so that reports stay numbers.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 {
        numerator / denominator
    } else {
        0.0
    }
}
