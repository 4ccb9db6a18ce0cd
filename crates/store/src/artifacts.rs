//! The code of functions, as files named by the digest of their bytes.
//!
//! A file gets its name only when its bytes are on the disk, so whatever has a digest for a name is
//! whole. [`Artifacts::verify`] tells when the disk has changed it since.
//!
//! What ends a file is [`ArtifactStore::sweep`]: it deletes what no function uses, after a grace,
//! because an upload comes before the function that uses it. Whoever is about to use an artifact
//! puts it first; that starts the grace again. How much is kept is bounded by the disk: when it is
//! full, `put` fails with `StorageFull` and leaves nothing behind.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::registry::ArtifactStore;
use mote_core::runtime::BoxFuture;
use tokio::time::Instant;

use crate::data_dir::DataDir;
use crate::failure;

use disk::{Disk, FileSystem};

mod disk;

/// How long an upload that nothing uses yet is kept.
pub const GRACE: Duration = Duration::from_secs(3600);

/// Uploads whose exact time is remembered. With more of them within one grace the oldest are
/// judged by the time of their file instead.
const RECENT_MAX: usize = 4096;

const TEMPORARY: &str = ".upload-";

/// An [`ArtifactStore`] in the data folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Artifacts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    disk: Box<dyn Disk>,
    opened: Instant,
    state: Mutex<State>,
    _lock: Option<Arc<File>>,
}

/// Held for single operations on names, so that a file which was just put cannot be deleted by a
/// sweep that looked before.
#[derive(Debug, Default)]
struct State {
    /// When this process put an artifact. The clock of the files can jump, this one cannot.
    recent: HashMap<Digest, Instant>,
    /// Temporary files being written.
    writing: HashSet<u64>,
    next: u64,
}

impl Artifacts {
    /// Opens the store, and deletes what interrupted uploads left.
    pub fn open(dir: &DataDir) -> Result<Self, Error> {
        Self::start(dir.artifacts(), Box::new(FileSystem), Some(dir.held()))
    }

    /// Reads an artifact and compares it with its digest. Fails with `NotFound` when it is not
    /// here, and with `Internal` when the disk has changed it; putting it again repairs that.
    pub async fn verify(&self, digest: &Digest) -> Result<(), Error> {
        let digest = *digest;
        self.blocking(move |inner| inner.verify(&digest)).await
    }

    fn start(folder: PathBuf, disk: Box<dyn Disk>, lock: Option<Arc<File>>) -> Result<Self, Error> {
        let inner = Inner {
            folder,
            disk,
            opened: Instant::now(),
            state: Mutex::default(),
            _lock: lock,
        };
        inner.list()?;
        Ok(Self(Arc::new(inner)))
    }

    /// Runs disk work where it may block. Goes on when the caller does not wait any more.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|error| {
            Err(Error::new(
                ErrorKind::Internal,
                format!("work on the artifacts did not end: {error}"),
            ))
        })
    }
}

impl ArtifactStore for Artifacts {
    fn put(&self, bytes: Bytes) -> BoxFuture<'_, Result<Digest, Error>> {
        let now = Instant::now();
        Box::pin(self.blocking(move |inner| inner.put(&bytes, now)))
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.0.path(digest);
        self.0.disk.exists(&path).then_some(path)
    }

    fn sweep<'a>(
        &'a self,
        used: &'a (dyn Fn(&Digest) -> bool + Sync),
    ) -> BoxFuture<'a, Result<usize, Error>> {
        let now = Instant::now();
        Box::pin(async move {
            let mut unused = self.blocking(Inner::list).await?;
            unused.retain(|(digest, _)| !used(digest));
            self.blocking(move |inner| inner.delete(&unused, now)).await
        })
    }
}

impl Inner {
    fn put(&self, bytes: &[u8], now: Instant) -> Result<Digest, Error> {
        let digest = Digest::from_bytes(*blake3::hash(bytes).as_bytes());
        let path = self.path(&digest);
        // What is here already is kept if it is whole; a damaged file is replaced.
        let whole = self.disk.exists(&path) && self.verify(&digest).is_ok();
        if !(whole && self.keep(&digest, now)) {
            self.write(&digest, bytes, now)?;
        }
        // Also for a file that was here: whoever wrote it may have died before this step.
        let synced = self.disk.sync_folder(&self.folder);
        synced.map_err(|error| self.failed("syncing", &digest, &error))?;
        Ok(digest)
    }

    /// Starts the grace of a file that is here again. False when it is gone by now.
    fn keep(&self, digest: &Digest, now: Instant) -> bool {
        let mut state = self.state();
        let here = self.disk.exists(&self.path(digest));
        if here {
            state.remember(*digest, now);
        }
        here
    }

    fn write(&self, digest: &Digest, bytes: &[u8], now: Instant) -> Result<(), Error> {
        let number = self.state().begin();
        let temporary = self.folder.join(format!("{TEMPORARY}{number}"));
        let written = self
            .disk
            .write(&temporary, bytes)
            .and_then(|()| self.disk.sync_file(&temporary));
        let mut state = self.state();
        let named = written.and_then(|()| self.disk.rename(&temporary, &self.path(digest)));
        state.writing.remove(&number);
        match named {
            Ok(()) => {
                state.remember(*digest, now);
                Ok(())
            }
            Err(error) => {
                drop(state);
                // Its space may be what is missing. If this fails too, the next sweep tries again.
                let _ = self.disk.remove(&temporary);
                Err(self.failed("storing", digest, &error))
            }
        }
    }

    fn verify(&self, digest: &Digest) -> Result<(), Error> {
        let found = match self.disk.hash(&self.path(digest)) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("artifact `{digest}` is not on this node"),
                )
                .with_hint("deploy the function again"));
            }
            Err(error) => return Err(self.failed("reading", digest, &error)),
        };
        if found == *digest {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Internal,
            format!("artifact `{digest}` is damaged: its bytes have digest `{found}`"),
        )
        .with_hint("deploy the function again, and check the disk"))
    }

    /// Every artifact with the time of its file. Deletes temporary files that nobody writes to.
    fn list(&self) -> Result<Vec<(Digest, SystemTime)>, Error> {
        let failed = |error: io::Error| {
            failure::io(
                format!("listing artifacts in `{}`", self.folder.display()),
                &error,
            )
        };
        let mut artifacts = Vec::new();
        for (name, modified) in self.disk.list(&self.folder).map_err(failed)? {
            if let Ok(digest) = name.parse() {
                artifacts.push((digest, modified));
            } else if let Some(number) = name.strip_prefix(TEMPORARY) {
                let number = number.parse::<u64>();
                let state = self.state();
                if number.is_ok_and(|number| state.writing.contains(&number)) {
                    continue;
                }
                match self.disk.remove(&self.folder.join(&name)) {
                    Ok(()) => {}
                    // Its upload ended after the folder was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(artifacts)
    }

    fn delete(&self, unused: &[(Digest, SystemTime)], now: Instant) -> Result<usize, Error> {
        let wall = SystemTime::now();
        let mut deleted = 0;
        for (digest, modified) in unused {
            let mut state = self.state();
            let age = match state.recent.get(digest) {
                Some(put) => now.saturating_duration_since(*put),
                // Put by an earlier process, or long ago. A file from the future says nothing.
                None => wall
                    .duration_since(*modified)
                    .unwrap_or_default()
                    .max(now.saturating_duration_since(self.opened)),
            };
            if age < GRACE {
                continue;
            }
            match self.disk.remove(&self.path(digest)) {
                Ok(()) => deleted += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed("deleting", digest, &error)),
            }
            state.recent.remove(digest);
        }
        Ok(deleted)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Single inserts and removals leave nothing half done, whatever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &str, digest: &Digest, error: &io::Error) -> Error {
        failure::io(
            format!(
                "{doing} artifact `{}` in `{}`",
                digest.short(),
                self.folder.display()
            ),
            error,
        )
    }
}

impl State {
    fn begin(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.writing.insert(number);
        number
    }

    fn remember(&mut self, digest: Digest, now: Instant) {
        if self.recent.len() >= RECENT_MAX && !self.recent.contains_key(&digest) {
            self.recent
                .retain(|_, put| now.saturating_duration_since(*put) < GRACE);
        }
        if self.recent.len() >= RECENT_MAX && !self.recent.contains_key(&digest) {
            let oldest = self.recent.iter().min_by_key(|(_, put)| **put);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.recent.remove(&oldest);
            }
        }
        self.recent.insert(digest, now);
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod power_cut;
