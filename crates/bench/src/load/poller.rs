//! Waits for many sockets and one timer at once: a thin layer over epoll.
//!
//! Sockets are watched on edges, registered once when they are opened and forgotten when they are closed, so a request
//! costs no calls to the kernel beside its own send and receive. The timer is a descriptor too, because waiting with a
//! time limit rounds up to milliseconds, which an open loop cannot afford.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

const EVENTS_MAX: usize = 256;
const TIMER: u64 = u64::MAX;
/// There are far fewer clients, and fewer targets than the other bits can tell apart.
const CLIENT_BITS: u32 = 32;
const CLIENT_MASK: u64 = u32::MAX as u64;

/// Sockets by the place of their client, and one timer.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    set_for: Option<Instant>,
}

/// Whose socket it is: which client of the thread, and which of its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) client: usize,
    pub(super) target: usize,
}

/// What one wait reports. Belongs to the thread that waits.
pub(super) struct Events(Vec<epoll::Event>);

impl Events {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS_MAX))
    }

    /// Whose sockets are ready.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.0
            .iter()
            .map(|event| event.data.u64())
            .filter(|&data| data != TIMER)
            .map(|data| Place {
                client: usize::try_from(data & CLIENT_MASK).unwrap_or(usize::MAX),
                target: usize::try_from(data >> CLIENT_BITS).unwrap_or(usize::MAX),
            })
    }
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(
            &epoll,
            &timer,
            epoll::EventData::new_u64(TIMER),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        Ok(Self {
            epoll,
            timer,
            set_for: None,
        })
    }

    /// Reports `socket` as `place` whenever it becomes readable or writable, until it is closed.
    pub(super) fn watch(&self, socket: impl AsFd, place: Place) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(
            &self.epoll,
            socket,
            epoll::EventData::new_u64((place.target as u64) << CLIENT_BITS | place.client as u64),
            flags,
        )?;
        Ok(())
    }

    /// Waits until a socket is ready or `until` has come.
    pub(super) fn wait(&mut self, until: Option<Instant>, events: &mut Events) -> io::Result<()> {
        events.0.clear();
        let passed = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let timeout = if self.set_timer(until)? {
            None
        } else {
            Some(&passed)
        };
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events.0),
            timeout,
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Arms the timer; false when the time has passed already.
    fn set_timer(&mut self, until: Option<Instant>) -> io::Result<bool> {
        let left = match until {
            None => Duration::ZERO,
            Some(until) => match until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => left,
                _ => return Ok(false),
            },
        };
        if self.set_for != until {
            // All zero disarms the timer.
            let spec = Itimerspec {
                it_interval: Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
                it_value: Timespec::try_from(left).map_err(io::Error::other)?,
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
            self.set_for = until;
        }
        Ok(true)
    }
}
