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
use std::sync::Arc;

use mote_core::error::Error;
use mote_core::name::FunctionName;
use mote_core::registry::{FunctionRecord, Registry};
use mote_core::runtime::BoxFuture;

use crate::data_dir::DataDir;

use commits::Commits;
use database::{Change, Table};

pub(crate) mod commits;
pub(crate) mod database;
mod record;

const FILE: &str = "registry.redb";

/// A [`Registry`] in the data folder. Dropping it, and the secrets that were opened with it, waits
/// for the commit under way and closes the file.
pub struct RedbRegistry {
    commits: Arc<Commits>,
}

impl RedbRegistry {
    /// Opens the registry, and creates it when there is none. After a crash it first brings the
    /// file back to the last acknowledged commit, which reads all of it once. Blocks for as long.
    pub fn open(dir: &DataDir) -> Result<Self, Error> {
        let opener = database::file(&dir.path().join(FILE))?;
        let commits = Commits::start(opener, Some(dir.held()))?;
        Ok(Self {
            commits: Arc::new(commits),
        })
    }

    /// What else is kept in its file goes through its thread.
    pub(crate) fn commits(&self) -> Arc<Commits> {
        Arc::clone(&self.commits)
    }
}

/// Once a change waits in the queue it is made, whether or not the caller still waits: after a
/// dropped `save` or `remove` it is open whether it happened.
impl Registry for RedbRegistry {
    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionRecord>, Error>> {
        Box::pin(async move {
            let rows = self.commits.list(Table::Functions).await?;
            let records = rows.iter().map(|(name, bytes)| record::decode(name, bytes));
            records.collect()
        })
    }

    fn save(&self, record: FunctionRecord) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let change = Change {
                table: Table::Functions,
                value: Some(record::encode(&record)?),
                key: record.name.full().to_owned(),
            };
            self.commits.change(change).await
        })
    }

    fn remove(&self, name: FunctionName) -> BoxFuture<'_, Result<(), Error>> {
        let change = Change {
            table: Table::Functions,
            key: name.full().to_owned(),
            value: None,
        };
        Box::pin(self.commits.change(change))
    }
}

impl fmt::Debug for RedbRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbRegistry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod power_cut;

#[cfg(test)]
mod tests;
