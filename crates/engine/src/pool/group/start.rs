//! Starting instances, and hearing of their end.

use std::sync::Arc;

use mote_core::error::{Error, ErrorKind};
use mote_core::memory::Reservation;
use mote_core::runtime::Instance;
use tokio::time::{Instant, sleep_until};

use super::{Shared, State, WeakShared};
use crate::pool::member::{Member, Seat};

impl Shared {
    /// Starts an instance, at `at` or later. Whoever calls this has counted it as starting.
    pub(super) fn start(self: &Arc<Self>, at: Instant) {
        let starting = Starting(Arc::downgrade(self));
        tokio::spawn(async move {
            sleep_until(at).await;
            let Some(shared) = starting.0.upgrade() else {
                return;
            };
            let Some(memory) = shared.parts.memory.reserve(shared.instances.memory_bytes) else {
                let error = shared.no_memory();
                shared.give_up(starting, error, false);
                return;
            };
            let prepared = Arc::clone(&shared.prepared);
            let host = Arc::clone(&shared.parts.host);
            // The group may end while its instance starts.
            drop(shared);
            let started = prepared.start(host).await;
            let Some(shared) = starting.0.upgrade() else {
                return;
            };
            match started {
                Ok(instance) => shared.welcome(instance, memory, Some(starting)),
                Err(error) => {
                    tracing::info!(function = %shared.parts.name, %error, "an instance did not start");
                    shared.give_up(starting, error, true);
                }
            }
        });
    }

    /// Seats a new instance, and waits for its end from now on.
    /// One that was counted as starting is not any more, in the same moment.
    pub(super) fn welcome(
        self: &Arc<Self>,
        instance: Arc<dyn Instance>,
        memory: Reservation,
        starting: Option<Starting>,
    ) {
        let mut state = self.lock();
        if let Some(starting) = starting {
            starting.ended(&mut state);
        }
        let number = state.next_number;
        let member = Arc::new(Member::new(number, instance, memory));
        if state.closed {
            return;
        }
        state.next_number += 1;
        state.seats.push(Seat {
            member: Arc::clone(&member),
            last_used: Instant::now(),
            turn: 0,
            paused: false,
            can_pause: true,
        });
        drop(state);
        tokio::spawn(watch(Arc::downgrade(self), member));
        for _ in 0..self.instances.slots.get().min(1024) {
            self.changed.notify_one();
        }
    }

    fn give_up(&self, starting: Starting, error: Error, death: bool) {
        drop(starting);
        let mut state = self.lock();
        if death {
            state.health.died(error.clone(), Instant::now());
        }
        self.failed(&mut state, error);
    }
}

/// Hears of a member's end.
async fn watch(group: WeakShared, member: Arc<Member>) {
    let left = member.left.clone();
    let Some(exit) = left.run_until_cancelled(member.instance.exited()).await else {
        return;
    };
    let Some(group) = group.upgrade() else {
        return;
    };
    let death = (!exit.on_purpose).then(|| {
        let message = format!("an instance of `{}` {}", group.parts.name, exit.how);
        Error::new(ErrorKind::FunctionFailed, message)
    });
    group.bury(&member, death, Instant::now());
}

/// One start under way; counted as long as it lives, also when it panics.
pub(super) struct Starting(WeakShared);

impl Starting {
    /// Ends it under the lock that the caller holds.
    fn ended(mut self, state: &mut State) {
        state.starting = state.starting.saturating_sub(1);
        self.0 = WeakShared::new();
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(group) = self.0.upgrade() {
            let mut state = group.lock();
            state.starting = state.starting.saturating_sub(1);
        }
    }
}
