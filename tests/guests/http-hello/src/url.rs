//! As much of a URL as a test needs.

use alloc::string::String;
use alloc::vec::Vec;

/// What a request is addressed by.
pub(crate) struct Parts<'a> {
    pub(crate) secure: bool,
    pub(crate) authority: &'a str,
    /// Path and query, starting with a slash.
    pub(crate) path: &'a str,
}

/// Takes `http://host:port/path?query` apart.
pub(crate) fn split(url: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let secure = match scheme {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    (!authority.is_empty()).then_some(Parts {
        secure,
        authority,
        path,
    })
}

/// Undoes percent-encoding; what is none stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let encoded = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match encoded {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            None => out.push(*first),
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

fn hex(digit: u8) -> Option<u8> {
    let value = (digit as char).to_digit(16)?;
    u8::try_from(value).ok()
}
