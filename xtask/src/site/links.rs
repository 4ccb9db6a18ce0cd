//! The links of a site that is written: every one of them leads to a file of it, and to a part that is there.
//!
//! It reads what a browser will read, so that it also finds what the making of pages got wrong.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Checks every link of every page; those to other hosts are not followed.
pub(super) fn check(out: &Path) -> Result<()> {
    let mut files = Vec::new();
    list(out, &mut files)?;
    let mut pages = BTreeMap::new();
    for file in &files {
        // The API documentation has links of its own making.
        let own = !file.starts_with(out.join("api"));
        if own && file.extension().is_some_and(|ending| ending == "html") {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            pages.insert(file.clone(), text);
        }
    }
    let ids: BTreeMap<&PathBuf, BTreeSet<&str>> = pages
        .iter()
        .map(|(file, text)| (file, values(text, " id=\"").collect()))
        .collect();
    let mut wrong = Vec::new();
    for (file, text) in &pages {
        for link in values(text, " href=\"").chain(values(text, " src=\"")) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, part) = link.split_once('#').unwrap_or((link, ""));
            let to = if path.is_empty() {
                file.clone()
            } else {
                joined(file, path)
            };
            let there = to.is_file() && to.starts_with(out);
            let has_part = part.is_empty() || ids.get(&to).is_some_and(|ids| ids.contains(part));
            if !there || !has_part {
                let page = file.strip_prefix(out).unwrap_or(file);
                wrong.push(format!(
                    "{}: the link `{link}` leads nowhere",
                    page.display()
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The values of an attribute.
fn values<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).filter_map(move |(at, _)| {
        let rest = &text[at + start.len()..];
        rest.split('"').next()
    })
}

fn joined(file: &Path, link: &str) -> PathBuf {
    let mut path = file.parent().map(Path::to_owned).unwrap_or_default();
    for part in link.split('/') {
        match part {
            ".." => {
                path.pop();
            }
            "." | "" => {}
            part => path.push(part),
        }
    }
    path
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
