//! The reference: pages of `docs/reference/` that are made from what the programs say of themselves.
//!
//! `--help` gives the command line, `mote config show` the configuration, a running node its
//! metrics and its API, so a page cannot say what the program does not. `cargo xtask reference`
//! writes the pages; a test fails when they are not what the programs say.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::program::repository;

mod api;
mod command_line;
mod configuration;
mod errors;
mod manifest;
mod metrics;

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The file's name in `docs/reference`.
    pub file: &'static str,
    /// Its text.
    pub text: String,
}

/// Every page, made anew.
pub fn pages() -> Vec<Page> {
    let node = metrics::node();
    let description = api::description(&node);
    let page = |file, title: &str, body: String| Page {
        file,
        text: format!(
            "# {title}\n\nThis page is made by `cargo xtask reference`.\n\n{}\n",
            body.trim_end()
        ),
    };
    vec![
        page("cli.md", "Command line", command_line::body()),
        page("config.md", "Configuration", configuration::body()),
        page("manifest.md", "Manifest", manifest::body(&description)),
        page("metrics.md", "Metrics", metrics::body(&node)),
        page("admin.md", "Admin API", api::body(&description)),
        page("errors.md", "Errors", errors::body()),
    ]
}

/// Where a page is.
pub fn path(page: &Page) -> PathBuf {
    repository().join("docs/reference").join(page.file)
}

/// A Markdown table.
fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|", heading.join(" | "));
    text.push_str(&" --- |".repeat(heading.len()));
    text.push('\n');
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| one_line(cell)).collect();
        writeln!(text, "| {} |", cells.join(" | ")).unwrap();
    }
    text
}

/// A text as it can stand in a cell.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

/// A value as code; nothing is a dash.
fn code(text: &str) -> String {
    if text.is_empty() {
        "—".to_owned()
    } else {
        format!("`{text}`")
    }
}
