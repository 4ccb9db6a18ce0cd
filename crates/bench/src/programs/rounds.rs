//! Load on a node and on the bare program in turn, and single calls.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::compare::median;
use crate::load::{self, Options, Report};

const WARMUP: Duration = Duration::from_millis(300);
/// Longer than any call here takes, so that what is slow is measured and not lost.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the hello-program answers.
pub(super) const REPLY: &str = "hello, world\n";

/// One load on one target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) clients: usize,
    pub(super) length: Length,
    /// Requests per second of an open loop.
    pub(super) rate: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Length {
    For(Duration),
    /// Requests of all clients together, which share them evenly.
    Requests(u64),
}

impl Load {
    /// As many calls as `clients` make one after the other.
    pub(super) fn closed(clients: usize, duration: Duration) -> Self {
        Self {
            clients,
            length: Length::For(duration),
            rate: None,
        }
    }

    /// Puts the load on `target`; answers that are not the program's count as failed.
    pub(super) fn on(self, target: &str) -> Result<Report> {
        let mut options = Options::new(target);
        options.clients = self.clients;
        options.rate = self.rate;
        options.timeout = TIMEOUT;
        options.expect_body = Some(REPLY.to_owned());
        match self.length {
            Length::For(duration) => {
                options.duration = Some(duration);
                options.warmup = Some(WARMUP);
            }
            Length::Requests(all) => options.requests = Some(all / self.clients as u64),
        }
        load::run(&options)
    }

    /// The same, and every answer must be the program's.
    pub(super) fn whole(self, target: &str) -> Result<Report> {
        let report = self.on(target)?;
        ensure!(
            report.failed.total == 0 && report.ok > 0,
            "{} of {} requests to {} failed: {}",
            report.failed.total,
            report.sent,
            report.target,
            report.failed
        );
        Ok(report)
    }
}

/// The load on both targets in turn: every report of each.
pub(super) fn in_turn(rounds: usize, load: Load, targets: [&str; 2]) -> Result<[Vec<Report>; 2]> {
    let mut reports = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (target, reports) in targets.into_iter().zip(&mut reports) {
            reports.push(load.whole(target)?);
        }
    }
    Ok(reports)
}

/// The median of something in the reports.
pub(super) fn middle(reports: &[Report], of: impl Fn(&Report) -> f64) -> f64 {
    median(&reports.iter().map(of).collect::<Vec<_>>())
}

/// Why the generator may have set the numbers, each reason once.
pub(super) fn doubts(reports: &[Report]) -> Option<String> {
    let doubtful = reports.iter().filter(|report| report.fell_behind).count();
    (doubtful > 0).then(|| {
        format!(
            "in {doubtful} of {} rounds the load generator had too little processor",
            reports.len()
        )
    })
}

/// One call on an open connection: milliseconds until the answer is there, which is one packet.
pub(super) fn one_call(target: &str) -> Result<f64> {
    let load = Load {
        clients: 1,
        length: Length::Requests(1),
        rate: None,
    };
    Ok(load.whole(target)?.latency_us.max / 1000.0)
}
