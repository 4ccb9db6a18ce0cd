//! From a page's Markdown to HTML, with its links made those of the site.

use super::{file_of, other_file};
use crate::tidy::links::{anchor, resolve};
use crate::tidy::tree::Tree;
use anyhow::{Result, bail};
use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A page of the site, still without what is around it.
#[derive(Debug)]
pub(super) struct Rendered {
    /// Its first heading.
    pub(super) title: String,
    /// Its HTML.
    pub(super) html: String,
    /// Its headings of the second level: anchor and text.
    pub(super) headings: Vec<(String, String)>,
    /// The pages it links, in its order.
    pub(super) linked: Vec<String>,
    /// What else it links: source files and folders.
    pub(super) others: BTreeSet<String>,
}

/// Renders the page at `path`. A link that leads nowhere is an error.
pub(super) fn page(tree: &Tree, path: &str, text: &str) -> Result<Rendered> {
    let mut page = Rendered {
        title: String::new(),
        html: String::new(),
        headings: Vec::new(),
        linked: Vec::new(),
        others: BTreeSet::new(),
    };
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH;
    let events: Vec<Event<'_>> = Parser::new_ext(text, options).collect();
    let mut anchors = Vec::new();
    let mut written = Vec::new();
    let mut rest = events.into_iter();
    while let Some(event) = rest.next() {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let code = text_until(&mut rest, TagEnd::CodeBlock);
                written.push(Event::Html(block(&kind, &code).into()));
            }
            Event::Start(Tag::Heading { level, .. }) => {
                let inside: Vec<Event<'_>> = rest
                    .by_ref()
                    .take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))))
                    .collect();
                let title = plain(&inside);
                let id = anchor(&title, &mut anchors);
                if page.title.is_empty() {
                    page.title.clone_from(&title);
                }
                if level as usize == 2 {
                    page.headings.push((id.clone(), title));
                }
                written.push(Event::Html(format!("<{level} id=\"{id}\">").into()));
                for event in inside {
                    written.push(relinked(tree, path, event, &mut page)?);
                }
                let own = format!(
                    " <a class=\"anchor\" href=\"#{id}\" aria-label=\"link to this part\">#</a></{level}>\n"
                );
                written.push(Event::Html(own.into()));
            }
            // A table that is wider than the page moves by itself.
            Event::Start(Tag::Table(alignments)) => {
                written.push(Event::Html("<div class=\"table\">".into()));
                written.push(Event::Start(Tag::Table(alignments)));
            }
            Event::End(TagEnd::Table) => {
                written.push(Event::End(TagEnd::Table));
                written.push(Event::Html("</div>\n".into()));
            }
            // Comments are for tests and writers.
            Event::Html(html) | Event::InlineHtml(html)
                if html.trim_start().starts_with("<!--") => {}
            event => written.push(relinked(tree, path, event, &mut page)?),
        }
    }
    if page.title.is_empty() {
        path.clone_into(&mut page.title);
    }
    pulldown_cmark::html::push_html(&mut page.html, written.into_iter());
    Ok(page)
}

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The way from one file of the site to another.
pub(super) fn way(from: &str, to: &str) -> String {
    let mut from: Vec<&str> = from.split('/').collect();
    from.pop();
    let to: Vec<&str> = to.split('/').collect();
    let same = from
        .iter()
        .zip(&to[..to.len() - 1])
        .take_while(|(a, b)| a == b)
        .count();
    let mut parts = vec![".."; from.len() - same];
    parts.extend(&to[same..]);
    parts.join("/")
}

/// An event whose link, if it is one, leads to a file of the site.
fn relinked<'a>(
    tree: &Tree,
    path: &str,
    event: Event<'a>,
    page: &mut Rendered,
) -> Result<Event<'a>> {
    Ok(match event {
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            title,
            id,
        }) => {
            let dest_url = target(tree, path, &dest_url, page)?;
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            })
        }
        Event::Start(Tag::Image {
            link_type,
            dest_url,
            title,
            id,
        }) => {
            let dest_url = target(tree, path, &dest_url, page)?;
            Event::Start(Tag::Image {
                link_type,
                dest_url,
                title,
                id,
            })
        }
        event => event,
    })
}

fn target<'a>(tree: &Tree, path: &str, link: &str, page: &mut Rendered) -> Result<CowStr<'a>> {
    if link.contains("://") || link.starts_with("mailto:") || link.starts_with('#') {
        return Ok(link.to_owned().into());
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let Some(mut found) = resolve(path, file).filter(|found| tree.exists(found)) else {
        bail!("{path}: the link `{link}` leads nowhere");
    };
    let readme = format!("{found}/README.md");
    if tree.is_folder(&found) && tree.exists(&readme) {
        found = readme;
    }
    let to = if found.ends_with(".md") {
        page.linked.push(found.clone());
        file_of(&found)
    } else {
        page.others.insert(found.clone());
        other_file(tree, &found)
    };
    let mark = if heading.is_empty() { "" } else { "#" };
    Ok(format!("{}{mark}{heading}", way(&file_of(path), &to)).into())
}

/// A block of code; in a console what is typed stands out from what is said.
fn block(kind: &CodeBlockKind<'_>, code: &str) -> String {
    let kind = match kind {
        CodeBlockKind::Fenced(kind) => kind.split_whitespace().next().unwrap_or_default(),
        CodeBlockKind::Indented => "",
    };
    let mut html = String::from("<pre");
    if !kind.is_empty() {
        write!(html, " class=\"{}\"", escape(kind)).expect("writing to a string does not fail");
    }
    html.push_str("><code>");
    for line in code.split_inclusive('\n') {
        let typed = line.strip_prefix("$ ").filter(|_| kind == "console");
        match typed {
            Some(typed) => {
                let typed = escape(typed.trim_end_matches('\n'));
                writeln!(html, "<span class=\"prompt\">$ </span><b>{typed}</b>")
                    .expect("writing to a string does not fail");
            }
            None => html.push_str(&escape(line)),
        }
    }
    html.push_str("</code></pre>\n");
    html
}

fn text_until<'a>(events: &mut impl Iterator<Item = Event<'a>>, end: TagEnd) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            Event::End(found) if found == end => break,
            Event::Text(part) => text.push_str(&part),
            _ => {}
        }
    }
    text
}

fn plain(events: &[Event<'_>]) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            Event::Text(part) | Event::Code(part) => text.push_str(part),
            Event::SoftBreak => text.push(' '),
            _ => {}
        }
    }
    text
}
