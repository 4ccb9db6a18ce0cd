//! `examples/guests.lock`: which sources each committed binary was built from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Guest, sources};

const PATH: &str = "examples/guests.lock";
const HEAD: &str = "# Which sources each guest's binary was built from.\n\
    # Written by `cargo xtask guests`, compared by `cargo xtask guests --check`.\n";

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    /// The compiler the binaries came from; another one makes other bytes from the same sources.
    rustc: String,
    /// By `<workspace>/<name>`.
    #[serde(default)]
    pub(super) guest: BTreeMap<String, Entry>,
}

/// One guest.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// BLAKE3 over all that went into the binary.
    pub(super) sources: String,
    /// BLAKE3 of the binary.
    pub(super) wasm: String,
    /// Its size.
    pub(super) bytes: u64,
}

impl Lock {
    pub(super) fn new(rustc: String) -> Self {
        Self {
            rustc,
            guest: BTreeMap::new(),
        }
    }

    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(PATH))
            .with_context(|| format!("no {PATH}; run `cargo xtask guests`"))?;
        toml::from_str(&text).with_context(|| format!("in {PATH}"))
    }

    pub(super) fn write(&self, root: &Path) -> Result<()> {
        let text = format!("{HEAD}{}", toml::to_string(self)?);
        fs::write(root.join(PATH), text).with_context(|| format!("cannot write {PATH}"))
    }
}

impl Entry {
    /// What `guest` looks like now.
    pub(super) fn of(root: &Path, guest: &Guest) -> Result<Self> {
        let wasm = fs::read(root.join(guest.wasm()))
            .with_context(|| format!("cannot read {}", guest.wasm().display()))?;
        Ok(Self {
            sources: sources::digest(root, guest)?,
            wasm: blake3::hash(&wasm).to_hex().to_string(),
            bytes: u64::try_from(wasm.len())?,
        })
    }
}
