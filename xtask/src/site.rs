//! `cargo xtask docs`: every page of the repository as static HTML, to be read from a disk or any web server.
//!
//! Nothing is fetched and no script is needed: a page is its text, a list of all others, and one style sheet.
//! Links between pages become links between files; what else they lead to, such as a source file, becomes a page too.
//! A link that leads nowhere fails, when a page is made and once more when all are written.

mod contents;
mod frame;
mod links;
mod render;

use crate::tidy::tree::Tree;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use render::Rendered;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `cargo xtask docs` takes.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// The folder that is made; by default `site` in the target folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// With the API documentation of the crates, which takes a minute.
    #[arg(long)]
    api: bool,
}

/// The style of all pages.
const STYLE: &str = include_str!("site/style.css");
/// Its file, which also marks a folder as a site.
const STYLE_FILE: &str = "style.css";
/// Larger files are copied instead of shown.
const SHOWN_BYTES_MAX: usize = 256 << 10;

/// Makes the site and says where it is and how many pages it has.
pub(crate) fn build(root: &Path, target: &Path, options: &Options) -> Result<(PathBuf, usize)> {
    let out = options.out.clone().unwrap_or_else(|| target.join("site"));
    let tree = Tree::read(root)?;
    let pages = render_all(&tree)?;
    let contents = contents::read(&tree, &pages)?;
    let version = version(&tree)?;

    make_room(&out)?;
    write(&out.join(STYLE_FILE), STYLE.as_bytes())?;
    let frame = frame::Frame {
        contents: &contents,
        pages: &pages,
        version: &version,
        api: options.api,
    };
    for (path, page) in &pages {
        let file = file_of(path);
        let html = frame.around(path, &file, &page.title, &page.html);
        write(&out.join(&file), html.as_bytes())?;
    }
    let wanted: BTreeSet<&String> = pages.values().flat_map(|page| &page.others).collect();
    for path in &wanted {
        other(&tree, path, &frame, &out)?;
    }
    if options.api {
        api(root, target, &out)?;
    }
    links::check(&out)?;
    Ok((out, pages.len()))
}

fn render_all(tree: &Tree) -> Result<BTreeMap<String, Rendered>> {
    let mut pages = BTreeMap::new();
    for path in tree.ending("md") {
        let page = render::page(tree, path, &tree.text(path)?)?;
        pages.insert(path.to_owned(), page);
    }
    ensure!(pages.contains_key("README.md"), "there is no README.md");
    Ok(pages)
}

/// The file of a page of the site: `docs/guide/start.html` for `docs/guide/start.md`, `docs/guide/index.html` for
/// the `README.md` beside it.
fn file_of(path: &str) -> String {
    let (folder, name) = path
        .rsplit_once('/')
        .map_or(("", path), |(folder, name)| (folder, name));
    let slash = if folder.is_empty() { "" } else { "/" };
    match name.strip_suffix(".md") {
        Some("README") => format!("{folder}{slash}index.html"),
        Some(stem) => format!("{folder}{slash}{stem}.html"),
        None => format!("{path}.html"),
    }
}

/// What a page leads to that is no page: a source file is shown, a folder is listed, anything else is copied.
fn other(tree: &Tree, path: &str, frame: &frame::Frame<'_>, out: &Path) -> Result<()> {
    let file = other_file(tree, path);
    let body = if tree.is_folder(path) {
        listing(tree, path)
    } else {
        let bytes = tree.bytes(path)?;
        match String::from_utf8(bytes) {
            Ok(text) if is_shown(tree, path) => {
                format!("<pre><code>{}</code></pre>", render::escape(&text))
            }
            Ok(text) => return write(&out.join(&file), text.as_bytes()),
            Err(error) => return write(&out.join(&file), error.as_bytes()),
        }
    };
    let name = format!("<h1><code>{}</code></h1>\n{body}", render::escape(path));
    let html = frame.around(path, &file, path, &name);
    write(&out.join(&file), html.as_bytes())
}

/// The file of what is no page.
fn other_file(tree: &Tree, path: &str) -> String {
    if tree.is_folder(path) {
        format!("{path}/index.html")
    } else if is_shown(tree, path) {
        format!("{path}.html")
    } else {
        path.to_owned()
    }
}

/// Whether a file is text that can be read on a page.
fn is_shown(tree: &Tree, path: &str) -> bool {
    let Ok(bytes) = tree.bytes(path) else {
        return false;
    };
    bytes.len() <= SHOWN_BYTES_MAX && std::str::from_utf8(&bytes).is_ok()
}

fn listing(tree: &Tree, folder: &str) -> String {
    let below = format!("{folder}/");
    let names: BTreeSet<&str> = tree
        .files()
        .filter_map(|path| path.strip_prefix(&below)?.split('/').next())
        .collect();
    let items: Vec<String> = names
        .iter()
        .map(|name| format!("<li><code>{}</code></li>", render::escape(name)))
        .collect();
    format!("<ul>\n{}\n</ul>", items.join("\n"))
}

/// Empties the folder, when it is a site or empty already.
fn make_room(out: &Path) -> Result<()> {
    let Ok(mut entries) = std::fs::read_dir(out) else {
        return std::fs::create_dir_all(out)
            .with_context(|| format!("cannot create {}", out.display()));
    };
    if entries.next().is_none() {
        return Ok(());
    }
    if !out.join(STYLE_FILE).is_file() || !out.join("index.html").is_file() {
        bail!(
            "{} holds something else than a site: name an empty folder",
            out.display()
        );
    }
    std::fs::remove_dir_all(out)
        .and_then(|()| std::fs::create_dir_all(out))
        .with_context(|| format!("cannot empty {}", out.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().expect("the site is above it");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The version in the workspace's manifest.
fn version(tree: &Tree) -> Result<String> {
    let manifest: toml::Table = tree
        .text("Cargo.toml")?
        .parse()
        .context("cannot parse Cargo.toml")?;
    let version = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("package")?.get("version")?.as_str());
    Ok(version
        .context("Cargo.toml has no workspace.package.version")?
        .to_owned())
}

/// Puts the API documentation beside the pages.
fn api(root: &Path, target: &Path, out: &Path) -> Result<()> {
    let mut doc = Command::new("cargo");
    doc.args(["doc", "--locked", "--workspace", "--no-deps"])
        .current_dir(root);
    let mut copy = Command::new("cp");
    copy.arg("-R").arg(target.join("doc")).arg(out.join("api"));
    for command in [&mut doc, &mut copy] {
        let ended = command.status();
        let ended = ended.with_context(|| format!("cannot start {command:?}"))?;
        ensure!(ended.success(), "{command:?} ended with {ended}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
