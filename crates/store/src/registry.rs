//! The durable list of functions, in one database file.
//!
//! A thread of its own does all the work on the file. It takes whatever has been asked for since
//! its last commit, up to 64 changes, writes them in one transaction, and acknowledges all of them
//! after the one sync: a sync costs milliseconds on flash, so batches carry the load and nobody
//! waits for more than two. Its queue holds as many more; who comes then waits for a place.
//!
//! The file is closed after any failed operation and opened again at the next one, because the
//! database refuses to go on after an I/O error. So a full disk fails the changes it fails, and
//! nothing else.

use std::fmt;
use std::fs::File;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mote_core::error::{Error, ErrorKind};
use mote_core::name::FunctionName;
use mote_core::registry::{FunctionRecord, Registry};
use mote_core::runtime::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::data_dir::DataDir;
use crate::failure;

use database::{Change, Database, Opener};

mod database;
mod record;

/// Most changes of one commit, and most that wait for the next.
const BATCH_MAX: usize = 64;

const FILE: &str = "registry.redb";

/// A [`Registry`] in the data folder. Dropping it waits for the commit under way and closes the
/// file.
pub struct RedbRegistry {
    // Both are there until drop takes them.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    _lock: Option<Arc<File>>,
}

enum Request {
    Change(Change, oneshot::Sender<Result<(), Error>>),
    List(oneshot::Sender<Result<Vec<FunctionRecord>, Error>>),
}

impl RedbRegistry {
    /// Opens the registry, and creates it when there is none. After a crash it first brings the
    /// file back to the last acknowledged commit, which reads all of it once. Blocks for as long.
    pub fn open(dir: &DataDir) -> Result<Self, Error> {
        let mut registry = Self::start(database::file(&dir.path().join(FILE))?)?;
        registry._lock = Some(dir.held());
        Ok(registry)
    }

    fn start(opener: Opener) -> Result<Self, Error> {
        let database = Database::open(opener)?;
        let (requests, queue) = mpsc::channel(BATCH_MAX);
        let thread = thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || serve(queue, database))
            .map_err(|error| failure::io("starting the registry's thread", &error))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
            _lock: None,
        })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let requests = self.requests.as_ref().expect("drop has not run");
        let (done, answer) = oneshot::channel();
        let gone = || Error::new(ErrorKind::Internal, "the registry's thread has ended");
        requests.send(request(done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Once a change waits in the queue it is made, whether or not the caller still waits: after a
/// dropped `save` or `remove` it is open whether it happened.
impl Registry for RedbRegistry {
    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionRecord>, Error>> {
        Box::pin(self.ask(Request::List))
    }

    fn save(&self, record: FunctionRecord) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let change = Change {
                record: Some(record::encode(&record)?),
                name: record.name,
            };
            self.ask(|done| Request::Change(change, done)).await
        })
    }

    fn remove(&self, name: FunctionName) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.ask(|done| Request::Change(Change { name, record: None }, done)))
    }
}

impl Drop for RedbRegistry {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the registry's thread panicked");
        }
    }
}

impl fmt::Debug for RedbRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbRegistry").finish_non_exhaustive()
    }
}

/// The thread: ends when the registry is dropped.
fn serve(mut queue: mpsc::Receiver<Request>, mut database: Database) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        let mut lists = Vec::new();
        for request in batch.drain(..) {
            match request {
                Request::Change(change, done) => {
                    changes.push(change);
                    waiting.push(done);
                }
                Request::List(done) => lists.push(done),
            }
        }
        // Nobody waits any more is no reason not to do it, so failed answers are ignored.
        if !changes.is_empty() {
            let outcomes = database.commit(&changes);
            for (done, outcome) in waiting.into_iter().zip(outcomes) {
                let _ = done.send(outcome);
            }
        }
        for done in lists {
            let _ = done.send(database.list());
        }
    }
}

#[cfg(test)]
mod power_cut;

#[cfg(test)]
mod tests;
