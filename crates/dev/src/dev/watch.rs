//! Which files a build depends on, and when one of them has changed.
//!
//! A system tells of many things that are no change: a file that was read, an editor's own files, what the build itself
//! wrote. So its word is only a reason to look: a change is a file with another time or size than before the build.
//! Folders of tools are not even watched; a system gives out a limited number of watches.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mote_core::error::{Error, ErrorKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Editors save in several steps, one right after the other.
const QUIET: Duration = Duration::from_millis(30);
/// Longest wait for an end of the steps.
const DEBOUNCE_MAX: Duration = Duration::from_millis(90);
/// What tools make and fetch, wherever it is.
const FOREIGN: &[&str] = &[
    "target",
    "node_modules",
    "__pycache__",
    "venv",
    "dist",
    "zig-out",
    "Cargo.lock",
    "package-lock.json",
];
/// Most files and folders that are looked at; a project with more watches these.
const FILES_MAX: usize = 20_000;

/// The time and size of every file that matters.
pub(super) type Snapshot = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Looks after one folder.
pub(super) struct Watch {
    folder: PathBuf,
    /// What the build makes.
    outputs: Vec<PathBuf>,
    stirred: Arc<Notify>,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// Begins to watch. `outputs` are files below the folder that do not count.
    pub(super) fn start(folder: &Path, outputs: Vec<PathBuf>) -> Result<Self, Error> {
        let stirred = Arc::new(Notify::new());
        let heard = Arc::clone(&stirred);
        let failed = |error: notify::Error| {
            Error::new(
                ErrorKind::Internal,
                format!("cannot watch {}: {error}", folder.display()),
            )
            .with_hint("where the system has no more watches, raise fs.inotify.max_user_watches")
        };
        let hear = move |_: notify::Result<notify::Event>| heard.notify_one();
        let mut watcher = notify::recommended_watcher(hear).map_err(failed)?;
        // Whether it can be watched at all is told at once; what becomes of folders below is not.
        watcher
            .watch(folder, RecursiveMode::NonRecursive)
            .map_err(failed)?;
        let mut watch = Self {
            folder: folder.to_owned(),
            outputs,
            stirred,
            watcher,
            watched: BTreeSet::from([PathBuf::new()]),
        };
        watch.snapshot();
        Ok(watch)
    }

    /// Replaces what the build makes, when the manifest has changed.
    pub(super) fn set_outputs(&mut self, outputs: Vec<PathBuf>) {
        self.outputs = outputs;
    }

    /// How the files are now.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        let mut seen = BTreeSet::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(below) = folders.pop() {
            let folder = self.folder.join(&below);
            // Watched before it is read, so that nothing comes in between.
            if !self.watched.contains(&below) {
                let _ = self.watcher.watch(&folder, RecursiveMode::NonRecursive);
            }
            seen.insert(below.clone());
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let path = below.join(&name);
                if is_foreign(&name.to_string_lossy()) || self.outputs.contains(&path) {
                    continue;
                }
                let Ok(about) = entry.metadata() else {
                    continue;
                };
                if snapshot.len() + seen.len() + folders.len() >= FILES_MAX {
                    break;
                }
                if about.is_dir() {
                    folders.push(path);
                } else {
                    snapshot.insert(path, (about.modified().ok(), about.len()));
                }
            }
        }
        // A folder that went and comes again is another one.
        self.watched = seen;
        snapshot
    }

    /// Waits until the files differ from `before`, and no more are on their way. Cancel-safe.
    pub(super) async fn changed(&mut self, before: &Snapshot) {
        while self.snapshot() == *before {
            self.stirred.notified().await;
        }
        let quiet = async { while timeout(QUIET, self.stirred.notified()).await.is_ok() {} };
        let _ = timeout(DEBOUNCE_MAX, quiet).await;
    }
}

/// Hidden files are for tools and editors, and so are backups.
fn is_foreign(name: &str) -> bool {
    name.starts_with(['.', '#']) || name.ends_with('~') || FOREIGN.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn watch(folder: &Path) -> Watch {
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::write(folder.join("src/a.rs"), "one").unwrap();
        Watch::start(folder, vec![PathBuf::from("a.wasm")]).unwrap()
    }

    #[tokio::test]
    async fn a_change_is_seen_and_what_a_build_writes_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = watch(folder.path());
        let before = watch.snapshot();
        for path in [
            "a.wasm",
            ".mote/x",
            "target/debug/b",
            "src/a.rs~",
            "src/.a.rs.swp",
            "Cargo.lock",
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "made").unwrap();
        }
        assert_eq!(watch.snapshot(), before);
        fs::write(folder.path().join("src/a.rs"), "three").unwrap();
        timeout(PATIENCE, watch.changed(&before)).await.unwrap();
        assert_ne!(watch.snapshot(), before);
    }

    #[tokio::test]
    async fn a_change_in_a_new_folder_is_heard_while_one_waits() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = watch(folder.path());
        fs::create_dir(folder.path().join("src/new")).unwrap();
        let before = watch.snapshot();
        let path = folder.path().join("src/new/b.rs");
        let write = async {
            tokio::task::yield_now().await;
            fs::write(path, "").unwrap();
        };
        let both = async { tokio::join!(watch.changed(&before), write) };
        timeout(PATIENCE, both).await.unwrap();
    }
}
