//! Which variables a call becomes, as a real process sees them.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use mote_core::body::Body;
use mote_core::invocation::{FunctionId, InvocationId, Meta, Origin};
use proptest::prelude::*;

use super::*;

fn invocation(target: &str, headers: HeaderMap) -> Invocation {
    Invocation {
        id: InvocationId {
            sequence: 7,
            node: 1,
        },
        function: FunctionId(1),
        meta: Meta {
            method: Method::POST,
            target: target.parse::<PathAndQuery>().unwrap(),
            prefix: 3,
            headers,
        },
        body: Body::from("hello"),
        budget: Duration::from_secs(1),
        origin: Origin::Http,
        hops: 0,
    }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn variables(invocation: &Invocation) -> BTreeMap<String, String> {
    let all = cgi_environment(invocation, &"wc.home".parse().unwrap());
    let count = all.len();
    let variables: BTreeMap<_, _> = all.into_iter().collect();
    assert_eq!(variables.len(), count, "a name twice");
    variables
}

#[test]
fn a_process_sees_its_call() {
    let headers = headers(&[
        ("Content-Type", "text/plain"),
        ("X-Two", "a"),
        ("X-Two", "b"),
        ("Cookie", "c=1"),
        ("Cookie", "d=2"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
    ]);
    let variables = variables(&invocation("/wc/a%20b?x=%20", headers));
    let output = Command::new("env")
        .env_clear()
        .envs(&variables)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "REQUEST_METHOD=POST",
        "Http_Method=POST",
        "PATH_INFO=/a b",
        "Http_Path=/a b",
        "QUERY_STRING=x=%20",
        "Http_Query=x=%20",
        "CONTENT_TYPE=text/plain",
        "Http_Content_Type=text/plain",
        "CONTENT_LENGTH=5",
        "Http_ContentLength=5",
        "HTTP_X_TWO=a, b",
        "Http_X_Two=a, b",
        "HTTP_COOKIE=c=1; d=2",
        "HTTP_HOST=wc.home",
        "MOTE_CALL_ID=000000000000000700000001",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(
        !text.contains("HOP") && !text.contains("HTTP_CONTENT_TYPE"),
        "{text}"
    );
}

#[test]
fn no_header_passes_for_what_it_is_not() {
    let headers = headers(&[
        ("Proxy", "http://evil.example.org"),
        ("Method", "x"),
        ("Path", "x"),
        ("Query", "x"),
        ("X_Forwarded_For", "x"),
        ("Host", "x"),
        ("Content-Length", "99"),
    ]);
    let variables = variables(&invocation("/wc/%00", headers));
    assert!(
        variables
            .keys()
            .all(|name| !name.eq_ignore_ascii_case("http_proxy"))
    );
    assert!(
        variables
            .values()
            .all(|value| value != "x" && value != "99")
    );
    assert_eq!(variables["PATH_INFO"], "/%00");
}

#[test]
fn the_largest_variables_are_left_out_and_named() {
    let (big, small) = ("b".repeat(30 << 10), "s".repeat(100));
    let headers = headers(&[("X-Big", &big), ("X-Small", &small), ("X-Big-Too", &big)]);
    let variables = variables(&invocation("/wc/", headers));
    let bytes: usize = variables.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
    assert!(bytes <= CGI_BYTES_MAX, "{bytes}");
    assert!(variables.contains_key("HTTP_X_SMALL"));
    let dropped: Vec<&str> = variables[DROPPED].split(' ').collect();
    assert!(
        dropped.len() >= 2
            && dropped
                .iter()
                .all(|name| name.to_ascii_uppercase().starts_with("HTTP_X_BIG"))
    );
}

proptest! {
    #[test]
    fn any_call_makes_variables_that_a_process_can_have(
        path in "(/[a-z%0-9]{0,20}){0,4}",
        names in prop::collection::vec("[a-z][a-z_-]{0,12}", 0..20),
        value in prop::collection::vec(0x20_u8..=0x7e, 0..9000),
    ) {
        let value = HeaderValue::from_bytes(&value).unwrap();
        let headers = names.iter().map(|name| (name.parse().unwrap(), value.clone())).collect();
        let all = variables(&invocation(&format!("/wc{path}"), headers));
        let bytes: usize = all.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
        prop_assert!(bytes <= CGI_BYTES_MAX);
        for (name, value) in &all {
            prop_assert!(!name.contains(['=', '\0']) && !value.contains('\0'));
        }
    }
}
