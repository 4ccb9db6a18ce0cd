//! One instance of a group, with its seat: how many calls it has, and whether it is paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mote_core::error::Error;
use mote_core::memory::Reservation;
use mote_core::runtime::Instance;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One instance of a group. Dropping the last reference ends it at once.
pub(super) struct Member {
    /// Counts up in a group; never used again.
    pub(super) number: u64,
    pub(super) instance: Arc<dyn Instance>,
    /// Cancelled when it has left the group, so that nobody waits for its end any more.
    pub(super) left: CancellationToken,
    /// Calls that hold a slot of it. Only raised under the group's lock.
    in_use: AtomicU32,
    /// Told when a slot is given back.
    given_back: Notify,
    /// Whether it is paused. Held while that changes, which is asynchronous.
    paused: Mutex<bool>,
    _memory: Reservation,
}

/// A member's place in its group, under the group's lock.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) member: Arc<Member>,
    /// When a slot of it was last taken or given back.
    pub(super) last_used: Instant,
    /// The turn in which a slot of it was last taken; turns count up in a group.
    pub(super) turn: u64,
    /// Whether it is, or is about to be, paused.
    pub(super) paused: bool,
    /// Whether it could be, as far as is known.
    pub(super) can_pause: bool,
}

impl Member {
    pub(super) fn new(number: u64, instance: Arc<dyn Instance>, memory: Reservation) -> Self {
        Self {
            number,
            instance,
            left: CancellationToken::new(),
            in_use: AtomicU32::new(0),
            given_back: Notify::new(),
            paused: Mutex::new(false),
            _memory: memory,
        }
    }

    /// Calls that hold a slot of it.
    pub(super) fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Acquire)
    }

    /// Takes a slot; whoever does holds the group's lock, and gives it back.
    pub(super) fn take(&self) {
        self.in_use.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives a slot back.
    pub(super) fn give_back(&self) {
        self.in_use.fetch_sub(1, Ordering::AcqRel);
        self.given_back.notify_waiters();
    }

    /// Waits until no call holds a slot. Nobody may take one any more.
    pub(super) async fn until_free(&self) {
        loop {
            let mut given_back = std::pin::pin!(self.given_back.notified());
            given_back.as_mut().enable();
            if self.in_use() == 0 {
                return;
            }
            given_back.await;
        }
    }

    /// Wakes it if it is paused, or waits until somebody else has done so.
    pub(super) async fn wake(&self) -> Result<(), Error> {
        let mut paused = self.paused.lock().await;
        if *paused {
            self.instance.resume().await?;
            *paused = false;
        }
        Ok(())
    }

    /// Pauses it unless `taken` says that a call came meanwhile. Returns whether it is paused now.
    pub(super) async fn doze(&self, taken: impl Fn() -> bool) -> Result<bool, Error> {
        let mut paused = self.paused.lock().await;
        if !*paused && !taken() {
            *paused = self.instance.pause().await?;
        }
        Ok(*paused)
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
