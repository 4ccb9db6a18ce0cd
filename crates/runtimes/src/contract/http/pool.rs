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
/// Longest time that one waits and is still fresh. Servers close idle connections after 2 s or more,
/// and a request that crosses the close is lost.
const FRESH_MAX: Duration = Duration::from_secs(1);

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
    since: Instant,
}

impl Pool {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            state: Mutex::default(),
        })
    }

    /// The connection that waited for the shortest time, of this thread if there is one; and that
    /// time. Closes
    /// those that waited for too long; so does whoever asks for a `fresh` one with those that the
    /// program may be closing this very moment.
    pub(super) fn take(&self, fresh: bool) -> Option<(Connection, Duration)> {
        let here = thread::current().id();
        let now = Instant::now();
        loop {
            let idle = {
                let mut state = self.lock();
                let last = state.idle.len().checked_sub(1)?;
                let place = state.idle.iter().rposition(|idle| idle.thread == here);
                state.idle.remove(place.unwrap_or(last))
            };
            let longest = if fresh { FRESH_MAX } else { IDLE_MAX };
            let waited = now.saturating_duration_since(idle.since);
            if waited < longest {
                return Some((idle.connection, waited));
            }
        }
    }

    /// Keeps a connection for the next call; closes it when there are enough.
    pub(super) fn keep(self: &Arc<Self>, connection: Connection) {
        let idle = Idle {
            connection,
            thread: thread::current().id(),
            since: Instant::now(),
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
        let is_old = |idle: &mut Idle| idle.since + IDLE_MAX <= now;
        let old: Vec<Idle> = state.idle.extract_if(.., is_old).collect();
        let next = state.idle.iter().map(|idle| idle.since + IDLE_MAX).min();
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
