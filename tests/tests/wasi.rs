//! Programs that were not written for Mote run unmodified: components for `wasi:http` and WASI
//! preview-1 commands. And they reach nothing that was not granted to them.

#![expect(
    clippy::unwrap_used,
    reason = "this is test code: it stops at the first surprise"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use mote_tests::http::{Connection, Reply};
use mote_tests::node::Node;
use mote_tests::program::repository;
use serde_json::{Value, json};

#[path = "../interop/command.rs"]
mod command;
#[path = "../interop/datagram.rs"]
mod datagram;
#[path = "../interop/tools.rs"]
mod tools;

use datagram::{CON, CONTENT, ETAG, GET, Message, OBSERVE, POST, Socket, URI_QUERY};

const FUNCTION_FAILED: (u8, u8) = (5, 2);
const PIECE_BYTES: usize = 64 << 10;

#[track_caller]
fn guest(name: &str) -> Vec<u8> {
    let path = repository().join(format!("tests/guests/{name}/{name}.wasm"));
    std::fs::read(path).unwrap()
}

/// A node with one of the guests, under the guest's name.
#[track_caller]
fn node_with(name: &str, spec: &Value) -> Node {
    let node = Node::start();
    let info = node.deploy(name, &guest(name), spec);
    let shape = if name == "command" {
        "wasi command"
    } else {
        "wasi:http"
    };
    assert_eq!(info["shape"], shape);
    node
}

/// The texts of a function's log.
#[track_caller]
fn logged(node: &Node, name: &str) -> Vec<String> {
    let lines = node.ask("GET", &format!("/v1/functions/{name}/logs"), &[]);
    let lines = lines.expect(200).text();
    let lines = lines.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].to_string())
        .collect()
}

#[test]
fn a_component_of_an_earlier_version_of_the_world_runs() {
    let path = repository().join("tests/fixtures/light-0.1.0.wasm");
    let old = std::fs::read(path).unwrap();
    let imports = |name: &[u8]| old.windows(name.len()).any(|part| part == name);
    assert!(imports(b"mote:function/request@0.1.0") && !imports(b"@0.1.1"));
    let node = Node::start();
    let info = node.deploy("light", &old, &json!({ "observable": true }));
    assert_eq!(info["shape"], "mote:function");
    assert_eq!(node.get("/light").expect(200).text(), r#"{"light":"off"}"#);
    node.post("/light", b"on").expect(200);
    assert_eq!(node.get("/light").expect(200).text(), r#"{"light":"on"}"#);
    node.post("/light", b"dim").expect(400);
}

#[test]
fn a_wasi_http_component_answers_over_both_doors() {
    let node = node_with("http-hello", &json!({}));
    let reply = node.get("/http-hello/any/path?x=1").expect(200);
    assert_eq!(reply.text(), "hello, world\n");
    assert_eq!(
        reply.header("content-type"),
        Some("text/plain; charset=utf-8")
    );

    let client = Socket::open(node.coap());
    let reply = client.ask(&Message::request(CON, GET, 1, "http-hello"));
    assert_eq!(
        (reply.code, reply.text().as_str()),
        (CONTENT, "hello, world\n")
    );
    let echo = Message::request(CON, POST, 2, "http-hello/echo").payload(b"small");
    let reply = client.ask(&echo);
    assert_eq!((reply.code, reply.text().as_str()), (CONTENT, "small"));
}

#[test]
fn a_wasi_http_component_streams() {
    let node = node_with("http-hello", &json!({"body": "8MiB"}));
    let mut random = fastrand::Rng::with_seed(3);
    let body: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(3 << 20)
        .collect();

    // Each piece comes back before the next one is sent, so nobody holds all of it.
    let mut connection = Connection::open(node.http());
    let head = format!(
        "POST /http-hello/echo HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\ncontent-type: text/x\r\n\r\n",
        body.len()
    );
    connection.send(head.as_bytes());
    let mut echoed = Vec::new();
    for (number, piece) in body.chunks(PIECE_BYTES).enumerate() {
        connection.send(piece);
        if number == 0 {
            let reply = connection.head().unwrap();
            assert_eq!(
                (reply.status, reply.header("content-type")),
                (200, Some("text/x"))
            );
        }
        let sent = number * PIECE_BYTES + piece.len();
        while echoed.len() < sent {
            let chunk = connection.chunk().unwrap();
            assert!(!chunk.is_empty(), "ended after {} bytes", echoed.len());
            echoed.extend(chunk);
        }
    }
    assert_eq!(connection.chunk(), Some(Vec::new()), "the end");
    assert!(echoed == body, "other bytes came back");
}

/// A web server that says `fetched` to everyone, and counts them. It goes with the process.
fn web_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            // A GET is there with its first bytes; what it says does not matter.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 201 Created\r\ncontent-length: 7\r\ncontent-type: text/x\r\nconnection: close\r\n\r\nfetched",
            );
        }
    });
    (address, served)
}

#[test]
fn a_guest_reaches_only_what_it_was_granted() {
    let (server, served) = web_server();
    let origin = format!("http://{server}");
    let node = node_with("http-hello", &json!({}));
    let fetch = |origin: &str| node.get(&format!("/http-hello/fetch?url={origin}/x"));

    let denied = fetch(&origin).expect(502);
    assert!(denied.text().contains("HttpRequestDenied"), "{denied:?}");
    // The log names the line that would grant it.
    let line = format!("allow.http = [\\\"{origin}\\\"]");
    let lines = logged(&node, "http-hello");
    assert!(
        lines.iter().any(|text| text.contains(&line)),
        "{line}: {lines:?}"
    );

    // Granted to another port, scheme or name is not granted.
    let others = [
        "http://127.0.0.1:1",
        "https://127.0.0.1",
        "http://localhost",
    ];
    node.deploy(
        "http-hello",
        &guest("http-hello"),
        &json!({"allow": {"http": others}}),
    );
    fetch(&origin).expect(502);
    assert_eq!(
        served.load(Ordering::SeqCst),
        0,
        "nothing got through so far"
    );

    node.deploy(
        "http-hello",
        &guest("http-hello"),
        &json!({"allow": {"http": [origin]}}),
    );
    let granted = fetch(&origin).expect(201);
    assert_eq!(
        (granted.text().as_str(), granted.header("content-type")),
        ("fetched", Some("text/x"))
    );
    assert_eq!(served.load(Ordering::SeqCst), 1);
}

#[test]
fn a_command_answers_over_both_doors() {
    let node = node_with("command", &json!({}));
    assert_eq!(node.post("/command", b"loud").expect(200).text(), "LOUD");
    assert_eq!(node.get("/command").expect(200).text(), "");
    let client = Socket::open(node.coap());
    let reply = client.ask(&Message::request(CON, POST, 1, "command").payload(b"loud"));
    assert_eq!((reply.code, reply.text().as_str()), (CONTENT, "LOUD"));

    // Any exit code but 0 is a failure of the function.
    let failed = |reply: &Reply| reply.problem(502, "function_failed");
    let reply = node.call("POST", "/command", &[("x-exit", "3")], b"loud");
    assert!(failed(&reply).contains("exit code 3"), "{reply:?}");
    node.call("POST", "/command", &[("x-exit", "0")], b"loud")
        .expect(200);
    node.deploy(
        "command",
        &guest("command"),
        &json!({"env": {"HTTP_X_EXIT": "4"}}),
    );
    let reply = client.ask(&Message::request(CON, POST, 2, "command").payload(b"loud"));
    assert_eq!(reply.code, FUNCTION_FAILED);
    assert!(reply.text().contains("exit code 4"), "{reply:?}");
}

#[test]
fn a_command_is_told_of_the_request_as_cgi_does() {
    let node = Node::start();
    let env = json!({"env": {"ROOM": "kitchen"}});
    node.deploy("env", &command::environment(), &env);
    let variables = |text: &str| -> Vec<String> { text.split('\0').map(str::to_owned).collect() };
    #[track_caller]
    fn has(found: &[String], expect: &[&str]) {
        for variable in expect {
            assert!(
                found.iter().any(|one| one == variable),
                "{variable}: {found:?}"
            );
        }
    }

    let headers = [("x-mode", "fast"), ("proxy", "http://evil.example")];
    let reply = node
        .call("GET", "/env/a/b?c=d&e", &headers, b"")
        .expect(200);
    let found = variables(&reply.text());
    has(
        &found,
        &[
            "REQUEST_METHOD=GET",
            "PATH_INFO=/a/b",
            "QUERY_STRING=c=d&e",
            "HTTP_X_MODE=fast",
            "ROOM=kitchen",
        ],
    );
    assert!(
        !found.iter().any(|one| one.starts_with("HTTP_PROXY")),
        "{found:?}"
    );
    let id = reply.header("mote-call-id").unwrap();
    has(&found, &[&format!("MOTE_CALL_ID={id}")]);
    // Nothing of the node's own environment.
    assert!(
        !found.iter().any(|one| one.starts_with("PATH=")),
        "{found:?}"
    );

    let request = Message::request(CON, POST, 1, "env/a")
        .option(URI_QUERY, b"c=d")
        .option(URI_QUERY, b"e");
    let reply = Socket::open(node.coap()).ask(&request);
    has(
        &variables(&reply.text()),
        &[
            "REQUEST_METHOD=POST",
            "PATH_INFO=/a",
            "QUERY_STRING=c=d&e",
            "ROOM=kitchen",
        ],
    );
}

#[test]
fn a_granted_directory_can_be_read_and_nothing_else() {
    const CREATE: u32 = 1;
    const READ: u64 = 2;
    const WRITE: u64 = 64;
    let outside = tempfile::tempdir().unwrap();
    let granted = outside.path().join("granted");
    std::fs::create_dir(&granted).unwrap();
    std::fs::write(granted.join("note.txt"), "remember").unwrap();
    std::fs::write(outside.path().join("secret.txt"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret.txt", granted.join("link.txt")).unwrap();
    let grant = json!({"allow": {"read": [{"host": granted, "guest": "/data"}]}});

    let node = Node::start();
    let opens = |path: &str, flags, rights, spec: &Value| {
        node.deploy("files", &command::opens(path, flags, rights), spec);
        node.get("/files").expect(200).text()
    };
    assert_eq!(opens("note.txt", 0, READ, &grant), "00\nremember");
    for (path, flags, rights) in [
        ("new.txt", CREATE, READ | WRITE),
        ("note.txt", 0, WRITE),
        ("../secret.txt", 0, READ),
        ("link.txt", 0, READ),
        ("/etc/hostname", 0, READ),
    ] {
        let answer = opens(path, flags, rights, &grant);
        assert!(answer != "00\n" && answer.len() == 3, "{path}: {answer:?}");
    }
    assert!(!granted.join("new.txt").exists());
    assert_eq!(
        std::fs::read(granted.join("note.txt")).unwrap(),
        b"remember"
    );
    // Without a grant there is no directory at all: EBADF is 8.
    assert_eq!(opens("note.txt", 0, READ, &json!({})), "08\n");
}

#[test]
fn a_component_that_was_not_built_for_mote_runs() {
    let Some(path) = tools::tool("componentize/hello.wasm") else {
        return;
    };
    let wasm = std::fs::read(path).unwrap();
    let node = Node::start();
    let info = node.deploy("script", &wasm, &json!({"observable": true}));
    assert_eq!(info["shape"], "wasi:http");
    assert_eq!(node.get("/script/a").expect(200).text(), "hello from /a\n");
    assert_eq!(
        node.post("/script", "zwölf".as_bytes()).expect(200).text(),
        "zwölf"
    );

    // It publishes by a response header, which is for the node alone; from then on the node answers,
    // with an entity tag that the component never made.
    let target = "/script/b?Mote-Publish=true";
    let first = node.get(target).expect(200);
    assert_eq!(
        (first.header("mote-publish"), first.header("etag")),
        (None, None)
    );
    let second = node.get(target).expect(200);
    assert_eq!(second.text(), "hello from /b\n");
    assert!(second.header("etag").is_some(), "{second:?}");
    assert_eq!(node.get("/script/a").expect(200).header("etag"), None);
    let watch = Message::request(CON, GET, 1, "script/b")
        .option(URI_QUERY, b"Mote-Publish=true")
        .option(OBSERVE, &[]);
    let shown = Socket::open(node.coap()).ask(&watch);
    assert_eq!(shown.text(), "hello from /b\n");
    assert!(
        shown.number(ETAG).is_some() && shown.number(OBSERVE).is_some(),
        "{shown:?}"
    );
}
