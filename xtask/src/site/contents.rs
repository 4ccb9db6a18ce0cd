//! The list of pages that stands on every page.
//!
//! The guide and the reference are in the order of their own index pages, so that a page that is not in its index
//! is found out here. Everything else is in the order of its folder.

use super::render::Rendered;
use crate::tidy::tree::Tree;
use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// A part of the list.
#[derive(Debug)]
pub(super) struct Section {
    /// Its heading.
    pub(super) title: &'static str,
    /// Its pages, by path.
    pub(super) pages: Vec<String>,
}

/// Where the pages of a section come from.
enum From {
    /// The links of an index page; every page of its folder must be among them.
    Index(&'static str),
    /// The pages of a folder.
    Folder(&'static str),
    /// The `README.md` of each folder below, after its own.
    Readmes(&'static str),
    /// These.
    Named(&'static [&'static str]),
}

const SECTIONS: &[(&str, From)] = &[
    (
        "Mote",
        From::Named(&["README.md", "docs/status.md", "CHANGELOG.md"]),
    ),
    ("Guide", From::Index("docs/guide/README.md")),
    ("Reference", From::Index("docs/reference/README.md")),
    ("Examples", From::Readmes("examples")),
    ("Measured", From::Folder("docs/bench")),
    (
        "Inside",
        From::Named(&[
            "ARCHITECTURE.md",
            "SPECIFICATION.md",
            "CONTRIBUTING.md",
            "docs/tenets.md",
            "docs/glossary.md",
            "docs/invariants.md",
        ]),
    ),
    ("Decisions", From::Folder("docs/adr")),
];

/// Reads the list off the pages.
pub(super) fn read(tree: &Tree, pages: &BTreeMap<String, Rendered>) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    for (title, from) in SECTIONS {
        let pages = match from {
            From::Index(index) => indexed(index, pages)?,
            From::Folder(folder) => directly_in(folder, pages),
            From::Readmes(folder) => readmes(folder, pages),
            From::Named(names) => names
                .iter()
                .filter(|name| tree.exists(name))
                .map(|name| (*name).to_owned())
                .collect(),
        };
        if !pages.is_empty() {
            sections.push(Section { title, pages });
        }
    }
    Ok(sections)
}

fn indexed(index: &str, pages: &BTreeMap<String, Rendered>) -> Result<Vec<String>> {
    let Some(page) = pages.get(index) else {
        return Ok(Vec::new());
    };
    let folder = index.rsplit_once('/').map_or("", |(folder, _)| folder);
    let below = format!("{folder}/");
    let mut order = vec![index.to_owned()];
    for linked in page
        .linked
        .iter()
        .filter(|linked| linked.starts_with(&below))
    {
        if !order.contains(linked) {
            order.push(linked.clone());
        }
    }
    for path in pages.keys().filter(|path| path.starts_with(&below)) {
        if !order.contains(path) {
            bail!("{path} is not in {index}: add it where a reader looks for it");
        }
    }
    Ok(order)
}

fn directly_in(folder: &str, pages: &BTreeMap<String, Rendered>) -> Vec<String> {
    let paths = pages.keys().filter(|path| {
        let rest = path
            .strip_prefix(folder)
            .and_then(|rest| rest.strip_prefix('/'));
        rest.is_some_and(|rest| !rest.contains('/'))
    });
    paths.cloned().collect()
}

fn readmes(folder: &str, pages: &BTreeMap<String, Rendered>) -> Vec<String> {
    let own = format!("{folder}/README.md");
    let below = format!("{folder}/");
    let others = pages
        .keys()
        .filter(|path| path.starts_with(&below) && path.ends_with("/README.md") && **path != own);
    pages
        .keys()
        .filter(|path| **path == own)
        .chain(others)
        .cloned()
        .collect()
}
