//! What unpacking found, in a small file beside the tree, so that a restart does not unpack again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ImageConfig, Kind, Machine, Tree};

/// The form of the file. Another one is as good as none: the artifact is unpacked again.
const VERSION: u32 = 1;

/// Most bytes of it; an image's config has at most 1 MiB, which escapes may make longer.
const BYTES_MAX: u64 = 8 << 20;

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    kind: String,
    bytes: u64,
    skipped: u64,
    image: Option<Image>,
    needs: Option<(u16, u8, bool)>,
}

#[derive(Serialize, Deserialize)]
struct Image {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<(String, String)>,
    working_dir: String,
    user: String,
    exposed_ports: Vec<u16>,
    architecture: String,
    os: String,
}

/// A name beside a tree's.
pub(super) fn beside(into: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(into);
    name.push(ending);
    PathBuf::from(name)
}

/// Writes the record; it is whole or not there.
pub(super) fn write(into: &Path, tree: &Tree) -> io::Result<()> {
    let record = Record {
        version: VERSION,
        kind: tree.kind.label().to_owned(),
        bytes: tree.bytes,
        skipped: tree.skipped,
        image: tree.image.clone().map(|config| Image {
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            env: config.env,
            working_dir: config.working_dir,
            user: config.user,
            exposed_ports: config.exposed_ports,
            architecture: config.architecture,
            os: config.os,
        }),
        needs: tree
            .needs
            .map(|machine| (machine.code, machine.bits, machine.big_endian)),
    };
    let text = serde_json::to_vec(&record)?;
    let partial = beside(into, ".json.partial");
    let mut file = File::create(&partial)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&partial, beside(into, ".json"))
}

/// Reads the record; `None` when there is none that is understood.
pub(super) fn read(into: &Path) -> Option<Tree> {
    let path = beside(into, ".json");
    if fs::metadata(&path).ok()?.len() > BYTES_MAX {
        return None;
    }
    let record: Record = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    if record.version != VERSION {
        return None;
    }
    Some(Tree {
        kind: Kind::ALL
            .iter()
            .copied()
            .find(|kind| kind.label() == record.kind)?,
        bytes: record.bytes,
        skipped: record.skipped,
        image: record.image.map(|image| ImageConfig {
            entrypoint: image.entrypoint,
            cmd: image.cmd,
            env: image.env,
            working_dir: image.working_dir,
            user: image.user,
            exposed_ports: image.exposed_ports,
            architecture: image.architecture,
            os: image.os,
        }),
        needs: record.needs.map(|(code, bits, big_endian)| Machine {
            code,
            bits,
            big_endian,
        }),
    })
}

/// Deletes the record and what is left of an earlier try to write it.
pub(super) fn remove(into: &Path) -> io::Result<()> {
    for ending in [".json", ".json.partial"] {
        match fs::remove_file(beside(into, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
