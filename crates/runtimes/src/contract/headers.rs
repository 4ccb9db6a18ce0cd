//! Headers on their way to a program and back; and a call as the environment of a process, for the
//! contract `stdio`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};
use mote_core::invocation::Invocation;
use mote_core::name::FunctionName;

/// Headers that belong to one connection and not to the message (RFC 9110 §7.6.1), and those about
/// a proxy that stands between (§11.7).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONNECTION,
];
const KEEP_ALIVE: &str = "keep-alive";
const PROXY_CONNECTION: &str = "proxy-connection";

/// Removes what does not go past one connection, with the headers that `Connection` names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
}

/// The header by which a program publishes its reply.
const PUBLISH: &str = "mote-publish";

/// Whether a program wants its reply published; removes the header that says so.
pub(super) fn take_publish(headers: &mut HeaderMap) -> bool {
    let value = headers.remove(PUBLISH);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// Most bytes of the variables of one call. The system takes more, but shares that with the
/// function's own environment.
pub const CGI_BYTES_MAX: usize = 64 << 10;

/// Names the variables that were left out, since there was no room for them.
const DROPPED: &str = "MOTE_ENV_DROPPED";
/// Most bytes of those names.
const DROPPED_BYTES_MAX: usize = 1 << 10;

/// A call as variables: those of CGI (RFC 3875 §4.1), and those of the classic watchdog
/// (`Http_Content_Type`, `Http_Path`).
///
/// Never `HTTP_PROXY`: a header must not become the proxy of a program's own requests
/// (CVE-2016-5385). Headers with an underscore are left out, since they would pass for others.
/// Variables beyond [`CGI_BYTES_MAX`] are left out, largest first, and named in `MOTE_ENV_DROPPED`.
pub fn cgi_environment(invocation: &Invocation, function: &FunctionName) -> Vec<(String, String)> {
    let meta = &invocation.meta;
    let path = match meta.path() {
        "" => "/",
        path => path,
    };
    let (decoded, query) = (percent_decoded(path), meta.query().unwrap_or_default());
    let length = invocation.body.length().map(|length| length.to_string());
    let mut variables = Variables::default();
    for name in ["REQUEST_METHOD", "Http_Method"] {
        variables.set(name, meta.method.as_str());
    }
    for name in ["PATH_INFO", "Http_Path"] {
        variables.set(name, &*decoded);
    }
    for name in ["QUERY_STRING", "Http_Query"] {
        variables.set(name, query);
    }
    if let Some(length) = &length {
        for name in [
            "CONTENT_LENGTH",
            "Http_ContentLength",
            "Http_Content_Length",
        ] {
            variables.set(name, length);
        }
    }
    for name in ["SERVER_NAME", "HTTP_HOST", "Http_Host"] {
        variables.set(name, function.full());
    }
    variables.set("GATEWAY_INTERFACE", "CGI/1.1");
    variables.set("SERVER_PROTOCOL", "HTTP/1.1");
    variables.set("MOTE_CALL_ID", invocation.id.to_string());

    let mut headers = meta.headers.clone();
    remove_hop_by_hop(&mut headers);
    for name in headers.keys().filter(|name| is_told(name)) {
        let value = joined(&headers, name);
        variables.set(watchdog_name(name), &*value);
        match *name {
            header::CONTENT_TYPE => variables.set("CONTENT_TYPE", value),
            _ => variables.set(cgi_name(name), value),
        }
    }
    variables.bounded()
}

/// Whether a header becomes a variable of its own.
fn is_told(name: &HeaderName) -> bool {
    let elsewhere = matches!(*name, header::HOST | header::CONTENT_LENGTH);
    // The last three would pass for the watchdog's own variables.
    let harmful = matches!(name.as_str(), "proxy" | "method" | "path" | "query");
    !elsewhere && !harmful && !name.as_str().contains('_')
}

/// `content-type` as `HTTP_CONTENT_TYPE`.
fn cgi_name(name: &HeaderName) -> String {
    format!(
        "HTTP_{}",
        name.as_str().to_ascii_uppercase().replace('-', "_")
    )
}

/// `content-type` as `Http_Content_Type`.
fn watchdog_name(name: &HeaderName) -> String {
    let mut text = String::from("Http");
    for part in name.as_str().split('-') {
        let (first, rest) = part.split_at(part.len().min(1));
        text.push('_');
        text.push_str(&first.to_ascii_uppercase());
        text.push_str(rest);
    }
    text
}

/// All values of a header as one (RFC 9110 §5.3; cookies as RFC 6265 §5.4 has them).
pub(super) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Cow<'a, str> {
    let separator = if *name == header::COOKIE { "; " } else { ", " };
    let mut values = headers.get_all(name).iter();
    let mut all = values
        .next()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .unwrap_or_default();
    for value in values {
        let all = all.to_mut();
        all.push_str(separator);
        all.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    all
}

/// Undoes percent-encoding (RFC 3986 §2.1). What is no text then, or holds a zero byte, stays as it is.
pub(super) fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let pair = bytes.get(at + 1).zip(bytes.get(at + 2));
        let value =
            pair.and_then(|(high, low)| digit(*high)?.checked_mul(16)?.checked_add(digit(*low)?));
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(value) if *byte == b'%' => {
                decoded.push(value);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    match String::from_utf8(decoded) {
        Ok(decoded) if !decoded.contains('\0') => decoded.into(),
        _ => text.into(),
    }
}

#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    fn bounded(self) -> Vec<(String, String)> {
        // As the system counts: with `=` and a zero byte.
        let size = |(name, value): &(String, String)| name.len() + value.len() + 2;
        let mut kept = self.0;
        let mut bytes: usize = kept.iter().map(size).sum();
        if bytes <= CGI_BYTES_MAX {
            return kept;
        }
        kept.sort_by_key(|variable| std::cmp::Reverse(size(variable)));
        let mut dropped = String::new();
        let room = CGI_BYTES_MAX - DROPPED.len() - DROPPED_BYTES_MAX - 2;
        let mut count = 0;
        for variable in &kept {
            if bytes <= room {
                break;
            }
            bytes -= size(variable);
            count += 1;
            if dropped.len() + variable.0.len() < DROPPED_BYTES_MAX {
                dropped.push_str(if dropped.is_empty() { "" } else { " " });
                dropped.push_str(&variable.0);
            }
        }
        kept.drain(..count);
        kept.push((DROPPED.to_owned(), dropped));
        kept
    }
}

#[cfg(test)]
mod tests;
