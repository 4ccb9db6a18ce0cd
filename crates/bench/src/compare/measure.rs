//! Measurements that the rows share: rounds of load in turn, and memory at rest.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::table::median;
use crate::footprint::Footprint;
use crate::load::{self, Options, Report};

/// All promises are about this many connections or devices.
pub(super) const CLIENTS: usize = 64;
const WARMUP: Duration = Duration::from_millis(500);
/// A failed answer costs less than a real one, so more than a few spoil the comparison.
const FAILED_SHARE_MAX: f64 = 0.001;
/// A process rests when it used at most one tick in this time.
const REST_STEP: Duration = Duration::from_millis(500);
const REST_CPU_MAX: Duration = Duration::from_millis(10);
const REST_WAIT_MAX: Duration = Duration::from_secs(20);

/// One server to put load on.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) target: String,
    pub(super) pid: u32,
    pub(super) expect_body: Option<&'static str>,
}

/// What a row is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Figure {
    CpuPerRequest,
    RequestsPerSecond,
}

impl Side {
    fn options(&self, duration: Duration) -> Options {
        let mut options = Options::new(self.target.clone());
        options.clients = CLIENTS;
        options.duration = Some(duration);
        options.warmup = Some(WARMUP);
        options.expect_body = self.expect_body.map(str::to_owned);
        options.server_pid = Some(self.pid);
        options
    }

    /// As fast as it goes.
    pub(super) fn full(&self, duration: Duration) -> Result<Report> {
        trusted(load::run(&self.options(duration))?)
    }

    /// At a fixed rate.
    pub(super) fn at_rate(&self, duration: Duration, rate: f64) -> Result<Report> {
        let mut options = self.options(duration);
        options.rate = Some(rate);
        trusted(load::run(&options)?)
    }

    /// One request, and how long it took in milliseconds.
    pub(super) fn once(&self) -> Result<f64> {
        let mut options = self.options(Duration::ZERO);
        options.clients = 1;
        options.duration = None;
        options.requests = Some(1);
        options.warmup = None;
        options.timeout = Duration::from_secs(10);
        options.server_pid = None;
        let report = trusted(load::run(&options)?)?;
        Ok(report.latency_us.max / 1000.0)
    }
}

/// Measures `ours` and `theirs` in turn; the medians, and what speaks against them.
///
/// That the generator was busy all the time says nothing against processor time per request.
pub(super) fn interleave(
    rounds: usize,
    duration: Duration,
    figure: Figure,
    ours: &Side,
    theirs: &Side,
) -> Result<(f64, f64, Vec<String>)> {
    let mut values = [Vec::new(), Vec::new()];
    let mut processor = [Vec::new(), Vec::new()];
    let mut notes: Vec<String> = Vec::new();
    for _ in 0..rounds {
        let both = [ours, theirs].into_iter().zip(&mut values);
        for ((side, values), processor) in both.zip(&mut processor) {
            let report = side.full(duration)?;
            let server = report.server.context("the load was given a process")?;
            processor.push(server.cpu_us_per_request);
            values.push(match figure {
                Figure::CpuPerRequest => server.cpu_us_per_request,
                Figure::RequestsPerSecond => {
                    notes.extend(
                        report
                            .warnings
                            .iter()
                            .map(|warning| format!("{}: {warning}", report.target)),
                    );
                    report.requests_per_second
                }
            });
        }
    }
    if matches!(figure, Figure::RequestsPerSecond) {
        // Where the generator takes its part of the processors, this says more than requests per second.
        let [ours, theirs] = processor.map(|values| median(&values));
        notes.insert(
            0,
            format!(
                "server CPU per request: {ours:.1} and {theirs:.1} µs, {:.2} times as much",
                theirs / ours
            ),
        );
    }
    Ok((median(&values[0]), median(&values[1]), notes))
}

/// Proportional memory in megabytes once the process has nothing left to do.
pub(super) fn resting_pss_mb(pid: u32) -> Result<f64> {
    let until = Instant::now() + REST_WAIT_MAX;
    let mut last = Footprint::of(pid)?;
    loop {
        thread::sleep(REST_STEP);
        let now = Footprint::of(pid)?;
        let rests = now.cpu.saturating_sub(last.cpu) <= REST_CPU_MAX;
        if rests || Instant::now() >= until {
            let bytes = now
                .pss_bytes
                .context("the kernel shows no proportional memory of the node")?;
            #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
            return Ok(bytes as f64 / 1e6);
        }
        last = now;
    }
}

fn trusted(report: Report) -> Result<Report> {
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
    let bad = report.failed.total as f64 > report.sent as f64 * FAILED_SHARE_MAX;
    ensure!(
        !bad && report.ok > 0,
        "{} of {} requests to {} failed: {}",
        report.failed.total,
        report.sent,
        report.target,
        report.failed
    );
    Ok(report)
}
