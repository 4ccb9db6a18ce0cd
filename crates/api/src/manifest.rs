//! The manifest `mote.toml`: the functions of one folder.
//!
//! ```toml
//! version = 1
//! app = "home"
//! [function.light]
//! source = "light.wasm"
//! memory = "64MiB"
//! allow.http = ["https://api.example.org"]
//! ```
//!
//! Unknown keys are errors that name their line and the key that was probably meant. This module
//! reads text only: whoever opens a source checks that no link leads out of the folder.

mod build;

use std::path::{Component, Path, PathBuf};

use mote_core::error::{Error, ErrorKind};
use mote_core::name::{DEFAULT_APP, FunctionName, check_label};
use mote_core::spec::RuntimeKind;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::nearest::nearest;
use crate::spec;

pub use build::{Build, By};

/// The name of a manifest's file.
pub const FILE_NAME: &str = "mote.toml";
/// Largest manifest.
pub const BYTES_MAX: usize = 1 << 20;
/// Most functions of one manifest.
pub const FUNCTIONS_MAX: usize = 256;
/// The version of the format.
pub const VERSION: u64 = 1;

/// The keys of a manifest, each with what it is for.
pub const TOP_KEYS: &[(&str, &str)] = &[
    ("version", "The version of the format: 1."),
    ("app", "The app of all its functions; by default `default`."),
    ("function", "A table for each function, by its name."),
];

/// The keys of a function that say where its code is, each with what it is for. They are the
/// manifest's alone; the others are those of [`spec::FunctionSpec`].
pub const CODE_KEYS: &[(&str, &str)] = &[
    (
        "source",
        "Its code: a file or a folder below the manifest's folder.",
    ),
    (
        "build",
        "How `mote build` makes the source; a node is not told.",
    ),
    (
        "image",
        "An image: of a process a file or a folder, of a container its name in the engine.",
    ),
];

/// What a manifest says.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Every function, by name.
    pub functions: Vec<Function>,
}

/// One function of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Where its code is.
    pub source: Source,
    /// How that comes about, when it is not simply there.
    pub build: Option<Build>,
    /// Name, limits and grants, checked.
    pub spec: mote_core::spec::FunctionSpec,
}

/// Where the code of a function is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file or a folder: below the manifest's folder, without `..`.
    Path(PathBuf),
    /// An image that the container engine has, or may pull.
    Reference(String),
    /// There is none: the command is a program of the node's system.
    Nothing,
}

/// Longest reference of an image.
const REFERENCE_BYTES_MAX: usize = 512;

/// Reads a manifest. Every failure says the line.
pub fn parse(text: &str) -> Result<Manifest, Error> {
    if text.len() > BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("the manifest is larger than {BYTES_MAX} bytes"),
        ));
    }
    let lines = Lines(text);
    let table = DeTable::parse(text)
        .map_err(|error| lines.toml(&error))?
        .into_inner();
    version(&table, lines)?;
    let top: Vec<&str> = TOP_KEYS.iter().map(|(key, _)| *key).collect();
    known_keys(&table, &top, "", lines)?;
    let app = app(&table, lines)?;

    let mut functions = Vec::new();
    for (key, value) in table {
        if key.get_ref() != "function" {
            continue;
        }
        let at = value.span().start;
        let DeValue::Table(tables) = value.into_inner() else {
            return Err(lines
                .bad(at, "`function` is not a table")
                .with_hint("write [function.NAME] on a line of its own"));
        };
        if tables.len() > FUNCTIONS_MAX {
            return Err(lines.bad(at, format!("more than {FUNCTIONS_MAX} functions")));
        }
        for (name, value) in tables {
            functions.push(function(&app, &name, value, lines)?);
        }
    }
    if functions.is_empty() {
        return Err(bad("the manifest names no function")
            .with_hint("write [function.NAME] and below it source = \"NAME.wasm\""));
    }
    functions.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    Ok(Manifest { functions })
}

/// Checks that a source stays below the folder it is named in. `check_source("../x")` fails.
pub fn check_source(source: &str) -> Result<PathBuf, Error> {
    let path = Path::new(source);
    let inside = !source.is_empty()
        && !source.contains('\0')
        && path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        && path.file_name().is_some();
    if inside {
        return Ok(path.to_owned());
    }
    Err(bad(format!(
        "source `{}` leads out of the manifest's folder",
        short(source)
    ))
    .with_hint("name a file below the folder of mote.toml, such as source = \"light.wasm\""))
}

/// The version comes first: a newer format may mean anything by its other keys.
fn version(table: &DeTable<'_>, lines: Lines<'_>) -> Result<(), Error> {
    let Some(value) = table.get("version") else {
        return Err(bad("the manifest has no `version`")
            .with_hint(format!("write version = {VERSION} in its first line")));
    };
    let number = value
        .get_ref()
        .as_integer()
        .and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok());
    match number {
        Some(VERSION) => Ok(()),
        Some(other) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "line {}: version {other} of the format is not known",
                lines.line(value.span().start)
            ),
        )
        .with_hint(format!(
            "this mote reads version {VERSION}; a newer mote may read version {other}"
        ))),
        None => Err(lines
            .bad(value.span().start, "`version` is not a number")
            .with_hint(format!("write version = {VERSION}"))),
    }
}

fn app(table: &DeTable<'_>, lines: Lines<'_>) -> Result<String, Error> {
    let Some(value) = table.get("app") else {
        return Ok(DEFAULT_APP.to_owned());
    };
    let at = value.span().start;
    let Some(app) = value.get_ref().as_str() else {
        return Err(lines
            .bad(at, "`app` is not a text")
            .with_hint("write app = \"home\""));
    };
    check_label("app name", app).map_err(|error| lines.at(at, error))?;
    Ok(app.to_owned())
}

fn function(
    app: &str,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: Spanned<DeValue<'_>>,
    lines: Lines<'_>,
) -> Result<Function, Error> {
    let at = name.span().start;
    let name = FunctionName::new(name.get_ref(), app).map_err(|error| lines.at(at, error))?;
    let span = value.span();
    let DeValue::Table(mut table) = value.into_inner() else {
        return Err(lines
            .bad(at, format!("function `{name}` is not a table"))
            .with_hint(format!(
                "write [function.{}] on a line of its own",
                name.function()
            )));
    };

    let source = table.remove("source");
    let image = table.remove("image");
    let build = table.remove("build");
    let of = format!(" of function `{name}`");
    // What a node is told, and what is the manifest's alone.
    let own: Vec<&str> = CODE_KEYS.iter().map(|(key, _)| *key).collect();
    let keys = [spec::FunctionSpec::KEYS, &own].concat();
    known_keys(&table, &keys, &of, lines)?;
    let deserializer = toml::de::Deserializer::from(Spanned::new(span, table));
    let wire = spec::FunctionSpec::deserialize(deserializer).map_err(|error| lines.toml(&error))?;
    let doing = format!("function `{name}`");
    let mut spec = wire
        .into_core(name.clone())
        .map_err(|error| lines.at(at, error.context(doing)))?;
    let source = match (source, image) {
        (Some(source), Some(image)) if spec.runtime == RuntimeKind::Container => {
            let reference = reference(&image, lines)?;
            if let Some(program) = &mut spec.program {
                program.image = Some(reference);
            }
            path("source", &source, spec.runtime, lines)?
        }
        (Some(_), Some(image)) => {
            return Err(lines
                .bad(
                    image.span().start,
                    format!("function `{name}` has `source` and `image`"),
                )
                .with_hint("put the code into the image, or take one of the two away"));
        }
        (Some(source), None) => path("source", &source, spec.runtime, lines)?,
        (None, Some(image)) => self::image(&image, spec.runtime, lines)?,
        (None, None) => no_source(&spec).map_err(|error| lines.at(at, error))?,
    };
    let build = build
        .map(|value| build::read(value, spec.runtime, &of, lines))
        .transpose()?;
    if let (Some(_), Source::Reference(_) | Source::Nothing) = (&build, &source) {
        return Err(lines
            .bad(at, format!("function `{name}` has `build` and no `source`"))
            .with_hint("write source = and the file that the build makes"));
    }
    Ok(Function {
        source,
        build,
        spec,
    })
}

/// A file or folder below the manifest.
fn path(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    runtime: RuntimeKind,
    lines: Lines<'_>,
) -> Result<Source, Error> {
    let at = value.span().start;
    let Some(text) = value.get_ref().as_str() else {
        return Err(lines.bad(at, format!("`{key}` is not a text")));
    };
    // The manifest's own folder is what plain source is mostly deployed from.
    if text == "." && runtime != RuntimeKind::Wasm {
        return Ok(Source::Path(PathBuf::from(".")));
    }
    let path = check_source(text).map_err(|error| lines.at(at, error))?;
    Ok(Source::Path(path))
}

/// An image: for the container engine by its name, for a process as a file or folder.
fn image(
    value: &Spanned<DeValue<'_>>,
    runtime: RuntimeKind,
    lines: Lines<'_>,
) -> Result<Source, Error> {
    let at = value.span().start;
    match (runtime, value.get_ref().as_str()) {
        (RuntimeKind::Wasm, _) => Err(lines
            .bad(at, "`image` is not for WebAssembly")
            .with_hint("write source = \"NAME.wasm\", or runtime = \"container\"")),
        (RuntimeKind::Process, _) => path("image", value, runtime, lines),
        (RuntimeKind::Container, _) => reference(value, lines).map(Source::Reference),
    }
}

/// The name of an image in a container engine.
fn reference(value: &Spanned<DeValue<'_>>, lines: Lines<'_>) -> Result<String, Error> {
    let at = value.span().start;
    let Some(text) = value.get_ref().as_str() else {
        return Err(lines.bad(at, "`image` is not a text"));
    };
    let valid = !text.is_empty()
        && text.len() <= REFERENCE_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if valid {
        return Ok(text.to_owned());
    }
    Err(lines
        .bad(at, format!("image `{}` is not a reference", short(text)))
        .with_hint("write a name such as image = \"python:3\" or one with a digest"))
}

/// A function without `source` and `image`.
fn no_source(spec: &mote_core::spec::FunctionSpec) -> Result<Source, Error> {
    let name = &spec.name;
    let command = spec
        .program
        .as_ref()
        .is_some_and(|program| !program.command.is_empty());
    match spec.runtime {
        RuntimeKind::Process if command => Ok(Source::Nothing),
        RuntimeKind::Process => Err(bad(format!("function `{name}` has no `source`")).with_hint(
            "write source = \".\" for a folder, image = \"FILE.tar\", or command = [\"/usr/bin/PROGRAM\"]",
        )),
        RuntimeKind::Container => Err(bad(format!("function `{name}` has no `image`"))
            .with_hint(
                "write image = \"NAME:TAG\", with source = \".\" for plain source; or source = \"IMAGE.tar\"",
            )),
        RuntimeKind::Wasm => Err(bad(format!("function `{name}` has no `source`")).with_hint(
            format!("write source = \"{}.wasm\" below it", name.function()),
        )),
    }
}

fn known_keys(
    table: &DeTable<'_>,
    known: &[&str],
    of: &str,
    lines: Lines<'_>,
) -> Result<(), Error> {
    for key in table.keys() {
        let name: &str = key.get_ref();
        if known.contains(&name) {
            continue;
        }
        let hint = match nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys are {}", known.join(", ")),
        };
        return Err(lines
            .bad(
                key.span().start,
                format!("unknown key `{}`{of}", short(name)),
            )
            .with_hint(hint));
    }
    Ok(())
}

/// The text, to turn offsets into line numbers.
#[derive(Clone, Copy)]
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn line(self, offset: usize) -> usize {
        let before = &self.0.as_bytes()[..offset.min(self.0.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn at(self, offset: usize, error: Error) -> Error {
        error.context(format_args!("line {}", self.line(offset)))
    }

    fn bad(self, offset: usize, message: impl Into<String>) -> Error {
        self.at(offset, bad(message))
    }

    /// The parser's own words, on one line.
    fn toml(self, error: &toml::de::Error) -> Error {
        let message = error.message().trim().replace('\n', ", ");
        match error.span() {
            Some(span) => self.bad(span.start, message),
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

#[cfg(test)]
mod tests;
