//! The languages in which functions are written, one file each.
//!
//! A language is a description: what marks its projects, what its SDK and template are made of, where its toolchain
//! is and what to install when it is nowhere, and which commands make a module or a component of a source. `build`
//! does what is described. What is not here: running anything but a look for versions, and any choice between
//! languages: the manifest says which.

mod assemblyscript;
mod c;
mod go;
mod javascript;
mod npm;
mod python;
mod rust;
mod worlds;
mod zig;

use std::path::{Path, PathBuf};
use std::process::Command;

use mote_api::nearest::nearest;
use mote_core::error::{Error, ErrorKind};

use crate::sdk::File;
use crate::tools::Tools;

/// Every language, in the order in which they are listed for people.
pub(crate) const ALL: &[&dyn Language] = &[
    &rust::Rust,
    &c::C,
    &go::Go,
    &javascript::JavaScript,
    &javascript::TypeScript,
    &python::Python,
    &zig::Zig,
    &assemblyscript::AssemblyScript,
];

/// One language.
pub(crate) trait Language: Sync {
    /// Its name in manifests and on the command line: `rust`.
    fn name(&self) -> &'static str;

    /// Other names that people give it.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// Files that only a project of this language has in its folder.
    fn marks(&self) -> &'static [&'static str];

    /// The file that a build begins with when the manifest says nothing, below the manifest's folder.
    fn entry(&self) -> &'static str;

    /// The folder of its SDK below `sdk/`, when it is another language's.
    fn sdk_name(&self) -> &'static str {
        self.name()
    }

    /// The SDK, of `sdk/<sdk_name>/`, if it has one. It is written to the cache folder before a build, and never into
    /// a project.
    fn sdk(&self) -> &'static [File] {
        &[]
    }

    /// What `mote new` writes, of `sdk/templates/<name>/`.
    fn template(&self) -> &'static [File];

    /// How this job is done, with the toolchain that is there. The error of a toolchain that is missing or too old
    /// says what to install on this system.
    fn recipe(&self, job: &Job<'_>) -> Result<Recipe, Error>;
}

/// One function to build.
pub(crate) struct Job<'a> {
    /// The folder of its manifest.
    pub(crate) folder: &'a Path,
    /// The file to begin with, below the folder.
    pub(crate) entry: &'a Path,
    /// The language's SDK on this machine.
    pub(crate) sdk: &'a Path,
    /// The worlds, `sdk/wit/`, on this machine.
    pub(crate) wit: &'a Path,
    /// A folder in the project for what is kept between builds of this function; it is there.
    pub(crate) work: &'a Path,
    /// The programs of this machine.
    pub(crate) tools: &'a Tools,
}

/// How a function is built.
pub(crate) struct Recipe {
    /// What is run, in this order, until one fails. What they print is shown as it is.
    pub(crate) steps: Vec<Command>,
    /// What is there afterwards.
    pub(crate) output: Output,
}

/// What a toolchain leaves.
#[derive(Debug)]
pub(crate) enum Output {
    /// A component, or a WASI command: nothing more has to be done.
    Finished(PathBuf),
    /// A core module, of which a component is to be made.
    Module {
        /// Where it is.
        file: PathBuf,
        /// Which world it was compiled for.
        world: World,
        /// What its memory is when a call begins.
        memory: Memory,
    },
}

/// The memory of a module when a call begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Memory {
    /// As the compiler made it.
    Untouched,
    /// As these functions leave it, called in this order by the build.
    StartedBy(&'static [&'static str]),
    /// With room for what the call needs: see [`crate::snapshot::with_room`].
    WithRoom,
}

/// The world of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// A section of the module says it, as bindings generators write it.
    Written,
    /// This one of `sdk/wit`: `function` or `function-http`.
    Named(&'static str),
}

impl Job<'_> {
    /// The whole path of the entry.
    pub(crate) fn source(&self) -> PathBuf {
        self.folder.join(self.entry)
    }
}

/// The language of this name.
pub(crate) fn named(name: &str) -> Result<&'static dyn Language, Error> {
    let found = ALL
        .iter()
        .find(|language| language.name() == name || language.aliases().contains(&name));
    if let Some(language) = found {
        return Ok(*language);
    }
    let names: Vec<&str> = ALL.iter().map(|language| language.name()).collect();
    let error = Error::new(
        ErrorKind::BadRequest,
        format!("language `{}` is not known", name.escape_debug()),
    );
    Err(match nearest(name, &names) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint(format!(
            "there are {}; any other is built with build = {{ command = \"…\" }}",
            names.join(", ")
        )),
    })
}

/// The languages whose marks are in a folder.
pub(crate) fn marked(folder: &Path) -> Vec<&'static dyn Language> {
    let is_marked = |language: &&dyn Language| {
        let mut marks = language.marks().iter();
        marks.any(|mark| folder.join(mark).exists())
    };
    ALL.iter().copied().filter(is_marked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<&str> = ALL
            .iter()
            .flat_map(|language| {
                std::iter::once(language.name()).chain(language.aliases().iter().copied())
            })
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let Err(error) = named("rsut") else {
            panic!("there is a language `rsut`");
        };
        assert_eq!(error.hint(), Some("did you mean `rust`?"));
    }

    #[test]
    fn every_template_has_what_a_project_needs() {
        for language in ALL {
            let has = |path: &str| language.template().iter().any(|file| file.path == path);
            for path in ["mote.toml", ".gitignore", "tests/hello.http"] {
                assert!(has(path), "{}: {path}", language.name());
            }
            assert!(has(language.entry()), "{}", language.name());
        }
    }
}
