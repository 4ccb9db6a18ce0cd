//! Connections that wait for their next call.
//!
//! At most so many, none for longer than a minute. One that was last used on the caller's thread is
//! preferred: its socket wakes that thread.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connection::Connection;

/// Longest time that a connection waits.
const IDLE_MAX: Duration = Duration::from_secs(60);

pub(super) struct Pool {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Idle>,
    /// Closes those that waited too long; there while any wait.
    sweeper: Option<AbortHandle>,
}

struct Idle {
    connection: Connection,
    thread: ThreadId,
    until: Instant,
}

impl Pool {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            state: Mutex::default(),
        })
    }

    /// The connection that waited for the shortest time, of this thread if there is one.
    pub(super) fn take(&self) -> Option<Connection> {
        let here = thread::current().id();
        let mut state = self.lock();
        let last = state.idle.len().checked_sub(1)?;
        let place = state.idle.iter().rposition(|idle| idle.thread == here);
        let idle = state.idle.remove(place.unwrap_or(last));
        Some(idle.connection)
    }

    /// Keeps a connection for the next call; closes it when there are enough.
    pub(super) fn keep(self: &Arc<Self>, connection: Connection) {
        let idle = Idle {
            connection,
            thread: thread::current().id(),
            until: Instant::now() + IDLE_MAX,
        };
        let mut state = self.lock();
        if state.idle.len() >= self.most {
            drop(state);
            return;
        }
        state.idle.push(idle);
        if state.sweeper.is_none() {
            let task = tokio::spawn(sweep(Arc::downgrade(self)));
            state.sweeper = Some(task.abort_handle());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what waited too long. Returns when the next one will have.
    fn close_old(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let old: Vec<Idle> = state
            .idle
            .extract_if(.., |idle| idle.until <= now)
            .collect();
        let next = state.idle.iter().map(|idle| idle.until).min();
        if next.is_none() {
            state.sweeper = None;
        }
        drop(state);
        drop(old);
        next
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        let Some(next) = pool
            .upgrade()
            .and_then(|pool| pool.close_old(Instant::now()))
        else {
            return;
        };
        tokio::time::sleep_until(next).await;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sweeper) = &state.sweeper {
            sweeper.abort();
        }
    }
}
