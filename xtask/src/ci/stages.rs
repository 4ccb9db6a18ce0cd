//! What each stage runs. Every command is printed before it starts, so that it can be repeated by hand.
//!
//! All use the lock file as it stands: a run that changes what is built has checked something else.

use super::count::{Count, pass_on};
use crate::{guests, tidy};
use anyhow::{Context, Result, bail, ensure};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const INSTALL_HINT: &str = "run scripts/install-tools.sh test";

/// The SDK for Rust is a workspace of its own, because functions are built for another machine.
const RUST_SDK: &str = "sdk/rust";

pub(super) fn fmt(root: &Path) -> Result<Count> {
    for workspace in [root, &root.join(RUST_SDK)] {
        // The names of the files are enough: `cargo fmt` does the rest.
        run(cargo(workspace).args(["fmt", "--all", "--check", "--", "-l"]))?;
    }
    Ok(Count::default())
}

pub(super) fn tidy(root: &Path) -> Result<Count> {
    let findings = tidy::check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    ensure!(findings.is_empty(), "{} findings", findings.len());
    Ok(Count::default())
}

pub(super) fn guests(root: &Path) -> Result<Count> {
    guests::check(root)?;
    Ok(Count::default())
}

pub(super) fn clippy(root: &Path) -> Result<Count> {
    for workspace in [root, &root.join(RUST_SDK)] {
        run(cargo(workspace).args([
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]))?;
    }
    Ok(Count::default())
}

pub(super) fn test(root: &Path) -> Result<Count> {
    // The end-to-end tests start the real programs, which `cargo test` alone would not build for them.
    run(cargo(root).args([
        "build",
        "--locked",
        "-p",
        "mote",
        "-p",
        "mote-bench",
        "-p",
        "mote-dev",
        "--bins",
    ]))?;
    let mut count = tests(cargo(root).arg("test").arg("--workspace"))?;
    count.add(&tests(
        cargo(&root.join(RUST_SDK)).args(["test", "--all-features"]),
    )?);
    Ok(count)
}

/// Runs tests and counts them.
fn tests(tests: &mut Command) -> Result<Count> {
    // One failing program must not hide what the others have to say.
    tests
        .args(["--locked", "--no-fail-fast"])
        .stdout(Stdio::piped());
    announce(tests);
    let mut child = tests.spawn().context("cannot start cargo")?;
    let output = child.stdout.take().expect("stdout was set to a pipe above");
    let count = pass_on(BufReader::new(output), std::io::stdout())?;
    let status = child.wait().context("cannot wait for cargo")?;
    ensure!(
        status.success() || count.failed > 0,
        "cargo test ended with {status}"
    );
    Ok(count)
}

pub(super) fn doc(root: &Path) -> Result<Count> {
    run(cargo(root)
        .args(["doc", "--locked", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

pub(super) fn deny(root: &Path) -> Result<Count> {
    ensure_tool(cargo(root).args(["deny", "--version"]), "cargo-deny")?;
    // Advisories need a database from the network, and a new one must not break an old commit.
    run(cargo(root).args([
        "deny",
        "--workspace",
        "check",
        "--deny",
        "unmatched-skip",
        "licenses",
        "bans",
        "sources",
    ]))
}

/// Fuzzes every target for `seconds`, beginning from the seeds in `fuzz/seeds/<target>`.
/// The parsers are safe code, in which a memory sanitizer finds nothing and costs half the speed.
/// What it finds on the way goes below the target folder, so that a run leaves the tree as it was.
pub(super) fn fuzz(root: &Path, seconds: u32) -> Result<Count> {
    ensure_tool(
        nightly(root).args(["fuzz", "--version"]),
        "cargo-fuzz or the nightly toolchain",
    )?;
    let target_dir = target_dir(root).join("fuzz");
    for target in fuzz_targets(root)? {
        let corpus = target_dir.join("corpus").join(&target);
        std::fs::create_dir_all(&corpus)
            .with_context(|| format!("cannot create {}", corpus.display()))?;
        let mut command = nightly(root);
        command
            .args(["fuzz", "run", "--sanitizer", "none", "--target-dir"])
            .arg(&target_dir)
            .arg(&target)
            .arg(&corpus);
        let seeds = root.join("fuzz/seeds").join(&target);
        if seeds.is_dir() {
            command.arg(&seeds);
        }
        // libFuzzer takes a time of 0 as no limit.
        let limit = if seconds == 0 {
            "-runs=0".to_owned()
        } else {
            format!("-max_total_time={seconds}")
        };
        run(command.args([
            "--",
            &limit,
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-verbosity=0",
            "-print_final_stats=1",
        ]))?;
    }
    Ok(Count::default())
}

/// The targets are the binaries of the fuzz crate; there is no second list to forget.
fn fuzz_targets(root: &Path) -> Result<Vec<String>> {
    let path = root.join("fuzz/Cargo.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: toml::Table = text
        .parse()
        .with_context(|| format!("cannot parse {}", path.display()))?;
    let binaries = manifest
        .get("bin")
        .and_then(toml::Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let names = binaries
        .iter()
        .filter_map(|binary| binary.get("name")?.as_str());
    Ok(names.map(str::to_owned).collect())
}

fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    command
}

/// Fuzzing instruments the code by flags that only the nightly compiler takes.
fn nightly(root: &Path) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).current_dir(root);
    command
}

fn ensure_tool(command: &mut Command, name: &str) -> Result<()> {
    let found = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    ensure!(found, "{name} is not installed: {INSTALL_HINT}");
    Ok(())
}

fn run(command: &mut Command) -> Result<Count> {
    announce(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("the command ended with {status}");
    }
    Ok(Count::default())
}

fn announce(command: &Command) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    println!("         $ {}", words.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_targets_are_the_binaries_of_the_fuzz_crate() {
        let root = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(root.path().join("fuzz")).unwrap();
        let manifest =
            "[package]\nname = \"fuzz\"\n[[bin]]\nname = \"coap\"\n[[bin]]\nname = \"manifest\"\n";
        std::fs::write(root.path().join("fuzz/Cargo.toml"), manifest).unwrap();
        assert_eq!(fuzz_targets(root.path()).unwrap(), ["coap", "manifest"]);
    }

    #[test]
    fn a_command_that_fails_or_is_missing_is_an_error() {
        assert!(run(&mut Command::new("true")).is_ok());
        assert!(run(&mut Command::new("false")).is_err());
        assert!(run(&mut Command::new("/no/such/program")).is_err());
        assert!(
            ensure_tool(&mut Command::new("/no/such/program"), "it")
                .unwrap_err()
                .to_string()
                .contains(INSTALL_HINT)
        );
    }
}
