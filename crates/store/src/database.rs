//! Database files: how one is made and opened.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mote_core::error::Error;

use crate::data_dir::sync_folder;
use crate::failure;

/// How to open a file, again and again.
pub(crate) type Opener = Box<dyn Fn() -> Result<redb::Database, redb::DatabaseError> + Send + Sync>;

/// Makes an empty database that only we may read, unless there is a file of this name. Durable on
/// return.
pub(crate) fn create(path: &Path) -> Result<(), Error> {
    if path.exists() {
        return Ok(());
    }
    let creating = || format!("creating `{}`", path.display());
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
    let made = redb::Builder::new().create_file(file);
    drop(made.map_err(|error| failure::database(creating(), &error.into(), "try again"))?);
    fs::rename(&unnamed, path).map_err(|error| failure::io(creating(), &error))?;
    // What is saved from now on must not lose its name.
    sync_folder(path.parent().expect("a file is in a folder"))
}

/// Opens the file at this path, with so many bytes of its pages kept in memory; the database's own
/// default of a gigabyte is for other uses.
pub(crate) fn opener(path: &Path, cache_bytes: usize) -> Opener {
    let path = path.to_owned();
    Box::new(move || redb::Builder::new().set_cache_size(cache_bytes).open(&path))
}
