//! What became of calls: one outcome for each, counted once, with how long it took.
//!
//! Counters are plain atomics in the function's own state, so that counting needs no look-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mote_core::error::ErrorKind;
use mote_core::invocation::Origin;
use tokio::time::Instant;

use crate::plan::{Entry, HeldEntry};

/// How one call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The function answered.
    Ok,
    /// The function answered with a status of 500 or more.
    FunctionError,
    /// The call failed.
    Failed(ErrorKind),
    /// The caller went away.
    Cancelled,
}

impl Outcome {
    const COUNT: usize = 3 + ErrorKind::ALL.len();

    /// Every outcome, by index.
    pub fn all() -> impl Iterator<Item = Outcome> {
        [Self::Ok, Self::FunctionError, Self::Cancelled]
            .into_iter()
            .chain(ErrorKind::ALL.iter().map(|kind| Self::Failed(*kind)))
    }

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::FunctionError => "function_error",
            Self::Failed(kind) => kind.label(),
            Self::Cancelled => "cancelled",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::FunctionError => 1,
            Self::Cancelled => 2,
            Self::Failed(kind) => 3 + kind as usize,
        }
    }
}

/// Counts of one function.
#[derive(Debug, Default)]
pub struct Counters {
    calls: [[AtomicU64; Outcome::COUNT]; Origin::ALL.len()],
    /// Seconds from admission to outcome.
    pub duration: Histogram,
    /// Seconds that starting an instance took, for calls that had to wait for it.
    pub cold_start: Histogram,
    /// Seconds that calls waited for a permit, of those that had to.
    pub queue_wait: Histogram,
    /// Values that were published and differed from the one before.
    pub published: AtomicU64,
    /// Values that were not published because of a limit.
    pub publish_refused: AtomicU64,
}

impl Counters {
    /// Calls with this origin and outcome.
    pub fn calls(&self, origin: Origin, outcome: Outcome) -> u64 {
        self.calls[origin as usize][outcome.index()].load(Ordering::Relaxed)
    }

    /// All calls.
    pub fn total(&self) -> u64 {
        self.sum(Outcome::all())
    }

    /// Calls that did not end with `ok`.
    pub fn failures(&self) -> u64 {
        self.sum(Outcome::all().filter(|outcome| *outcome != Outcome::Ok))
    }

    fn sum(&self, outcomes: impl Iterator<Item = Outcome>) -> u64 {
        outcomes
            .map(|outcome| {
                Origin::ALL
                    .iter()
                    .map(|origin| self.calls(*origin, outcome))
                    .sum::<u64>()
            })
            .sum()
    }

    /// Counts a call that was accepted and dropped before anything was done for it.
    pub(crate) fn dropped(&self, origin: Origin) {
        self.add(origin, Outcome::Cancelled, Duration::ZERO);
    }

    fn add(&self, origin: Origin, outcome: Outcome, took: Duration) {
        self.calls[origin as usize][outcome.index()].fetch_add(1, Ordering::Relaxed);
        self.duration.observe(took);
    }
}

/// The record of one call: counted exactly once, as `cancelled` when it is dropped without an
/// outcome.
#[derive(Debug)]
pub struct Record {
    entry: HeldEntry,
    origin: Origin,
    started: Instant,
    done: bool,
}

impl Record {
    /// Begins the record of a call.
    pub fn new(entry: HeldEntry, origin: Origin, started: Instant) -> Self {
        Self {
            entry,
            origin,
            started,
            done: false,
        }
    }

    /// The function that is called.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// To be told when the call goes on for long.
    pub fn keep_for_long(&mut self) {
        self.entry.keep_for_long();
    }

    /// Time since the call began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends it.
    pub fn finish(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome) {
        self.done = true;
        self.entry
            .state
            .counters
            .add(self.origin, outcome, self.started.elapsed());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.done {
            self.close(Outcome::Cancelled);
        }
    }
}

/// Upper bounds of the histogram buckets, in microseconds: from a fresh store to the longest call.
pub const BUCKETS_US: [u64; 14] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000,
    10_000_000,
];

/// A histogram of durations, of two relaxed additions per observation. The sum lies in one cache
/// line with the buckets of short calls, which are the ones where it matters.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Histogram {
    sum_ns: AtomicU64,
    counts: [AtomicU64; BUCKETS_US.len() + 1],
}

impl Histogram {
    /// Adds one duration.
    pub fn observe(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US
            .iter()
            .position(|bound| ns <= bound * 1_000)
            .unwrap_or(BUCKETS_US.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        if ns > 0 {
            self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        }
    }

    /// How many durations there were, and their sum in seconds.
    pub fn totals(&self) -> (u64, f64) {
        let counts = self.counts.iter();
        let calls = counts.map(|count| count.load(Ordering::Relaxed)).sum();
        (calls, self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9)
    }

    /// Sum in seconds, and the count of each bucket by its upper bound in seconds.
    pub fn read(&self) -> (f64, Vec<(f64, u64)>) {
        let bounds = BUCKETS_US
            .iter()
            .map(|us| *us as f64 / 1e6)
            .chain([f64::INFINITY]);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        (
            self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9,
            bounds.zip(counts).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_place_and_label() {
        let all: Vec<_> = Outcome::all().collect();
        assert_eq!(all.len(), Outcome::COUNT);
        for (index, outcome) in all.iter().enumerate() {
            assert_eq!(outcome.index(), index);
            assert_eq!(
                all.iter()
                    .filter(|other| other.label() == outcome.label())
                    .count(),
                1
            );
        }
    }

    #[test]
    fn durations_fall_into_the_bucket_that_bounds_them() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(25));
        histogram.observe(Duration::from_micros(26));
        histogram.observe(Duration::from_secs(60));
        let (sum, buckets) = histogram.read();
        assert!((sum - 60.000_051).abs() < 1e-9);
        assert_eq!(
            (buckets[0].1, buckets[1].1, buckets.last().unwrap().1),
            (1, 1, 1)
        );
    }
}
