//! The manifest `environment.toml`. Unknown keys are errors, and every failure says the line.

use std::path::PathBuf;

use mote_core::error::{Error, ErrorKind};
use mote_core::spec::Contract;
use serde::Deserialize;
use toml::Spanned;

use super::{Environment, HANDLER, Serving};

/// Largest manifest.
pub(super) const BYTES_MAX: usize = 64 << 10;
/// Most files by which an environment knows its functions.
const FILES_MAX: usize = 64;
/// Longest name of one of them.
const FILE_BYTES_MAX: usize = 255;
/// Most words of a command, and most bytes of all of them.
const COMMAND_MAX: (usize, usize) = (64, 8 << 10);
/// The version of the format.
const VERSION: u64 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    #[serde(rename = "version")]
    _version: u64,
    files: Spanned<Vec<String>>,
    contract: Spanned<String>,
    command: Spanned<Vec<String>>,
    ready: Option<Spanned<String>>,
    warm: Option<Spanned<bool>>,
}

/// The version comes first: a newer format may mean anything by its other keys.
#[derive(Deserialize)]
struct Version {
    version: Option<Spanned<u64>>,
}

/// Reads a manifest.
pub(super) fn parse(text: &str, name: &str, folder: PathBuf) -> Result<Environment, Error> {
    if text.len() > BYTES_MAX {
        let message = format!("the manifest is larger than {BYTES_MAX} bytes");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let lines = Lines(text);
    version(text, lines)?;
    let manifest: Manifest = toml::from_str(text).map_err(|error| lines.toml(&error))?;

    check_files(&manifest.files, lines)?;
    check_command(&manifest.command, lines)?;
    let serving = serving(&manifest.contract, lines)?;
    if let Some(ready) = &manifest.ready {
        let path: Option<http::uri::PathAndQuery> = ready.get_ref().parse().ok();
        if path.is_none() || !ready.get_ref().starts_with('/') {
            return Err(lines
                .bad(
                    ready,
                    format!("ready `{}` is not a path", short(ready.get_ref())),
                )
                .with_hint("write a path such as ready = \"/health\""));
        }
        if serving != Serving::Program(Contract::Http) {
            return Err(lines
                .bad(
                    ready,
                    format!("`ready` is not for contract `{}`", serving.label()),
                )
                .with_hint("remove it, or write contract = \"http\""));
        }
    }
    let waits = matches!(serving, Serving::Zygote | Serving::Program(Contract::Http));
    if let Some(warm) = manifest.warm.as_ref().filter(|_| !waits) {
        let message = format!("`warm` is not for contract `{}`", serving.label());
        return Err(lines
            .bad(warm, message)
            .with_hint("remove it, or write contract = \"zygote\" or \"http\""));
    }
    Ok(Environment {
        name: name.to_owned(),
        folder,
        files: manifest.files.into_inner(),
        serving,
        command: manifest.command.into_inner(),
        ready: manifest.ready.map(Spanned::into_inner),
        warm: manifest.warm.is_some_and(Spanned::into_inner),
    })
}

fn version(text: &str, lines: Lines<'_>) -> Result<(), Error> {
    let found: Version = toml::from_str(text).map_err(|error| lines.toml(&error))?;
    match found.version {
        Some(version) if *version.get_ref() == VERSION => Ok(()),
        Some(version) => {
            let message = format!(
                "line {}: version {} of the format is not known",
                lines.line(version.span().start),
                version.get_ref()
            );
            Err(Error::new(ErrorKind::Unsupported, message)
                .with_hint(format!("this mote reads version {VERSION}")))
        }
        None => Err(bad("the manifest has no `version`")
            .with_hint(format!("write version = {VERSION} in its first line"))),
    }
}

fn check_files(files: &Spanned<Vec<String>>, lines: Lines<'_>) -> Result<(), Error> {
    let names = files.get_ref();
    if names.is_empty() || names.len() > FILES_MAX {
        return Err(lines
            .bad(
                files,
                format!("`files` names {}, not 1 to {FILES_MAX}", names.len()),
            )
            .with_hint("write files = [\"handler.py\"]"));
    }
    // The name goes into a command: one file at the top of the function's folder, and never an option.
    let wrong = |name: &&String| {
        name.is_empty()
            || name.len() > FILE_BYTES_MAX
            || name.starts_with(['.', '-'])
            || name.chars().any(|c| c == '/' || c.is_control())
    };
    match names.iter().find(wrong) {
        Some(name) => Err(lines
            .bad(
                files,
                format!("`{}` is not the name of a file", short(name)),
            )
            .with_hint("name a file at the top of the function's folder, such as \"handler.py\"")),
        None => Ok(()),
    }
}

fn check_command(command: &Spanned<Vec<String>>, lines: Lines<'_>) -> Result<(), Error> {
    let words = command.get_ref();
    let (count, bytes) = COMMAND_MAX;
    if words.first().is_none_or(String::is_empty) {
        return Err(lines
            .bad(command, "`command` has no program")
            .with_hint(format!("write command = [\"PROGRAM\", \"/app/{HANDLER}\"]")));
    }
    if words.len() > count || words.iter().map(String::len).sum::<usize>() > bytes {
        return Err(lines.bad(
            command,
            format!("`command` is longer than {count} words or {bytes} bytes"),
        ));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(lines.bad(command, "`command` has a zero byte"));
    }
    Ok(())
}

fn serving(contract: &Spanned<String>, lines: Lines<'_>) -> Result<Serving, Error> {
    let label = contract.get_ref();
    let all =
        std::iter::once(Serving::Zygote).chain(Contract::ALL.iter().copied().map(Serving::Program));
    all.clone()
        .find(|serving| serving.label() == label)
        .ok_or_else(|| {
            let known: Vec<_> = all.map(Serving::label).collect();
            lines
                .bad(
                    contract,
                    format!("contract `{}` is not known", short(label)),
                )
                .with_hint(format!("known are {}", known.join(", ")))
        })
}

/// The text, to turn offsets into line numbers.
#[derive(Clone, Copy)]
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn line(self, offset: usize) -> usize {
        let before = &self.0.as_bytes()[..offset.min(self.0.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn bad<T>(self, at: &Spanned<T>, message: impl Into<String>) -> Error {
        bad(message).context(format_args!("line {}", self.line(at.span().start)))
    }

    /// The parser's own words, on one line.
    fn toml(self, error: &toml::de::Error) -> Error {
        let message = error.message().trim().replace('\n', ", ");
        match error.span() {
            Some(span) => bad(message).context(format_args!("line {}", self.line(span.start))),
            None => bad(message),
        }
    }
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadRequest, message.into())
}

fn short(text: &str) -> String {
    let start: String = text.chars().take(64).collect();
    start.escape_debug().to_string()
}
