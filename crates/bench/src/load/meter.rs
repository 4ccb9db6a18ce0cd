//! What a load thread got from the processor while it measured: its own share, and how long it was kept waiting.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::drive::Schedule;
use super::tally::Tally;

/// What this thread got from the processor between the start of measuring and its end.
#[derive(Debug, Default)]
pub(super) struct Meter {
    from: Option<Reading>,
    to: Option<Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    cpu: Duration,
    /// Time in which the thread could have run and another one did.
    starved: Duration,
    at: Instant,
}

impl Meter {
    pub(super) fn sample(&mut self, schedule: &Schedule, now: Instant) {
        if self.from.is_none() && now >= schedule.measure_from {
            self.from = Some(Reading::take(now));
        }
        if self.to.is_none() && schedule.end.is_some_and(|end| now >= end) {
            self.to = Some(Reading::take(now));
        }
    }

    pub(super) fn finish(&self, tally: &mut Tally) {
        if let Some(from) = self.from {
            let to = self.to.unwrap_or_else(|| Reading::take(Instant::now()));
            tally.cpu = to.cpu.saturating_sub(from.cpu);
            tally.starved = to.starved.saturating_sub(from.starved);
            tally.wall = to.at.saturating_duration_since(from.at);
        }
    }
}

impl Reading {
    fn take(at: Instant) -> Self {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self {
            cpu: Duration::new(seconds, nanoseconds),
            starved: starved().unwrap_or_default(),
            at,
        }
    }
}

/// The second field of the scheduler's statistics, in nanoseconds; kernels without them count nothing.
fn starved() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let delay = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(delay))
}
