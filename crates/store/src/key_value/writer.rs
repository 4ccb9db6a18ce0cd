//! The thread that changes values.
//!
//! It takes whatever has been asked for since its last commit, up to so many changes and bytes, and
//! makes them in one transaction. Changes of an app whose data is synced share one sync and are
//! answered after it; others are answered when they are committed, which every reader sees, and the
//! file is synced a second after the first of them at the latest, sooner when there are many.
//!
//! Its queue is bounded: what does not fit is refused as `Overloaded`. A disk that is about to be
//! full takes no more values, because a sync that finds it full would lose what was answered before.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mote_core::error::{Error, ErrorKind};
use tokio::sync::oneshot;

use super::accounts::{Draft, Quotas};
use super::change::{Change, Done, Made, Terms, commit};
use super::counters::{Counters, add};
use super::file::{CACHE_BYTES, File};
use super::queue::{Next, Queue, Refused, Takes};
use super::{Config, Synced};
use crate::failure;

/// Most changes that wait. Each holds a value of 64 KiB at most.
const QUEUE_MAX: usize = 256;
/// Most changes of one commit, and most bytes of their values.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Longest time from the first commit that is not synced to the beginning of a sync.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// Most bytes of such commits.
const UNSYNCED_BYTES_MAX: usize = 8 << 20;
/// Free space that is left on the disk: what is in memory and not written (half of the cache), and a
/// batch, twice over for the pages around the values.
pub(super) const RESERVE_BYTES: u64 = 2 * (CACHE_BYTES as u64 / 2 + BATCH_BYTES_MAX as u64);

/// How many bytes the disk has left, if that can be told.
pub(super) type Room = Box<dyn Fn() -> Option<u64> + Send>;

/// The handle. Dropping it makes what waits, syncs, and ends the thread.
pub(super) struct Writer {
    requests: Arc<Queue<Request>>,
    /// There until drop takes it.
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

enum Request {
    Change(Change, oneshot::Sender<Result<Done, Error>>),
    Sync(oneshot::Sender<Result<(), Error>>),
}

impl Writer {
    pub(super) fn start(
        file: Arc<File>,
        config: Config,
        counters: Arc<Counters>,
        room: Room,
    ) -> Result<Self, Error> {
        let (requests, queue) = Queue::new(QUEUE_MAX);
        let work = Work {
            file,
            quotas: config.quotas,
            synced: config.synced,
            counters: Arc::clone(&counters),
            room,
            unsynced: None,
        };
        let thread = thread::Builder::new()
            .name("kv-writer".to_owned())
            .spawn(move || work.serve(&queue))
            .map_err(|error| failure::io("starting the thread of key-value data", &error))?;
        Ok(Self {
            requests,
            thread: Some(thread),
            counters,
        })
    }

    /// Makes a change. Once it waits in the queue it is made, whether or not the caller still waits.
    pub(super) async fn change(&self, change: Change) -> Result<Done, Error> {
        self.ask(|done| Request::Change(change, done)).await
    }

    /// Syncs what was made so far.
    pub(super) async fn sync(&self) -> Result<(), Error> {
        self.ask(Request::Sync).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        match self.requests.bring(request(done)) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(gone())),
            Err(Refused::Full) => {
                add(&self.counters.queue_full, 1);
                Err(full("writes", QUEUE_MAX))
            }
            Err(Refused::Closed) => Err(gone()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of key-value data panicked");
        }
    }
}

pub(super) fn full(what: &str, max: usize) -> Error {
    let message = format!("{max} {what} of key-value data wait already, which is the limit");
    Error::new(ErrorKind::Overloaded, message).with_retry_after(Duration::from_secs(1))
}

pub(super) fn gone() -> Error {
    Error::new(ErrorKind::Internal, "a thread of key-value data has ended")
}

/// What the thread holds.
struct Work {
    file: Arc<File>,
    quotas: Quotas,
    synced: Synced,
    counters: Arc<Counters>,
    room: Room,
    /// When the first commit that is not synced was made, and about how many bytes there are.
    unsynced: Option<(Instant, usize)>,
}

impl Work {
    /// Ends when the handle is dropped.
    fn serve(mut self, queue: &Takes<Request>) {
        while let Some(first) = self.next(queue) {
            let (mut changes, mut waiting, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
            let (mut bytes, mut next) = (0, Some(first));
            while let Some(request) = next {
                match request {
                    Request::Change(change, done) => {
                        bytes += change.weight();
                        changes.push(change);
                        waiting.push(done);
                    }
                    Request::Sync(done) => syncs.push(done),
                }
                let room = changes.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX;
                next = room.then(|| queue.try_next()).flatten();
            }
            // Nobody waits any more is no reason not to do it, so failed answers are ignored.
            if !changes.is_empty() {
                let outcomes = self.commit(&changes, bytes);
                for (done, outcome) in waiting.into_iter().zip(outcomes) {
                    let _ = done.send(outcome);
                }
            }
            if !syncs.is_empty() {
                let outcome = self.sync();
                for done in syncs {
                    let _ = done.send(outcome.clone());
                }
            }
        }
        let _ = self.sync();
    }

    /// The next request; syncs when it is time. `None` at the end.
    fn next(&mut self, queue: &Takes<Request>) -> Option<Request> {
        loop {
            let until = self.unsynced.map(|(since, bytes)| match bytes {
                ..=UNSYNCED_BYTES_MAX => since + SYNC_AFTER,
                _ => since,
            });
            if until.is_some_and(|until| until <= Instant::now()) {
                let _ = self.sync();
                continue;
            }
            match queue.next(until) {
                Next::One(request) => return Some(request),
                Next::Nothing => {}
                Next::Closed => return None,
            }
        }
    }

    fn commit(&mut self, changes: &[Change], bytes: usize) -> Vec<Result<Done, Error>> {
        let room = (self.room)().is_none_or(|bytes| bytes >= RESERVE_BYTES);
        let terms = Terms {
            quotas: &self.quotas,
            room,
        };
        // What a clearing removed is gone when it says so.
        let must_last = |change: &Change| {
            matches!(change, Change::Clear(..)) || self.synced.covers(change.app())
        };
        let made = self.file.write(|open| {
            let draft = Draft::of(&self.file.accounts(), changes.iter().map(Change::app));
            commit(open, changes, draft, terms, &must_last)
        });
        match made {
            Ok(made) => self.publish(made, bytes, room),
            Err(error) => {
                self.unsynced = None;
                tracing::warn!(changes = changes.len(), %error, "a commit of key-value data failed");
                changes.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn publish(&mut self, made: Made, bytes: usize, room: bool) -> Vec<Result<Done, Error>> {
        made.draft.publish(&mut self.file.accounts());
        if made.durable {
            self.file.synced();
            self.unsynced = None;
        } else if made.writes > 0 {
            self.file.committed(made.writes);
            let (since, before) = self.unsynced.unwrap_or((Instant::now(), 0));
            self.unsynced = Some((since, before + bytes));
        }
        let refused = made.outcomes.iter().filter_map(|made| made.as_ref().err());
        let full = refused.filter(|error| error.kind() == ErrorKind::StorageFull);
        let counter = match room {
            true => &self.counters.over_quota,
            false => &self.counters.disk_full,
        };
        add(counter, full.count() as u64);
        made.outcomes
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.unsynced = None;
        let synced = self.file.sync();
        if let Err(error) = &synced {
            tracing::warn!(%error, "key-value data could not be synced");
        }
        synced
    }
}
