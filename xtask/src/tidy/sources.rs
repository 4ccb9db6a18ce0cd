//! Rules for source files: names, length, module docs, where `unsafe` and the wall clock of `std` may be used.

use super::limits::{
    EMPTY_NAMES, FILE_LINES_MAX, HOST_FOLDERS, LONG_FILES, PAUSABLE_FOLDERS, SOURCE_ENDINGS,
    UNSAFE_PLACES, needs_no_module_doc,
};
use super::rust_code::{line_at, lines_with_word, without_comments_and_literals};
use super::tree::Tree;
use super::{Finding, Findings};
use anyhow::Result;

/// Checks every source file of the tree.
pub(super) fn check(tree: &Tree, findings: &mut Findings) -> Result<()> {
    let mut long_files = LONG_FILES.to_vec();
    for path in SOURCE_ENDINGS.iter().flat_map(|ending| tree.ending(ending)) {
        let text = tree.text(path)?;
        check_name(path, findings);
        check_length(path, &text, &mut long_files, findings);
        if path.ends_with(".rs") {
            check_rust(path, &text, findings);
        }
    }
    for (path, _) in long_files {
        findings.add(
            "xtask/src/tidy/limits.rs",
            1,
            format!("LONG_FILES lists `{path}`, which is not longer than {FILE_LINES_MAX} lines"),
            "remove the entry",
        );
    }
    Ok(())
}

fn check_name(path: &str, findings: &mut Findings) {
    if path.ends_with("/mod.rs") {
        findings.add(
            path,
            1,
            "is a mod.rs",
            "move it to `<folder>.rs` beside its folder",
        );
    }
    let names = path
        .split('/')
        .map(|part| part.split('.').next().unwrap_or_default());
    for name in names.filter(|name| EMPTY_NAMES.contains(name)) {
        findings.add(
            path,
            1,
            format!("the name `{name}` says nothing"),
            "name the idea inside, such as `lease`",
        );
    }
}

fn check_length(
    path: &str,
    text: &str,
    long_files: &mut Vec<(&str, &str)>,
    findings: &mut Findings,
) {
    let lines = text.lines().count();
    if lines <= FILE_LINES_MAX || path.ends_with("/bindings.rs") {
        return;
    }
    let before = long_files.len();
    long_files.retain(|(long, reason)| *long != path || reason.is_empty());
    if long_files.len() == before {
        findings.add(
            path,
            FILE_LINES_MAX + 1,
            format!("has {lines} lines, more than {FILE_LINES_MAX}"),
            "split it by idea, or give the reason in LONG_FILES of xtask/src/tidy/limits.rs",
        );
    }
}

fn check_rust(path: &str, text: &str, findings: &mut Findings) {
    if !needs_no_module_doc(path) && !begins_with_module_doc(text) {
        findings.add(
            path,
            1,
            "has no module doc",
            "begin it with `//!`: what it is, why, and what bounds it",
        );
    }
    let code = without_comments_and_literals(text);
    if is_below(path, HOST_FOLDERS) && !is_below(path, UNSAFE_PLACES) {
        for line in lines_with_word(&code, "unsafe") {
            findings.add(
                path,
                line,
                "`unsafe` outside its places",
                format!(
                    "use a safe way, or move it to one of {}",
                    UNSAFE_PLACES.join(", ")
                ),
            );
        }
    }
    if is_below(path, PAUSABLE_FOLDERS) {
        findings.0.extend(std_instants(path, &code));
    }
}

/// Attributes of the whole file may stand before its doc.
fn begins_with_module_doc(text: &str) -> bool {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("#!["));
    lines.next().is_some_and(|line| line.starts_with("//!"))
}

/// A clock that a paused test cannot stop makes that test wait or lie.
fn std_instants(path: &str, code: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (position, prefix) in code.match_indices("std::time::") {
        let rest = &code[position + prefix.len()..];
        let named = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default(),
            None => rest
                .split(|character: char| !character.is_alphanumeric())
                .next()
                .unwrap_or_default(),
        };
        if !lines_with_word(named, "Instant").is_empty() {
            found.push(Finding {
                path: path.to_owned(),
                line: line_at(code, position),
                wrong: "uses `std::time::Instant`".to_owned(),
                todo: "use `tokio::time::Instant`, which tests can pause".to_owned(),
            });
        }
    }
    found
}

fn is_below(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| {
        if place.ends_with('/') {
            path.starts_with(place)
        } else {
            path == *place
        }
    })
}
