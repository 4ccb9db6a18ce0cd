//! The HTTP door: what well-behaved clients get.

use std::collections::HashSet;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mote_tests::guest;
use mote_tests::http::{Connection, Reply};
use mote_tests::node::Node;
use serde_json::json;

#[track_caller]
fn node_with(examples: &[&str]) -> Node {
    let node = Node::start();
    for example in examples {
        node.deploy_example(example);
    }
    node
}

#[test]
fn functions_answer() {
    let node = node_with(&["hello", "echo", "sieve"]);
    let hello = node.get("/hello").expect(200);
    assert_eq!(hello.text(), "hello, world\n");
    assert_eq!(
        hello.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(hello.header("content-length"), Some("13"));
    assert!(hello.header("date").is_some(), "RFC 9110 §6.6.1: {hello:?}");

    let body: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    for body in [&b""[..], b"x", &body] {
        let reply = node.post("/echo", body).expect(200);
        assert!(reply.body == body, "{} bytes came back", reply.body.len());
    }
    let headers = [("content-type", "application/cbor")];
    let echo = node.call("PUT", "/echo", &headers, b"\xf6").expect(200);
    assert_eq!(echo.header("content-type"), Some("application/cbor"));

    let primes = node.get("/sieve").expect(200).text();
    let primes: Vec<u32> = primes
        .split(' ')
        .map(|p| p.trim().parse().unwrap())
        .collect();
    assert_eq!((primes.len(), primes[0], primes[167]), (168, 2, 997));
}

#[test]
fn a_function_is_told_of_its_call_and_makes_its_reply() {
    let node = Node::start();
    node.deploy("reflect", &guest::reflects(), &json!({}));
    let headers = [("X-Test", "a  b"), ("x-two", "1"), ("x-two", "2")];
    let target = "/reflect/deep/er%20path//?a=1&b=%2F&c";
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
        let reply = node.call(method, target, &headers, b"").expect(201);
        assert_eq!(reply.header("x-reply"), Some("yes"));
        let text = reply.text();
        let lines: Vec<&str> = text.lines().collect();
        let id = reply.header("mote-call-id").unwrap();
        let expected = [method, "/deep/er%20path//", "a=1&b=%2F&c", "a  b", id];
        assert_eq!(lines[..5], expected, "{text}");
        let twice: Vec<_> = lines.iter().filter(|l| l.starts_with("x-two=")).collect();
        assert_eq!(twice, [&"x-two=1", &"x-two=2"], "{text}");
    }
    let text = node.get("/reflect").expect(201).text();
    assert!(text.starts_with("GET\n\n-\n-\n"), "{text:?}");
    let text = node.get("/reflect/?").expect(201).text();
    assert!(
        text.starts_with("GET\n/\n\n-\n"),
        "an empty query is one: {text:?}"
    );
}

#[test]
fn every_name_of_a_function_leads_to_it() {
    let node = node_with(&["hello"]);
    node.deploy("hello.home", &guest::says("home"), &json!({}));
    for (target, text) in [
        ("/hello", "hello, world\n"),
        ("/hello.default", "hello, world\n"),
        ("/function/hello", "hello, world\n"),
        ("/function/hello/x?y", "hello, world\n"),
        ("/hello.home", "home"),
        ("/function/hello.home", "home"),
    ] {
        assert_eq!(node.get(target).expect(200).text(), text, "{target}");
    }
    assert!(node.get("/").expect(200).text().contains("Mote"));
}

#[test]
fn head_is_get_without_the_body() {
    let node = node_with(&["hello"]);
    let mut connection = Connection::open(node.http());
    connection.request("HEAD", "/hello", &[], b"");
    let head = connection.reply("HEAD").unwrap().expect(200);
    assert_eq!(head.header("content-length"), Some("13"), "{head:?}");
    connection.request("GET", "/hello", &[], b"");
    let get = connection.reply("GET").unwrap().expect(200);
    assert_eq!(get.text(), "hello, world\n", "a body came after HEAD");
    let same = |reply: &Reply| reply.header("content-type").map(str::to_owned);
    assert_eq!(same(&head), same(&get));
}

#[test]
fn options_lists_the_methods() {
    let node = node_with(&["hello"]);
    let reply = node.call("OPTIONS", "/hello", &[], b"").expect(204);
    let allow = reply.header("allow").unwrap();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert!(allow.split(", ").any(|known| known == method), "{allow}");
    }
    node.call("OPTIONS", "/nothing", &[], b"")
        .problem(404, "not_found");
}

#[test]
fn what_is_not_there_is_said_by_name() {
    let node = node_with(&["hello"]);
    for target in [
        "/helo",
        "/helo/x",
        "/hello.home",
        "/function/helo",
        "/HELLO",
    ] {
        let detail = node.get(target).problem(404, "not_found");
        let name = target
            .trim_start_matches("/function")
            .split('/')
            .nth(1)
            .unwrap();
        assert!(detail.contains(&format!("`{name}`")), "{detail}");
    }
    for target in ["/-/calls/1", "//hello", "/-/", "/function/"] {
        node.get(target).problem(404, "not_found");
    }
    // A name as long as a head may be is not repeated whole.
    let long = format!("/{}", "x".repeat(8000));
    assert!(node.get(&long).problem(404, "not_found").len() < 1000);
    // Markup stays markup of nobody: the detail is JSON, and not HTML.
    let reply = node.get("/%3Cscript%3E");
    reply.problem(404, "not_found");
}

#[test]
fn methods_that_no_function_takes() {
    let node = node_with(&["hello"]);
    let reply = node.call("TRACE", "/hello", &[], b"");
    reply.problem(405, "method_not_allowed");
    assert!(reply.header("allow").unwrap().contains("GET"), "{reply:?}");
    // RFC 9110 §9.3.6: a request for a tunnel names host and port; this is no proxy.
    let reply = node.call("CONNECT", "example.org:443", &[], b"");
    assert!(matches!(reply.status, 400..500), "{reply:?}");
    node.answers_hello();
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let node = Node::start();
    node.deploy("small", &guest::says("ok"), &json!({"body": 1000}));
    node.post("/small", &[b'x'; 1000]).expect(200);

    // Announced: refused before it is sent.
    let mut connection = Connection::open(node.http());
    connection.send(b"POST /small HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n");
    let detail = connection.reply("POST").unwrap().problem(413, "too_large");
    assert!(detail.contains("1000"), "{detail}");

    // In chunks: refused where it goes over.
    let mut connection = Connection::open(node.http());
    connection.send(b"POST /small HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
        connection.send(chunk.as_bytes());
    }
    connection.reply("POST").unwrap().problem(413, "too_large");

    // In chunks within the limit.
    let mut connection = Connection::open(node.http());
    connection.send(b"POST /small HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.send(b"3\r\nabc\r\n0\r\n\r\n");
    connection.reply("POST").unwrap().expect(200);
    assert_eq!(
        node.metric(
            "mote_calls_total",
            &["function=\"small\"", "outcome=\"ok\""]
        ),
        2.0
    );
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let node = node_with(&["echo"]);
    let mut connection = Connection::open(node.http());
    let head =
        "POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    connection.send(head.as_bytes());
    connection.head().unwrap().expect(100);
    connection.send(b"abc");
    assert_eq!(connection.reply("POST").unwrap().expect(200).text(), "abc");
}

#[test]
fn a_connection_serves_many_requests_one_after_the_other() {
    let node = node_with(&["echo"]);
    let mut connection = Connection::open(node.http());
    for number in 0..50 {
        let body = format!("number {number}");
        connection.request("POST", "/echo", &[], body.as_bytes());
        assert_eq!(connection.reply("POST").unwrap().expect(200).text(), body);
    }
    // Errors of a call do not cost the connection.
    connection.request("GET", "/nothing", &[], b"");
    connection.reply("GET").unwrap().problem(404, "not_found");

    // RFC 9112 §9.3.2: sent ahead, answered in order.
    let mut all = Vec::new();
    for number in 0..100 {
        let head =
            format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n{number:03}");
        all.extend_from_slice(head.as_bytes());
    }
    connection.send(&all);
    for number in 0..100 {
        let reply = connection.reply("POST").unwrap().expect(200);
        assert_eq!(reply.text(), format!("{number:03}"));
    }

    connection.request("GET", "/echo", &[("connection", "close")], b"");
    connection.reply("GET").unwrap().expect(200);
    assert!(connection.ends(), "it stays open after `connection: close`");
}

#[test]
fn http_1_0_clients_are_served_and_let_go() {
    let node = node_with(&["hello"]);
    let mut connection = Connection::open(node.http());
    connection.send(b"GET /hello HTTP/1.0\r\n\r\n");
    let reply = connection.reply("GET").unwrap().expect(200);
    assert_eq!(reply.text(), "hello, world\n");
    assert!(connection.ends());
}

#[tokio::test]
async fn http_2_without_tls() {
    let node = node_with(&["hello", "echo"]);
    let stream = tokio::net::TcpStream::connect(node.http()).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    // More at once than a connection has streams for: the others wait.
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..200_u32 {
        let mut sender = sender.clone();
        calls.spawn(async move {
            sender.ready().await.unwrap();
            let body = Bytes::from(vec![b'x'; 1000 * number as usize]);
            let request = hyper::Request::post("http://node/echo")
                .body(Full::new(body.clone()))
                .unwrap();
            let reply = sender.send_request(request).await.unwrap();
            assert_eq!(reply.status(), 200);
            assert!(reply.headers().contains_key("mote-call-id"));
            let back = reply.into_body().collect().await.unwrap().to_bytes();
            assert!(back == body, "{} bytes came back", back.len());
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
}

#[test]
fn every_reply_says_which_call_it_was() {
    let node = node_with(&["hello"]);
    node.deploy("traps", &guest::does("unreachable", ""), &json!({}));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut ids = HashSet::new();
    for (method, target, status) in [
        ("GET", "/", 200),
        ("GET", "/hello", 200),
        ("HEAD", "/hello", 200),
        ("OPTIONS", "/hello", 204),
        ("GET", "/nothing", 404),
        ("TRACE", "/hello", 405),
        ("GET", "/traps", 502),
    ] {
        let reply = node
            .call(method, target, &[("traceparent", parent)], b"")
            .expect(status);
        let id = reply.header("mote-call-id").unwrap().to_owned();
        assert!(
            id.len() >= 16 && id.bytes().all(|b| b.is_ascii_hexdigit()),
            "{id}"
        );
        assert!(ids.insert(id), "an id came twice");
        assert_eq!(
            reply.header("traceparent"),
            Some(parent),
            "{method} {target}"
        );
    }
}

#[test]
fn a_problem_says_what_to_do_and_when_to_come_back() {
    let node = Node::start();
    node.deploy("traps", &guest::does("unreachable", ""), &json!({}));
    let reply = node.get("/traps");
    let detail = reply.problem(502, "function_failed");
    assert!(detail.contains("unreachable"), "{detail}");
    assert_eq!(reply.json()["title"], "Function failed");
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
}

#[test]
fn a_refusal_of_the_function_reaches_its_caller() {
    let node = Node::start();
    node.deploy(
        "refuses",
        &guest::refuses("the kettle is empty"),
        &json!({}),
    );
    let reply = node.get("/refuses").expect(500);
    assert_eq!(reply.text(), "the kettle is empty");
    let log = node.mote(&["logs", "refuses"]).ok();
    assert!(log.contains("the kettle is empty"), "{log}");
    assert_eq!(node.function("refuses")["failures"], 1);
}

#[test]
fn events_show_every_published_value() {
    let node = node_with(&["light"]);
    assert_eq!(node.get("/light").expect(200).text(), r#"{"light":"off"}"#);
    let mut events = Connection::open(node.http());
    events.request("GET", "/light", &[("accept", "text/event-stream")], b"");
    let head = events.head().unwrap().expect(200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-store"));

    for state in ["on", "off", "on"] {
        node.post("/light", state.as_bytes()).expect(200);
        let value = format!(r#"data: {{"light":"{state}"}}"#);
        loop {
            let event = String::from_utf8(events.chunk().unwrap()).unwrap();
            if event.contains("data:") {
                assert!(event.lines().any(|line| line == value), "{event}");
                assert!(
                    event.starts_with("id: ") && event.ends_with("\n\n"),
                    "{event}"
                );
                break;
            }
        }
        let text = node.get("/light").expect(200).text();
        assert_eq!(text, format!(r#"{{"light":"{state}"}}"#));
    }
    // One who comes later begins with what is so now; one who asks for JSON gets no stream.
    let mut late = Connection::open(node.http());
    late.request("GET", "/light", &[("accept", "text/event-stream")], b"");
    late.head().unwrap().expect(200);
    let event = String::from_utf8(late.chunk().unwrap()).unwrap();
    assert!(event.contains(r#"data: {"light":"on"}"#), "{event}");
    let headers = [("accept", "application/json")];
    node.call("GET", "/light", &headers, b"").expect(200);
}

#[test]
fn what_is_not_observable_has_no_events() {
    let node = node_with(&["hello"]);
    let headers = [("accept", "text/event-stream")];
    let reply = node.call("GET", "/hello", &headers, b"").expect(200);
    assert_eq!(reply.text(), "hello, world\n");
}
