//! The database file behind the registry: one table, from full name to stored record.
//!
//! Everything that can go wrong with the file ends here as a value, a panic of the database
//! included; after any of it the file is closed, and opened again when it is next needed.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use mote_core::error::{Error, ErrorKind};
use mote_core::name::FunctionName;
use mote_core::registry::FunctionRecord;
use redb::{
    Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};

use super::record;
use crate::data_dir::sync_folder;
use crate::failure;

/// How to open the file, again and again.
pub(super) type Opener = Box<dyn Fn() -> Result<redb::Database, redb::DatabaseError> + Send>;

/// One record written (`Some`) or removed (`None`).
pub(super) struct Change {
    pub(super) name: FunctionName,
    pub(super) record: Option<Vec<u8>>,
}

/// The open file, or how to open it.
pub(super) struct Database {
    opener: Opener,
    open: Option<redb::Database>,
}

const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("functions");

/// Pages kept in memory. The list is read once, at start, and a change touches a handful of pages;
/// the database's own default of a gigabyte is for other uses.
const CACHE_BYTES: usize = 256 << 10;

/// Opens this file, created when there is none.
pub(super) fn file(path: &Path) -> Result<Opener, Error> {
    let creating = || format!("creating `{}`", path.display());
    if !path.exists() {
        // The database cannot open a file whose creation was interrupted, so a new one gets its
        // name when it is complete. What an earlier attempt left is written over.
        let unnamed = path.with_extension("new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unnamed);
        let file = file.map_err(|error| failure::io(creating(), &error))?;
        let made = builder().create_file(file);
        drop(made.map_err(|error| failure::database(creating(), &error.into()))?);
        fs::rename(&unnamed, path).map_err(|error| failure::io(creating(), &error))?;
        // What is saved from now on must not lose its name.
        sync_folder(path.parent().expect("a file is in a folder"))?;
    }
    let path = path.to_owned();
    Ok(Box::new(move || builder().open(&path)))
}

fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

impl Database {
    pub(super) fn open(opener: Opener) -> Result<Self, Error> {
        let mut database = Self { opener, open: None };
        database.attempt("opening the registry", |_| Ok(()))?;
        Ok(database)
    }

    /// Makes all changes in one durable commit, and says what became of each: refused alone, or
    /// failed together.
    pub(super) fn commit(&mut self, changes: &[Change]) -> Vec<Result<(), Error>> {
        match self.attempt("saving to the registry", |file| commit(file, changes)) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::warn!(changes = changes.len(), %error, "a commit of the registry failed");
                changes.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    /// Every record, by name.
    pub(super) fn list(&mut self) -> Result<Vec<FunctionRecord>, Error> {
        self.attempt("reading the registry", list)?
    }

    fn attempt<T>(
        &mut self,
        doing: &str,
        work: impl FnOnce(&redb::Database) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        // Nothing seen by the closure is used after a panic: the file is closed, and what is on
        // disk is what the last commit left.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let file = match self.open.take() {
                Some(file) => file,
                None => (self.opener)()?,
            };
            let done = work(&file)?;
            Ok((file, done))
        }));
        match outcome {
            Ok(Ok((file, done))) => {
                self.open = Some(file);
                Ok(done)
            }
            Ok(Err(error)) => Err(failure::database(doing, &error)),
            Err(_) => Err(Error::new(
                ErrorKind::Internal,
                format!("{doing}: the database panicked"),
            )),
        }
    }
}

fn commit(
    file: &redb::Database,
    changes: &[Change],
) -> Result<Vec<Result<(), Error>>, redb::Error> {
    let mut transaction = file.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let outcomes = apply(&transaction, changes)?;
    transaction.commit()?;
    Ok(outcomes)
}

fn apply(
    transaction: &WriteTransaction,
    changes: &[Change],
) -> Result<Vec<Result<(), Error>>, redb::Error> {
    let mut table = transaction.open_table(RECORDS)?;
    let mut outcomes = Vec::with_capacity(changes.len());
    for change in changes {
        let name = change.name.full();
        let known = match table.get(name)? {
            Some(old) => record::readable(name, old.value()).map(|_| ()),
            None => Ok(()),
        };
        if known.is_ok() {
            match &change.record {
                Some(record) => drop(table.insert(name, record.as_slice())?),
                None => drop(table.remove(name)?),
            }
        }
        outcomes.push(known);
    }
    Ok(outcomes)
}

/// The outer error is the file's, the inner one a record's, after which the file is still good.
fn list(file: &redb::Database) -> Result<Result<Vec<FunctionRecord>, Error>, redb::Error> {
    let transaction = file.begin_read()?;
    let table = match transaction.open_table(RECORDS) {
        Ok(table) => table,
        // Made by the first commit.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Ok(Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let mut records = Vec::new();
    for row in table.iter()? {
        let (name, bytes) = row?;
        match record::decode(name.value(), bytes.value()) {
            Ok(record) => records.push(record),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(records))
}
