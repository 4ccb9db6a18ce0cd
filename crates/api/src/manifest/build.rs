//! The key `build` of a function: how its `source` comes about.
//!
//! ```toml
//! [function.light]
//! source = "light.wasm"
//! build = { language = "rust" }
//! ```
//!
//! A node never sees it: `mote build` does what it says, and `mote deploy` sends what came of it.
//! Which languages there are is known to whoever builds, not here.

use std::path::PathBuf;

use mote_core::error::Error;
use mote_core::spec::RuntimeKind;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Lines, check_source, known_keys, short};

const KEYS: &[&str] = &["language", "entry", "command", "preinit", "optimise"];
/// Longest name of a language, and longest command.
const TEXT_BYTES_MAX: usize = 4096;

/// How a source is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// By whom.
    pub by: By,
    /// Whether the code is started once while it is built, and its memory kept, so that no call pays for that.
    pub preinit: bool,
    /// Whether the code is made smaller and faster after the compiler.
    pub optimise: bool,
}

/// Who makes a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The toolchain of a language.
    Language {
        /// Its name, in lower case, such as `rust`.
        name: String,
        /// The file to begin with, below the manifest's folder; by default what is usual for the language.
        entry: Option<PathBuf>,
    },
    /// A command of the shell, run in the manifest's folder.
    Command(String),
}

/// Reads the key.
pub(super) fn read(
    value: Spanned<DeValue<'_>>,
    runtime: RuntimeKind,
    of: &str,
    lines: Lines<'_>,
) -> Result<Build, Error> {
    let at = value.span().start;
    let DeValue::Table(table) = value.into_inner() else {
        return Err(lines
            .bad(at, format!("`build`{of} is not a table"))
            .with_hint("write build = { language = \"rust\" }"));
    };
    known_keys(&table, KEYS, &format!(" of `build`{of}"), lines)?;
    let preinit = switch(&table, "preinit", lines)?;
    let optimise = switch(&table, "optimise", lines)?;
    let language = text(&table, "language", lines)?;
    let command = text(&table, "command", lines)?;
    let entry = text(&table, "entry", lines)?;
    let by = match (language, command) {
        (Some(_), Some((_, at))) => {
            return Err(lines
                .bad(at, format!("`build`{of} has `language` and `command`"))
                .with_hint("a command is for what no language does; take one of the two away"));
        }
        (None, None) => {
            return Err(lines
                .bad(at, format!("`build`{of} says neither language nor command"))
                .with_hint(
                    "write build = { language = \"rust\" }, or build = { command = \"make\" }",
                ));
        }
        (Some((_, at)), None) if runtime != RuntimeKind::Wasm => {
            return Err(lines
                .bad(at, format!("`build.language`{of} makes WebAssembly"))
                .with_hint("take `runtime` away, or write build = { command = \"make\" }"));
        }
        (Some((name, _)), None) => By::Language {
            name,
            entry: entry
                .map(|(entry, at)| check_source(&entry).map_err(|error| lines.at(at, error)))
                .transpose()?,
        },
        (None, Some((command, _))) => {
            if let Some((_, at)) = entry {
                return Err(lines
                    .bad(at, format!("`build.entry`{of} is for a language"))
                    .with_hint("name the file in the command"));
            }
            By::Command(command)
        }
    };
    Ok(Build {
        by,
        preinit,
        optimise,
    })
}

/// A text that is not empty, and where it stands.
fn text(
    table: &DeTable<'_>,
    key: &str,
    lines: Lines<'_>,
) -> Result<Option<(String, usize)>, Error> {
    let Some(value) = table.get(key) else {
        return Ok(None);
    };
    let at = value.span().start;
    let Some(text) = value.get_ref().as_str() else {
        return Err(lines.bad(at, format!("`build.{key}` is not a text")));
    };
    if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX || text.contains('\0') {
        return Err(lines.bad(
            at,
            format!(
                "`build.{key}` = `{}` is not a text of 1 to {TEXT_BYTES_MAX} bytes",
                short(text)
            ),
        ));
    }
    Ok(Some((text.to_owned(), at)))
}

fn switch(table: &DeTable<'_>, key: &str, lines: Lines<'_>) -> Result<bool, Error> {
    let Some(value) = table.get(key) else {
        return Ok(false);
    };
    value.get_ref().as_bool().ok_or_else(|| {
        lines
            .bad(
                value.span().start,
                format!("`build.{key}` is neither true nor false"),
            )
            .with_hint(format!("write build = {{ …, {key} = true }}"))
    })
}
