//! One direction of a link between TUN devices at work: from one device to the other, each packet at its time.

use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::way::{Direction, Way};

/// Longest wait, after which it is seen whether the link is to end.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// Packets that are taken before those that are due are looked at again.
const BATCH: usize = 64;
/// Larger than any packet of a device of usual size.
const PACKET_BYTES_MAX: usize = 64 << 10;

/// Moves packets until it is told to stop.
pub(super) fn run(
    from: &OwnedFd,
    to: &OwnedFd,
    mut way: Way<Box<[u8]>>,
    stop: &AtomicBool,
) -> Result<Direction> {
    wake_precisely();
    let started = Instant::now();
    let mut packet = vec![0; PACKET_BYTES_MAX];
    while !stop.load(Ordering::Relaxed) {
        let now = started.elapsed();
        let next = way.next();
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
            way.send(started.elapsed(), length, packet[..length].into());
        }
        while let Some(packet) = way.due(started.elapsed()) {
            match rustix::io::write(to, &packet) {
                Ok(_) => way.arrived(),
                Err(_) => way.refused(),
            }
        }
    }
    Ok(way.end())
}

/// By default the kernel wakes a thread up to 50 µs late, to wake several at once.
pub(super) fn wake_precisely() {
    // Where it cannot be had, packets are later, which is counted.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}
