//! When requests are due in the open loop: pure functions of the options and a seed.
//!
//! All threads walk through the same arrivals and each takes its own, so they need not talk to each other and a run
//! can be repeated. An iterator holds its place and nothing else, however many arrivals there are.

use std::time::Duration;

use super::trace::Replay;

/// One request that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Since the start of the run.
    pub(super) at: Duration,
    /// The function of a trace, or a number that counts up.
    pub(super) function: u32,
}

/// How arrivals lie within a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Spacing {
    /// At equal distances.
    Constant,
    /// Independent of each other: distances are exponential.
    Poisson,
}

/// A stretch of time with one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stretch {
    /// Per second; may be 0.
    pub(super) rate: f64,
    pub(super) seconds: f64,
    /// Exactly so many, instead of as many as the rate brings.
    pub(super) count: Option<u64>,
}

impl Stretch {
    /// As many as a constant rate brings.
    pub(super) fn expected(&self) -> u64 {
        self.count
            .unwrap_or_else(|| whole(self.rate * self.seconds))
    }
}

/// All arrivals of a run, in order.
#[derive(Debug, Clone)]
pub(super) enum Arrivals {
    Rates(Rates),
    Trace(Replay),
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        match self {
            Self::Rates(rates) => rates.next(),
            Self::Trace(replay) => replay.next(),
        }
    }
}

/// Arrivals at given rates, one stretch after the other.
#[derive(Debug, Clone)]
pub(super) struct Rates {
    stretches: Vec<Stretch>,
    spacing: Spacing,
    random: fastrand::Rng,
    number: u32,
    /// The stretch under way: which, when it began, how many arrivals it had and when the last one was.
    current: usize,
    began: f64,
    had: u64,
    last: f64,
}

impl Rates {
    pub(super) fn new(stretches: Vec<Stretch>, spacing: Spacing, seed: u64) -> Self {
        Self {
            stretches,
            spacing,
            random: fastrand::Rng::with_seed(seed),
            number: 0,
            current: 0,
            began: 0.0,
            had: 0,
            last: 0.0,
        }
    }

    /// The next one within the stretch, in seconds since it began.
    fn within(&mut self, stretch: Stretch) -> Option<f64> {
        let had = self.had;
        let at = match (self.spacing, stretch.count) {
            (Spacing::Constant, _) => {
                (had < stretch.expected()).then(|| count(had) / stretch.rate)?
            }
            (Spacing::Poisson, None) => {
                // Of a rate of 0 the next one is infinitely far away.
                let at = self.last + exponential(&mut self.random) / stretch.rate;
                (at < stretch.seconds).then_some(at)?
            }
            (Spacing::Poisson, Some(all)) => {
                let left = all.checked_sub(had).filter(|&left| left > 0)?;
                next_of(left, self.last / stretch.seconds, &mut self.random) * stretch.seconds
            }
        };
        self.had += 1;
        self.last = at;
        Some(at)
    }
}

impl Iterator for Rates {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        loop {
            let stretch = *self.stretches.get(self.current)?;
            if let Some(at) = self.within(stretch) {
                let function = self.number;
                self.number = self.number.wrapping_add(1);
                return Some(Arrival {
                    at: Duration::from_secs_f64(self.began + at),
                    function,
                });
            }
            self.current += 1;
            self.began += stretch.seconds;
            (self.had, self.last) = (0, 0.0);
        }
    }
}

/// One thread's part: every `threads`-th arrival.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) arrivals: Arrivals,
    /// How many of the others' come first.
    pub(super) skip: usize,
    pub(super) threads: usize,
}

impl Iterator for Share {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let mine = self.arrivals.nth(self.skip);
        self.skip = self.threads - 1;
        mine
    }
}

/// The next of `left` places that are spread evenly by chance over what follows `last`, all within 0 to 1: given how
/// many there are, this is how the arrivals of a Poisson process lie.
pub(super) fn next_of(left: u64, last: f64, random: &mut fastrand::Rng) -> f64 {
    let free = (1.0 - random.f64()).powf(1.0 / count(left));
    last + (1.0 - last) * (1.0 - free)
}

/// Exponential with mean 1. The random number is below 1, so this is finite.
pub(super) fn exponential(random: &mut fastrand::Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

/// How many are due in a time; a rounding error makes no request of its own.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and times are checked not to be negative, and `as` saturates"
)]
pub(super) fn whole(requests: f64) -> u64 {
    (requests - 1e-6).ceil() as u64
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 requests")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rates(stretches: &[(f64, f64)], spacing: Spacing, seed: u64) -> Rates {
        let stretches = stretches.iter().map(|&(rate, seconds)| Stretch {
            rate,
            seconds,
            count: None,
        });
        Rates::new(stretches.collect(), spacing, seed)
    }

    #[test]
    fn a_constant_rate_is_due_at_equal_distances() {
        let due: Vec<_> = rates(&[(1000.0, 0.004)], Spacing::Constant, 1).collect();
        let at: Vec<_> = due.iter().map(|arrival| arrival.at.as_micros()).collect();
        assert_eq!(at, [0, 1000, 2000, 3000]);
        assert!(due.iter().map(|arrival| arrival.function).eq(0..4));
    }

    #[test]
    fn steps_follow_each_other_also_over_a_pause() {
        let steps = [(10.0, 0.3), (0.0, 5.0), (2.0, 1.0)];
        let at: Vec<_> = rates(&steps, Spacing::Constant, 1)
            .map(|arrival| arrival.at.as_millis())
            .collect();
        assert_eq!(at, [0, 100, 200, 5300, 5800]);
        assert!(rates(&steps, Spacing::Poisson, 1).all(|arrival| {
            let at = arrival.at.as_secs_f64();
            at < 0.3 || (5.3..6.3).contains(&at)
        }));
    }

    #[test]
    fn poisson_distances_are_exponential() {
        let due: Vec<_> = rates(&[(1000.0, 100.0)], Spacing::Poisson, 7)
            .map(|arrival| arrival.at.as_secs_f64())
            .collect();
        // Five standard deviations of the number, sqrt(100,000).
        assert!((98_400..101_600).contains(&due.len()), "{}", due.len());
        let gaps: Vec<_> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / count(gaps.len() as u64);
        let squares = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>();
        let deviation = (squares / count(gaps.len() as u64)).sqrt();
        assert!((deviation / mean - 1.0).abs() < 0.02, "{deviation} {mean}");
        let long = gaps.iter().filter(|&&gap| gap > 2.0 * mean).count();
        let share = count(long as u64) / count(gaps.len() as u64);
        assert!((share - (-2.0f64).exp()).abs() < 0.005, "{share}");
    }

    proptest! {
        #[test]
        fn arrivals_are_in_order_within_their_time_and_repeat(
            steps in proptest::collection::vec((0.0f64..5000.0, 0.0f64..1.0), 1..5),
            poisson in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let spacing = if poisson { Spacing::Poisson } else { Spacing::Constant };
            let all: Vec<_> = rates(&steps, spacing, seed).collect();
            prop_assert!(all.is_sorted_by(|a, b| a.at <= b.at));
            let seconds: f64 = steps.iter().map(|(_, seconds)| seconds).sum();
            prop_assert!(all.iter().all(|arrival| arrival.at.as_secs_f64() <= seconds + 1e-6));
            prop_assert!(rates(&steps, spacing, seed).eq(all.iter().copied()));
            if !poisson {
                let expected: u64 = steps.iter().map(|&(rate, seconds)| whole(rate * seconds)).sum();
                prop_assert_eq!(all.len() as u64, expected);
            }
        }

        #[test]
        fn a_number_of_requests_is_kept_exactly(all in 1u64..3000, rate in 0.1f64..1e6, poisson in any::<bool>(), seed in any::<u64>()) {
            let spacing = if poisson { Spacing::Poisson } else { Spacing::Constant };
            let stretch = Stretch { rate, seconds: count(all) / rate, count: Some(all) };
            let due: Vec<_> = Rates::new(vec![stretch], spacing, seed).collect();
            prop_assert_eq!(due.len() as u64, all);
            prop_assert!(due.is_sorted_by(|a, b| a.at <= b.at));
            prop_assert!(due.iter().all(|arrival| arrival.at.as_secs_f64() <= stretch.seconds + 1e-6));
        }

        #[test]
        fn threads_share_all_arrivals(threads in 1usize..6, requests in 0u32..50) {
            let arrivals = Arrivals::Rates(rates(&[(f64::from(requests), 1.0)], Spacing::Constant, 1));
            let mut all: Vec<_> = (0..threads)
                .flat_map(|skip| Share { arrivals: arrivals.clone(), skip, threads })
                .map(|arrival| arrival.function)
                .collect();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..requests));
        }
    }
}
