//! Which guests there are, and the digest of everything one is built from.
//!
//! A guest is a crate of type `cdylib` in one of the guest workspaces; there is no list to keep.
//! Its sources are its manifest and code, what all guests share, and the versions its workspace locks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Guest;

/// Read by every guest: the world and the crate that stands in for the standard library.
const SHARED: [&str; 3] = ["sdk/wit", "examples/lean/Cargo.toml", "examples/lean/src"];

/// What of a guest's own folder goes into its binary; the rest is there for people and `mote deploy`.
const OWN: [&str; 3] = ["Cargo.toml", "src", "wit"];

#[derive(Deserialize)]
struct Manifest {
    lib: Option<Lib>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Lib {
    #[serde(default)]
    crate_type: Vec<String>,
}

/// The guests of one workspace, by name; none when the folder is not there.
pub(super) fn guests(root: &Path, workspace: &'static str) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for folder in entries(&root.join(workspace))? {
        let manifest = folder.join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&manifest) else {
            continue;
        };
        let parsed: Manifest =
            toml::from_str(&text).with_context(|| format!("in {}", manifest.display()))?;
        let builds_module = parsed
            .lib
            .is_some_and(|lib| lib.crate_type.iter().any(|kind| kind == "cdylib"));
        if builds_module && let Some(name) = folder.file_name() {
            guests.push(Guest {
                workspace,
                name: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(guests)
}

/// The digest over the paths and contents of all that `guest` is built from.
pub(super) fn digest(root: &Path, guest: &Guest) -> Result<String> {
    let workspace = Path::new(guest.workspace);
    let mut files = Vec::new();
    for shared in SHARED {
        collect(root, Path::new(shared), &mut files)?;
    }
    for own in OWN {
        collect(root, &guest.folder().join(own), &mut files)?;
    }
    collect(root, &workspace.join("Cargo.toml"), &mut files)?;
    collect(root, &workspace.join("Cargo.lock"), &mut files)?;
    files.sort();

    let mut hasher = blake3::Hasher::new();
    for file in files {
        let content = fs::read(root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        // Lengths go in as well, so that no two lists of files look the same to the hash.
        let name = file.to_string_lossy().replace('\\', "/");
        for part in [name.as_bytes(), content.as_slice()] {
            hasher.update(&u64::try_from(part.len())?.to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Adds the file at `path`, or every file below it, as paths relative to `root`.
fn collect(root: &Path, path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let full = root.join(path);
    if full.is_file() {
        files.push(path.to_owned());
    }
    for entry in entries(&full)? {
        if let Some(name) = entry.file_name() {
            collect(root, &path.join(name), files)?;
        }
    }
    Ok(())
}

/// What is in a folder, sorted; nothing when it is not a folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<Vec<_>>>()
        })
        .with_context(|| format!("cannot list {}", folder.display()))?;
    paths.sort();
    Ok(paths)
}
