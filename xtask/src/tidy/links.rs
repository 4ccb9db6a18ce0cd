//! Promised files exist, and relative links in Markdown lead somewhere, headings included.
//!
//! Links to other hosts are not followed: a check that needs the network fails for reasons of the network.

use super::Findings;
use super::limits::PROMISED_FILES;
use super::tree::Tree;
use anyhow::Result;

/// Checks the promised files and every link of every `.md` file.
pub(super) fn check(tree: &Tree, findings: &mut Findings) -> Result<()> {
    for path in PROMISED_FILES.iter().filter(|path| !tree.exists(path)) {
        findings.add(path, 1, "is promised and missing", "write it");
    }
    for path in tree.ending("md") {
        for (line, target) in links(&tree.text(path)?) {
            check_link(tree, path, line, &target, findings)?;
        }
    }
    Ok(())
}

fn check_link(
    tree: &Tree,
    path: &str,
    line: usize,
    target: &str,
    findings: &mut Findings,
) -> Result<()> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (file, heading) = target
        .split_once('#')
        .map_or((target, None), |(file, heading)| (file, Some(heading)));
    let resolved = if file.is_empty() {
        Some(path.to_owned())
    } else {
        resolve(path, file)
    };
    let Some(resolved) = resolved.filter(|resolved| tree.exists(resolved)) else {
        findings.add(
            path,
            line,
            format!("the link `{target}` leads nowhere"),
            "correct or remove it",
        );
        return Ok(());
    };
    if let Some(heading) = heading.filter(|_| resolved.ends_with(".md"))
        && !headings(&tree.text(&resolved)?)
            .iter()
            .any(|known| known == heading)
    {
        findings.add(
            path,
            line,
            format!("`{resolved}` has no heading `#{heading}`"),
            "correct the part behind `#`",
        );
    }
    Ok(())
}

/// The path from the root that `link` in `page` means; nothing when it leaves the tree.
pub(crate) fn resolve(page: &str, link: &str) -> Option<String> {
    let (folder, link) = match link.strip_prefix('/') {
        Some(from_root) => ("", from_root),
        None => (page.rsplit_once('/').map_or("", |(folder, _)| folder), link),
    };
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(if parts.is_empty() {
        ".".to_owned()
    } else {
        parts.join("/")
    })
}

/// Every link target of a page with its line: inline, by reference, and of HTML tags.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for start in ["](", "href=\"", "src=\""] {
            for (position, _) in line.match_indices(start) {
                let rest = &line[position + start.len()..];
                let end = if start == "](" {
                    end_of_target(rest)
                } else {
                    rest.find('"')
                };
                if let Some(end) = end {
                    let target = rest[..end].split_whitespace().next().unwrap_or_default();
                    found.push((number, target.trim_matches(['<', '>']).to_owned()));
                }
            }
        }
        let reference = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "));
        // `[^1]: text` is a footnote.
        if let Some((_, target)) =
            reference.filter(|(name, _)| !name.starts_with('^') && !name.contains(']'))
        {
            found.push((
                number,
                target
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ));
        }
    }
    found
}

/// A target may hold balanced brackets.
fn end_of_target(rest: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (position, character) in rest.char_indices() {
        match character {
            '(' => depth += 1,
            ')' if depth == 0 => return Some(position),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The names under which headings can be linked, as code hosts build them.
fn headings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut names = Vec::new();
    let mut fences = Fences::default();
    for line in text.lines() {
        let title = line.trim_start_matches('#');
        if fences.hides(line) || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        found.push(anchor(title, &mut names));
    }
    found
}

/// The name of one heading. `names` has those before it on the page: a second one of a name is numbered.
pub(crate) fn anchor(title: &str, names: &mut Vec<String>) -> String {
    let keep =
        |character: &char| character.is_alphanumeric() || [' ', '-', '_'].contains(character);
    let name: String = title
        .trim()
        .to_lowercase()
        .chars()
        .filter(keep)
        .collect::<String>()
        .replace(' ', "-");
    let same = names.iter().filter(|known| **known == name).count();
    names.push(name.clone());
    if same == 0 {
        name
    } else {
        format!("{name}-{same}")
    }
}

/// The lines of a page without code, numbered.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fences = Fences::default();
    text.lines()
        .zip(1..)
        .filter(|(line, _)| !fences.hides(line))
        .map(|(line, number)| (number, without_code(line)))
        .collect()
}

/// Follows fenced code blocks from line to line.
#[derive(Default)]
struct Fences {
    open: Option<String>,
}

impl Fences {
    /// Whether this line is a fence or inside one.
    fn hides(&mut self, line: &str) -> bool {
        let line = line.trim_start();
        match &self.open {
            Some(fence) => {
                if line.starts_with(fence.as_str()) {
                    self.open = None;
                }
                true
            }
            None => {
                let mark = if line.starts_with('~') { '~' } else { '`' };
                let fence: String = line
                    .chars()
                    .take_while(|character| *character == mark)
                    .collect();
                if fence.len() >= 3 {
                    self.open = Some(fence);
                }
                self.open.is_some()
            }
        }
    }
}

/// A line without its `code spans`; an unclosed one is text.
fn without_code(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..]
            .bytes()
            .take_while(|byte| *byte == b'`')
            .count();
        let fence = &rest[start..start + ticks];
        let Some(length) = rest[start + ticks..].find(fence) else {
            break;
        };
        kept.push_str(&rest[..start]);
        rest = &rest[start + ticks + length + ticks..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_links(text: &str, expect: &[(usize, &str)]) {
        let found = links(text);
        let found: Vec<(usize, &str)> = found
            .iter()
            .map(|(line, target)| (*line, target.as_str()))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn finds_every_way_to_link() {
        check_links(
            "a [b](c.md) and ![d](e/f.png \"title\")",
            &[(1, "c.md"), (1, "e/f.png")],
        );
        check_links("x\n[name]: there.md\n[^1]: a footnote", &[(2, "there.md")]);
        check_links(
            "<img src=\"a.svg\"> <a href=\"b.md\">",
            &[(1, "b.md"), (1, "a.svg")],
        );
        check_links("[b](c_(d).md)", &[(1, "c_(d).md")]);
    }

    #[test]
    fn code_holds_no_links() {
        check_links("```\n[a](b)\n```\n`[c](d)` [e](f)", &[(4, "f")]);
        check_links("````\n```\n[a](b)\n````", &[]);
    }

    #[test]
    fn headings_are_named_as_code_hosts_do() {
        assert_eq!(
            headings("# The `one` path, twice\n```\n# no\n```\n## A\n## A"),
            ["the-one-path-twice", "a", "a-1"]
        );
    }

    #[test]
    fn links_resolve_from_their_page() {
        assert_eq!(resolve("docs/a.md", "../b.md").as_deref(), Some("b.md"));
        assert_eq!(resolve("docs/a.md", "/b/c.md").as_deref(), Some("b/c.md"));
        assert_eq!(resolve("docs/a.md", "../../b.md"), None);
        assert_eq!(resolve("a.md", "./").as_deref(), Some("."));
    }
}
