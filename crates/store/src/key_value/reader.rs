//! Reading: at once on the caller's thread, or on a thread of its own.
//!
//! A value that is in memory, here or in the system's cache, is read in microseconds, and a hop to
//! another thread would cost more. One that has to come from a slow disk takes milliseconds, which
//! no thread that serves calls may wait for. Which it will be is not known before, so the last reads
//! tell: after a slow one those of the next second go to the thread, and so do lists always.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mote_core::error::Error;
use mote_core::key_value::{KeyPage, PAGE_KEYS_MAX};
use redb::{ReadOnlyTable, ReadableDatabase as _, TableError};
use tokio::sync::oneshot;

use super::counters::{Counters, add};
use super::file::{File, VALUES};
use super::queue::{Next, Queue, Refused, Takes};
use super::row::{Span, bucket_of, key_of};
use super::writer::{full, gone};
use crate::failure;

/// Most reads that wait for the thread.
const QUEUE_MAX: usize = 256;
/// Longest that a thread which serves calls should be held up.
const SLOW: Duration = Duration::from_micros(500);
/// How long one slow read keeps others from being made there.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// Most bytes of values that a page of keys passes by: the database keeps keys and values together.
const PAGE_VALUE_BYTES_MAX: usize = 1 << 20;

type Job = Box<dyn FnOnce(&File) + Send>;

/// The handle. Dropping it ends the thread after what waits.
pub(super) struct Reader {
    jobs: Arc<Queue<Job>>,
    /// There until drop takes it.
    thread: Option<JoinHandle<()>>,
    file: Arc<File>,
    counters: Arc<Counters>,
    pace: Pace,
}

impl Reader {
    pub(super) fn start(file: Arc<File>, counters: Arc<Counters>) -> Result<Self, Error> {
        let (jobs, queue) = Queue::new(QUEUE_MAX);
        let own = Arc::clone(&file);
        let thread = thread::Builder::new()
            .name("kv-reader".to_owned())
            .spawn(move || serve(&queue, &own))
            .map_err(|error| failure::io("starting the thread of key-value data", &error))?;
        Ok(Self {
            jobs,
            thread: Some(thread),
            file,
            counters,
            pace: Pace::default(),
        })
    }

    /// A value, when it can be had at once.
    pub(super) fn get_at_once(&self, row: &str) -> Option<Option<Bytes>> {
        let begun = self.pace.allows()?;
        let value = self.file.try_read(|file| get(file, row));
        self.pace.took(begun);
        value
    }

    pub(super) async fn get(&self, row: String) -> Result<Option<Bytes>, Error> {
        let read = move |file: &File| file.read(|file| get(file, &row));
        Ok(self.ask(read).await?.flatten())
    }

    pub(super) async fn keys(&self, span: Span, after: String, max: u32) -> Result<KeyPage, Error> {
        let read = move |file: &File| file.read(|file| keys(file, &span, &after, max));
        Ok(self.ask(read).await?.unwrap_or_default())
    }

    pub(super) async fn buckets(
        &self,
        span: Span,
        after: String,
        max: u32,
    ) -> Result<KeyPage, Error> {
        let read = move |file: &File| file.read(|file| buckets(file, &span, &after, max));
        Ok(self.ask(read).await?.unwrap_or_default())
    }

    async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&File) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |file| {
            if !done.is_closed() {
                let _ = done.send(read(file));
            }
        });
        match self.jobs.bring(job) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(gone())),
            Err(Refused::Full) => {
                add(&self.counters.queue_full, 1);
                Err(full("reads", QUEUE_MAX))
            }
            Err(Refused::Closed) => Err(gone()),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.jobs.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that reads key-value data panicked");
        }
    }
}

fn serve(queue: &Takes<Job>, file: &File) {
    while let Next::One(job) = queue.next(None) {
        job(file);
    }
}

/// Whether reads are quick now.
struct Pace {
    start: Instant,
    /// Reads go to the thread until so many milliseconds after the start.
    slow_until_ms: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            slow_until_ms: AtomicU64::new(0),
        }
    }
}

impl Pace {
    /// The beginning of a read, if it may be made here.
    fn allows(&self) -> Option<Instant> {
        let now = Instant::now();
        (self.ms(now) >= self.slow_until_ms.load(Ordering::Relaxed)).then_some(now)
    }

    fn took(&self, begun: Instant) {
        let now = Instant::now();
        if now - begun > SLOW {
            let until = self.ms(now + SLOW_FOR);
            self.slow_until_ms.store(until, Ordering::Relaxed);
        }
    }

    fn ms(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.start);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

type Table = ReadOnlyTable<&'static str, &'static [u8]>;

/// The values; `None` before the first write.
fn values(file: &redb::Database) -> Result<Option<Table>, redb::Error> {
    match file.begin_read()?.open_table(VALUES) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn get(file: &redb::Database, row: &str) -> Result<Option<Bytes>, redb::Error> {
    let Some(values) = values(file)? else {
        return Ok(None);
    };
    let value = values.get_owned(row)?;
    Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
}

fn keys(file: &redb::Database, span: &Span, after: &str, max: u32) -> Result<KeyPage, redb::Error> {
    let mut page = KeyPage::default();
    let Some(values) = values(file)? else {
        return Ok(page);
    };
    let (start, end) = (span.row(after), span.end());
    let mut passed = 0;
    let range = (
        Bound::Excluded(start.as_str()),
        Bound::Excluded(end.as_str()),
    );
    for row in values.range_owned::<&str>(range)? {
        let (row, value) = row?;
        if page.keys.len() == size(max) || passed > PAGE_VALUE_BYTES_MAX {
            page.next = page.keys.last().cloned();
            break;
        }
        passed += value.value().len();
        page.keys.push(key_of(row.value()).to_owned());
    }
    Ok(page)
}

/// One look for each bucket: the first row behind the bucket before.
fn buckets(
    file: &redb::Database,
    span: &Span,
    after: &str,
    max: u32,
) -> Result<KeyPage, redb::Error> {
    let mut page = KeyPage::default();
    let Some(values) = values(file)? else {
        return Ok(page);
    };
    let behind = |bucket: &str| match bucket {
        "" => span.start().to_owned(),
        bucket => span.row(&format!("{bucket}\u{1}")),
    };
    let (mut start, end) = (behind(after), span.end());
    while let Some(row) = values.range_owned(start.as_str()..end.as_str())?.next() {
        if page.keys.len() == size(max) {
            page.next = page.keys.last().cloned();
            break;
        }
        let bucket = bucket_of(row?.0.value()).to_owned();
        start = behind(&bucket);
        page.keys.push(bucket);
    }
    Ok(page)
}

fn size(max: u32) -> usize {
    max.clamp(1, PAGE_KEYS_MAX) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_read_sends_others_to_the_thread_for_a_while() {
        let pace = Pace::default();
        let begun = pace.allows().unwrap();
        pace.took(begun);
        assert!(pace.allows().is_some(), "a quick one changes nothing");
        pace.took(begun - 2 * SLOW);
        assert!(pace.allows().is_none());
        let later = Pace {
            start: pace.start - SLOW_FOR,
            slow_until_ms: AtomicU64::new(1),
        };
        assert!(later.allows().is_some());
    }
}
