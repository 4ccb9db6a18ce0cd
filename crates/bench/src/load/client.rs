//! What a protocol has to do for the loop of a load thread, and what the thread lends it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Wake, Waker};
use std::time::Instant;

use anyhow::Result;

use super::place::Place;
use super::tally::{Outcome, Wire};
use crate::poller::Poller;

/// Datagrams and reads go through one buffer per thread.
const SCRATCH_BYTES: usize = 64 << 10;

/// What the clients of one thread share.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) poller: Poller,
    pub(super) scratch: Vec<u8>,
    pub(super) wire: Wire,
    pub(super) woken: Arc<Woken>,
}

impl Lane {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            scratch: vec![0; SCRATCH_BYTES],
            wire: Wire::default(),
            woken: Arc::default(),
        })
    }
}

/// Clients that another one's progress concerns: those that share a connection.
#[derive(Debug, Default)]
pub(super) struct Woken {
    /// Spares the lock those that never share a connection.
    any: AtomicBool,
    places: Mutex<Vec<Place>>,
}

impl Woken {
    /// Puts `place` on the list when it is woken.
    pub(super) fn waker(self: &Arc<Self>, place: Place) -> Waker {
        Waker::from(Arc::new(PlaceWaker {
            place,
            woken: Arc::clone(self),
        }))
    }

    /// Takes the list, and leaves the memory of `taken` for the next one. Only the same thread wakes, so flag and list
    /// agree whenever it looks.
    pub(super) fn take(&self, taken: &mut Vec<Place>) {
        taken.clear();
        if !self.is_empty() {
            std::mem::swap(taken, &mut *self.list());
            self.any.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Relaxed)
    }

    fn list(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places
            .lock()
            .expect("only its thread locks it, and it would have ended")
    }
}

struct PlaceWaker {
    place: Place,
    woken: Arc<Woken>,
}

impl Wake for PlaceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut list = self.woken.list();
        // Several reasons come one after the other, and are one.
        if list.last() != Some(&self.place) {
            list.push(self.place);
            self.woken.any.store(true, Ordering::Relaxed);
        }
    }
}

/// One request to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) now: Instant,
    pub(super) deadline: Instant,
    /// It goes on with a chain: its body is that of the last reply.
    pub(super) follows: bool,
    /// The function of a trace that it calls.
    pub(super) function: u32,
}

/// One connection or socket to one target. Each method may end the request in flight; then it returns how.
pub(super) trait Client {
    /// Sends a request.
    fn begin(&mut self, lane: &mut Lane, job: Job) -> Option<Outcome>;
    /// The socket may be readable or writable.
    fn ready(&mut self, lane: &mut Lane, now: Instant) -> Option<Outcome>;
    /// The time of [`Client::next_wake`] has come.
    fn wake(&mut self, lane: &mut Lane, now: Instant) -> Option<Outcome>;
    /// When to wake the client if nothing arrives.
    fn next_wake(&self) -> Option<Instant>;
}
