//! `/.well-known/core`: the functions as links (RFC 6690).

use std::fmt::Write as _;

use crate::coap::functions::Link;

/// Resource type of every function.
const RESOURCE_TYPE: &str = "mote.function";

/// Writes the link of a function if it passes all filters.
pub fn write_link(text: &mut String, link: &Link<'_>, filters: &[Filter<'_>]) {
    if !filters.iter().all(|filter| filter.passes(link)) {
        return;
    }
    let comma = if text.is_empty() { "" } else { "," };
    let observable = if link.observable { ";obs" } else { "" };
    // Names are DNS labels, so nothing in them needs quoting.
    write!(
        text,
        "{comma}</{}>;rt=\"{RESOURCE_TYPE}\";title=\"{}\"{observable}",
        link.name.short(),
        link.name.full(),
    )
    .expect("writing into a string cannot fail");
}

/// One argument of the query, `name=value` or `name=start*` (RFC 6690 §4.1).
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    name: &'a str,
    value: Option<&'a str>,
}

impl<'a> Filter<'a> {
    /// Reads an argument. What is not text matches nothing.
    pub fn new(argument: &'a [u8]) -> Self {
        let text = std::str::from_utf8(argument).unwrap_or_default();
        match text.split_once('=') {
            Some((name, value)) => Self {
                name,
                value: Some(value),
            },
            None => Self {
                name: text,
                value: None,
            },
        }
    }

    fn passes(&self, link: &Link<'_>) -> bool {
        match self.name {
            "href" => self.matches(&format!("/{}", link.name.short())),
            "rt" => self.matches(RESOURCE_TYPE),
            "title" => self.matches(link.name.full()),
            // `obs` is an attribute without a value (RFC 7641 §6).
            "obs" => {
                link.observable
                    && self
                        .value
                        .is_none_or(|value| value.is_empty() || value == "*")
            }
            // An attribute that no link has.
            _ => false,
        }
    }

    fn matches(&self, found: &str) -> bool {
        match self.value {
            None => true,
            Some(value) => match value.strip_suffix('*') {
                Some(start) => found.starts_with(start),
                None => found == value,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expect: &str) {
        let filters: Vec<_> = query
            .split('&')
            .filter(|argument| !argument.is_empty())
            .map(|argument| Filter::new(argument.as_bytes()))
            .collect();
        let mut text = String::new();
        for (name, observable) in [("light", true), ("hello", false), ("light.home", false)] {
            let name = name.parse().unwrap();
            let link = Link {
                name: &name,
                observable,
            };
            write_link(&mut text, &link, &filters);
        }
        let names: Vec<_> = text
            .split(',')
            .filter_map(|link| link.split_once('>').map(|(href, _)| &href[2..]))
            .collect();
        assert_eq!(names.join(" "), expect, "{query}");
    }

    #[test]
    fn links_are_filtered() {
        check("", "light hello light.home");
        check("rt=mote.function", "light hello light.home");
        check("rt=mote.*", "light hello light.home");
        check("rt=other", "");
        check("if=sensor", "");
        check("href=/light", "light");
        check("href=/light*", "light light.home");
        check("title=hello.default", "hello");
        check("obs", "light");
        check("href=/l*&obs", "light");
        check("title=*.home", "");
    }

    #[test]
    fn a_link_reads_well() {
        let mut text = String::new();
        let name = "light".parse().unwrap();
        let link = Link {
            name: &name,
            observable: true,
        };
        write_link(&mut text, &link, &[]);
        assert_eq!(
            text,
            "</light>;rt=\"mote.function\";title=\"light.default\";obs"
        );
    }
}
