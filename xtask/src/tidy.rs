//! `cargo xtask tidy`: the rules of the house that no compiler checks, without building the product.
//!
//! A rule that is only written down is forgotten; a rule that fails a fast check is kept.
//! Each failure is one line, `path:line: what is wrong; what to do`.
//! The tables the rules read are in `limits`; the allowed import edges stand in ARCHITECTURE.md.

mod edges;
mod limits;
pub(crate) mod links;
mod rust_code;
mod sources;
pub(crate) mod tree;

use anyhow::Result;
use std::fmt;
use std::path::Path;
use tree::Tree;

/// One broken rule at one place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    wrong: String,
    todo: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}; {}",
            self.path, self.line, self.wrong, self.todo
        )
    }
}

/// Checks every rule below `root`; an empty answer means the tree is tidy.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let mut findings = Findings::default();
    edges::check(&tree, &mut findings)?;
    sources::check(&tree, &mut findings)?;
    links::check(&tree, &mut findings)?;
    findings.0.sort();
    Ok(findings.0)
}

/// What the rules found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, path: &str, line: usize, wrong: impl Into<String>, todo: impl Into<String>) {
        self.0.push(Finding {
            path: path.to_owned(),
            line,
            wrong: wrong.into(),
            todo: todo.into(),
        });
    }
}

#[cfg(test)]
mod tests;
