//! What a manifest would say, for a file or a folder without one.

use std::path::Path;

use clap::Args;
use mote_api::manifest;
use mote_api::spec::FunctionSpec;
use mote_api::units::{Period, Size};
use mote_core::error::{Error, ErrorKind};
use mote_core::name::{DEFAULT_APP, FunctionName};
use mote_core::spec::RuntimeKind;

use super::{Unit, code};

/// The flags in place of a manifest.
#[derive(Debug, Args)]
#[command(next_help_heading = "For a file or a folder without a mote.toml")]
pub(super) struct Bare {
    /// Name of the function; by default that of the file or folder.
    #[arg(long)]
    name: Option<String>,
    /// Its app.
    #[arg(long)]
    app: Option<String>,
    /// Memory of one call, or of a process, such as 64MiB.
    #[arg(long)]
    memory: Option<Size>,
    /// Wall time of one call, such as 10s.
    #[arg(long)]
    timeout: Option<Period>,
    /// Calls that one store or one process serves.
    #[arg(long)]
    reuse: Option<u32>,
    /// How a program takes calls: stdio, http or lambda.
    #[arg(long)]
    contract: Option<String>,
    /// It has published values that can be observed.
    #[arg(long)]
    observable: bool,
    /// An environment variable; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
}

impl Bare {
    /// The one function of a file or folder.
    pub(super) fn unit(&self, path: &Path) -> Result<Unit, Error> {
        let (runtime, code) = code::recognised(path)?;
        let name = self.function_name(path)?;
        let mut spec = FunctionSpec {
            runtime: runtime.label().to_owned(),
            observable: self.observable,
            contract: self.contract.clone(),
            ..FunctionSpec::default()
        };
        if let Some(memory) = self.memory {
            spec.memory = memory;
        }
        if let Some(timeout) = self.timeout {
            spec.timeout = timeout;
        }
        if let Some(reuse) = self.reuse {
            spec.reuse = reuse;
        }
        for pair in &self.env {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Error::new(
                    ErrorKind::BadRequest,
                    format!("--env {pair} has no value"),
                )
                .with_hint("write --env KEY=VALUE"));
            };
            spec.env.insert(key.to_owned(), value.to_owned());
        }
        // Checked here, before anything is sent.
        spec.clone().into_core(name.clone())?;
        let code = code.read(runtime)?;
        Ok(Unit { name, spec, code })
    }

    fn function_name(&self, path: &Path) -> Result<FunctionName, Error> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                // `.` has no name, but the folder that it stands for has one.
                let real = path
                    .canonicalize()
                    .map_err(|error| code::unreadable(path, &error))?;
                let stem = if path.is_dir() {
                    real.file_name()
                } else {
                    path.file_stem()
                };
                let stem = stem.unwrap_or_default().to_string_lossy();
                stem.to_lowercase().replace(['_', ' '], "-")
            }
        };
        let parsed = match (name.parse::<FunctionName>(), &self.app) {
            (Ok(name), None) => Ok(name),
            (_, app) => FunctionName::new(&name, app.as_deref().unwrap_or(DEFAULT_APP)),
        };
        parsed.map_err(|error| match &self.name {
            Some(_) => error,
            None => error.with_hint("choose a name with --name"),
        })
    }

    /// A manifest says all of this itself; a flag beside it would be forgotten next time.
    pub(super) fn refuse_with_manifest(&self) -> Result<(), Error> {
        let given = [
            ("name", self.name.is_some()),
            ("app", self.app.is_some()),
            ("memory", self.memory.is_some()),
            ("timeout", self.timeout.is_some()),
            ("reuse", self.reuse.is_some()),
            ("contract", self.contract.is_some()),
            ("observable", self.observable),
            ("env", !self.env.is_empty()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Error::new(
                ErrorKind::BadRequest,
                format!("--{flag} is for a file or a folder without a manifest"),
            )
            .with_hint(format!("write it into {}", manifest::FILE_NAME))),
            None => Ok(()),
        }
    }
}

/// Code that was recognised by its looks.
#[derive(Debug)]
pub(super) enum Code<'a> {
    /// A file, as it is.
    File(&'a Path),
    /// A folder of plain source.
    Folder(&'a Path),
}

impl Code<'_> {
    fn read(&self, runtime: RuntimeKind) -> Result<bytes::Bytes, Error> {
        match self {
            Self::File(path) => code::file(path, runtime),
            Self::Folder(path) => code::source_folder(path),
        }
    }
}
