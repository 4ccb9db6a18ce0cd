//! What is around a page: its head, the list of all pages, and the ways on from it.

use super::contents::Section;
use super::render::{Rendered, escape, way};
use super::{STYLE_FILE, file_of};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What every page needs to know of the others.
pub(super) struct Frame<'a> {
    pub(super) contents: &'a [Section],
    pub(super) pages: &'a BTreeMap<String, Rendered>,
    pub(super) version: &'a str,
    /// Whether the API documentation is there.
    pub(super) api: bool,
}

impl Frame<'_> {
    /// A whole page: what is at `path` in the repository, as the `file` of the site.
    pub(super) fn around(&self, path: &str, file: &str, title: &str, body: &str) -> String {
        let home = way(file, "index.html");
        let style = way(file, STYLE_FILE);
        let full = if path == "README.md" {
            "Mote".to_owned()
        } else {
            format!("{} · Mote", escape(title))
        };
        let version = escape(self.version);
        let list = self.list(path, file);
        let on = self.ways_on(path, file);
        format!(
            "<!doctype html>\n\
             <html lang=\"en\">\n\
             <head>\n\
             <meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{full}</title>\n\
             <link rel=\"stylesheet\" href=\"{style}\">\n\
             </head>\n\
             <body>\n\
             <header><a href=\"{home}\">Mote</a> <span>{version}</span> <a class=\"to-contents\" href=\"#contents\">Contents</a></header>\n\
             <main>\n{body}{on}</main>\n\
             <nav id=\"contents\" aria-label=\"Contents\">\n{list}</nav>\n\
             </body>\n\
             </html>\n"
        )
    }

    fn list(&self, path: &str, file: &str) -> String {
        let mut text = String::new();
        for section in self.contents {
            line(&mut text, &format!("<h2>{}</h2>\n<ul>", section.title));
            for page in &section.pages {
                let Some(rendered) = self.pages.get(page) else {
                    continue;
                };
                let here = if page == path {
                    " aria-current=\"page\""
                } else {
                    ""
                };
                let link = way(file, &file_of(page));
                let title = escape(&rendered.title);
                line(
                    &mut text,
                    &format!("<li><a href=\"{link}\"{here}>{title}</a>"),
                );
                if page == path && rendered.headings.len() > 1 {
                    text.push_str("<ul>\n");
                    for (id, heading) in &rendered.headings {
                        let heading = escape(heading);
                        line(
                            &mut text,
                            &format!("<li><a href=\"#{id}\">{heading}</a></li>"),
                        );
                    }
                    text.push_str("</ul>\n");
                }
                text.push_str("</li>\n");
            }
            text.push_str("</ul>\n");
        }
        if self.api {
            let link = way(file, "api/mote_core/index.html");
            line(
                &mut text,
                &format!(
                    "<h2>Crates</h2>\n<ul><li><a href=\"{link}\">API documentation</a></li></ul>"
                ),
            );
        }
        text
    }

    /// The pages before and after this one in its section.
    fn ways_on(&self, path: &str, file: &str) -> String {
        let Some((section, at)) = self.contents.iter().find_map(|section| {
            let at = section.pages.iter().position(|page| page == path)?;
            Some((section, at))
        }) else {
            return String::new();
        };
        let before = at.checked_sub(1).and_then(|at| section.pages.get(at));
        let after = section.pages.get(at + 1);
        let mut text = String::new();
        for (page, class, arrow) in [(before, "before", "←"), (after, "after", "→")] {
            let Some(rendered) = page.and_then(|page| self.pages.get(page)) else {
                continue;
            };
            let link = page
                .map(|page| way(file, &file_of(page)))
                .unwrap_or_default();
            let title = escape(&rendered.title);
            let words = if class == "before" {
                format!("{arrow} {title}")
            } else {
                format!("{title} {arrow}")
            };
            line(
                &mut text,
                &format!("<a class=\"{class}\" href=\"{link}\">{words}</a>"),
            );
        }
        format!("<footer>\n{text}</footer>\n")
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}
