//! What a function may ask of a sibling: bounds, and what only a connection may say.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method, header};
use mote_core::body::too_large;
use mote_core::error::{Error, ErrorKind};
use mote_core::host::{HEADER_BYTES_MAX, HEADER_OVERHEAD_BYTES, SiblingRequest, TARGET_BYTES_MAX};
use mote_core::invocation::Meta;
use mote_core::name::FunctionName;
use mote_core::spec::FunctionSpec;

/// Headers that belong to a connection (RFC 9110 §7.6.1) or say how long a body is; between
/// functions there is no connection, and a body is as long as it is.
const CONNECTIONS_OWN: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::EXPECT,
];

/// Checks headers and body against what the sibling takes.
pub(super) fn check(request: &SiblingRequest, sibling: &FunctionSpec) -> Result<(), Error> {
    if request.body.len() as u64 > sibling.limits.body_bytes {
        return Err(too_large(sibling.limits.body_bytes));
    }
    let headers = request.headers.iter();
    let bytes: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD_BYTES)
        .sum();
    if bytes > HEADER_BYTES_MAX {
        let message =
            format!("the headers have {bytes} bytes: the limit is {HEADER_BYTES_MAX} bytes");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let own = CONNECTIONS_OWN
        .iter()
        .find(|name| request.headers.contains_key(*name));
    if let Some(name) = own {
        let message = format!("header `{name}` belongs to a connection, and there is none");
        return Err(Error::new(ErrorKind::BadRequest, message).with_hint("leave it out"));
    }
    Ok(())
}

/// The request as a door would have it: the path begins with the sibling's name.
pub(super) fn meta(
    name: &FunctionName,
    method: Method,
    target: &str,
    headers: HeaderMap,
) -> Result<Meta, Error> {
    let bad = |what: &str| {
        let shown: String = target.chars().take(64).collect();
        let message = format!("target `{}` {what}", shown.escape_debug());
        Error::new(ErrorKind::BadRequest, message)
    };
    if !(target.is_empty() || target.starts_with(['/', '?'])) {
        return Err(bad("does not start with `/` or `?`"));
    }
    if target.len() > TARGET_BYTES_MAX {
        let length = target.len();
        return Err(bad(&format!(
            "has {length} bytes: the limit is {TARGET_BYTES_MAX} bytes"
        )));
    }
    // The parser takes a fragment for no part of a target, and drops it.
    if target.contains('#') {
        return Err(bad("has a `#`, which only a browser may use"));
    }
    let called = name.short();
    let target = PathAndQuery::try_from(format!("/{called}{target}"))
        .map_err(|_| bad("is not valid: escape what is no URL character as %XX"))?;
    Ok(Meta {
        method,
        target,
        prefix: u16::try_from(called.len() + 1).expect("a name has at most 127 bytes"),
        headers,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn name() -> FunctionName {
        "resize.home".parse().unwrap()
    }

    fn of(target: &str) -> Result<Meta, Error> {
        meta(&name(), Method::GET, target, HeaderMap::new())
    }

    #[test]
    fn the_path_is_the_siblings_own() {
        for (target, path, query) in [
            ("", "", None),
            ("/a/b?x=1", "/a/b", Some("x=1")),
            ("?x=1", "", Some("x=1")),
            ("/%20", "/%20", None),
        ] {
            let meta = of(target).unwrap();
            assert_eq!((meta.path(), meta.query()), (path, query), "{target}");
        }
        for bad in [
            "a",
            "//x y",
            "/a#b",
            "/\n",
            &format!("/{}", "a".repeat(TARGET_BYTES_MAX)),
        ] {
            assert_eq!(of(bad).unwrap_err().kind(), ErrorKind::BadRequest, "{bad}");
        }
    }

    #[test]
    fn bodies_and_headers_are_bounded() {
        let request = |headers: HeaderMap, body: usize| SiblingRequest {
            function: "resize".into(),
            method: Method::POST,
            target: String::new(),
            headers,
            body: Bytes::from(vec![0; body]),
        };
        let mut spec = FunctionSpec::new(name());
        spec.limits.body_bytes = 10;
        check(&request(HeaderMap::new(), 10), &spec).unwrap();
        let refused = |headers, body| check(&request(headers, body), &spec).unwrap_err().kind();
        assert_eq!(refused(HeaderMap::new(), 11), ErrorKind::TooLarge);
        let one = |name: &'static str, length: usize| {
            let value = HeaderValue::try_from("v".repeat(length)).unwrap();
            HeaderMap::from_iter([(HeaderName::from_static(name), value)])
        };
        let most = HEADER_BYTES_MAX - HEADER_OVERHEAD_BYTES - 1;
        check(&request(one("x", most), 0), &spec).unwrap();
        assert_eq!(refused(one("x", most + 1), 0), ErrorKind::TooLarge);
        assert_eq!(refused(one("connection", 1), 0), ErrorKind::BadRequest);
    }

    proptest! {
        #[test]
        fn whatever_a_target_is_the_name_stays(target in "\\PC{0,40}|[/?][a-z/?=%.]{0,20}") {
            if let Ok(meta) = of(&target) {
                let called = meta.target.path().get(..usize::from(meta.prefix));
                prop_assert_eq!(called, Some("/resize.home"));
                let query = meta.query().map(|query| format!("?{query}")).unwrap_or_default();
                prop_assert_eq!(format!("{}{query}", meta.path()), target);
            }
        }
    }
}
