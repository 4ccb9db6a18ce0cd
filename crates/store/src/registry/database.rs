//! The database file behind the registry: a table of functions, from full name to stored record,
//! and one of secrets.
//!
//! Everything that can go wrong with the file ends here as a value, a panic of the database
//! included; after any of it the file is closed, and opened again when it is next needed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use mote_core::error::{Error, ErrorKind};
use redb::{
    Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};

use super::record;
use crate::database::{Opener, create, opener};
use crate::failure;
use crate::secrets;

/// What to do about a damaged file.
pub(crate) const REPAIR: &str =
    "restore `registry.redb` from a backup, or move it away and deploy the functions again";

/// Pages kept in memory. The lists are read once, at start, and a change touches a handful of pages.
const CACHE_BYTES: usize = 256 << 10;

/// How to open this file, which is created when there is none.
pub(super) fn file(path: &Path) -> Result<Opener, Error> {
    create(path)?;
    Ok(opener(path, CACHE_BYTES))
}

/// What a row is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Table {
    /// From full name to record.
    Functions,
    /// From app and name to value.
    Secrets,
}

/// Key and value as they are stored.
pub(crate) type Row = (String, Vec<u8>);

/// One row written (`Some`) or removed (`None`).
pub(crate) struct Change {
    pub(crate) table: Table,
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
}

impl Table {
    fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        match self {
            Self::Functions => TableDefinition::new("functions"),
            Self::Secrets => TableDefinition::new("secrets"),
        }
    }

    /// Asked before a row is replaced or removed: what a newer node wrote is never thrown away
    /// unread.
    fn readable(self, key: &str, value: &[u8]) -> Result<(), Error> {
        match self {
            Self::Functions => record::readable(key, value).map(|_| ()),
            Self::Secrets => secrets::readable(key, value).map(|_| ()),
        }
    }
}

/// The open file, or how to open it.
pub(super) struct Database {
    opener: Opener,
    open: Option<redb::Database>,
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

    /// Every row of a table, by key.
    pub(super) fn list(&mut self, table: Table) -> Result<Vec<Row>, Error> {
        self.attempt("reading the registry", |file| list(file, table))
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
            Ok(Err(error)) => Err(failure::database(doing, &error, REPAIR)),
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
    let outcomes = changes.iter().map(|change| apply(&transaction, change));
    let outcomes = outcomes.collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(outcomes)
}

/// The outer error is the file's, the inner one the change's.
fn apply(
    transaction: &WriteTransaction,
    change: &Change,
) -> Result<Result<(), Error>, redb::Error> {
    let mut table = transaction.open_table(change.table.definition())?;
    let key = change.key.as_str();
    if let Some(old) = table.get(key)?
        && let Err(error) = change.table.readable(key, old.value())
    {
        return Ok(Err(error));
    }
    match &change.value {
        Some(value) => drop(table.insert(key, value.as_slice())?),
        None => drop(table.remove(key)?),
    }
    Ok(Ok(()))
}

fn list(file: &redb::Database, table: Table) -> Result<Vec<Row>, redb::Error> {
    let transaction = file.begin_read()?;
    let table = match transaction.open_table(table.definition()) {
        Ok(table) => table,
        // Made by the first commit.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        rows.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(rows)
}
