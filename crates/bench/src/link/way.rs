//! One direction of a link at work: packets go in when they are sent and come out when they arrive.
//!
//! What a packet is, and where it comes from and goes to, is for others: frames of a device, or datagrams and pieces of
//! streams. Bounded by the queue of the model, which drops or holds back what comes beyond it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::model::{Fate, Model};
use super::settings::Impairments;

/// A packet that is later than this and a twentieth of the delay is late.
const LATE: Duration = Duration::from_millis(1);
/// Lateness is kept up to this, in microseconds.
const LATE_US_MAX: u64 = 60_000_000;

/// What became of the packets of one direction.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Direction {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that were handed to the other side, second copies included.
    pub arrived: u64,
    /// Packets that were lost; of netem, those without room too, which it does not count apart.
    pub lost: u64,
    /// Packets for which there was no room to wait.
    pub dropped: u64,
    /// Packets that arrived twice.
    pub doubled: u64,
    /// Pieces of streams that were lost and came later instead: only a relay has them.
    pub resent: u64,
    /// Packets that the other side did not take, and of a relay clients for which it had no place.
    pub refused: u64,
    /// How much later than they should packets arrived, for want of processor time: mean, p99 and worst. The kernel
    /// does not say it of netem.
    pub late_us: Option<[f64; 3]>,
}

/// What the threads of a link count while it is up, both directions together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    arrived: AtomicU64,
    late: AtomicU64,
    dropped: AtomicU64,
    turned_away: AtomicU64,
    /// Whether a direction does not work any more.
    pub(super) ended: AtomicBool,
}

/// Whether a link was the one that was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeptUp {
    pub(crate) arrived: u64,
    /// Of these, those that were more than a millisecond and a twentieth of the delay late.
    pub(crate) late: u64,
    /// Packets for which there was no room to wait.
    pub(crate) dropped: u64,
    /// Clients for which a relay had no place.
    pub(crate) turned_away: u64,
    /// Whether a direction does not work any more.
    pub(crate) ended: bool,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Way<T> {
    model: Model,
    queue: usize,
    waiting: BinaryHeap<Reverse<Waiting<T>>>,
    /// Packets that are due and could not be handed over yet.
    held: usize,
    number: u64,
    direction: Direction,
    late: Histogram<u64>,
    late_after: Duration,
    counters: Arc<Counters>,
}

/// A packet that waits; the earliest is the greatest, and of several the one that was sent first.
#[derive(Debug)]
struct Waiting<T> {
    at: Duration,
    number: u64,
    packet: T,
}

impl<T: Clone> Way<T> {
    /// A direction in which nothing was sent yet.
    pub(super) fn new(
        impairments: &Impairments,
        seed: u64,
        counters: &Arc<Counters>,
    ) -> Result<Self> {
        Ok(Self {
            model: Model::new(impairments.clone(), seed),
            queue: impairments.queue,
            waiting: BinaryHeap::new(),
            held: 0,
            number: 0,
            direction: Direction::default(),
            late: Histogram::new_with_bounds(1, LATE_US_MAX, 3).context("a histogram")?,
            late_after: LATE + impairments.delay / 20,
            counters: Arc::clone(counters),
        })
    }

    /// A packet of so many bytes is sent now; it may not arrive, or twice.
    pub(super) fn send(&mut self, now: Duration, bytes: usize, packet: T) {
        self.direction.sent += 1;
        match self.model.send(now, bytes, self.waiting()) {
            Fate::Lost => self.direction.lost += 1,
            Fate::Dropped => {
                self.direction.dropped += 1;
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Fate::Arrives { at, again } => {
                if let Some(again) = again {
                    self.direction.doubled += 1;
                    self.wait(at, packet.clone());
                    self.wait(again, packet);
                } else {
                    self.wait(at, packet);
                }
            }
        }
    }

    /// A piece of a stream is sent now, whose pieces before it arrive at `after`. It always arrives, and after these;
    /// when it is lost, later by the time that its sender needs to see that. Returns when it arrives.
    pub(super) fn send_in_stream(
        &mut self,
        now: Duration,
        bytes: usize,
        (after, resend): (Duration, Duration),
        packet: T,
    ) -> Duration {
        self.direction.sent += 1;
        let (at, lost) = self.model.send_in_stream(now, bytes, resend);
        self.direction.resent += u64::from(lost);
        let at = at.max(after);
        self.wait(at, packet);
        at
    }

    fn wait(&mut self, at: Duration, packet: T) {
        self.number += 1;
        self.waiting.push(Reverse(Waiting {
            at,
            number: self.number,
            packet,
        }));
    }

    /// When the next packet is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse(next)| next.at)
    }

    /// A packet that has arrived by now.
    pub(super) fn due(&mut self, now: Duration) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        let Reverse(next) = self.waiting.pop()?;
        let late = now - next.at;
        let micros = u64::try_from(late.as_micros()).unwrap_or(LATE_US_MAX);
        self.late.saturating_record(micros);
        self.counters.arrived.fetch_add(1, Ordering::Relaxed);
        let is_late = u64::from(late > self.late_after);
        self.counters.late.fetch_add(is_late, Ordering::Relaxed);
        Some(next.packet)
    }

    /// A packet that was due was handed over.
    pub(super) fn arrived(&mut self) {
        self.direction.arrived += 1;
    }

    /// A packet that was due was not taken: the other side is full or down, as a network may be.
    pub(super) fn refused(&mut self) {
        self.direction.refused += 1;
    }

    /// There is no place for one more client.
    pub(super) fn turned_away(&mut self) {
        self.direction.refused += 1;
        self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// So many packets that are due wait for the other side to take them.
    pub(super) fn hold(&mut self, packets: usize) {
        self.held += packets;
    }

    /// So many of these do not wait any more.
    pub(super) fn let_go(&mut self, packets: usize) {
        self.held = self.held.saturating_sub(packets);
    }

    /// How many packets may be sent before some are dropped.
    pub(super) fn room(&self) -> usize {
        self.queue.saturating_sub(self.waiting())
    }

    /// Whether so many have left that who was held back may send again.
    pub(super) fn has_room_again(&self) -> bool {
        self.room() > self.queue / 4
    }

    fn waiting(&self) -> usize {
        self.waiting.len() + self.held
    }

    /// What became of the packets.
    pub(super) fn end(self) -> Direction {
        #[expect(clippy::cast_precision_loss, reason = "below 2^53 microseconds")]
        let micros = |value: u64| value as f64;
        Direction {
            late_us: Some([
                self.late.mean(),
                micros(self.late.value_at_quantile(0.99)),
                micros(self.late.max()),
            ]),
            ..self.direction
        }
    }
}

impl Counters {
    pub(super) fn kept_up(&self) -> KeptUp {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KeptUp {
            arrived: of(&self.arrived),
            late: of(&self.late),
            dropped: of(&self.dropped),
            turned_away: of(&self.turned_away),
            ended: self.ended.load(Ordering::Relaxed),
        }
    }
}

impl std::ops::Add for KeptUp {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            arrived: self.arrived + other.arrived,
            late: self.late + other.late,
            dropped: self.dropped + other.dropped,
            turned_away: self.turned_away + other.turned_away,
            ended: self.ended || other.ended,
        }
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
