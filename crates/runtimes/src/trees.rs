//! Unpacked artifacts on disk, each under its digest: made when one is needed, kept as long as
//! something holds it or a record names it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mote_core::error::{Error, ErrorKind};
use mote_core::runtime::Artifact;

use crate::tree::{self, Tree};

/// A folder of trees; nobody else may write to it.
#[derive(Debug)]
pub struct Trees {
    folder: PathBuf,
    /// Those that something uses or makes right now, by name.
    held: Mutex<HashMap<String, Weak<Hold>>>,
}

/// A tree that may not be deleted, and the right to unpack it.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Its name below the folder.
    pub(crate) name: String,
    /// Held while it is unpacked.
    making: tokio::sync::Mutex<()>,
}

impl Trees {
    /// The trees in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            held: Mutex::default(),
        }
    }

    /// Keeps the tree of an artifact from being swept for as long as the result lives.
    pub(crate) fn hold(&self, artifact: &Artifact) -> Arc<Hold> {
        let name = artifact.digest.to_string();
        let mut held = self.lock();
        held.retain(|_, hold| hold.strong_count() > 0);
        if let Some(hold) = held.get(&name).and_then(Weak::upgrade) {
            return hold;
        }
        let hold = Arc::new(Hold {
            name: name.clone(),
            making: tokio::sync::Mutex::default(),
        });
        held.insert(name, Arc::downgrade(&hold));
        hold
    }

    /// The tree of an artifact and its folder, unpacked if it is not there yet.
    pub(crate) async fn unpacked(
        &self,
        artifact: &Artifact,
        hold: &Hold,
    ) -> Result<(PathBuf, Tree), Error> {
        let _making = hold.making.lock().await;
        let into = self.folder.join(&hold.name);
        let source = artifact.path.clone();
        let unpacking = tokio::task::spawn_blocking(move || {
            let tree = match tree::known(&into) {
                Some(tree) => tree,
                None => tree::unpack(&source, &into, &tree::Limits::default())?,
            };
            Ok((into, tree))
        });
        unpacking.await.map_err(|error| {
            Error::new(ErrorKind::Internal, format!("unpacking failed: {error}"))
        })?
    }

    /// Deletes what is neither held nor `used`.
    pub(crate) fn sweep(&self, used: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        let trees = &self.folder;
        let failed = |error: std::io::Error| {
            let message = format!("cannot clean `{}`: {error}", trees.display());
            Error::new(ErrorKind::Internal, message)
        };
        for entry in std::fs::read_dir(trees).map_err(failed)? {
            let file = entry.map_err(failed)?.file_name();
            let Some(file) = file.to_str() else {
                continue;
            };
            let name = file.split_once('.').map_or(file, |(name, _)| name);
            let held = {
                let held = self.lock();
                held.get(name).is_some_and(|hold| hold.strong_count() > 0)
            };
            if !held && !used(name) {
                tree::remove(&trees.join(name)).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<Hold>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
