//! Recorded requests: a text file of requests and of the replies they must get.
//!
//! ```text
//! # A comment. The request is written as HTTP/1.1 sends it; `CoAP` instead of `HTTP/1.1` takes the other door.
//! POST /lamp?room=kitchen HTTP/1.1
//! content-type: text/plain
//!
//! on
//!
//! ### 200
//! ### content-type: application/json
//! {"light":"on"}
//!
//! ###
//! GET /lamp CoAP
//!
//! ### 2.05
//! ```
//!
//! What follows `###` is the expectation: the status, then headers that must be there; the lines below are the body.
//! Without such lines any body will do. `###` alone begins the next request. Blank lines around a body do not count.

use std::fmt;
use std::io::Write as _;
use std::path::Path;

use mote_core::error::{Error, ErrorKind};

/// Largest file that is read.
pub const BYTES_MAX: u64 = 16 << 20;
/// What separates parts.
const MARK: &str = "###";

/// A request and what must come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The line of the file that the request stands in, from 1.
    pub line: usize,
    /// The door.
    pub door: Door,
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers of the request.
    pub headers: Vec<(String, String)>,
    /// Body of the request.
    pub body: String,
    /// What must come back.
    pub expected: Expected,
}

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// HTTP/1.1
    Http,
    /// CoAP
    Coap,
}

/// What must come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `200`, or `2.05` over CoAP.
    pub status: String,
    /// Headers that must be there with these values.
    pub headers: Vec<(String, String)>,
    /// The body; `None` when any will do.
    pub body: Option<String>,
}

/// Reads a file. Every failure says the line.
pub fn parse(text: &str) -> Result<Vec<Exchange>, Error> {
    let mut lines = Lines {
        rest: text.lines().enumerate().peekable(),
    };
    let mut exchanges = Vec::new();
    while lines.skip_to_request() {
        exchanges.push(lines.exchange()?);
    }
    Ok(exchanges)
}

/// Whether a body is read again as it was written: no line of it looks like a mark, or ends with a carriage return.
pub fn can_be_written(body: &str) -> bool {
    !body
        .split('\n')
        .any(|line| line.starts_with(MARK) || line.ends_with('\r'))
}

impl Exchange {
    /// Adds it to the end of a file, which is made when it is not there.
    pub fn append_to(&self, path: &Path) -> Result<(), Error> {
        let append = || {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)?;
            file.write_all(self.to_string().as_bytes())
        };
        append().map_err(|error| {
            Error::new(
                ErrorKind::BadRequest,
                format!("cannot write {}: {error}", path.display()),
            )
            .with_hint("check path and permissions")
        })
    }
}

struct Lines<'a> {
    rest: std::iter::Peekable<std::iter::Enumerate<std::str::Lines<'a>>>,
}

impl Lines<'_> {
    /// Leaves out blank lines, comments and the mark between two exchanges; `false` at the end.
    fn skip_to_request(&mut self) -> bool {
        while let Some((_, line)) = self.rest.peek() {
            let line = line.trim();
            let is_comment = line.starts_with('#') && !line.starts_with(MARK);
            if !line.is_empty() && !is_comment && line != MARK {
                return true;
            }
            self.rest.next();
        }
        false
    }

    fn exchange(&mut self) -> Result<Exchange, Error> {
        let (at, first) = self.rest.next().unwrap_or_default();
        let mut words = first.split_whitespace();
        let (method, target, version) = (words.next(), words.next(), words.next());
        let door = match version {
            None | Some("HTTP/1.1") => Some(Door::Http),
            Some("CoAP") => Some(Door::Coap),
            Some(_) => None,
        };
        let (Some(method), Some(target), Some(door), None) = (method, target, door, words.next())
        else {
            return Err(bad(at, "is no request", "write GET /function HTTP/1.1"));
        };
        if !target.starts_with('/') {
            return Err(bad(
                at,
                "names no path",
                "begin it with /, such as GET /function HTTP/1.1",
            ));
        }
        let mut headers = Vec::new();
        while let Some((at, line)) = self
            .rest
            .next_if(|(_, line)| !line.trim().is_empty() && !line.starts_with(MARK))
        {
            headers.push(header(at, line)?);
        }
        let body = self.body();
        let expected = self.expected(at)?;
        Ok(Exchange {
            line: at + 1,
            door,
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
            body: body.unwrap_or_default(),
            expected,
        })
    }

    fn expected(&mut self, request: usize) -> Result<Expected, Error> {
        let status = self.rest.next().map(|(at, line)| (at, mark(line)));
        let Some((at, status)) = status.filter(|(_, status)| !status.is_empty()) else {
            return Err(bad(
                request,
                "is a request without a reply",
                "write ### 200 below it",
            ));
        };
        let is_status = status.len() <= 4
            && status
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !is_status {
            return Err(bad(
                at,
                "is no status",
                "write ### 200, or ### 2.05 for CoAP",
            ));
        }
        let mut headers = Vec::new();
        while let Some((at, line)) = self
            .rest
            .next_if(|(_, line)| line.starts_with(MARK) && !mark(line).is_empty())
        {
            headers.push(header(at, mark(line))?);
        }
        Ok(Expected {
            status: status.to_owned(),
            headers,
            body: self.body(),
        })
    }

    /// The lines up to the next mark, without blank ones around them.
    fn body(&mut self) -> Option<String> {
        let mut text = String::new();
        while let Some((_, line)) = self.rest.next_if(|(_, line)| !line.starts_with(MARK)) {
            text.push_str(line);
            text.push('\n');
        }
        let text = text.trim_matches('\n');
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// What follows the mark.
fn mark(line: &str) -> &str {
    line.strip_prefix(MARK).unwrap_or_default().trim()
}

fn header(at: usize, line: &str) -> Result<(String, String), Error> {
    match line.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_lowercase(), value.trim().to_owned()))
        }
        _ => Err(bad(
            at,
            "is no header",
            "write name: value, and a blank line before a body",
        )),
    }
}

fn bad(at: usize, what: &str, hint: &'static str) -> Error {
    Error::new(ErrorKind::BadRequest, format!("line {} {what}", at + 1)).with_hint(hint)
}

impl fmt::Display for Exchange {
    /// As [`parse`] reads it, with the mark that begins it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.door {
            Door::Http => "HTTP/1.1",
            Door::Coap => "CoAP",
        };
        writeln!(f, "{MARK}\n{} {} {version}", self.method, self.target)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        if !self.body.is_empty() {
            writeln!(f, "\n{}", self.body.trim_matches('\n'))?;
        }
        writeln!(f, "\n{MARK} {}", self.expected.status)?;
        for (name, value) in &self.expected.headers {
            writeln!(f, "{MARK} {name}: {value}")?;
        }
        match &self.expected.body {
            Some(body) => writeln!(f, "{}\n", body.trim_matches('\n')),
            None => writeln!(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "# Lamps.

POST /lamp?room=kitchen HTTP/1.1
Content-Type: text/plain

on

# not a comment

### 200
### content-type: application/json
{\"light\":
  \"on\"}

###
# Now the other door.
GET /lamp CoAP

### 2.05
###
DELETE /lamp
### 204
";

    #[test]
    fn a_file_is_read() {
        let all = parse(TEXT).unwrap();
        let lines: Vec<usize> = all.iter().map(|one| one.line).collect();
        assert_eq!(lines, [3, 17, 21]);
        let post = &all[0];
        assert_eq!(
            (post.method.as_str(), post.target.as_str()),
            ("POST", "/lamp?room=kitchen")
        );
        assert_eq!(
            post.headers,
            [("content-type".to_owned(), "text/plain".to_owned())]
        );
        assert_eq!(post.body, "on\n\n# not a comment");
        assert_eq!(
            post.expected.body.as_deref(),
            Some("{\"light\":\n  \"on\"}")
        );
        assert_eq!(post.expected.headers.len(), 1);
        assert_eq!(
            (all[1].door, all[1].expected.status.as_str()),
            (Door::Coap, "2.05")
        );
        assert_eq!((all[2].body.as_str(), &all[2].expected.body), ("", &None));
        assert_eq!(parse("# nothing\n\n###\n").unwrap(), []);
    }

    #[test]
    fn a_body_that_would_be_another_is_known() {
        for body in ["", "one\ntwo\n", "in the\rmiddle", "a ### in it"] {
            assert!(can_be_written(body), "{body:?}");
        }
        for body in ["### 200", "one\n###", "one\r\ntwo", "one\r"] {
            assert!(!can_be_written(body), "{body:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let all = parse(TEXT).unwrap();
        let text: String = all.iter().map(Exchange::to_string).collect();
        let mut again = parse(&text).unwrap();
        for (one, before) in again.iter_mut().zip(&all) {
            one.line = before.line;
        }
        assert_eq!(again, all);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s)([ -~\n]|###|GET /x\n){0,40}") {
            if let Ok(all) = parse(&text) {
                let text: String = all.iter().map(Exchange::to_string).collect();
                prop_assert_eq!(parse(&text).unwrap().len(), all.len());
            }
        }
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, said) in [
            ("\nGET", "line 2 is no request"),
            ("GET lamp HTTP/1.1", "line 1 names no path"),
            ("GET /lamp HTTP/2\n### 200", "line 1 is no request"),
            ("GET /lamp\nnonsense\n\n### 200", "line 2 is no header"),
            ("GET /lamp\n", "line 1 is a request without a reply"),
            (
                "GET /lamp\n\n###\nGET /x\n### 200",
                "line 1 is a request without a reply",
            ),
            ("GET /lamp\n### ok", "line 2 is no status"),
            ("GET /lamp\n### 200\n### x", "line 3 is no header"),
        ] {
            assert_eq!(parse(text).unwrap_err().message(), said, "{text}");
        }
    }
}
