//! Between the words of CoAP and those of HTTP, in which functions are written: methods, media
//! types, status codes. After RFC 8075, which maps the other way round; one table each.

use std::time::Duration;

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, StatusCode};
use mote_core::error::ErrorKind;

use crate::coap::message::{Code, Opaque};

/// The method under its HTTP name, if the code is a method that we know (RFC 7252 §12.1.1, RFC 8132).
pub fn method(code: Code) -> Option<Method> {
    Some(match code {
        Code::GET => Method::GET,
        Code::POST => Method::POST,
        Code::PUT => Method::PUT,
        Code::DELETE => Method::DELETE,
        Code::PATCH => Method::PATCH,
        Code::FETCH => Method::from_bytes(b"FETCH").expect("letters make a method"),
        Code::IPATCH => Method::from_bytes(b"IPATCH").expect("letters make a method"),
        _ => return None,
    })
}

/// The response code for a function's status. What a function answers with 200 is content, whatever
/// the method was; the error table has the last word on errors.
pub fn response_code(method: Code, status: StatusCode) -> Code {
    match status.as_u16() {
        200 | 204 if method == Code::DELETE => Code::DELETED,
        201 => Code::CREATED,
        202 | 204 | 205 => Code::CHANGED,
        200..=299 => Code::CONTENT,
        304 => Code::VALID,
        // A redirection means nothing to a CoAP client (RFC 7252 §10.1 has no place for it).
        300..=399 => Code::new(5, 2),
        406 => Code::NOT_ACCEPTABLE,
        412 => Code::new(4, 12),
        422 => Code::new(4, 22),
        501 => Code::new(5, 1),
        number => error_code(number),
    }
}

fn error_code(number: u16) -> Code {
    let known = ErrorKind::ALL
        .iter()
        .find(|kind| kind.http_status().as_u16() == number);
    match known {
        Some(kind) => kind_code(*kind),
        None if number < 500 => Code::BAD_REQUEST,
        None => Code::INTERNAL,
    }
}

/// The response code of a kind of error.
pub fn kind_code(kind: ErrorKind) -> Code {
    let (class, detail) = kind.coap_code();
    Code::new(class, detail)
}

/// Content-Formats (the registry of RFC 7252 §12.3) and their media types. The first spelling of a
/// number is the one that functions are given.
const FORMATS: &[(u16, &str)] = &[
    (0, "text/plain;charset=utf-8"),
    (0, "text/plain"),
    (40, "application/link-format"),
    (41, "application/xml"),
    (42, "application/octet-stream"),
    (47, "application/exi"),
    (50, "application/json"),
    (51, "application/json-patch+json"),
    (52, "application/merge-patch+json"),
    (60, "application/cbor"),
    (61, "application/cwt"),
    (62, "application/multipart-core"),
    (63, "application/cbor-seq"),
    (21, "image/gif"),
    (22, "image/jpeg"),
    (23, "image/png"),
    (110, "application/senml+json"),
    (111, "application/sensml+json"),
    (112, "application/senml+cbor"),
    (113, "application/sensml+cbor"),
    (310, "application/senml+xml"),
    (320, "application/senml-etch+json"),
    (322, "application/senml-etch+cbor"),
    (432, "application/td+json"),
    (10_002, "application/javascript"),
    (20_000, "text/css"),
    (30_000, "image/svg+xml"),
];

/// The Content-Format of link format (RFC 6690 §7.3).
pub const LINK_FORMAT: u16 = 40;

/// The media type of a Content-Format, if it is in the table.
pub fn media_type(format: u16) -> Option<HeaderValue> {
    let (_, name) = FORMATS.iter().find(|(number, _)| *number == format)?;
    Some(HeaderValue::from_static(name))
}

/// The Content-Format of a media type, its parameters aside, if it is in the table.
pub fn content_format(media_type: &HeaderValue) -> Option<u16> {
    let text = media_type.to_str().ok()?;
    let essence = text.split(';').next()?.trim();
    FORMATS
        .iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(essence))
        .map(|(number, _)| *number)
}

/// How long a reply may be used, from `cache-control: max-age` or, for a refusal, `retry-after`
/// (RFC 7252 §5.10.5, §5.9.3.4).
pub fn max_age(headers: &HeaderMap) -> Option<u32> {
    if headers.is_empty() {
        return None;
    }
    let seconds = |text: &str| text.trim().parse::<u32>().ok();
    let control = headers.get(header::CACHE_CONTROL);
    let from_control = control.and_then(|value| {
        value.to_str().ok()?.split(',').find_map(|directive| {
            let (name, value) = directive.split_once('=')?;
            let named = name.trim().eq_ignore_ascii_case("max-age");
            named.then(|| seconds(value)).flatten()
        })
    });
    from_control.or_else(|| seconds(headers.get(header::RETRY_AFTER)?.to_str().ok()?))
}

/// A delay in whole seconds, at least one, as Max-Age.
pub fn delay(delay: Duration) -> u32 {
    u32::try_from(delay.as_secs()).unwrap_or(u32::MAX).max(1)
}

/// A function's own entity tag as an ETag option of at most eight bytes: sixteen hexadecimal digits
/// are their bytes, anything else short is taken as it is, and what does not fit is left out.
pub fn etag(headers: &HeaderMap) -> Option<Opaque> {
    let value = headers.get(header::ETAG)?.as_bytes();
    let inner = value.strip_prefix(b"W/").unwrap_or(value);
    let inner = inner.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.is_empty() {
        return None;
    }
    let hex = (inner.len() == 16)
        .then(|| std::str::from_utf8(inner).ok())
        .flatten()
        .and_then(|text| u64::from_str_radix(text, 16).ok());
    match hex {
        Some(value) => Some(Opaque::from_u64(value)),
        None => Opaque::new(inner),
    }
}

/// An entity tag of a request as a header value, the inverse of [`etag`].
pub fn etag_header(etag: &[u8]) -> Option<HeaderValue> {
    let plain = etag.len() < 8 && etag.iter().all(|byte| byte.is_ascii_alphanumeric());
    let text = if plain {
        std::str::from_utf8(etag).ok()?.to_owned()
    } else {
        etag.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    HeaderValue::try_from(format!("\"{text}\"")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_codes() {
        for (method, status, code) in [
            (Code::GET, 200, (2, 5)),
            (Code::POST, 200, (2, 5)),
            (Code::DELETE, 200, (2, 2)),
            (Code::DELETE, 204, (2, 2)),
            (Code::PUT, 201, (2, 1)),
            (Code::PUT, 204, (2, 4)),
            (Code::POST, 202, (2, 4)),
            (Code::GET, 206, (2, 5)),
            (Code::GET, 304, (2, 3)),
            (Code::GET, 302, (5, 2)),
            (Code::GET, 404, (4, 4)),
            (Code::GET, 406, (4, 6)),
            (Code::GET, 418, (4, 0)),
            (Code::GET, 429, (4, 29)),
            (Code::GET, 500, (5, 0)),
            (Code::GET, 502, (5, 2)),
            (Code::GET, 599, (5, 0)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                response_code(method, status),
                Code::new(code.0, code.1),
                "{status}"
            );
        }
    }

    #[test]
    fn media_types_go_both_ways() {
        for (number, _) in FORMATS {
            assert_eq!(content_format(&media_type(*number).unwrap()), Some(*number));
        }
        let json = HeaderValue::from_static("Application/JSON; charset=utf-8");
        assert_eq!(content_format(&json), Some(50));
        assert_eq!(content_format(&HeaderValue::from_static("x/y")), None);
        assert_eq!(media_type(65_000), None);
    }

    #[test]
    fn freshness_is_read_from_headers() {
        let headers = |name, value| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        assert_eq!(
            max_age(&headers(header::CACHE_CONTROL, "public, max-age=30")),
            Some(30)
        );
        assert_eq!(max_age(&headers(header::RETRY_AFTER, "7")), Some(7));
        assert_eq!(max_age(&headers(header::CACHE_CONTROL, "no-store")), None);
        assert_eq!(delay(Duration::from_millis(10)), 1);
    }

    #[test]
    fn entity_tags_go_both_ways() {
        for tag in [&b"a1"[..], &[0, 1, 2, 3, 4, 5, 6, 0xff]] {
            let headers = HeaderMap::from_iter([(header::ETAG, etag_header(tag).unwrap())]);
            assert_eq!(etag(&headers).unwrap().as_slice(), tag);
        }
    }
}
