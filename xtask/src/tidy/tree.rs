//! The working tree as `tidy` sees it: a sorted list of the files that people wrote.
//!
//! It walks the folders instead of asking git, so that it also works on an unpacked release and in a test's folder.
//! Build output and fetched packages are left out by folder name.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Names of folders that hold what tools produced or fetched, anywhere.
const FOREIGN_NAMES: &[&str] = &[".git", "target", "node_modules", ".venv", "__pycache__"];

/// Folders of that kind whose name means something else elsewhere.
const FOREIGN_FOLDERS: &[&str] = &["fuzz/artifacts", "fuzz/corpus", "fuzz/coverage"];

/// Every file below a root, by its path from that root with forward slashes.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    files: Vec<String>,
}

impl Tree {
    /// Lists the files below `root`. Links are listed, not followed.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let path = root.join(&folder);
            let entries = std::fs::read_dir(&path)
                .with_context(|| format!("cannot list {}", path.display()))?;
            for entry in entries {
                let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
                // A name that is not UTF-8 cannot be in any of our rules.
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let path = if folder.is_empty() {
                    name.clone()
                } else {
                    format!("{folder}/{name}")
                };
                if !entry.file_type()?.is_dir() {
                    files.push(path);
                } else if !FOREIGN_NAMES.contains(&name.as_str())
                    && !FOREIGN_FOLDERS.contains(&path.as_str())
                {
                    folders.push(path);
                }
            }
        }
        files.sort();
        Ok(Self {
            root: root.to_owned(),
            files,
        })
    }

    /// All files, sorted.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// Files whose name ends in `.ending`.
    pub(crate) fn ending<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = &'a str> {
        self.files().filter(move |path| {
            path.rsplit_once('.')
                .is_some_and(|(_, last)| last == ending)
        })
    }

    /// Whether this is a file or a folder of the tree on disk.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Whether this is a folder on disk.
    pub(crate) fn is_folder(&self, path: &str) -> bool {
        self.root.join(path).is_dir()
    }

    /// The bytes of one file.
    pub(crate) fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        std::fs::read(self.root.join(path)).with_context(|| format!("cannot read {path}"))
    }

    /// The text of one file; bytes that are not UTF-8 are replaced.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(path)?).into_owned())
    }
}
