//! `cargo xtask reference`: `docs/reference`, made from what the programs say of themselves.
//!
//! The making is a test of `tests/`, which has the programs at hand and otherwise checks that the pages are current.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// Packages with programs that tests start; one more is one more line.
const PACKAGES: &[&str] = &["mote", "mote-bench", "mote-dev"];

/// The command that builds every program that tests start.
pub(crate) fn build(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["build", "--locked", "--bins"]);
    for package in PACKAGES {
        command.args(["-p", package]);
    }
    command
}

/// Writes the pages.
pub(crate) fn write(root: &Path) -> Result<()> {
    let mut make = Command::new("cargo");
    make.current_dir(root)
        .args([
            "test",
            "--locked",
            "-p",
            "mote-tests",
            "--test",
            "reference",
        ])
        .env("MOTE_REFERENCE", "write");
    for command in [&mut build(root), &mut make] {
        let ended = command.status();
        let ended = ended.with_context(|| format!("cannot start {command:?}"))?;
        ensure!(ended.success(), "{command:?} ended with {ended}");
    }
    Ok(())
}
