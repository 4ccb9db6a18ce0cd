//! What becomes of a packet: a pure function of the settings, a seed, and the packets before it.
//!
//! The model never asks for the time and never sleeps, so the same seed and the same arrivals give the same fates.

use std::f64::consts::TAU;
use std::time::Duration;

use fastrand::Rng;

use super::settings::Impairments;

/// One direction of a link.
#[derive(Debug)]
pub struct Model {
    link: Impairments,
    random: Rng,
    /// The last draw of the delay, in standard deviations.
    last: f64,
    /// The second of two normal numbers, which come in pairs.
    spare: Option<f64>,
    /// When the last bit of the last packet has left, at a limited rate.
    free_at: Duration,
    /// The latest arrival so far.
    latest: Duration,
}

/// What becomes of a packet. Times are those at which it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does not arrive.
    Lost,
    /// It does not arrive because too many wait already.
    Dropped,
    /// It arrives, and perhaps a second time.
    Arrives {
        /// When.
        at: Duration,
        /// When again.
        again: Option<Duration>,
    },
}

impl Model {
    /// A direction in which nothing was sent yet.
    #[must_use]
    pub fn new(link: Impairments, seed: u64) -> Self {
        let mut model = Self {
            link,
            random: Rng::with_seed(seed),
            last: 0.0,
            spare: None,
            free_at: Duration::ZERO,
            latest: Duration::ZERO,
        };
        // As if there had been packets before.
        model.last = model.normal();
        model
    }

    /// The fate of a packet of so many bytes that is sent now, while so many wait. Times begin anywhere.
    pub fn send(&mut self, now: Duration, bytes: usize, waiting: usize) -> Fate {
        if self.random.f64() < self.link.loss {
            return Fate::Lost;
        }
        if waiting >= self.link.queue {
            return Fate::Dropped;
        }
        let sent = self.sent(now, bytes);
        let at = self.arrives(sent);
        let twice = self.random.f64() < self.link.duplicate && waiting + 1 < self.link.queue;
        let again = twice.then(|| self.arrives(sent));
        Fate::Arrives { at, again }
    }

    /// When a piece of a stream arrives that is sent now, and whether it was lost: then it arrives later by the time
    /// until it is sent again, once at most. Nothing of a stream is doubled, and who sends it puts it in order.
    pub fn send_in_stream(
        &mut self,
        now: Duration,
        bytes: usize,
        resend: Duration,
    ) -> (Duration, bool) {
        let lost = self.random.f64() < self.link.loss;
        let sent = self.sent(now, bytes);
        let delay = self.delay();
        let at = self.in_order(sent + delay);
        (if lost { at + resend } else { at }, lost)
    }

    /// When its last bit has left.
    fn sent(&mut self, now: Duration, bytes: usize) -> Duration {
        let Some(rate) = self.link.rate else {
            return now;
        };
        #[expect(clippy::cast_precision_loss, reason = "packets are small")]
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / rate);
        self.free_at = self.free_at.max(now) + takes;
        self.free_at
    }

    fn arrives(&mut self, sent: Duration) -> Duration {
        let ahead = self.random.f64() < self.link.reorder;
        let delay = if ahead { Duration::ZERO } else { self.delay() };
        self.in_order(sent + delay)
    }

    /// Not before the one before, where that is asked for.
    fn in_order(&mut self, at: Duration) -> Duration {
        if !self.link.in_order {
            return at;
        }
        self.latest = self.latest.max(at);
        self.latest
    }

    /// A delay whose mean and deviation are those asked for, correlation or not (an AR(1) process). One that would be
    /// negative is zero.
    fn delay(&mut self) -> Duration {
        if self.link.deviation.is_zero() {
            return self.link.delay;
        }
        let correlation = self.link.correlation;
        let fresh = self.normal();
        self.last = correlation * self.last + (1.0 - correlation * correlation).sqrt() * fresh;
        let delay = self.link.delay.as_secs_f64() + self.last * self.link.deviation.as_secs_f64();
        Duration::from_secs_f64(delay.max(0.0))
    }

    /// A normally distributed number of mean 0 and deviation 1 (Box and Muller, 1958).
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // From 0 to below 1; its complement has a logarithm.
        let radius = (-2.0 * (1.0 - self.random.f64()).ln()).sqrt();
        let angle = TAU * self.random.f64();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

#[cfg(test)]
mod tests;
