//! Key-value data of apps, in a database file of its own.
//!
//! It shares neither file nor thread with the registry, so the writes of functions hold up no
//! deploy. Values are changed by one thread, in batches, and read beside it: a reader sees what the
//! last commit left and waits for nobody. What each app keeps is counted exactly, in the same
//! transaction as the change.
//!
//! How safe an acknowledged write is, its app chooses. *Synced*: it is on the disk, and survives a
//! power cut. *Eventual*, the default: it survives the end of the node in good order; one that was
//! killed, a power cut, and a disk that fails may take the writes of the last second, the newest
//! first and never one from the middle.
//!
//! Bounded: names, values and what may be kept (quotas), the queues of both threads, the size of a
//! commit, and what is not synced. There is no file before the first write.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use mote_core::error::{Error, ErrorKind};
use mote_core::key_value::{
    KeyPage, KeyValue, KeyValueAdmin, Usage, check_bucket, check_key, check_value,
};
use mote_core::name::AppName;
use mote_core::runtime::BoxFuture;

use crate::data_dir::DataDir;

use change::{Change, Done};
use counters::{Counters, Operation};
use file::{File, Source};
use reader::Reader;
use row::{Place, Span};
use writer::{Room, Writer};

mod accounts;
mod change;
mod counters;
mod file;
mod queue;
mod reader;
mod row;
mod writer;

pub use accounts::Quotas;
pub use counters::Counts;

const FILE: &str = "kv.redb";

/// Most steps of one clearing. A step removes a thousand keys, or a megabyte.
const CLEAR_STEPS_MAX: usize = 10_000;

/// How key-value data is kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// How much.
    pub quotas: Quotas,
    /// Whose is on the disk before a write is acknowledged.
    pub synced: Synced,
}

/// Apps whose writes are on the disk before they are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Synced {
    /// None of them.
    None,
    /// Every app.
    All,
    /// These.
    Apps(BTreeSet<AppName>),
}

impl Synced {
    fn covers(&self, app: &AppName) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Apps(apps) => apps.contains(app),
        }
    }
}

/// The key-value data of a data folder. Dropping it makes the changes that wait and syncs.
pub struct RedbKeyValue {
    // Dropped in this order: the writer closes last what it wrote.
    reader: Reader,
    writer: Writer,
    file: Arc<File>,
    counters: Arc<Counters>,
    _lock: Option<Arc<fs::File>>,
}

impl RedbKeyValue {
    /// Opens the data of this folder, if there is some. After a crash it first brings the file back
    /// to its last sync, which reads all of it once. Blocks for as long. `Unsupported` when the
    /// file's format is newer.
    pub fn open(dir: &DataDir, config: Config) -> Result<Self, Error> {
        let source = Source::path(&dir.path().join(FILE));
        let mut opened = Self::start(source, config, room(dir.path().to_owned()))?;
        opened._lock = Some(dir.held());
        Ok(opened)
    }

    fn start(source: Source, config: Config, room: Room) -> Result<Self, Error> {
        let counters = Arc::new(Counters::default());
        let file = Arc::new(File::open(source, Arc::clone(&counters))?);
        Ok(Self {
            reader: Reader::start(Arc::clone(&file), Arc::clone(&counters))?,
            writer: Writer::start(Arc::clone(&file), config, Arc::clone(&counters), room)?,
            file,
            counters,
            _lock: None,
        })
    }

    /// Takes everything that was acknowledged so far to the disk.
    pub async fn sync(&self) -> Result<(), Error> {
        self.writer.sync().await
    }

    /// What was asked of it since it was opened.
    pub fn counts(&self) -> Counts {
        self.counters.read(self.file.unsynced())
    }

    async fn change(
        &self,
        operation: Operation,
        change: Result<Change, Error>,
    ) -> Result<Done, Error> {
        let answer = match change {
            Ok(change) => self.writer.change(change).await,
            Err(error) => Err(error),
        };
        self.counters.answered(operation, &answer);
        answer
    }
}

impl KeyValue for RedbKeyValue {
    fn get<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Error>> {
        let place = Place::new(app, bucket, key);
        let at_once = place.as_ref().ok();
        let at_once = at_once.and_then(|place| self.reader.get_at_once(&place.row));
        Box::pin(async move {
            let answer = match (at_once, place) {
                (Some(value), _) => Ok(value),
                (None, Ok(place)) => self.reader.get(place.row).await,
                (None, Err(error)) => Err(error),
            };
            self.counters.answered(Operation::Get, &answer);
            answer
        })
    }

    fn set<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let change = Place::new(app, bucket, key).and_then(|place| {
                check_value(key, value.len())?;
                Ok(Change::Set(place, value))
            });
            match self.change(Operation::Set, change).await? {
                Done::Set => Ok(()),
                other => Err(mixed_up(other)),
            }
        })
    }

    fn delete<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let change = Place::new(app, bucket, key).map(Change::Delete);
            match self.change(Operation::Delete, change).await? {
                Done::Deleted(was_there) => Ok(was_there),
                other => Err(mixed_up(other)),
            }
        })
    }

    fn increment<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
        by: i64,
    ) -> BoxFuture<'a, Result<i64, Error>> {
        Box::pin(async move {
            let place = Place::new(app, bucket, key);
            let change = place.map(|place| Change::Increment(place, by));
            match self.change(Operation::Increment, change).await? {
                Done::Sum(sum) => Ok(sum),
                other => Err(mixed_up(other)),
            }
        })
    }

    fn swap<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
        expected: Option<Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let change = Place::new(app, bucket, key).and_then(|place| {
                check_value(key, new.len())?;
                Ok(Change::Swap(place, expected, new))
            });
            match self.change(Operation::Swap, change).await? {
                Done::Swapped(fitted) => Ok(fitted),
                other => Err(mixed_up(other)),
            }
        })
    }

    fn list<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        after: Option<&'a str>,
        max: u32,
    ) -> BoxFuture<'a, Result<KeyPage, Error>> {
        Box::pin(async move {
            let checked = check_bucket(bucket).and_then(|()| after.map_or(Ok(()), check_key));
            let answer = match checked {
                Ok(()) => {
                    let after = after.unwrap_or_default().to_owned();
                    let span = Span::bucket(app, bucket);
                    self.reader.keys(span, after, max).await
                }
                Err(error) => Err(error),
            };
            self.counters.answered(Operation::List, &answer);
            answer
        })
    }
}

impl KeyValueAdmin for RedbKeyValue {
    fn usage(&self) -> Vec<(AppName, Usage)> {
        self.file.accounts().all()
    }

    fn buckets<'a>(
        &'a self,
        app: &'a AppName,
        after: Option<&'a str>,
        max: u32,
    ) -> BoxFuture<'a, Result<KeyPage, Error>> {
        Box::pin(async move {
            after.map_or(Ok(()), check_bucket)?;
            let after = after.unwrap_or_default().to_owned();
            self.reader.buckets(Span::app(app), after, max).await
        })
    }

    fn clear<'a>(
        &'a self,
        app: &'a AppName,
        bucket: Option<&'a str>,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async move {
            bucket.map_or(Ok(()), check_bucket)?;
            let mut cleared = 0;
            for _ in 0..CLEAR_STEPS_MAX {
                let span = match bucket {
                    Some(bucket) => Span::bucket(app, bucket),
                    None => Span::app(app),
                };
                let change = Ok(Change::Clear(app.clone(), span));
                match self.change(Operation::Clear, change).await? {
                    Done::Cleared { keys, more } => {
                        cleared += keys;
                        if !more {
                            return Ok(cleared);
                        }
                    }
                    other => return Err(mixed_up(other)),
                }
            }
            let message = format!("app `{app}` sets keys as fast as they are removed");
            Err(Error::new(ErrorKind::Conflict, message)
                .with_hint("remove its functions first, with `mote rm`"))
        })
    }
}

impl fmt::Debug for RedbKeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbKeyValue").finish_non_exhaustive()
    }
}

/// Each change has one kind of answer.
fn mixed_up(done: Done) -> Error {
    let message = format!("a change of key-value data was answered with {done:?}");
    Error::new(ErrorKind::Internal, message)
}

/// What the disk of a folder has left for this process.
fn room(folder: PathBuf) -> Room {
    Box::new(move || {
        let disk = rustix::fs::statvfs(&folder).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    })
}

#[cfg(test)]
mod power_cut;

#[cfg(test)]
mod tests;
