//! Replays recorded load: how often each function was called in each minute, or every single call.
//!
//! A trace is read once and kept compact, within bounds; the arrivals are made of it while the run goes on, so a
//! replay holds one place for each function that is active in the minute at hand.

mod calls;
mod csv;
mod minutes;

pub(super) mod generate;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::arrivals::{Arrival, Spacing, count, next_of};

/// The columns of a trace file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Azure Functions 2019: HashOwner,HashApp,HashFunction,Trigger,1,…,1440 with invocations per minute
    Azure2019,
    /// Azure Functions 2021: app,func,end_timestamp,duration with one line for each invocation, in seconds
    Azure2021,
    /// invocations.csv of vHive's invitro: as Azure 2019, for any number of minutes
    Invitro,
}

/// Seconds of a minute in nanoseconds.
const MINUTE_NS: f64 = 60e9;

/// Part of a recorded load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    /// How many functions the file has; they are numbered in the order of the file.
    pub(super) functions: u32,
    /// Which of its minutes these are.
    pub(super) minutes: Range<u32>,
    pub(super) load: Load,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Load {
    /// For each minute the functions that were called and how often.
    Counts(Vec<Vec<(u32, u32)>>),
    /// Nanoseconds since the first of the minutes and function of every call, in order.
    Calls(Vec<(u64, u32)>),
}

impl Trace {
    /// Reads those minutes of the file, or all.
    pub(super) fn read(path: &Path, format: Format, minutes: Option<Range<u32>>) -> Result<Self> {
        let name = path.display();
        let file = File::open(path).with_context(|| format!("cannot open trace {name}"))?;
        let lines = csv::Lines::new(BufReader::with_capacity(1 << 20, file));
        let trace = match format {
            Format::Azure2019 | Format::Invitro => minutes::read(lines, minutes),
            Format::Azure2021 => calls::read(lines, minutes),
        }
        .with_context(|| format!("cannot use trace {name}"))?;
        ensure!(
            trace.invocations() > 0,
            "trace {name} has no invocation in minutes {}..{}, choose others with --trace-minutes",
            trace.minutes.start,
            trace.minutes.end
        );
        Ok(trace)
    }

    pub(super) fn invocations(&self) -> u64 {
        match &self.load {
            Load::Counts(minutes) => minutes
                .iter()
                .flatten()
                .map(|(_, count)| u64::from(*count))
                .sum(),
            Load::Calls(calls) => calls.len() as u64,
        }
    }

    /// How long it is, unless replayed faster.
    pub(super) fn length(&self) -> Duration {
        Duration::from_secs(60 * u64::from(self.minutes.end - self.minutes.start))
    }
}

/// Arrivals of a trace, in order.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    trace: Arc<Trace>,
    spacing: Spacing,
    /// How many times as fast as it was recorded.
    speed: f64,
    seed: u64,
    /// The next minute, or call.
    next: usize,
    /// The next call of each function that still has one in the minute before.
    active: BinaryHeap<Reverse<Active>>,
}

/// Ordered by when it is due; the function makes the order complete, and so the same in every thread.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Active {
    at: u64,
    function: u32,
    left: u32,
    place: Place,
}

/// Where in its minute a function is, which the order of two calls never comes down to.
#[derive(Debug, Clone)]
struct Place {
    count: u32,
    /// Where the last call was, or by how much all are shifted, within 0 to 1.
    last: f64,
    random: fastrand::Rng,
}

impl PartialEq for Place {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, _other: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Replay {
    pub(super) fn new(trace: Arc<Trace>, spacing: Spacing, speed: f64, seed: u64) -> Self {
        Self {
            trace,
            spacing,
            speed,
            seed,
            next: 0,
            active: BinaryHeap::new(),
        }
    }

    /// The function's first call in this minute.
    fn first(&self, minute: usize, function: u32, count: u32) -> Active {
        let mut random = fastrand::Rng::with_seed(
            self.seed ^ (minute as u64) << 40 ^ u64::from(function).wrapping_mul(0x9e37_79b9),
        );
        // Functions that are called once a minute are not called all at once.
        let last = match self.spacing {
            Spacing::Constant => random.f64(),
            Spacing::Poisson => 0.0,
        };
        let mut active = Active {
            at: 0,
            function,
            left: count,
            place: Place {
                count,
                last,
                random,
            },
        };
        active.at = self.at(minute, &mut active);
        active
    }

    /// When the next call is due, and counts it.
    fn at(&self, minute: usize, active: &mut Active) -> u64 {
        let place = &mut active.place;
        let within = match self.spacing {
            Spacing::Constant => {
                let had = f64::from(place.count - active.left);
                (had + place.last) / f64::from(place.count)
            }
            Spacing::Poisson => {
                place.last = next_of(u64::from(active.left), place.last, &mut place.random);
                place.last
            }
        };
        active.left -= 1;
        nanoseconds((count(minute as u64) + within) * MINUTE_NS)
    }

    fn next_counted(&mut self, minutes: &[Vec<(u32, u32)>]) -> Option<(u64, u32)> {
        while self.active.is_empty() {
            let minute = self.next;
            let calls = minutes.get(minute)?;
            self.next += 1;
            self.active = calls
                .iter()
                .map(|&(function, count)| Reverse(self.first(minute, function, count)))
                .collect();
        }
        let minute = self.next - 1;
        let Reverse(mut active) = self.active.pop()?;
        let due = (active.at, active.function);
        if active.left > 0 {
            active.at = self.at(minute, &mut active);
            self.active.push(Reverse(active));
        }
        Some(due)
    }
}

impl Iterator for Replay {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let trace = Arc::clone(&self.trace);
        let (at, function) = match &trace.load {
            Load::Counts(minutes) => self.next_counted(minutes)?,
            Load::Calls(calls) => {
                self.next += 1;
                *calls.get(self.next - 1)?
            }
        };
        Some(Arrival {
            at: Duration::from_nanos(nanoseconds(count(at) / self.speed)),
            function,
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are not negative, and `as` saturates"
)]
fn nanoseconds(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replay(minutes: &[Vec<(u32, u32)>], spacing: Spacing, speed: f64) -> Replay {
        let trace = Trace {
            functions: 10,
            minutes: 5..5 + u32::try_from(minutes.len()).unwrap(),
            load: Load::Counts(minutes.to_vec()),
        };
        Replay::new(Arc::new(trace), spacing, speed, 1)
    }

    proptest! {
        #[test]
        fn every_call_comes_in_its_minute_and_in_order(
            minutes in proptest::collection::vec(proptest::collection::btree_map(0u32..10, 1u32..50, 0..6), 1..5),
            poisson in any::<bool>(),
            speed in prop_oneof![Just(1.0), 0.5f64..100.0],
        ) {
            let minutes: Vec<Vec<_>> = minutes.into_iter().map(|minute| minute.into_iter().collect()).collect();
            let spacing = if poisson { Spacing::Poisson } else { Spacing::Constant };
            let all: Vec<_> = replay(&minutes, spacing, speed).collect();
            prop_assert!(all.is_sorted_by(|a, b| a.at <= b.at));
            prop_assert!(replay(&minutes, spacing, speed).eq(all.iter().copied()));
            for (minute, calls) in minutes.iter().enumerate() {
                let from = count(minute as u64) * 60.0 / speed;
                // A call at the very end may be rounded into the next minute.
                let inside = |slack: f64, function: u32| {
                    let minute = from - slack..from + 60.0 / speed + slack;
                    let own = all.iter().filter(|arrival| arrival.function == function);
                    own.filter(|arrival| minute.contains(&arrival.at.as_secs_f64())).count()
                };
                for &(function, count) in calls {
                    prop_assert!(inside(1e-6, function) >= count as usize);
                    prop_assert!(inside(-1e-6, function) <= count as usize);
                }
            }
        }
    }

    #[test]
    fn equal_distances_are_equal() {
        let at: Vec<_> = replay(&[vec![(3, 4)]], Spacing::Constant, 60.0)
            .map(|arrival| arrival.at.as_secs_f64())
            .collect();
        for pair in at.windows(2) {
            assert!((pair[1] - pair[0] - 0.25).abs() < 1e-6, "{at:?}");
        }
    }
}
