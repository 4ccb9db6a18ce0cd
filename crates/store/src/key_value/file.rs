//! The database file: open while it works, closed after any failure and opened again when it is
//! next needed, because the database refuses to go on after an I/O error.
//!
//! Three tables: values by row, what each app keeps, and the format. There is no file until the
//! first write, so a node whose functions keep nothing has none. Whoever reads or writes holds the
//! lock shared; opening and closing takes it alone. Everything that can go wrong ends here as a
//! value, a panic of the database included.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use mote_core::error::{Error, ErrorKind};
use mote_core::key_value::Usage;
use redb::{Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::accounts::Accounts;
use super::counters::{Counters, add};
use crate::database::{self, Opener};
use crate::failure;

/// Values by row.
pub(super) const VALUES: TableDefinition<&str, &[u8]> = TableDefinition::new("values");
/// Keys and bytes by app.
pub(super) const USAGE: TableDefinition<&str, &[u8]> = TableDefinition::new("usage");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// The format this version writes, and the newest it reads.
const FORMAT: u8 = 1;
const FORMAT_KEY: &str = "format";

/// Pages kept in memory: the inner pages of a hundred thousand keys, and the values in use. Half of
/// it may hold writes that are not synced yet.
pub(super) const CACHE_BYTES: usize = 4 << 20;

/// How often a file that somebody else closed is opened for one request.
const ATTEMPTS_MAX: u32 = 3;

const REPAIR: &str = "restore `kv.redb` from a backup, or move it away: the key-value data of every app is then gone";

/// Where the file comes from.
pub(super) struct Source {
    /// Whether there is one.
    pub(super) exists: Box<dyn Fn() -> bool + Send + Sync>,
    /// Makes one.
    pub(super) create: Box<dyn Fn() -> Result<(), Error> + Send + Sync>,
    /// Opens it.
    pub(super) open: Opener,
}

impl Source {
    /// The file at this path.
    pub(super) fn path(path: &Path) -> Self {
        let (found, made) = (path.to_owned(), path.to_owned());
        Self {
            exists: Box::new(move || found.exists()),
            create: Box::new(move || database::create(&made)),
            open: database::opener(path, CACHE_BYTES),
        }
    }
}

/// The file, shared by those who read and write it.
pub(super) struct File {
    source: Source,
    slot: RwLock<Slot>,
    /// What is committed. Changed by the one writer, and when the file is opened.
    accounts: Mutex<Accounts>,
    /// Writes that were committed and not synced.
    unsynced: AtomicU64,
    counters: Arc<Counters>,
}

struct Slot {
    open: Option<redb::Database>,
    /// How often it was opened, so that nobody closes what somebody else has opened again.
    number: u64,
}

impl File {
    /// Opens the file if there is one. `Unsupported` when its format is newer; it is not changed.
    pub(super) fn open(source: Source, counters: Arc<Counters>) -> Result<Self, Error> {
        let file = Self {
            source,
            slot: RwLock::new(Slot {
                open: None,
                number: 0,
            }),
            accounts: Mutex::default(),
            unsynced: AtomicU64::new(0),
            counters,
        };
        file.ensure_open(false)?;
        Ok(file)
    }

    /// Reads, unless there is no file; blocks for as long as that takes, opening it included.
    pub(super) fn read<T>(
        &self,
        work: impl Fn(&redb::Database) -> Result<T, redb::Error>,
    ) -> Result<Option<T>, Error> {
        self.attempt("reading key-value data", false, work)
    }

    /// Reads if that can be done at once: not while the file is being opened, nor after a failure.
    pub(super) fn try_read<T>(
        &self,
        work: impl FnOnce(&redb::Database) -> Result<T, redb::Error>,
    ) -> Option<T> {
        let slot = match self.slot.try_read() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let open = slot.open.as_ref()?;
        // Nothing that the closure saw is used after a panic; whoever asks next meets the error.
        catch_unwind(AssertUnwindSafe(|| work(open))).ok()?.ok()
    }

    /// Writes; makes the file if there is none.
    pub(super) fn write<T>(
        &self,
        work: impl Fn(&redb::Database) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let written = self.attempt("writing key-value data", true, work)?;
        Ok(written.expect("a file is made when there is none"))
    }

    /// Takes everything that was committed to the disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        if self.unsynced() == 0 {
            return Ok(());
        }
        self.attempt("syncing key-value data", false, sync)?;
        self.synced();
        Ok(())
    }

    /// A commit that is not synced made so many writes.
    pub(super) fn committed(&self, writes: u64) {
        self.unsynced.fetch_add(writes, Ordering::Relaxed);
    }

    /// Everything that was committed is on the disk.
    pub(super) fn synced(&self) {
        self.unsynced.store(0, Ordering::Relaxed);
        add(&self.counters.syncs, 1);
    }

    pub(super) fn unsynced(&self) -> u64 {
        self.unsynced.load(Ordering::Relaxed)
    }

    pub(super) fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everybody else away from the file.
    #[cfg(test)]
    pub(super) fn alone(&self) -> impl Sized + '_ {
        self.slot.write().unwrap()
    }

    /// Returns what the work does, or nothing when there is no file and none is to be made.
    fn attempt<T>(
        &self,
        doing: &str,
        create: bool,
        work: impl Fn(&redb::Database) -> Result<T, redb::Error>,
    ) -> Result<Option<T>, Error> {
        let mut done = None;
        self.attempt_all(doing, create, &mut |open| {
            done = Some(work(open)?);
            Ok(())
        })?;
        Ok(done)
    }

    fn attempt_all(
        &self,
        doing: &str,
        create: bool,
        work: &mut dyn FnMut(&redb::Database) -> Result<(), redb::Error>,
    ) -> Result<(), Error> {
        for attempt in 0..ATTEMPTS_MAX {
            if !self.ensure_open(create)? {
                return Ok(());
            }
            let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
            let Some(open) = &slot.open else {
                // Somebody else met a failure just now and closed it.
                continue;
            };
            // Nothing seen by the closure is used after a panic: the file is closed, and what is on
            // disk is what the last commit left.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(open)));
            let number = slot.number;
            drop(slot);
            match outcome {
                Ok(Ok(())) => return Ok(()),
                // The failure was somebody else's, who has heard of it.
                Ok(Err(redb::Error::PreviousIo)) if attempt == 0 => self.close(number, false),
                Ok(Err(error)) => {
                    self.close(number, true);
                    return Err(failure::database(doing, &error, REPAIR));
                }
                Err(_) => {
                    self.close(number, false);
                    let message = format!("{doing}: the database panicked");
                    return Err(Error::new(ErrorKind::Internal, message));
                }
            }
        }
        let message = format!("{doing}: the file was closed again and again");
        Err(Error::new(ErrorKind::Internal, message))
    }

    /// Whether it is open now, which it is not when there is none and none is to be made.
    fn ensure_open(&self, create: bool) -> Result<bool, Error> {
        if self
            .slot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .open
            .is_some()
        {
            return Ok(true);
        }
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if slot.open.is_some() {
            return Ok(true);
        }
        if !(self.source.exists)() {
            if !create {
                return Ok(false);
            }
            (self.source.create)()?;
        }
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let open = (self.source.open)()?;
            let accounts = begin(&open)?;
            Ok((open, accounts))
        }));
        const DOING: &str = "opening key-value data";
        match opened {
            Ok(Ok((open, accounts))) => {
                *self.accounts() = accounts?;
                slot.open = Some(open);
                slot.number += 1;
                Ok(true)
            }
            Ok(Err(error)) => Err(failure::database(DOING, &error, REPAIR)),
            Err(_) => Err(Error::new(
                ErrorKind::Internal,
                format!("{DOING}: the database panicked"),
            )),
        }
    }

    /// Closes it after a failure. `salvage`: the failure may be one that leaves it able to sync.
    fn close(&self, number: u64, salvage: bool) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if slot.number != number {
            return;
        }
        let Some(open) = slot.open.take() else {
            return;
        };
        let saved = catch_unwind(AssertUnwindSafe(|| {
            let saved = salvage && sync(&open).is_ok();
            drop(open);
            saved
        }));
        let unsynced = self.unsynced.swap(0, Ordering::Relaxed);
        if unsynced > 0 && !saved.unwrap_or(false) {
            add(&self.counters.lost, unsynced);
            tracing::error!(
                writes = unsynced,
                "the disk failed before the last writes of key-value data were on it: they are lost"
            );
        }
    }
}

/// An empty commit that takes those before it along.
fn sync(file: &redb::Database) -> Result<(), redb::Error> {
    let mut transaction = file.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.commit()?;
    Ok(())
}

/// Checks the format, which an empty file is given, and reads what apps keep. The outer error is
/// the file's, after the inner one it is as it was.
fn begin(file: &redb::Database) -> Result<Result<Accounts, Error>, redb::Error> {
    let transaction = file.begin_read()?;
    match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => {
            drop(transaction);
            give_format(file)?;
            return Ok(Ok(Accounts::default()));
        }
        Err(error) => return Err(error.into()),
        Ok(meta) => {
            let format = meta.get_owned(FORMAT_KEY)?;
            let format = format.as_ref().and_then(|format| format.value().first());
            match format {
                Some(1..=FORMAT) => {}
                Some(newer) => return Ok(Err(unsupported(*newer))),
                None => return Ok(Err(damaged("it has no format"))),
            }
        }
    }
    let mut accounts = Accounts::default();
    let usage = match transaction.open_table(USAGE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Ok(accounts)),
        usage => usage?,
    };
    for row in usage.iter()? {
        let (app, usage) = row?;
        let (Ok(app), Some(usage)) = (app.value().parse(), decode(usage.value())) else {
            let app = app.value().escape_debug();
            return Ok(Err(damaged(&format!(
                "what app `{app}` keeps is no number"
            ))));
        };
        accounts.set(app, usage);
    }
    Ok(Ok(accounts))
}

fn give_format(file: &redb::Database) -> Result<(), redb::Error> {
    let mut transaction = file.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction
        .open_table(META)?
        .insert(FORMAT_KEY, [FORMAT].as_slice())?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn encode(usage: Usage) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&usage.keys.to_le_bytes());
    bytes[8..].copy_from_slice(&usage.bytes.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Usage> {
    let (keys, bytes) = bytes.split_first_chunk()?;
    Some(Usage {
        keys: u64::from_le_bytes(*keys),
        bytes: u64::from_le_bytes(bytes.try_into().ok()?),
    })
}

fn unsupported(format: u8) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "`kv.redb` has format {format}, and this version of mote knows formats up to {FORMAT}"
        ),
    )
    .with_hint("start the newer version of mote that wrote it; nothing was changed")
}

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("`kv.redb` is damaged: {why}")).with_hint(REPAIR)
}
