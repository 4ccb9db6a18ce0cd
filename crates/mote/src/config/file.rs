//! The configuration file: TOML, one key per line, unknown keys refused.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use mote_api::nearest::nearest;
use mote_core::error::{Error, ErrorKind};
use toml::de::{DeTable, DeValue};

use super::{KEYS, Origin, Setting};

/// Largest file.
const BYTES_MAX: u64 = 1 << 20;

/// What a file says.
type Read = BTreeMap<&'static str, Setting>;

/// Reads a file that was asked for.
pub(super) fn read(path: &Path) -> Result<Read, Error> {
    match text(path) {
        Ok(text) => parse(path, &text),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Reads a file that need not be there.
pub(super) fn read_if_there(path: &Path) -> Result<Read, Error> {
    match text(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Read::new()),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("cannot read the configuration {}: {error}", path.display()),
    )
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Read, Error> {
    let line = |offset: usize| {
        text.as_bytes()[..offset.min(text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    };
    let bad = |offset: usize, message: String| {
        Error::new(
            ErrorKind::BadRequest,
            format!("{}:{}: {message}", path.display(), line(offset)),
        )
    };
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        bad(offset, error.message().trim().replace('\n', ", "))
    })?;
    let mut read = Read::new();
    for (key, value) in table.into_inner() {
        let at = key.span().start;
        let name: &str = key.get_ref();
        let Some(known) = KEYS.iter().find(|known| known.name == name) else {
            let names: Vec<&str> = KEYS.iter().map(|known| known.name).collect();
            let hint = match nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`mote config show` lists every key".to_owned(),
            };
            let shown: String = name.chars().take(64).collect();
            return Err(bad(at, format!("unknown key `{}`", shown.escape_debug())).with_hint(hint));
        };
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            other => {
                return Err(bad(at, format!("{name} is a {}", other.type_str()))
                    .with_hint(format!("write {name} = \"…\"; {}", known.doc.trim())));
            }
        };
        let origin = Origin::File(path.to_owned(), line(at));
        read.insert(known.name, Setting { text, origin });
    }
    Ok(read)
}
