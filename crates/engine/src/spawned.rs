//! Calls that functions handed over to the node, and what the node keeps for calls between functions.
//!
//! A handed-over call is a task of its own: bounded in number, and its body in bytes. It is tracked,
//! so that a node that stops waits for it, and ends it when the grace is over; it is counted as
//! `cancelled` then. The bytes also bound
//! what started calls send, and what they answered and nobody has read yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mote_core::error::{Error, ErrorKind};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::invoker::stopping;

/// Most handed-over calls that wait or run on a node.
pub(crate) const SPAWNED_MAX: usize = 1024;
/// Most bytes of their bodies, and of bodies and unread replies of started calls, all functions
/// together.
pub(crate) const KEPT_BYTES_MAX: u64 = 64 << 20;

/// The handed-over calls of a node.
#[derive(Debug)]
pub(crate) struct Spawned {
    tasks: TaskTracker,
    end: CancellationToken,
    places: Arc<Semaphore>,
    kept_bytes: Arc<AtomicU64>,
}

/// Room for one handed-over call; given back on drop.
#[derive(Debug)]
pub(crate) struct Room {
    _place: OwnedSemaphorePermit,
    _bytes: Kept,
}

/// Bytes that are kept; given back on drop.
#[derive(Debug)]
pub(crate) struct Kept {
    all: Arc<AtomicU64>,
    bytes: u64,
}

impl Default for Spawned {
    fn default() -> Self {
        Self {
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
            places: Arc::new(Semaphore::new(SPAWNED_MAX)),
            kept_bytes: Arc::default(),
        }
    }
}

impl Spawned {
    /// Room for a call with a body of so many bytes. Fails with `Overloaded`.
    pub(crate) fn room(&self, bytes: usize) -> Result<Room, Error> {
        if self.end.is_cancelled() {
            return Err(stopping());
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| {
            let message =
                format!("{SPAWNED_MAX} handed-over calls wait or run, which is the limit");
            Error::new(ErrorKind::Overloaded, message).with_hint("try again later")
        })?;
        Ok(Room {
            _place: place,
            _bytes: self.keep(bytes as u64)?,
        })
    }

    /// Room for bytes that nobody has read yet. Fails with `Overloaded`.
    pub(crate) fn keep(&self, bytes: u64) -> Result<Kept, Error> {
        let more = |kept: u64| {
            kept.checked_add(bytes)
                .filter(|kept| *kept <= KEPT_BYTES_MAX)
        };
        let kept = self
            .kept_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        kept.map_err(|kept| {
            let message = format!(
                "no room for {bytes} bytes of a call between functions: {kept} of {KEPT_BYTES_MAX} are taken"
            );
            Error::new(ErrorKind::Overloaded, message).with_hint("try again later")
        })?;
        Ok(Kept {
            all: Arc::clone(&self.kept_bytes),
            bytes,
        })
    }

    /// Runs a call to its end, or to the node's.
    pub(crate) fn run(
        &self,
        room: Room,
        on: &Handle,
        call: impl Future<Output = ()> + Send + 'static,
    ) {
        let end = self.end.clone();
        let task = async move {
            let _room = room;
            end.run_until_cancelled(call).await;
        };
        self.tasks.spawn_on(task, on);
    }

    /// Calls that wait or run.
    pub(crate) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until there are none.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends all of them and takes no more.
    pub(crate) async fn end(&self) {
        self.end.cancel();
        self.drain().await;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_bytes_are_bounded_and_given_back() {
        let spawned = Spawned::default();
        let rooms: Vec<_> = (0..SPAWNED_MAX).map(|_| spawned.room(1).unwrap()).collect();
        let full = spawned.room(1).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Overloaded);
        drop(rooms);
        let all = usize::try_from(KEPT_BYTES_MAX).unwrap();
        let half = spawned.room(all / 2).unwrap();
        let kept = spawned.keep(KEPT_BYTES_MAX / 2).unwrap();
        assert!(spawned.room(1).is_err());
        drop(half);
        assert!(spawned.keep(u64::MAX).is_err());
        drop((spawned.room(1).unwrap(), kept));
        drop(spawned.keep(KEPT_BYTES_MAX).unwrap());
    }

    #[tokio::test]
    async fn the_end_of_the_node_ends_what_runs() {
        let spawned = Spawned::default();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let call = async {
            let _ = begun.send(());
            std::future::pending::<()>().await;
        };
        let room = spawned.room(1).unwrap();
        spawned.run(room, &Handle::current(), call);
        begins.await.unwrap();
        assert_eq!(spawned.count(), 1);
        spawned.end().await;
        assert_eq!(spawned.count(), 0);
        assert!(spawned.room(1).is_err());
    }
}
