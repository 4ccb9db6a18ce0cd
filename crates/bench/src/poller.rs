//! Waits for many sockets and one timer at once: a thin layer over epoll.
//!
//! Sockets are watched on edges, registered once when they are opened and forgotten when they are closed, so a request
//! costs no calls to the kernel beside its own send and receive. The timer is a descriptor too, because waiting with a
//! time limit rounds up to milliseconds, which neither an open loop nor an emulated network can afford.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

const EVENTS_MAX: usize = 256;
/// Standard streams, poller and timer of each thread, files of the surrounding program.
const DESCRIPTORS_SPARE: u64 = 256;
/// No socket has this token.
const TIMER: u64 = u64::MAX;

/// Sockets by a token that stands for their owner, and one timer.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    set_for: Option<Instant>,
}

/// What one wait reports. Belongs to the thread that waits.
pub(crate) struct Events(Vec<epoll::Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS_MAX))
    }

    /// The tokens of sockets that are ready.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = u64> + '_ {
        let tokens = self.0.iter().map(|event| event.data.u64());
        tokens.filter(|token| *token != TIMER)
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
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

    /// Reports the token whenever `socket` becomes readable or writable, until it is closed.
    pub(crate) fn watch(&self, socket: impl AsFd, token: impl Into<u64>) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(
            &self.epoll,
            socket,
            epoll::EventData::new_u64(token.into()),
            flags,
        )?;
        Ok(())
    }

    /// Waits until a socket is ready or `until` has come.
    pub(crate) fn wait(&mut self, until: Option<Instant>, events: &mut Events) -> io::Result<()> {
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

/// A thousand sockets need more descriptors than many systems give by default.
pub(crate) fn allow_sockets(sockets: usize) -> anyhow::Result<()> {
    let needed = sockets as u64 + DESCRIPTORS_SPARE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed))),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    anyhow::ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "{sockets} sockets need {needed} open files and the limit is {}, raise it with `ulimit -Hn {needed}`",
        limit.maximum.unwrap_or_default()
    );
    Ok(())
}
