//! A project: a folder with a `mote.toml`, and in it the functions that are built.

use std::fs;
use std::path::{Path, PathBuf};

use mote_api::manifest::{self, Build, Function, Source};
use mote_core::error::{Error, ErrorKind};

/// A folder with functions.
#[derive(Debug)]
pub(crate) struct Project {
    /// Where it is, without links.
    pub(crate) folder: PathBuf,
    /// Every function of its manifest.
    pub(crate) functions: Vec<Function>,
}

/// A function that is built, and what its build makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Built<'a> {
    /// The function.
    pub(crate) function: &'a Function,
    /// How it is built.
    pub(crate) build: &'a Build,
    /// What that makes, below the project's folder.
    pub(crate) output: &'a Path,
}

impl Project {
    /// Reads the manifest of a folder, or the manifest itself.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |path: &Path, error: &std::io::Error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::BadRequest,
            };
            Error::new(kind, format!("cannot read {}: {error}", path.display()))
        };
        let path = path
            .canonicalize()
            .map_err(|error| unreadable(path, &error))?;
        let is_manifest = path
            .file_name()
            .is_some_and(|name| name == manifest::FILE_NAME);
        let folder = match path.parent() {
            Some(folder) if is_manifest => folder.to_owned(),
            _ => path,
        };
        let path = folder.join(manifest::FILE_NAME);
        let text = fs::read_to_string(&path).map_err(|error| {
            unreadable(&path, &error)
                .with_hint("start a function with `mote new --lang rust NAME`, or name the folder of its mote.toml")
        })?;
        let manifest = manifest::parse(&text).map_err(|error| error.context(path.display()))?;
        Ok(Self {
            folder,
            functions: manifest.functions,
        })
    }

    /// The functions that are built, in the manifest's order of names.
    pub(crate) fn built(&self) -> impl Iterator<Item = Built<'_>> {
        self.functions.iter().filter_map(|function| {
            let build = function.build.as_ref()?;
            let Source::Path(output) = &function.source else {
                return None;
            };
            Some(Built {
                function,
                build,
                output,
            })
        })
    }
}
