//! The HTTP door: clients that are slow, endless, silent or not clients at all.
//!
//! Timeouts are set low, so that a test sees them; that the node answers others is checked after
//! each.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mote_tests::eventually::eventually;
use mote_tests::guest;
use mote_tests::http::Connection;
use mote_tests::node::{Node, Up};
use mote_tests::program::repository;
use serde_json::json;

/// A node that gives up soon.
fn impatient() -> Node {
    let node = Up::new()
        .flag("--header-timeout", "500ms")
        .flag("--idle-timeout", "500ms")
        .flag("--body-timeout", "500ms")
        .start();
    node.deploy_example("hello");
    node.deploy_example("echo");
    node
}

/// Longest that a limit of 500 ms may take to show on a busy machine.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_head_that_trickles_is_cut_off() {
    let node = impatient();
    let start = Instant::now();
    let mut connection = Connection::open(node.http());
    let mut head = b"GET /hello HTTP/1.1\r\nhost: x\r\nx-slow: ".to_vec();
    head.extend([b'x'; 10_000]);
    for byte in head {
        if connection.try_send(&[byte]).is_err() || start.elapsed() > SOON {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(start.elapsed() < SOON, "the connection stays open");
    assert!(connection.ends());
    node.answers_hello();
}

#[test]
fn connections_that_say_nothing_are_closed() {
    let node = impatient();
    let start = Instant::now();
    let mut silent: Vec<_> = (0..100).map(|_| Connection::open(node.http())).collect();
    node.answers_hello();
    for connection in &mut silent {
        assert!(connection.ends());
    }
    // One that was used is closed as well when nothing more comes.
    let mut idle = Connection::open(node.http());
    idle.request("GET", "/hello", &[], b"");
    idle.reply("GET").unwrap().expect(200);
    assert!(idle.ends());
    // So is one that was refused, and one that has only said that it speaks HTTP/2.
    let mut refused = Connection::open(node.http());
    refused.request("GET", "/nothing", &[], b"");
    refused.reply("GET").unwrap().expect(404);
    let mut http2 = Connection::open(node.http());
    http2.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(refused.ends() && http2.ends());
    assert!(start.elapsed() < SOON);
}

#[test]
fn endless_headers_are_refused() {
    let node = impatient();
    let one_long = format!("x-long: {}\r\n", "y".repeat(1 << 20));
    let many: String = (0..50_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let long_target = "/".repeat(1 << 20);
    for (what, target, headers) in [
        ("one long header", "/hello", one_long.as_str()),
        ("many headers", "/hello", many.as_str()),
        ("a long target", long_target.as_str(), ""),
    ] {
        let mut connection = Connection::open(node.http());
        let head = format!("GET {target} HTTP/1.1\r\nhost: x\r\n{headers}");
        // The rest is not read any more when the answer has been sent.
        let _ = connection.try_send(head.as_bytes());
        if let Some(reply) = connection.head() {
            assert!(matches!(reply.status, 400 | 414 | 431), "{what}: {reply:?}");
        }
        assert!(connection.ends(), "{what}");
        node.answers_hello();
    }
}

#[test]
fn what_is_no_http_is_refused() {
    let node = impatient();
    let noise: Vec<u8> = (0..4096).map(|n: u32| (n * 7919 % 251) as u8).collect();
    for bytes in [
        &b"\r\n\r\n\r\n\r\n"[..],
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /hello\r\n\r\n",
        b"GET /hello HTTP/9.9\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nhost x\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &noise,
    ] {
        let mut connection = Connection::open(node.http());
        let _ = connection.try_send(bytes);
        connection.finish();
        assert!(connection.ends(), "{}", bytes.escape_ascii());
    }
    node.answers_hello();
}

/// RFC 9112 §6.3: what two readers may take for two different requests is not served.
#[test]
fn lengths_that_contradict_each_other_are_refused() {
    let node = impatient();
    let smuggled = "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n";
    for framing in [
        "content-length: 3\r\ncontent-length: 4",
        "content-length: 3, 4",
        "content-length: -1",
        "content-length: +3",
        "content-length: 99999999999999999999",
        "content-length: 0x3",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: xchunked",
    ] {
        let mut connection = Connection::open(node.http());
        let head =
            format!("POST /echo HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n0\r\n\r\n{smuggled}");
        let _ = connection.try_send(head.as_bytes());
        if let Some(reply) = connection.reply("POST") {
            assert!(matches!(reply.status, 400..=501), "{framing}: {reply:?}");
        }
        assert!(connection.ends(), "{framing}: it stays open");
    }
    // Both: refused, or the chunks win (RFC 9112 §6.1).
    let mut connection = Connection::open(node.http());
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n{smuggled}"
    );
    connection.send(head.as_bytes());
    if let Some(reply) = connection.reply("POST") {
        let served = reply.status == 200 && reply.text() == "abc";
        assert!(served || matches!(reply.status, 400..500), "{reply:?}");
    }
    node.answers_hello();
}

#[test]
fn bad_chunks_are_refused() {
    let node = impatient();
    for chunks in [
        "z\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nabc",
        "3\r\nabcde\r\n0\r\n\r\n",
        "3xyz\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut connection = Connection::open(node.http());
        let head =
            format!("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        connection.send(head.as_bytes());
        if let Some(reply) = connection.reply("POST") {
            assert!(matches!(reply.status, 400..500), "{chunks:?}: {reply:?}");
        }
        assert!(connection.ends(), "{chunks:?}");
    }
    node.answers_hello();
}

#[test]
fn a_body_that_never_arrives_is_given_up() {
    let node = impatient();
    let start = Instant::now();
    for head in [
        "content-length: 1000\r\n\r\nabc",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut connection = Connection::open(node.http());
        connection.send(format!("POST /echo HTTP/1.1\r\nhost: x\r\n{head}").as_bytes());
        let reply = connection.reply("POST").unwrap();
        assert!(matches!(reply.status, 408 | 504), "{reply:?}");
        assert!(connection.ends());
    }
    // A client that leaves in the middle costs nothing.
    let mut connection = Connection::open(node.http());
    connection.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc");
    drop(connection);
    assert!(start.elapsed() < SOON);
    node.answers_hello();
}

#[test]
fn a_giant_body_is_not_taken_in() {
    let node = impatient();
    node.deploy("large", &guest::says("ok"), &json!({"body": "256MiB"}));
    let before = node.memory_kib("VmRSS");
    // A terabyte, announced.
    let mut connection = Connection::open(node.http());
    connection.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1099511627776\r\n\r\n");
    connection.reply("POST").unwrap().problem(413, "too_large");
    // In chunks, as much as it lets itself be given.
    let mut connection = Connection::open(node.http());
    connection.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    let sent = (0..1000).take_while(|_| connection.try_send(chunk.as_bytes()).is_ok());
    let sent = sent.count();
    assert!(sent < 100, "{sent} MiB were taken in");
    // Announced up to a limit that many ask for at once, and never sent: memory is not set aside.
    let announce = || {
        let mut connection = Connection::open(node.http());
        connection.send(b"POST /large HTTP/1.1\r\nhost: x\r\ncontent-length: 200000000\r\n\r\nabc");
        connection
    };
    let mut waiting: Vec<_> = (0..200).map(|_| announce()).collect();
    let statuses: Vec<u16> = waiting
        .iter_mut()
        .map(|connection| connection.reply("POST").map_or(0, |reply| reply.status))
        .collect();
    assert!(
        statuses
            .iter()
            .all(|status| matches!(status, 408 | 503 | 504)),
        "{statuses:?}"
    );
    let grown = node.memory_kib("VmRSS").saturating_sub(before);
    assert!(grown < 100_000, "the node has grown by {grown} KiB");
    node.answers_hello();
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let node = impatient();
    let mut stream = TcpStream::connect(node.http()).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    let request = format!(
        "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{}",
        "x".repeat(1_000_000)
    );
    // Sent until nobody takes them any more: the node must not wait for this reader for ever.
    let start = Instant::now();
    while stream.write_all(request.as_bytes()).is_ok() {
        assert!(start.elapsed() < SOON, "replies pile up somewhere");
    }
    eventually("the connection is closed", || {
        node.metric("mote_http_connections_open", &[]) == 0.0
    });
    node.answers_hello();
}

/// More than the node gathers of a reply before it streams.
const STREAMED_BYTES: usize = 256 << 10;

/// An impatient node with a function at `/http-hello/echo` that streams its body back, one call at a
/// time and each within a second.
fn node_that_streams() -> Node {
    let node = impatient();
    let wasm = repository().join("tests/guests/http-hello/http-hello.wasm");
    let spec = json!({"timeout": "1s", "concurrency": 1, "queue": 0});
    node.deploy("http-hello", &std::fs::read(wasm).unwrap(), &spec);
    node
}

/// The reply to a client of HTTP/2 that takes so many bytes of it and then no more.
async fn stalled(node: &Node, window: u32) -> hyper::Response<hyper::body::Incoming> {
    let stream = tokio::net::TcpStream::connect(node.http()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::post("http://node/http-hello/echo")
        .body(Full::new(Bytes::from(vec![b'x'; STREAMED_BYTES])))
        .unwrap();
    let reply = sender.send_request(request).await.unwrap();
    assert_eq!(reply.status(), 200);
    reply
}

/// RFC 9113 §6.9.2: a client may open no window, or a small one, and never more of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_opens_no_window_holds_its_call_to_the_deadline_only() {
    let node = node_that_streams();
    let late = ["function=\"http-hello\"", "outcome=\"timeout\""];
    for (count, window) in [(1.0, 0), (2.0, 1000)] {
        let reply = stalled(&node, window).await;
        eventually("the call is late", || {
            node.metric("mote_calls_total", &late) == count
        });
        // Its client is still there; its place, the only one, is free again.
        let body = vec![b'x'; STREAMED_BYTES];
        let served = node.post("/http-hello/echo", &body).expect(200);
        assert!(served.body == body, "{} bytes came", served.body.len());
        let calls = node.metric("mote_calls_total", &late[..1]);
        assert_eq!(calls, 2.0 * count, "each is counted once");
        drop(reply);
    }
    node.answers_hello();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_opens_no_window_is_cut_off() {
    let node = node_that_streams();
    let reply = stalled(&node, 0).await;
    eventually("the connection is closed", || {
        node.metric("mote_http_connections_open", &[]) == 0.0
    });
    drop(reply);
    node.answers_hello();
}

#[test]
fn more_connections_than_allowed_are_turned_away_and_counted() {
    let node = Up::new().flag("--connections-max", "8").start();
    node.deploy_example("hello");
    let mut open: Vec<_> = (0..8).map(|_| Connection::open(node.http())).collect();
    for connection in &mut open {
        connection.request("GET", "/hello", &[], b"");
        connection.reply("GET").unwrap().expect(200);
    }
    for _ in 0..20 {
        assert!(Connection::open(node.http()).ends());
    }
    assert_eq!(
        node.metric("mote_http_connections_refused_total", &[]),
        20.0
    );
    // Those that were there go on, and a place that is free is given again.
    open[0].request("GET", "/hello", &[], b"");
    open[0].reply("GET").unwrap().expect(200);
    drop(open);
    eventually("the places are free", || {
        node.metric("mote_http_connections_open", &[]) == 0.0
    });
    node.answers_hello();
}
