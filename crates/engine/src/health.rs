//! How a function's instances fare: when one may be started again after others died, and when the
//! function counts as unhealthy.
//!
//! A pure record of deaths with the time as an input. Bounded: it remembers the last five. The
//! numbers are those of `S10` of the co-design notes: 100 ms to 10 s, five in a minute.

use std::collections::VecDeque;
use std::time::Duration;

use mote_core::error::Error;
use tokio::time::Instant;

/// Deaths within [`WINDOW`] that make a function unhealthy.
pub const DEATHS_MAX: usize = 5;
/// How long a death counts.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Wait after the first death; doubled for each one that follows.
pub const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// The deaths of one function's instances.
#[derive(Debug, Default)]
pub struct Health {
    deaths: VecDeque<Instant>,
    in_a_row: u32,
    last: Option<Death>,
    /// Deaths since the function was deployed.
    pub total: u64,
}

#[derive(Debug)]
struct Death {
    at: Instant,
    why: Error,
}

impl Health {
    /// An instance died by itself, or could not be started.
    pub fn died(&mut self, why: Error, now: Instant) {
        self.total += 1;
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.deaths.push_back(now);
        if self.deaths.len() > DEATHS_MAX {
            self.deaths.pop_front();
        }
        self.last = Some(Death { at: now, why });
    }

    /// An instance served a call: what comes next is not a row any more.
    pub fn served(&mut self) {
        self.in_a_row = 0;
    }

    /// When the next instance may be started; `now` or earlier means at once.
    pub fn not_before(&self, now: Instant) -> Instant {
        match &self.last {
            Some(death) if self.in_a_row > 0 => {
                let doublings = (self.in_a_row - 1).min(16);
                let wait = BACK_OFF_MIN * 2_u32.saturating_pow(doublings);
                death.at + wait.min(BACK_OFF_MAX)
            }
            _ => now,
        }
    }

    /// Whether so many died lately that calls are refused while none is running.
    pub fn is_unhealthy(&self, now: Instant) -> bool {
        self.deaths.len() == DEATHS_MAX
            && self
                .deaths
                .front()
                .is_some_and(|first| now.saturating_duration_since(*first) <= WINDOW)
    }

    /// Why the last one died.
    pub fn last(&self) -> Option<&Error> {
        self.last.as_ref().map(|death| &death.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mote_core::error::ErrorKind;

    fn death() -> Error {
        Error::new(ErrorKind::FunctionFailed, "exited with status 1")
    }

    #[tokio::test(start_paused = true)]
    async fn waits_longer_after_each_death_in_a_row() {
        let mut health = Health::default();
        let now = Instant::now();
        assert_eq!(health.not_before(now), now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            health.died(death(), now);
            waits.push((health.not_before(now) - now).as_millis());
        }
        assert_eq!(
            waits,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        health.served();
        assert_eq!(health.not_before(now), now);
    }

    #[tokio::test(start_paused = true)]
    async fn five_deaths_in_a_minute_are_unhealthy() {
        let mut health = Health::default();
        let start = Instant::now();
        for second in [0, 20, 40, 50] {
            health.died(death(), start + Duration::from_secs(second));
        }
        assert!(!health.is_unhealthy(start + Duration::from_secs(50)));
        health.died(death(), start + Duration::from_secs(59));
        assert!(health.is_unhealthy(start + Duration::from_secs(60)));
        assert!(!health.is_unhealthy(start + Duration::from_secs(61)));
        assert_eq!(health.total, 5);
    }
}
