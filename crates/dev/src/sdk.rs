//! The SDKs and templates this program carries, and where they are put for compilers to find.
//!
//! `mote-dev` is one file: whatever a build needs besides the compiler is in it. It is written to
//! `<cache>/mote/sdk/<version>/<language>` when it is not there or differs, so a project holds no copy of it and an
//! update of `mote` is an update of the SDK. Files that are right are left alone, and keep their time.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mote_core::error::{Error, ErrorKind};

/// One embedded file.
#[derive(Debug)]
pub(crate) struct File {
    /// Its path in its folder, with `/`.
    pub(crate) path: &'static str,
    /// What is in it.
    pub(crate) bytes: &'static [u8],
}

/// Embeds files of one folder below `sdk/`: `files!("rust": "Cargo.toml", "src/lib.rs")`.
macro_rules! files {
    ($folder:literal: $($path:literal),* $(,)?) => {
        &[$($crate::sdk::File {
            path: $path,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk/", $folder, "/", $path)),
        }),*]
    };
}
pub(crate) use files;

/// The worlds: `sdk/wit`.
pub(crate) const WIT: &[File] = files!(
    "wit":
    "deps/clocks.wit",
    "deps/config.wit",
    "deps/http.wit",
    "deps/io.wit",
    "deps/keyvalue.wit",
    "deps/random.wit",
    "function.wit",
);

/// The folder for what can be made again: `$XDG_CACHE_HOME/mote`, or `~/.cache/mote`.
pub(crate) fn cache() -> Result<PathBuf, Error> {
    let given = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    given
        .filter(|path| path.is_absolute())
        .or_else(|| home().filter(|path| path.is_absolute()))
        .map(|path| path.join("mote"))
        .ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no folder for the cache")
                .with_hint("set HOME or XDG_CACHE_HOME")
        })
}

/// Brings `files` into `<cache>/sdk/<version>/<name>` and gives that folder.
pub(crate) fn materialise(cache: &Path, name: &str, files: &[File]) -> Result<PathBuf, Error> {
    let folder = cache.join("sdk").join(env!("CARGO_PKG_VERSION")).join(name);
    for file in files {
        let path = folder.join(file.path);
        if fs::read(&path).is_ok_and(|found| found == file.bytes) {
            continue;
        }
        write(&path, file.bytes).map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                format!("cannot write {}: {error}", path.display()),
            )
            .with_hint("check disk and owner, or set XDG_CACHE_HOME to another folder")
        })?;
    }
    Ok(folder)
}

/// Renamed into place, so that a build beside this one reads all of the file or none.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map(|_| ()).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::language;

    const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk");
    /// What is in a folder for the people who work on it, and is not shipped.
    const NOT_SHIPPED: &[&str] = &["README.md", "tests", "target", "node_modules", "Cargo.lock"];

    fn listed(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder.join(below)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = if below.is_empty() {
                name
            } else {
                format!("{below}/{name}")
            };
            if folder.join(&path).is_dir() {
                listed(folder, &path, found);
            } else {
                found.insert(path);
            }
        }
    }

    /// A file that is forgotten in a list is missing on the machines of others only.
    #[track_caller]
    fn all_there(folder: &str, files: &[File], left_out: &[&str]) {
        let mut found = BTreeSet::new();
        listed(&Path::new(SDK).join(folder), "", &mut found);
        found.retain(|path| !left_out.contains(&path.split('/').next().unwrap_or_default()));
        // Tests that stand beside what they test, and what Python keeps of modules.
        found.retain(|path| !path.ends_with("_test.go") && !path.contains("__pycache__/"));
        let embedded: BTreeSet<String> = files.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(embedded, found, "sdk/{folder}");
    }

    #[test]
    fn every_file_of_an_sdk_and_a_template_is_embedded() {
        all_there("wit", WIT, NOT_SHIPPED);
        for language in language::ALL {
            if !language.sdk().is_empty() {
                all_there(language.sdk_name(), language.sdk(), NOT_SHIPPED);
            }
            all_there(
                &format!("templates/{}", language.name()),
                language.template(),
                &[],
            );
        }
    }

    #[test]
    fn files_are_written_once_and_again_when_they_differ() {
        let cache = tempfile::tempdir().unwrap();
        const FILES: &[File] = &[File {
            path: "a/b.txt",
            bytes: b"one",
        }];
        let folder = materialise(cache.path(), "x", FILES).unwrap();
        let path = folder.join("a/b.txt");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        materialise(cache.path(), "x", FILES).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time);
        fs::write(&path, "another").unwrap();
        materialise(cache.path(), "x", FILES).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }
}
