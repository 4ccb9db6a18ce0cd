//! Other people's programs that a test needs, where `scripts/install-tools.sh test` puts them.

#![allow(dead_code, reason = "each test uses a part of it")]
#![expect(
    clippy::unwrap_used,
    reason = "this is test code: it stops at the first surprise"
)]

use std::io::Write as _;
use std::path::PathBuf;

use mote_tests::program::repository;

/// A file below `target/tools`, if it is there. If it is not, the test says so, whether it passes or
/// not, and must pass; it fails where `MOTE_REQUIRE_TOOLS=1` says that everything is installed.
pub(crate) fn tool(path: &str) -> Option<PathBuf> {
    let full = repository().join("target/tools").join(path);
    found(full.is_file().then_some(full), path)
}

/// A program in `PATH`; as [`tool`].
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
    found(paths.find(|path| path.is_file()), name)
}

fn found(path: Option<PathBuf>, what: &str) -> Option<PathBuf> {
    if path.is_some() {
        return path;
    }
    let test = std::thread::current();
    let line = format!(
        "not run: {} needs {what}; install it with `scripts/install-tools.sh test`\n",
        test.name().unwrap_or_default(),
    );
    // Not by `eprintln!`, which a test that passes does not show.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    let required = std::env::var("MOTE_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(!required, "{line}");
    None
}
