//! What a node is told: defaults, below a file, below the environment, below flags.
//!
//! Every key is declared once, in [`keys`], with its default, its doc and the checked type that its
//! text becomes; flags, variables, the file's keys and `mote config show` come from there. After
//! [`Settings::check`] no value means "default" any more.

mod file;
mod keys;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use mote_core::error::Error;

pub(crate) use keys::{Config, KEYS};

/// The name of the file in the data directory.
const FILE_NAME: &str = "node.toml";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// One value before it is checked.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// What was written.
    pub(crate) text: String,
    /// Who wrote it.
    pub(crate) origin: Origin,
}

/// Every key with the text that won.
#[derive(Clone, Debug)]
pub(crate) struct Settings(pub(crate) BTreeMap<&'static str, Setting>);

/// What the command line said, by key; and which file to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// Values by key.
    pub(crate) values: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Merges everything that was said. `environment` looks a variable up.
    pub(crate) fn gather(
        flags: &Flags,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Error> {
        let mut settings = BTreeMap::new();
        let mut above = BTreeMap::new();
        for key in KEYS {
            let default = Setting {
                text: (key.default)(),
                origin: Origin::Default,
            };
            settings.insert(key.name, default);
            let variable = key.variable();
            if let Some(text) = environment(&variable).filter(|text| !text.is_empty()) {
                let origin = Origin::Environment(variable);
                let text = value::unicode(text, &origin)?;
                above.insert(key.name, Setting { text, origin });
            }
            if let Some(text) = flags.values.get(key.name) {
                let origin = Origin::Flag(key.flag());
                let text = text.clone();
                above.insert(key.name, Setting { text, origin });
            }
        }
        let named = flags
            .file
            .clone()
            .or_else(|| environment("MOTE_CONFIG").map(PathBuf::from));
        let data_dir = above.get("data_dir").unwrap_or(&settings["data_dir"]);
        let read = match named {
            Some(path) => file::read(&path)?,
            None => file::read_if_there(&PathBuf::from(&data_dir.text).join(FILE_NAME))?,
        };
        settings.extend(read);
        settings.extend(above);
        Ok(Self(settings))
    }

    /// Checks every value. An error names key, value and who wrote it.
    pub(crate) fn check(&self) -> Result<Config, Error> {
        Config::from_settings(self)
    }
}

/// Gathers and checks for a real process.
pub(crate) fn load(flags: &Flags) -> Result<Config, Error> {
    Settings::gather(flags, |name| std::env::var_os(name))?.check()
}

#[cfg(test)]
mod tests;
