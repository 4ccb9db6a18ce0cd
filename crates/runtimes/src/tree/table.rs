//! What an artifact is, and where in it the parts of an image are: read once, kept as offsets.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read as _};

use mote_core::error::Error;
use serde::de::DeserializeOwned;
use tar::Header;

use super::budget::{Budget, Limits};
use super::entries::{Entries, What, is_header};
use super::failure::{bad, shown, system, unsupported};
use super::machine;
use super::name::Name;
use super::source::Span;

/// Most parts of an image that are remembered, and the longest name that one may have.
const PARTS_MAX: usize = 16_384;
const PART_NAME_MAX: usize = 256;

/// Most bytes of a JSON document of an image. In memory one can take ten times as much.
const JSON_BYTES_MAX: u64 = 1 << 20;

/// Links from one part to another that are followed: `docker save` writes a layer that it has
/// written before as a link.
const LINKS_MAX: usize = 4;

/// What a file turns out to be by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Elf,
    Script,
    Tar,
    Gzip,
}

/// The form of a file, or an error that says what it is instead.
pub(super) fn form(head: &[u8]) -> Result<Form, Error> {
    let other = match head {
        [] => return Err(bad("the artifact is empty")),
        [0x7f, b'E', b'L', b'F', ..] => return Ok(Form::Elf),
        [b'#', b'!', ..] => return Ok(Form::Script),
        [0x1f, 0x8b, ..] => return Ok(Form::Gzip),
        [0, b'a', b's', b'm', ..] => {
            return Err(bad("the artifact is WebAssembly").with_hint("write runtime = \"wasm\""));
        }
        [b'P', b'K', 3 | 5, ..] => "a zip file",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "compressed with zstd",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "compressed with xz",
        [b'B', b'Z', b'h', ..] => "compressed with bzip2",
        [b'M', b'Z', ..] => "a program for Windows",
        [0xcf, 0xfa, 0xed, 0xfe, ..] => "a program for macOS",
        _ => "",
    };
    if other.is_empty() {
        return Ok(Form::Tar);
    }
    Err(unsupported(format!("the artifact is {other}"))
        .with_hint("deploy an ELF program, a script, a folder, or an image in a tar"))
}

/// A part of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// What an archive holds, as far as an image can need it.
pub(super) struct Table<'a> {
    file: &'a File,
    parts: HashMap<Vec<u8>, Place>,
}

enum Place {
    Here(Part),
    Link(Vec<u8>),
}

impl<'a> Table<'a> {
    /// Reads the headers of an archive and passes over all else.
    pub(super) fn read(file: &'a File, bytes: u64, limits: &Limits) -> Result<Self, Error> {
        let mut head = [0; 512];
        let is_tar = Span::new(file, 0, 512)
            .read_exact(&mut head)
            .is_ok_and(|()| is_header(Header::from_byte_slice(&head)));
        if !is_tar && head.iter().any(|byte| *byte != 0) {
            return Err(bad("the artifact is no program, script, tar or image")
                .with_hint("deploy an ELF program, a script that begins with `#!`, a folder, or an image in a tar"));
        }
        let mut budget = Budget::new(limits);
        let source = BufReader::with_capacity(4096, Span::new(file, 0, bytes));
        let mut entries = Entries::new(source, true);
        let mut parts = HashMap::new();
        let mut count = 0_u64;
        while let Some(entry) = entries.next(&mut budget)? {
            count += 1;
            budget.forget_bytes();
            if entry.name.len() > PART_NAME_MAX || parts.len() == PARTS_MAX {
                continue;
            }
            let Ok(name) = Name::parse(&entry.name, PART_NAME_MAX) else {
                continue;
            };
            let name = name.bytes().to_vec();
            let part = Part {
                at: entry.at,
                bytes: entry.bytes,
            };
            match entry.what {
                What::File => parts.insert(name, Place::Here(part)),
                What::Symlink(target) | What::HardLink(target) if target.len() <= PART_NAME_MAX => {
                    parts.insert(name, Place::Link(target))
                }
                _ => None,
            };
        }
        if count == 0 {
            return Err(bad("the archive holds nothing"));
        }
        Ok(Self { file, parts })
    }

    /// Where a part is; links from one to another are followed by their names alone.
    pub(super) fn find(&self, name: &str) -> Option<Part> {
        let mut name = name.as_bytes().to_vec();
        for _ in 0..LINKS_MAX {
            match self.parts.get(&name)? {
                Place::Here(part) => return Some(*part),
                Place::Link(target) => name = beside(&name, target),
            }
        }
        None
    }

    /// The file of the parts.
    pub(super) fn file(&self) -> &'a File {
        self.file
    }

    /// The bytes of a small part.
    pub(super) fn small(&self, name: &str, part: Part) -> Result<Vec<u8>, Error> {
        if part.bytes > JSON_BYTES_MAX {
            return Err(bad(format!(
                "`{}` of the image has {} bytes, more than the {JSON_BYTES_MAX} that it may have",
                shown(name.as_bytes()),
                part.bytes
            )));
        }
        let mut text = Vec::new();
        Span::new(self.file, part.at, part.bytes)
            .read_to_end(&mut text)
            .map_err(|error| system("read the artifact", &error))?;
        Ok(text)
    }

    /// A small part as JSON; `None` if there is no such part.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(part) = self.find(name) else {
            return Ok(None);
        };
        parse(name, &self.small(name, part)?).map(Some)
    }
}

/// Reads a JSON document of an image.
pub(super) fn parse<T: DeserializeOwned>(name: &str, text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| {
        bad(format!(
            "`{}` of the image makes no sense: {error}",
            shown(name.as_bytes())
        ))
    })
}

/// A link's target as a name of the archive: relative to the link's folder, or to the top where a
/// part of that name would be a hard link's.
fn beside(name: &[u8], target: &[u8]) -> Vec<u8> {
    let mut way: Vec<&[u8]> = Vec::new();
    if target.starts_with(b"../") || target.starts_with(b"./") {
        way.extend(name.split(|byte| *byte == b'/'));
        way.pop();
    }
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                way.pop();
            }
            part => way.push(part),
        }
    }
    way.join(&b'/')
}

/// The head of a file, for [`form`] and for the machine of a program.
pub(super) fn head(file: &File) -> Result<Vec<u8>, Error> {
    let mut head = Vec::new();
    Span::new(file, 0, machine::HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(|error| system("read the artifact", &error))?;
    Ok(head)
}
