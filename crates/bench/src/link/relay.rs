//! One direction of a link at work: from one device to the other, each packet at its time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::Counters;
use super::model::{Fate, Model};

/// Longest wait, after which it is seen whether the link is to end.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// Packets that are taken before those that are due are looked at again.
const BATCH: usize = 64;
/// Larger than any packet of a device of usual size.
const PACKET_BYTES_MAX: usize = 64 << 10;
/// Lateness is kept up to this, in microseconds.
const LATE_US_MAX: u64 = 60_000_000;

/// What became of the packets of one direction.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Direction {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that were written to the other side, second copies included.
    pub arrived: u64,
    /// Packets that the model lost.
    pub lost: u64,
    /// Packets for which there was no room to wait.
    pub dropped: u64,
    /// Packets that arrived twice.
    pub doubled: u64,
    /// Packets that the other side did not take.
    pub refused: u64,
    /// How much later than they should packets arrived, for want of processor time: mean, p99 and worst.
    pub late_us: [f64; 3],
}

/// A packet that waits; the earliest is the greatest.
struct Waiting {
    at: Duration,
    number: u64,
    bytes: Box<[u8]>,
}

/// Moves packets until it is told to stop.
pub(super) fn run(
    from: &OwnedFd,
    to: &OwnedFd,
    mut model: Model,
    stop: &AtomicBool,
    (counters, late_after): (&Counters, Duration),
) -> Result<Direction> {
    // By default the kernel wakes a thread up to 50 µs late, to wake several at once.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let started = Instant::now();
    let mut direction = Direction::default();
    let mut waiting = BinaryHeap::new();
    let mut late = Histogram::<u64>::new_with_bounds(1, LATE_US_MAX, 3).context("a histogram")?;
    let mut packet = vec![0; PACKET_BYTES_MAX];
    while !stop.load(Ordering::Relaxed) {
        let next = waiting
            .peek()
            .map(|Reverse(next): &Reverse<Waiting>| next.at);
        let now = started.elapsed();
        let wait = next.map_or(WAIT_MAX, |next| next.saturating_sub(now).min(WAIT_MAX));
        if !wait.is_zero() {
            let timeout = Timespec::try_from(wait).context("a wait is short")?;
            match poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for packets"),
            }
        }
        for _ in 0..BATCH {
            let length = match rustix::io::read(from, &mut *packet) {
                Ok(length) => length,
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(error) => return Err(error).context("cannot read packets"),
            };
            let bytes = &packet[..length];
            direction.sent += 1;
            match model.send(started.elapsed(), length, waiting.len()) {
                Fate::Lost => direction.lost += 1,
                Fate::Dropped => {
                    direction.dropped += 1;
                    counters.dropped.fetch_add(1, Ordering::Relaxed);
                }
                Fate::Arrives { at, again } => {
                    direction.doubled += u64::from(again.is_some());
                    for (copy, at) in [Some(at), again].into_iter().flatten().enumerate() {
                        waiting.push(Reverse(Waiting {
                            at,
                            number: direction.sent * 2 + copy as u64,
                            bytes: bytes.into(),
                        }));
                    }
                }
            }
        }
        while let Some(Reverse(next)) = waiting.peek() {
            let now = started.elapsed();
            if next.at > now {
                break;
            }
            let micros = u64::try_from((now - next.at).as_micros()).unwrap_or(LATE_US_MAX);
            late.saturating_record(micros);
            counters.arrived.fetch_add(1, Ordering::Relaxed);
            let is_late = now - next.at > late_after;
            counters
                .late
                .fetch_add(u64::from(is_late), Ordering::Relaxed);
            match rustix::io::write(to, &next.bytes) {
                Ok(_) => direction.arrived += 1,
                // The other side is full or down, as a network may be.
                Err(_) => direction.refused += 1,
            }
            waiting.pop();
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^53 microseconds")]
    let micros = |value: u64| value as f64;
    direction.late_us = [
        late.mean(),
        micros(late.value_at_quantile(0.99)),
        micros(late.max()),
    ];
    Ok(direction)
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
