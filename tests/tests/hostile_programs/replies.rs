//! Programs whose replies are none, and requests that would make a program do harm.

use std::io::{Read as _, Write as _};

use mote_tests::eventually::eventually;
use mote_tests::http::PATIENCE;
use mote_tests::node::{Node, Up};
use mote_tests::source::{Source, python, server, shell};

use crate::datagram::{CON, GET, Message, Socket, URI_PATH};
use crate::{BAD_REPLY, coap, fails, program, says};

/// A raw TCP program: `code` is given each connection `c` after its request was read.
fn raw(name: &str, lines: &str, code: &str) -> Source {
    let code = code.replace('\n', "\n    ");
    let text = format!(
        r#"
import os, socket, sys, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(os.environ["PORT"])))
s.listen(64)
while True:
    c, _ = s.accept()
    if not c.recv(65536):
        continue
    {code}
    c.close()
"#
    );
    program(name, "http", lines, &text)
}

#[test]
fn one_that_answers_garbage_or_half_fails_its_call() {
    let node = Up::new().start();
    let code = r#"
c.sendall({
    "garbage": b"\x00\xff garbage\r\n\r\n",
    "nothing": b"",
    "half": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "head": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000000,
    "lines": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100000 + b"\r\n",
    "status": b"HTTP/1.1 99999 OK\r\n\r\n",
    "two": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
}[os.environ["KIND"]])"#;
    for kind in [
        "garbage", "nothing", "half", "chunk", "head", "lines", "status", "two",
    ] {
        let lines = format!("env = {{ KIND = \"{kind}\" }}\nbody = \"256KiB\"");
        node.deploy_source(&raw("g", &lines, code));
        let told = fails(&node, "g", b"", BAD_REPLY);
        assert!(!told.is_empty(), "{kind}");
        assert_ne!(node.function("g")["state"], "broken", "{kind}");
        node.answers_hello();
    }
}

#[test]
fn one_that_answers_without_end_is_cut_off() {
    let node = Node::start();
    let code = r#"
c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
try:
    while True: c.sendall(b"x" * 65536)
except OSError: print("cut off", file=sys.stderr, flush=True)"#;
    node.deploy_source(&raw("e", "body = \"256KiB\"", code));
    // Not by the harness's client, which wants a whole reply.
    let mut stream = std::net::TcpStream::connect(node.http()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = b"GET /e HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    assert!(reply.len() < 512 << 10, "{}", reply.len());
    assert!(
        !reply.ends_with(b"\r\n0\r\n\r\n"),
        "it looks like a whole reply"
    );
    eventually("the program was told", || {
        node.log_of("e").contains("cut off")
    });
    let response = coap(&node, "e", b"");
    assert!(response.code.0 >= 4, "{:?}", response.code);

    node.deploy_source(&shell("y", "body = \"256KiB\"", "exec yes"));
    let told = fails(&node, "y", b"", (413, (4, 13)));
    says(&told, "262144");
    node.deploy_source(&python(
        "z",
        "body = \"256KiB\"",
        "def fn(i, h):\n    return 'x' * (1 << 20)\n",
    ));
    let status = node.post("/z", b"").status;
    assert!(matches!(status, 413 | 502), "{status}");
    node.answers_hello();
}

#[test]
fn one_that_logs_without_end_fills_nothing() {
    let node = Node::start();
    let lines = "log = \"4KiB\"\ntimeout = \"2s\"\ncpus = 0.5";
    let line = "x".repeat(100);
    node.deploy_source(&shell("l", lines, &format!("exec yes {line} >&2")));
    fails(&node, "l", b"", crate::LATE);
    let log = node.log_of("l");
    // Two calls, each with its own limit, and what stands before each line.
    assert!(log.len() < 4 * (4 << 10), "{}", log.len());
    says(&log, "more than 4096 bytes of log; the rest is dropped");

    // One that stays, and logs between its calls.
    let code = format!(
        "import threading\ndef talk():\n    while True: os.write(2, b'{line}\\n' * 100)\nif h.path == '/talk': threading.Thread(target=talk, daemon=True).start()\nanswer(h, 'fine')"
    );
    node.deploy_source(&server("t", "log = \"4KiB\"\ncpus = 0.5", &code));
    assert_eq!(node.get("/t/talk").expect(200).text(), "fine");
    eventually("it is told that the log is full", || {
        node.log_of("t").contains("the rest is dropped")
    });
    assert_eq!(node.get("/t").expect(200).text(), "fine");
    assert!(node.log_of("t").len() < 4 * (4 << 10));
    // A line without an end is cut.
    node.deploy_source(&shell(
        "n",
        "log = \"1MiB\"",
        "head -c 300000 /dev/zero | tr '\\0' a >&2",
    ));
    node.post("/n", b"").expect(200);
    let log = node.log_of("n");
    assert!(
        log.lines().all(|line| line.len() < 8 << 10),
        "a line is not cut"
    );
    node.answers_hello();
}

/// Answers with all of its environment, as JSON.
const ENVIRONMENT: &str = "import json, os\nprint(json.dumps(dict(os.environ)))\n";

#[test]
fn a_header_is_no_proxy_and_odd_characters_reach_a_program_unharmed() {
    let node = Node::start();
    node.deploy_source(&program("p", "stdio", "", ENVIRONMENT));
    let headers = [
        ("proxy", "http://evil"),
        ("x-odd", "a b;$(c) `d` \"e\" 'f' %41 \\ \u{e9}"),
        ("x-empty", ""),
        ("x_under", "1"),
        ("path", "/elsewhere"),
    ];
    let target = "/p/a%20b;$(c)'%22%0Ad/..%2fe/%F0%9F%92%A9/%00/%zz?q=%26&r=$(x)";
    let seen = node.call("GET", target, &headers, b"").expect(200).json();
    assert_eq!(seen["HTTP_PROXY"], serde_json::Value::Null);
    assert_eq!(seen["Http_Proxy"], serde_json::Value::Null);
    assert_eq!(seen["HTTP_X_UNDER"], serde_json::Value::Null);
    assert_eq!(seen["HTTP_X_ODD"], headers[1].1);
    assert_eq!(seen["HTTP_X_EMPTY"], "");
    assert_eq!(seen["QUERY_STRING"], "q=%26&r=$(x)");
    // A zero byte cannot be in a variable, so this path stays as it came.
    assert_eq!(seen["PATH_INFO"], seen["Http_Path"]);
    says(seen["PATH_INFO"].as_str().unwrap(), "%00");
    let seen = node
        .get("/p/a%20b;$(c)'%22%0Ad/%F0%9F%92%A9")
        .expect(200)
        .json();
    assert_eq!(seen["PATH_INFO"], "/a b;$(c)'\"\nd/\u{1f4a9}");

    // As CoAP has it: bytes without an encoding (RFC 7252 §6.5).
    let mut request = Message::request(CON, GET, 1, "p");
    for segment in ["a b;$(c)'\"\nd", "\u{1f4a9}", "..", "x/y"] {
        request = request.option(URI_PATH, segment.as_bytes());
    }
    let request = request.option(crate::datagram::URI_QUERY, b"q=$(x)");
    let response = Socket::open(node.coap()).ask(&request);
    if response.code == (2, 5) {
        says(&response.text(), "$(c)");
    } else {
        assert_eq!(response.code.0, 4, "{}", response.text());
    }
    node.answers_hello();
}
