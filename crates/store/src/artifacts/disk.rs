//! What the artifacts ask of a file system, and the real one.
//!
//! The steps that make a file durable are separate operations here, so that a test can put a
//! simulated disk in their place which loses whatever was not synced.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use mote_core::digest::Digest;

/// A file system. Nothing is durable before the matching sync returned.
pub(super) trait Disk: Debug + Send + Sync {
    /// Writes a new file, or over an old one. Its bytes last after [`Disk::sync_file`].
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes of a file durable.
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, replacing what had it. Lasts after [`Disk::sync_folder`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> bool;

    /// The digest of a file's bytes, read piece by piece.
    fn hash(&self, path: &Path) -> io::Result<Digest>;

    /// The names in a folder that are UTF-8, with the times of their last change.
    fn list(&self, folder: &Path) -> io::Result<Vec<(String, SystemTime)>>;
}

/// The file system of the node.
#[derive(Debug)]
pub(super) struct FileSystem;

impl Disk for FileSystem {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?
            .write_all(bytes)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        // Syncing acts on the file, not on the handle that wrote it.
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn hash(&self, path: &Path) -> io::Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(String, SystemTime)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match entry.metadata().and_then(|found| found.modified()) {
                Ok(modified) => files.push((name, modified)),
                // Renamed or deleted while we were reading.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }
}
