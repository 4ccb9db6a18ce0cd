use proptest::prelude::*;

use super::*;

fn one(text: &str) -> Exchange {
    let mut all = parse(text).expect("a recording");
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[track_caller]
fn refused(text: &str, message: &str) {
    assert_eq!(parse(text).expect_err("refused").to_string(), message);
}

#[test]
fn a_request_with_its_reply() {
    let read = one(
        "### greets\n# who\nPOST /hello?polite HTTP/1.1\nContent-Type: text/plain\n\nAda\n\nand Bob\n\nHTTP/1.1 200 OK\ncontent-type: text/plain\n\nHello\n",
    );
    assert_eq!((read.name.as_str(), read.line), ("greets", 3));
    assert_eq!(
        (read.method.as_str(), read.target.as_str()),
        ("POST", "/hello?polite")
    );
    assert_eq!(
        read.headers,
        [("content-type".to_owned(), "text/plain".to_owned())]
    );
    assert_eq!(read.body, Some(Content::Text("Ada\n\nand Bob".to_owned())));
    assert_eq!(read.status, Some(StatusCode::OK));
    assert_eq!(read.expected_headers, read.headers);
    assert_eq!(read.expected_body, Some(Content::Text("Hello".to_owned())));
}

#[test]
fn most_of_it_may_be_left_out() {
    let read = one("GET /hello");
    assert_eq!(
        (read.body, read.status, read.expected_body),
        (None, None, None)
    );
    let read = one("GET /hello\nHTTP 404");
    assert_eq!(
        (read.headers, read.status),
        (vec![], Some(StatusCode::NOT_FOUND))
    );
    let read = one("\n// nothing\nPUT /f\n\n< image.png\n\nHTTP 200\n\n< image.png");
    assert_eq!(read.body, Some(Content::File("image.png".to_owned())));
    assert_eq!(read.expected_body, read.body);
    assert_eq!(parse("# only\n\n### \n# comments\n").expect("nothing"), []);
}

#[test]
fn several_requests() {
    let all = parse("GET /a\n### b\nGET /b\n###\nGET /c\n").expect("three");
    let read: Vec<_> = all
        .iter()
        .map(|one| (one.name.as_str(), one.target.as_str(), one.line))
        .collect();
    assert_eq!(read, [("", "/a", 1), ("b", "/b", 3), ("", "/c", 5)]);
}

#[test]
fn mistakes_name_their_line() {
    refused("### a\n", "line 1: `### a` has no request");
    refused("hello", "line 1: `hello` is not a request");
    refused("\nget /a", "line 2: `get /a` does not begin with a method");
    refused("GET hello", "line 1: `hello` is not a path at the door");
    refused(
        "GET /a b c",
        "line 1: `GET /a b c` has words after its target",
    );
    refused("GET /a\nno header", "line 2: `no header` is not a header");
    refused(
        "GET /a\n\nHTTP 99",
        "line 3: `99` is not a status of a reply",
    );
    refused(
        &"GET /a\n###\n".repeat(EXCHANGES_MAX + 1),
        "line 2000: more than 1000 requests",
    );
}

proptest! {
    #[test]
    fn nothing_panics(text in "(?s).{0,200}|((### ?|GET /|HTTP |< |a: b|\n|x){0,40})") {
        let _ = parse(&text);
    }

    #[test]
    fn what_is_written_is_read_back(
        name in "[a-z]([a-z ]{0,10}[a-z])?",
        target in "/[a-z]{1,8}(\\?[a-z=&]{0,8})?",
        headers in proptest::collection::vec(("x-[a-z]{1,6}", "[a-z0-9]{1,8}"), 0..3),
        text in "(?s).{0,40}",
        status in proptest::option::of(200_u16..600),
    ) {
        let body = Content::is_writable(&text).then_some(Content::Text(text));
        let exchange = Exchange {
            name,
            line: 2,
            method: Method::POST,
            target,
            headers: headers.clone(),
            expected_body: status.and(body.clone()),
            body,
            status: status.map(|code| StatusCode::from_u16(code).expect("in range")),
            expected_headers: status.map(|_| headers).unwrap_or_default(),
        };
        prop_assert_eq!(parse(&exchange.to_string()).expect("readable"), [exchange]);
    }
}
