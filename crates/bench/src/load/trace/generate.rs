//! Makes a trace that is like the load of a cloud: few functions with most of the calls, more by day than by night.
//!
//! The recorded traces are large and not for everybody to have; a seed and a handful of numbers are. What is known of
//! them (Shahrad et al., Serverless in the Wild, 2020) is kept in rough: popularity with a heavy tail, a daily cycle,
//! timers that keep to their minute, and queues that are busy or quiet for some minutes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{Format, Load, Replay, Trace};
use crate::load::arrivals::{Spacing, count, exponential};

/// The same bound as for a trace that is read: eight bytes each.
const CELLS_MAX: u64 = 32 << 20;
const INVOCATIONS_MAX: f64 = 1e9;
/// Lines of Azure 2021, of 150 bytes each.
const CALLS_MAX: f64 = 16e6;
const MINUTES_OF_DAY: f64 = 1440.0;
/// Load at the least busy and at the busiest time of the day, against the mean.
const DAY_SWING: f64 = 0.5;
/// When it is least busy: two in the morning.
const NIGHT_MINUTE: f64 = 120.0;
/// A queue is busy in this share of the minutes, for so many at a time.
const BUSY_SHARE: f64 = 0.2;
const BUSY_MINUTES: f64 = 5.0;

/// A trace to make.
#[derive(Debug, Clone, Args)]
pub struct Generate {
    /// File to write
    pub file: PathBuf,

    /// Format of the file
    #[arg(long, value_enum, default_value_t = Format::Azure2019)]
    pub format: Format,

    /// How many functions
    #[arg(long, default_value_t = 100)]
    pub functions: u32,

    /// How many minutes, from midnight on
    #[arg(long, default_value_t = 1440)]
    pub minutes: u32,

    /// Invocations per second of all functions, on average over a day
    #[arg(long, default_value_t = 10.0)]
    pub rate: f64,

    /// How unequal functions are: the n-th has a share of n to the power of minus this
    #[arg(long, default_value_t = 1.2)]
    pub skew: f64,

    /// What chance depends on: the same seed gives the same trace
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Generate {
    /// Writes the trace; returns how many invocations it has.
    pub fn write(&self) -> Result<u64> {
        let trace = self.trace()?;
        let name = self.file.display();
        let file =
            File::create(&self.file).with_context(|| format!("cannot write trace {name}"))?;
        let mut output = BufWriter::new(file);
        let names = Names::new(self.functions, self.seed);
        match self.format {
            Format::Azure2019 | Format::Invitro => write_minutes(&trace, &names, &mut output),
            Format::Azure2021 => write_calls(&trace, &names, self.seed, &mut output),
        }
        .and_then(|()| output.flush())
        .with_context(|| format!("cannot write trace {name}"))?;
        Ok(trace.invocations())
    }

    fn trace(&self) -> Result<Trace> {
        let cells = u64::from(self.functions) * u64::from(self.minutes);
        ensure!(
            (1..=CELLS_MAX).contains(&cells),
            "{} functions over {} minutes, use at least one and at most {CELLS_MAX} of both together",
            self.functions,
            self.minutes
        );
        ensure!(
            self.skew.is_finite() && (0.0..=10.0).contains(&self.skew),
            "skew of {}, use 0 to 10",
            self.skew
        );
        let minutely = self.rate * 60.0;
        let all = minutely * f64::from(self.minutes);
        let most = match self.format {
            Format::Azure2021 => CALLS_MAX,
            Format::Azure2019 | Format::Invitro => INVOCATIONS_MAX,
        };
        ensure!(
            self.rate.is_finite() && self.rate > 0.0 && all <= most,
            "{} invocations per second over {} minutes are {all:.0}, use more than 0 and at most {most:.0}",
            self.rate,
            self.minutes
        );
        let share = |rank: u32| f64::from(rank + 1).powf(-self.skew);
        let shares: f64 = (0..self.functions).map(share).sum();
        let mut minutes = vec![Vec::new(); self.minutes as usize];
        for function in 0..self.functions {
            let mut random = fastrand::Rng::with_seed(self.seed ^ u64::from(function) << 32);
            let mut habit = Habit::of(function, minutely * share(function) / shares, &mut random);
            for (minute, calls) in (0u32..).zip(&mut minutes) {
                let count = habit.calls(minute, &mut random);
                if count > 0 {
                    calls.push((function, count));
                }
            }
        }
        Ok(Trace {
            functions: self.functions,
            minutes: 0..self.minutes,
            load: Load::Counts(minutes),
        })
    }
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Habit {
    /// By people: at random, more by day.
    Http { rate: f64 },
    /// So often in each `period`-th minute.
    Timer { period: u32, phase: u32, calls: u32 },
    /// In bursts.
    Queue { rate: f64, busy: bool },
}

impl Habit {
    /// `rate`: calls per minute on average. Most functions are called by people, a fifth by a timer or from a queue each.
    fn of(function: u32, rate: f64, random: &mut fastrand::Rng) -> Self {
        match trigger(function) {
            "timer" if rate >= 1.0 => Self::Timer {
                period: 1,
                phase: 0,
                calls: rounded(rate),
            },
            "timer" => {
                let period = rounded(1.0 / rate).max(1);
                Self::Timer {
                    period,
                    phase: random.u32(0..period),
                    calls: 1,
                }
            }
            "queue" => Self::Queue {
                rate: rate / BUSY_SHARE,
                busy: random.f64() < BUSY_SHARE,
            },
            _ => Self::Http { rate },
        }
    }

    fn calls(&mut self, minute: u32, random: &mut fastrand::Rng) -> u32 {
        match self {
            Self::Http { rate } => poisson(*rate * time_of_day(minute), random),
            Self::Timer {
                period,
                phase,
                calls,
            } => {
                let due = minute % *period == *phase;
                if due { *calls } else { 0 }
            }
            Self::Queue { rate, busy } => {
                // Both changes are as likely as the shares and the length of a burst ask for.
                let change = if *busy {
                    1.0 / BUSY_MINUTES
                } else {
                    BUSY_SHARE / (1.0 - BUSY_SHARE) / BUSY_MINUTES
                };
                *busy ^= random.f64() < change;
                if *busy { poisson(*rate, random) } else { 0 }
            }
        }
    }
}

/// Mixed over all ranks, so that few or many functions are alike.
fn trigger(function: u32) -> &'static str {
    match function % 5 {
        1 => "timer",
        3 => "queue",
        _ => "http",
    }
}

/// Against the mean of the day.
fn time_of_day(minute: u32) -> f64 {
    let turn = (f64::from(minute) - NIGHT_MINUTE) / MINUTES_OF_DAY;
    1.0 - DAY_SWING * (turn * std::f64::consts::TAU).cos()
}

/// Counts exponential distances that fit; for large means the normal distribution is as good.
fn poisson(mean: f64, random: &mut fastrand::Rng) -> u32 {
    if mean > 50.0 {
        let normal =
            (2.0 * exponential(random)).sqrt() * (random.f64() * std::f64::consts::TAU).cos();
        return rounded(mean + mean.sqrt() * normal);
    }
    let mut calls = 0;
    let mut passed = exponential(random);
    while passed < mean {
        calls += 1;
        passed += exponential(random);
    }
    calls
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and there are no negative calls"
)]
fn rounded(number: f64) -> u32 {
    number.round() as u32
}

/// Hashes for names, as in the recorded traces. Three functions make an app.
struct Names(Vec<String>);

impl Names {
    fn new(functions: u32, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(!seed);
        Self(
            (0..functions + functions.div_ceil(3))
                .map(|_| format!("{:032x}{:032x}", random.u128(..), random.u128(..)))
                .collect(),
        )
    }

    fn function(&self, function: u32) -> &str {
        &self.0[function as usize]
    }

    fn app(&self, function: u32) -> &str {
        &self.0[self.0.len() - 1 - function as usize / 3]
    }
}

fn write_minutes(trace: &Trace, names: &Names, output: &mut impl Write) -> std::io::Result<()> {
    let Load::Counts(minutes) = &trace.load else {
        return Ok(());
    };
    write!(output, "HashOwner,HashApp,HashFunction,Trigger")?;
    for minute in 1..=minutes.len() {
        write!(output, ",{minute}")?;
    }
    writeln!(output)?;
    // Each minute has its functions in order, so all places move on together.
    let mut places = vec![0; minutes.len()];
    for function in 0..trace.functions {
        let (app, name) = (names.app(function), names.function(function));
        write!(output, "{app},{app},{name},{}", trigger(function))?;
        for (calls, place) in minutes.iter().zip(&mut places) {
            match calls.get(*place) {
                Some(&(next, count)) if next == function => {
                    *place += 1;
                    write!(output, ",{count}")?;
                }
                _ => write!(output, ",0")?,
            }
        }
        writeln!(output)?;
    }
    Ok(())
}

fn write_calls(
    trace: &Trace,
    names: &Names,
    seed: u64,
    output: &mut impl Write,
) -> std::io::Result<()> {
    writeln!(output, "app,func,end_timestamp,duration")?;
    let mut random = fastrand::Rng::with_seed(seed);
    let replay = Replay::new(Arc::new(trace.clone()), Spacing::Poisson, 1.0, seed);
    for arrival in replay {
        // From 10 ms to 10 s by function, and exponential.
        let scale = 10f64.powf(count(u64::from(arrival.function % 10)) / 3.0 - 2.0);
        let duration = exponential(&mut random) * scale;
        let (app, name) = (
            names.app(arrival.function),
            names.function(arrival.function),
        );
        let end = arrival.at.as_secs_f64() + duration;
        writeln!(output, "{app},{name},{end:.6},{duration:.6}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn generate() -> Generate {
        Generate {
            file: PathBuf::new(),
            format: Format::Azure2019,
            functions: 50,
            minutes: 1440,
            rate: 5.0,
            skew: 1.2,
            seed: 1,
        }
    }

    fn counts(trace: &Trace) -> &[Vec<(u32, u32)>] {
        match &trace.load {
            Load::Counts(minutes) => minutes,
            Load::Calls(_) => panic!("counts"),
        }
    }

    #[test]
    fn the_load_is_like_a_clouds() {
        let trace = generate().trace().unwrap();
        let expected = 5.0 * 86_400.0;
        let all = count(trace.invocations());
        assert!((all / expected - 1.0).abs() < 0.1, "{all}");
        let minutes = counts(&trace);
        let most: u64 = minutes
            .iter()
            .flatten()
            .filter(|(function, _)| *function < 5)
            .map(|(_, count)| u64::from(*count))
            .sum();
        assert!(
            count(most) > 0.5 * all,
            "a tenth of the functions has half of the calls"
        );
        let first = |range: std::ops::Range<usize>| -> u64 {
            minutes[range]
                .iter()
                .flatten()
                .filter(|(function, _)| *function == 0)
                .map(|(_, count)| u64::from(*count))
                .sum()
        };
        assert!(
            first(780..900) > 2 * first(60..180),
            "days are busier than nights"
        );
    }

    #[test]
    fn poisson_has_its_mean_and_variance() {
        let mut random = fastrand::Rng::with_seed(1);
        for mean in [0.5, 20.0, 200.0] {
            let drawn: Vec<f64> = (0..20_000)
                .map(|_| f64::from(poisson(mean, &mut random)))
                .collect();
            let average = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|x| (x - average).powi(2)).sum::<f64>() / 20_000.0;
            assert!((average / mean - 1.0).abs() < 0.05, "{average}");
            assert!((variance / mean - 1.0).abs() < 0.1, "{variance}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_made() {
        for (generate, word) in [
            (
                Generate {
                    functions: 0,
                    ..generate()
                },
                "0 functions",
            ),
            (
                Generate {
                    functions: u32::MAX,
                    ..generate()
                },
                "functions over",
            ),
            (
                Generate {
                    rate: 0.0,
                    ..generate()
                },
                "0 invocations",
            ),
            (
                Generate {
                    rate: 1e9,
                    ..generate()
                },
                "invocations per second",
            ),
            (
                Generate {
                    skew: f64::NAN,
                    ..generate()
                },
                "skew",
            ),
        ] {
            let error = generate.write().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_written_is_read(functions in 1u32..20, minutes in 1u32..30, rate in 0.5f64..5.0, skew in 0.0f64..3.0, seed in any::<u64>()) {
            let folder = tempfile::tempdir().unwrap();
            for format in [Format::Azure2019, Format::Invitro, Format::Azure2021] {
                let file = folder.path().join("trace.csv");
                let generate = Generate { file: file.clone(), format, functions, minutes, rate, skew, seed };
                let trace = generate.trace().unwrap();
                prop_assert_eq!(&generate.trace().unwrap(), &trace);
                let written = generate.write().unwrap();
                prop_assert_eq!(written, trace.invocations());
                if written == 0 {
                    continue;
                }
                let read = Trace::read(&file, format, None).unwrap();
                prop_assert_eq!(read.invocations(), written);
                if format != Format::Azure2021 {
                    prop_assert_eq!(read, trace);
                }
            }
        }
    }
}
