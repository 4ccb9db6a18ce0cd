//! Environments: a language's runtime and a loader, which make a function of plain source.
//!
//! An environment is data, a folder with an `environment.toml` and whatever its loader needs. It says by
//! which files it knows its functions, how to run them, and how they are called:
//!
//! ```toml
//! version = 1
//! files = ["handler.py", "fn.py"]      # the first of these that a function has is its handler
//! contract = "zygote"                  # zygote, http, stdio or lambda
//! command = ["python3", "/environment/loader.py", "/app/{handler}"]
//! ready = "/ready"                     # of contract http: answers with 2xx when it is ready
//! warm = true                          # of zygote and http: it can wait for its code (`process::warm`)
//! ```
//!
//! The built-in ones are part of the program and written to disk at the start, since a sandbox needs
//! files. Users add theirs as folders beside them, at any time: these are read when they are asked for.
//! A function's folder appears at `/app` and its environment's at `/environment`.

mod builtin;
mod manifest;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mote_core::error::{Error, ErrorKind};
use mote_core::name::check_label;
use mote_core::spec::Contract;

/// The name of an environment's manifest.
pub const FILE_NAME: &str = "environment.toml";
/// Where a function finds its code.
pub(crate) const APP: &str = "/app";
/// Where it finds its environment.
pub(crate) const ENVIRONMENT: &str = "/environment";
/// Where a handler's name goes in a command.
const HANDLER: &str = "{handler}";
/// The folder of the built-in ones, which is no user's.
const BUILTIN: &str = "builtin";
/// Most environments of users.
const ENVIRONMENTS_MAX: usize = 256;

/// How a function of an environment is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// By forking a process that imported the code once.
    Zygote,
    /// As a program that is written for this contract.
    Program(Contract),
}

impl Serving {
    /// The name in manifests.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Zygote => "zygote",
            Self::Program(contract) => contract.label(),
        }
    }
}

/// A language's runtime and a loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Its name, a DNS label.
    pub name: String,
    /// Where its files are; a function sees them, read-only, at `/environment`.
    pub folder: PathBuf,
    /// Files by which it knows its functions, best first.
    pub files: Vec<String>,
    /// How its functions are called.
    pub serving: Serving,
    /// Program and arguments, with `{handler}` where the handler's name goes.
    pub command: Vec<String>,
    /// Of contract `http`: the path that answers with 2xx when it is ready.
    pub ready: Option<String>,
    /// Whether it can be started without code and wait for that.
    pub warm: bool,
}

impl Environment {
    /// The function's handler: the first of `files` that it has.
    pub fn handler(&self, has: impl Fn(&str) -> bool) -> Option<&str> {
        self.files.iter().map(String::as_str).find(|file| has(file))
    }

    /// The command that waits for code, and what it is told of a handler when that comes: the words
    /// that name the handler.
    pub fn command_to_wait(&self, handler: &str) -> (Vec<String>, Vec<String>) {
        let words = self.command_for(handler).into_iter().zip(&self.command);
        let (told, command): (Vec<_>, Vec<_>) = words.partition(|(_, word)| word.contains(HANDLER));
        let only = |words: Vec<(String, _)>| words.into_iter().map(|(word, _)| word).collect();
        (only(command), only(told))
    }

    /// The command for a handler that [`Environment::handler`] found.
    pub fn command_for(&self, handler: &str) -> Vec<String> {
        self.command
            .iter()
            .map(|word| word.replace(HANDLER, handler))
            .collect()
    }
}

/// The environments of a node.
#[derive(Clone, Debug)]
pub struct Environments {
    folder: PathBuf,
    builtin: Vec<Environment>,
}

impl Environments {
    /// Writes the built-in ones below this folder, where they are not there already, and removes the
    /// ones of other versions. Blocking.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let builtin = builtin::write(&folder.join(BUILTIN)).map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                format!("cannot write environments to {}: {error}", folder.display()),
            )
            .with_hint("check the permissions and the free space of the data directory")
        })?;
        let builtin = builtin
            .into_iter()
            .map(|(name, text, folder)| manifest::parse(text, name, folder))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            folder: folder.to_owned(),
            builtin,
        })
    }

    /// The environment of this name: a user's, or else a built-in one. Blocking.
    pub fn find(&self, name: &str) -> Result<Environment, Error> {
        check_label("environment name", name)?;
        if name != BUILTIN && self.folder.join(name).join(FILE_NAME).exists() {
            return self.read(name);
        }
        let builtin = self.builtin.iter().find(|builtin| builtin.name == name);
        builtin.cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("environment `{name}` is not on this node"),
            )
            .with_hint(format!(
                "there are {}; or write {}",
                self.names().join(", "),
                self.folder.join(name).join(FILE_NAME).display()
            ))
        })
    }

    /// The environment that knows one of a function's files, and which file that is. Users' own come
    /// first, by name. One that cannot be read is passed over with a warning. Blocking.
    pub fn detect(&self, has: impl Fn(&str) -> bool) -> Option<(Environment, String)> {
        let own = self.own_names().into_iter().filter_map(|name| {
            self.read(&name)
                .inspect_err(|error| tracing::warn!(%error, "an environment is passed over"))
                .ok()
        });
        own.chain(self.builtin.iter().cloned())
            .find_map(|environment| {
                let handler = environment.handler(&has)?.to_owned();
                Some((environment, handler))
            })
    }

    /// The environment that serves this code, and its handler: the one of this name, or else the
    /// first that knows a file of it. Fails with `BadRequest` when there is none. Blocking.
    pub fn for_code(
        &self,
        name: Option<&str>,
        has: impl Fn(&str) -> bool,
    ) -> Result<(Environment, String), Error> {
        let Some(name) = name else {
            return self.detect(has).ok_or_else(|| {
                let files = Self::builtin_files().join(", ");
                Error::new(ErrorKind::BadRequest, "nothing in the code says how to run it").with_hint(
                    format!("write command = [\"./PROGRAM\"] in the manifest, or name the handler one of {files}"),
                )
            });
        };
        let environment = self.find(name)?;
        let handler = environment.handler(has).map(str::to_owned);
        let files = environment.files.join(", ");
        let handler = handler.ok_or_else(|| {
            let message = format!("environment `{name}` finds none of {files} in the code");
            Error::new(ErrorKind::BadRequest, message)
        })?;
        Ok((environment, handler))
    }

    /// The names of all, sorted. Blocking.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.own_names();
        names.extend(self.builtin.iter().map(|builtin| builtin.name.clone()));
        names.sort();
        names.dedup();
        names
    }

    /// The files by which the built-in environments know their functions.
    pub fn builtin_files() -> Vec<String> {
        builtin::ALL
            .iter()
            .filter_map(|builtin| {
                manifest::parse(builtin.manifest(), builtin.name, PathBuf::new()).ok()
            })
            .flat_map(|environment| environment.files)
            .collect()
    }

    fn own_names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name != BUILTIN && check_label("environment name", name).is_ok())
            .filter(|name| self.folder.join(name).join(FILE_NAME).is_file())
            .take(ENVIRONMENTS_MAX)
            .collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> Result<Environment, Error> {
        let folder = self.folder.join(name);
        let path = folder.join(FILE_NAME);
        let text = read_bounded(&path).map_err(|error| {
            Error::new(
                ErrorKind::BadRequest,
                format!("cannot read {}: {error}", path.display()),
            )
        })?;
        manifest::parse(&text, name, folder).map_err(|error| error.context(path.display()))
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let limit = manifest::BYTES_MAX as u64 + 1;
    fs::File::open(path)?
        .take(limit)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
