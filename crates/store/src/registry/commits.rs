//! The thread that does all the work on the registry's file, and the way to ask it.

use std::fs::File;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mote_core::error::{Error, ErrorKind};
use tokio::sync::{mpsc, oneshot};

use super::database::{Change, Database, Row, Table};
use crate::database::Opener;
use crate::failure;

/// Most changes of one commit, and most that wait for the next.
const BATCH_MAX: usize = 64;

/// The handle. Dropping it waits for the commit under way and closes the file.
pub(crate) struct Commits {
    // Both are there until drop takes them.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    _lock: Option<Arc<File>>,
}

enum Request {
    Change(Change, oneshot::Sender<Result<(), Error>>),
    List(Table, oneshot::Sender<Result<Vec<Row>, Error>>),
}

impl Commits {
    /// Opens the file and starts the thread, which keeps the data folder's lock.
    pub(super) fn start(opener: Opener, lock: Option<Arc<File>>) -> Result<Self, Error> {
        let database = Database::open(opener)?;
        let (requests, queue) = mpsc::channel(BATCH_MAX);
        let thread = thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || serve(queue, database))
            .map_err(|error| failure::io("starting the registry's thread", &error))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
            _lock: lock,
        })
    }

    /// Makes a change, durable on return. Once it waits in the queue it is made, whether or not the
    /// caller still waits.
    pub(crate) async fn change(&self, change: Change) -> Result<(), Error> {
        self.ask(|done| Request::Change(change, done)).await
    }

    /// Every row of a table, by key.
    pub(crate) async fn list(&self, table: Table) -> Result<Vec<Row>, Error> {
        self.ask(|done| Request::List(table, done)).await
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

impl Drop for Commits {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the registry's thread panicked");
        }
    }
}

/// The thread: ends when the handle is dropped.
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
                Request::List(table, done) => lists.push((table, done)),
            }
        }
        // Nobody waits any more is no reason not to do it, so failed answers are ignored.
        if !changes.is_empty() {
            let outcomes = database.commit(&changes);
            for (done, outcome) in waiting.into_iter().zip(outcomes) {
                let _ = done.send(outcome);
            }
        }
        for (table, done) in lists {
            let _ = done.send(database.list(table));
        }
    }
}
