//! Recorded requests: a text file of requests to functions, each with the reply that is expected.
//!
//! ```text
//! ### greets by name
//! POST /hello?polite
//! content-type: text/plain
//!
//! Ada
//!
//! HTTP 200
//! content-type: text/plain
//!
//! Hello, Ada!
//! ```
//!
//! `###` begins a request and names it, the first may go without. A request is written as HTTP/1.1
//! writes it (RFC 9112 §3): a line with the method and the target at the HTTP door, headers, an empty
//! line, the body. The line `HTTP STATUS` begins what is expected: of the headers only those that are
//! listed, and a body only when one is written. Without that line any status below 400 is. A body ends
//! at its last line that is not empty; `< FILE` in its place takes the bytes of a file, relative to the
//! recording. Lines before a request that begin with `#` or `//` are comments.
//!
//! A file is bounded: see [`FILE_BYTES_MAX`] and [`EXCHANGES_MAX`].

use std::fmt;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use mote_core::error::{Error, ErrorKind};

/// Largest file.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most requests of a file.
pub const EXCHANGES_MAX: usize = 1000;

/// A request and what is expected of its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What it is about, for people; may be empty.
    pub name: String,
    /// Where it begins in its file, counted from 1.
    pub line: usize,
    /// Its method.
    pub method: Method,
    /// Path and query as the HTTP door gets them: `/hello/rest?query`.
    pub target: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What is sent, if anything.
    pub body: Option<Content>,
    /// The reply's status; any below 400 when it is not given.
    pub status: Option<StatusCode>,
    /// Headers that the reply must have.
    pub expected_headers: Vec<(String, String)>,
    /// The reply's body, if it matters.
    pub expected_body: Option<Content>,
}

/// A body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// As it is written, without a newline at its end.
    Text(String),
    /// The bytes of this file, relative to the recording's folder.
    File(String),
}

impl Content {
    /// Whether this text would be read back as it is.
    pub fn is_writable(text: &str) -> bool {
        let plain = |line: &str| !line.starts_with("###") && status_line(line).is_none();
        !text.is_empty()
            && !text.contains('\r')
            && !text.starts_with("< ")
            && !text.ends_with('\n')
            && text.lines().all(plain)
            && text
                .lines()
                .last()
                .is_some_and(|line| !line.trim().is_empty())
    }
}

/// Reads a recording. A mistake is a `BadRequest` that names its line.
pub fn parse(text: &str) -> Result<Vec<Exchange>, Error> {
    let mut exchanges = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    let mut start = 0;
    while start < lines.len() {
        let next = lines[start + 1..]
            .iter()
            .position(|line| line.starts_with("###"));
        let end = next.map_or(lines.len(), |distance| start + 1 + distance);
        let block = Block {
            lines: &lines[start..end],
            first: start,
        };
        if let Some(exchange) = block.exchange()? {
            exchanges.push(exchange);
        }
        if exchanges.len() > EXCHANGES_MAX {
            return Err(wrong(
                start,
                format!("more than {EXCHANGES_MAX} requests"),
                "split the file",
            ));
        }
        start = end;
    }
    Ok(exchanges)
}

/// The lines of one request, with where they are.
struct Block<'a> {
    lines: &'a [&'a str],
    first: usize,
}

impl<'a> Block<'a> {
    /// The request, unless there are only comments.
    fn exchange(&self) -> Result<Option<Exchange>, Error> {
        let mut at = 0;
        let mut name = "";
        if let Some(title) = self.lines.first().and_then(|line| line.strip_prefix("###")) {
            (name, at) = (title.trim(), 1);
        }
        while self.lines.get(at).is_some_and(|line| is_comment(line)) {
            at += 1;
        }
        let Some(request) = self.lines.get(at) else {
            return match name {
                "" => Ok(None),
                name => Err(wrong(
                    self.first,
                    format!("`### {name}` has no request"),
                    REQUEST_HINT,
                )),
            };
        };
        let (method, target) = self.request_line(at, request)?;
        let (headers, after) = self.headers(at + 1)?;
        let reply = (after..self.lines.len()).find(|line| status_line(self.lines[*line]).is_some());
        let body = self.body(after, reply.unwrap_or(self.lines.len()));
        let (mut status, mut expected_headers, mut expected_body) = (None, Vec::new(), None);
        if let Some(reply) = reply {
            status = Some(self.status(reply)?);
            let (headers, after) = self.headers(reply + 1)?;
            expected_headers = headers;
            expected_body = self.body(after, self.lines.len());
        }
        Ok(Some(Exchange {
            name: name.to_owned(),
            line: self.first + at + 1,
            method,
            target,
            headers,
            body,
            status,
            expected_headers,
            expected_body,
        }))
    }

    fn request_line(&self, at: usize, line: &str) -> Result<(Method, String), Error> {
        let bad = |what: String| wrong(self.first + at, what, REQUEST_HINT);
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(bad(format!("`{}` is not a request", line.escape_debug())));
        };
        match words.next() {
            None | Some("HTTP/1.1") if words.next().is_none() => {}
            _ => {
                return Err(bad(format!(
                    "`{}` has words after its target",
                    line.escape_debug()
                )));
            }
        }
        let upper = method.bytes().all(|letter| letter.is_ascii_uppercase());
        let method = Method::from_bytes(method.as_bytes()).ok().filter(|_| upper);
        let method = method.ok_or_else(|| {
            bad(format!(
                "`{}` does not begin with a method",
                line.escape_debug()
            ))
        })?;
        let valid = target.starts_with('/') && target.parse::<http::uri::PathAndQuery>().is_ok();
        if !valid {
            return Err(bad(format!(
                "`{}` is not a path at the door",
                target.escape_debug()
            )));
        }
        Ok((method, target.to_owned()))
    }

    /// Headers up to an empty line, and where what follows begins.
    fn headers(&self, from: usize) -> Result<(Vec<(String, String)>, usize), Error> {
        let mut headers = Vec::new();
        for (at, line) in self.lines.iter().enumerate().skip(from) {
            if line.trim().is_empty() {
                return Ok((headers, at + 1));
            }
            if status_line(line).is_some() {
                return Ok((headers, at));
            }
            let header = line
                .split_once(':')
                .map(|(name, value)| (name.trim(), value.trim()));
            let valid = header.filter(|(name, value)| {
                name.parse::<HeaderName>().is_ok() && value.parse::<HeaderValue>().is_ok()
            });
            let (name, value) = valid.ok_or_else(|| {
                let what = format!("`{}` is not a header", line.escape_debug());
                wrong(
                    self.first + at,
                    what,
                    "write `name: value`, and an empty line before a body",
                )
            })?;
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Ok((headers, self.lines.len()))
    }

    fn status(&self, at: usize) -> Result<StatusCode, Error> {
        let code = status_line(self.lines[at]).unwrap_or_default();
        code.parse()
            .ok()
            .filter(|code: &StatusCode| (200..=599).contains(&code.as_u16()))
            .ok_or_else(|| {
                wrong(
                    self.first + at,
                    format!("`{code}` is not a status of a reply"),
                    "write `HTTP 200`",
                )
            })
    }

    /// What stands between two lines, without empty lines at its end.
    fn body(&self, from: usize, to: usize) -> Option<Content> {
        let lines = self.lines.get(from..to)?;
        let last = lines.iter().rposition(|line| !line.trim().is_empty())?;
        let lines = &lines[..=last];
        match lines {
            [line] if line.starts_with("< ") => Some(Content::File(line[2..].trim().to_owned())),
            lines => Some(Content::Text(lines.join("\n"))),
        }
    }
}

const REQUEST_HINT: &str = "write the method and the path at the door: `POST /hello?query`";

fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#') || line.starts_with("//")
}

/// The code of a line that begins a reply: `HTTP 200`, or as a server writes it, `HTTP/1.1 200 OK`.
fn status_line(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("HTTP")?;
    let rest = rest.strip_prefix("/1.1").unwrap_or(rest);
    let code = rest.strip_prefix(' ')?.split_whitespace().next()?;
    code.bytes()
        .all(|digit| digit.is_ascii_digit())
        .then_some(code)
}

fn wrong(line: usize, what: impl fmt::Display, hint: &'static str) -> Error {
    Error::new(ErrorKind::BadRequest, format!("line {}: {what}", line + 1)).with_hint(hint)
}

impl fmt::Display for Exchange {
    /// As [`parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}", self.name)?;
        writeln!(f, "{} {}", self.method, self.target)?;
        message(f, &self.headers, self.body.as_ref())?;
        if let Some(status) = self.status {
            writeln!(f, "\nHTTP {}", status.as_u16())?;
            message(f, &self.expected_headers, self.expected_body.as_ref())?;
        }
        Ok(())
    }
}

fn message(
    f: &mut fmt::Formatter<'_>,
    headers: &[(String, String)],
    body: Option<&Content>,
) -> fmt::Result {
    for (name, value) in headers {
        writeln!(f, "{name}: {value}")?;
    }
    match body {
        None => Ok(()),
        Some(Content::Text(text)) => writeln!(f, "\n{text}"),
        Some(Content::File(path)) => writeln!(f, "\n< {path}"),
    }
}

#[cfg(test)]
mod tests;
