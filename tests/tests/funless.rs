//! Modules that were compiled for FunLess run as they are: JSON in and out, log, outgoing requests.
//! And whatever addresses they give, they reach nothing but their own memory.
//!
//! The guests are written in the text format, with the calls that FunLess's libraries make.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use mote_tests::guest::parse;
use mote_tests::node::Node;
use serde_json::json;

/// A module with all imports, one page of memory and this `__invoke`.
#[track_caller]
fn module(code: &str) -> Vec<u8> {
    parse(&format!(
        r#"(module
            (import "fl_imps" "__get_input_data" (func $input (param i32)))
            (import "fl_imps" "__insert_response" (func $respond (param i32 i32)))
            (import "fl_imps" "__insert_error" (func $error (param i32 i32)))
            (import "fl_imps" "__console_log" (func $log (param i32 i32)))
            (import "fl_imps" "__http_request" (func $request
                (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
            (memory (export "memory") 1)
            (func (export "__runtime_version") (result i32) (i32.const 1))
            {code})"#
    ))
}

/// One that does this and then answers `{{}}`.
#[track_caller]
fn does(code: &str) -> Vec<u8> {
    module(&format!(
        r#"(data (i32.const 4096) "{{}}")
        (func (export "__invoke") (param $length i32) (result i32)
            {code}
            (call $respond (i32.const 4096) (i32.const 2))
            (i32.const 0))"#
    ))
}

/// One that answers what it was given.
#[track_caller]
fn echo() -> Vec<u8> {
    module(
        r#"(func (export "__invoke") (param $length i32) (result i32)
            (call $input (i32.const 2000))
            (call $log (i32.const 2000) (local.get $length))
            (call $respond (i32.const 2000) (local.get $length))
            (i32.const 0))"#,
    )
}

/// One that requests `address` as the libraries do, `response` being where they want the answer, and
/// answers a line of JSON: status and length as hexadecimal digits would be long to write, so its
/// bytes as they are, then the response.
#[track_caller]
fn requests(address: &str, method: i32, headers: &str, body: &str, response: u32) -> Vec<u8> {
    let (address_length, headers_length) = (address.len(), headers.len());
    let body_length = body.len();
    let headers = headers.replace('\n', "\\n");
    module(&format!(
        r#"(data (i32.const 8192) "{address}")
        (data (i32.const 9000) "{headers}")
        (data (i32.const 9500) "{body}")
        (func (export "__invoke") (param $length i32) (result i32)
            (i32.store (i32.const 4096) (i32.const 0x55555555))
            (i32.store (i32.const 4100) (i32.const 0x55555555))
            (call $request (i32.const {response}) (i32.const 4100) (i32.const 4096)
                (i32.const {method})
                (i32.const 8192) (i32.const {address_length})
                (i32.const 9000) (i32.const {headers_length})
                (i32.const 9500) (i32.const {body_length}))
            ;; The response behind status and length.
            (memory.copy (i32.const 4104) (i32.const {response}) (i32.load (i32.const 4100)))
            (call $respond (i32.const 4096) (i32.add (i32.const 8) (i32.load (i32.const 4100))))
            (i32.const 0))"#
    ))
}

/// Answers every request with its method, target, two headers and body, or with as many bytes as
/// the target says.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_until(b'\n', &mut head).unwrap() > 0 {
            }
            let head = String::from_utf8(head).unwrap();
            let field = |name: &str| {
                let mut lines = head.lines();
                let line = lines.find(|line| line.to_lowercase().starts_with(name));
                line.map_or("-", |line| line[name.len()..].trim())
                    .to_owned()
            };
            let mut body = vec![0; field("content-length:").parse().unwrap_or(0)];
            stream.read_exact(&mut body).unwrap();
            let first = head.lines().next().unwrap_or_default();
            let target = first.split(' ').nth(1).unwrap_or_default();
            let answer = match target.trim_start_matches('/').parse() {
                Ok(count) => "x".repeat(count),
                Err(_) => format!(
                    "{first}|{}|{}|{}",
                    field("x-time:"),
                    field("host:"),
                    String::from_utf8_lossy(&body)
                ),
            };
            let length = answer.len();
            let head = format!("HTTP/1.1 201 Created\r\ncontent-length: {length}\r\n\r\n");
            // Who wants less than all of it has gone by then.
            let _ = stream.get_mut().write_all((head + &answer).as_bytes());
        }
    });
    address
}

#[track_caller]
fn logged(node: &Node) -> String {
    let lines = node.ask("GET", "/v1/functions/f/logs", &[]);
    lines.expect(200).text()
}

#[test]
fn json_goes_in_and_comes_out() {
    let node = Node::start();
    let info = node.deploy("f", &echo(), &json!({}));
    assert_eq!(info["shape"], "funless");
    let reply = node
        .post("/f/any/path", br#"{"name":"FunLess"}"#)
        .expect(200);
    assert_eq!(reply.text(), r#"{"name":"FunLess"}"#);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    // Nothing is an object without fields.
    assert_eq!(node.get("/f").expect(200).text(), "{}");
    assert!(logged(&node).contains(r#"{\"name\":\"FunLess\"}"#));
    // Each call has a memory of its own.
    let counts = does(
        "(i32.store (i32.const 8) (i32.add (i32.const 1) (i32.load (i32.const 8))))
        (if (i32.gt_u (i32.load (i32.const 8)) (i32.const 1)) (then unreachable))",
    );
    node.deploy("f", &counts, &json!({ "reuse": 100 }));
    for _ in 0..3 {
        node.get("/f").expect(200);
    }
}

#[test]
fn a_failure_is_said() {
    let node = Node::start();
    let fails = module(
        r#"(data (i32.const 4096) "input JSON not well-formatted")
        (func (export "__invoke") (param i32) (result i32)
            (call $error (i32.const 4096) (i32.const 29))
            (i32.const 1))"#,
    );
    node.deploy("f", &fails, &json!({}));
    let reply = node.get("/f").expect(500);
    assert_eq!(reply.text(), "input JSON not well-formatted");
    assert!(logged(&node).contains("input JSON not well-formatted"));
    for (code, said) in [
        ("(i32.const 0)", "ended without an answer"),
        ("(i32.const 7)", "returned 7, which is neither 0 nor 1"),
        ("unreachable", "wasm `unreachable` instruction executed"),
        ("(loop (br 0)) unreachable", "CPU time"),
    ] {
        let invoke = format!(r#"(func (export "__invoke") (param i32) (result i32) {code})"#);
        node.deploy("f", &module(&invoke), &json!({ "cpu": "100ms" }));
        let text = node.get("/f").text();
        assert!(text.contains(said), "{code}: {text}");
    }
    let sure = "\n(func (export \"_initialize\") unreachable)";
    let fails = module(&format!(
        r#"(func (export "__invoke") (param i32) (result i32) (i32.const 0)){sure}"#
    ));
    node.deploy("f", &fails, &json!({}));
    node.get("/f").problem(502, "function_failed");
}

#[test]
fn no_address_leads_out_of_its_memory() {
    let node = Node::start();
    let end = 65536;
    for code in [
        format!("(call $input (i32.const {}))", end - 1),
        "(call $input (i32.const -1))".to_owned(),
        format!("(call $respond (i32.const {}) (i32.const 2))", end - 1),
        "(call $respond (i32.const 0) (i32.const -1))".to_owned(),
        "(call $error (i32.const -2) (i32.const 3))".to_owned(),
        format!("(call $log (i32.const {end}) (i32.const 1))"),
        "(call $log (i32.const 16) (i32.const -16))".to_owned(),
    ] {
        node.deploy("f", &does(&code), &json!({}));
        let text = node
            .post("/f", b"{\"a\":1}")
            .problem(502, "function_failed");
        let bounded =
            text.contains("outside of its memory") || text.contains("the reply is larger");
        assert!(bounded, "{code}: {text}");
    }
    for arguments in [
        [end + 1, 4100, 4096, 0, 8192, 8, 0, 0, 0, 0],
        [1, end - 3, 4096, 0, 8192, 8, 0, 0, 0, 0],
        [1, 4100, end - 1, 0, 8192, 8, 0, 0, 0, 0],
        [1, 4100, 4096, 0, end - 4, 8, 0, 0, 0, 0],
        [1, 4100, 4096, 0, 8192, -1, 0, 0, 0, 0],
        [1, 4100, 4096, 0, 8192, 8, end, 1, 0, 0],
        [1, 4100, 4096, 0, 8192, 8, 0, 0, -1, 1],
    ] {
        let arguments = arguments.map(|argument| format!("(i32.const {argument})"));
        let code = format!("(call $request {})", arguments.join(" "));
        node.deploy("f", &does(&code), &json!({}));
        let text = node.get("/f").problem(502, "function_failed");
        assert!(text.contains("outside of its memory"), "{code}: {text}");
    }
    // What is inside to the last byte is fine, also for nothing at all.
    let edge = format!(
        "(call $input (i32.const {})) (call $log (i32.const {end}) (i32.const 0))",
        end - 2
    );
    node.deploy("f", &does(&edge), &json!({}));
    node.get("/f").expect(200);
}

#[test]
fn outgoing_requests_go_where_they_may() {
    let node = Node::start();
    let (server, other) = (server(), server());
    let grant = json!({ "allow": { "http": [format!("http://{server}")] } });
    let ask = |address: &str, method: i32, headers: &str, body: &str, response: u32| {
        let code = requests(address, method, headers, body, response);
        node.deploy("f", &code, &grant);
        let bytes = node.get("/f").expect(200).body;
        let status = u16::from_le_bytes([bytes[0], bytes[1]]);
        let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
        assert_eq!(length as usize, bytes.len() - 8);
        // Nothing beside the two bytes of the status is written.
        assert_eq!(bytes[2..4], [0x55, 0x55]);
        (status, String::from_utf8(bytes[8..].to_vec()).unwrap())
    };
    let url = |path: &str| format!("http://{server}{path}");
    // Where the Rust library wants it, and the Go one.
    for response in [1, 20_000] {
        let headers = "X-Time: 12:30:00\nX-Other:1";
        let (status, text) = ask(&url("/a?b"), 1, headers, "{}", response);
        assert_eq!(status, 201);
        assert_eq!(text, format!("POST /a?b HTTP/1.1|12:30:00|{server}|{{}}"));
    }
    assert!(ask(&url("/a"), 3, "", "", 1).1.starts_with("DELETE /a "));
    // As much as there is room for, and not a byte more.
    assert_eq!(ask(&url("/1023"), 0, "", "", 1).1.len(), 1023);
    assert_eq!(ask(&url("/1024"), 0, "", "", 1), (0, String::new()));
    assert_eq!(ask(&url("/1024"), 0, "", "", 20_000).1.len(), 1024);
    assert_eq!(ask(&url("/1025"), 0, "", "", 20_000), (0, String::new()));
    assert!(logged(&node).contains("longer than the 1024 bytes"));
    // What fails is status 0 and nothing.
    let failed = (0, String::new());
    assert_eq!(ask(&format!("http://{other}/"), 0, "", "", 1), failed);
    assert!(logged(&node).contains("is denied; to grant it write: allow.http"));
    for (address, method, headers) in [
        (url("/"), 4, ""),
        (url("/"), -1, ""),
        ("nowhere".to_owned(), 0, ""),
        (url("/"), 0, "no colon"),
    ] {
        assert_eq!(
            ask(&address, method, headers, "", 1),
            failed,
            "{address} {method}"
        );
    }
}
