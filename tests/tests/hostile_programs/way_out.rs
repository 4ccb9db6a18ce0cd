//! Programs that want out: through the one way there is, to granted origins only.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use mote_tests::node::Node;
use mote_tests::source::{python, skipped};

use crate::says;

/// Asks the proxy for a URL, or with `CONNECT host:port` for a tunnel, or sends any text.
const ASKS: &str = r#"
import os, socket, urllib.parse
def fn(text, headers):
    proxy = os.environ.get("http_proxy")
    if proxy is None:
        return "no way out"
    at = urllib.parse.urlsplit(proxy)
    s = socket.create_connection((at.hostname, at.port), 20)
    if text.startswith("http://"):
        host = urllib.parse.urlsplit(text).netloc
        text = f"GET {text} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    elif text.startswith("CONNECT "):
        text += " HTTP/1.1\r\n\r\n"
    s.sendall(text.encode())
    reply = b""
    while (more := s.recv(65536)):
        reply += more
        if text.startswith("CONNECT ") and b"\r\n\r\n" in reply: break
    return reply.decode(errors="replace")
"#;

/// Something outside of every sandbox that answers `outside` to whoever reaches it.
fn outside() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\noutside",
            );
        }
    });
    port
}

#[track_caller]
fn asked(node: &Node, url: &str) -> String {
    node.post("/o", url.as_bytes()).expect(200).text()
}

#[track_caller]
fn refused(node: &Node, url: &str) -> String {
    let reply = asked(node, url);
    assert!(reply.starts_with("HTTP/1.1 403"), "{url}: {reply}");
    reply
}

#[test]
fn the_way_out_leads_to_granted_origins_only() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let (granted, other) = (outside(), outside());
    let lines = format!("allow.http = [\"http://127.0.0.1:{granted}\"]");
    node.deploy_source(&python("o", &lines, ASKS));
    let origin = format!("http://127.0.0.1:{granted}");
    says(&asked(&node, &format!("{origin}/x")), "outside");
    says(
        &refused(&node, "http://example.org/"),
        "allow.http = [\"http://example.org\"]",
    );
    for url in [
        "http://169.254.169.254/latest".to_owned(),
        "http://[::ffff:169.254.169.254]/latest".to_owned(),
        "http://2852039166/latest".to_owned(),
        "CONNECT 169.254.169.254:80".to_owned(),
        format!("http://127.0.0.1:{other}/"),
        format!("http://127.0.0.1:{granted}@127.0.0.1:{other}/"),
        format!("CONNECT 127.0.0.1:{other}"),
        format!("http://127.1:{granted}/"),
        format!("http://localhost:{granted}/"),
        format!("http://[::1]:{granted}/"),
        format!("http://{}/", node.http()),
        format!("http://{}/v1/status", node.admin()),
        format!("CONNECT {}", node.admin()),
    ] {
        let reply = asked(&node, &url);
        let status = reply.get(9..12).unwrap_or_default();
        assert!(matches!(status, "400" | "403"), "{url}: {reply}");
        assert!(!reply.contains("outside"), "{url}: {reply}");
    }
    // What follows the first head reaches the origin that was checked, and no other.
    let two = format!(
        "GET {origin}/ HTTP/1.1\r\nHost: a\r\n\r\nGET http://127.0.0.1:{other}/ HTTP/1.1\r\nHost: b\r\n\r\n"
    );
    assert_eq!(asked(&node, &two).matches("outside").count(), 1);
    // Nor does a Host header lead elsewhere.
    let host = format!("GET http://example.org/ HTTP/1.1\r\nHost: 127.0.0.1:{granted}\r\n\r\n");
    refused(&node, &host);
    let garbage = asked(&node, "\u{1} garbage\r\n\r\n");
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    says(&node.log_of("o"), "allow.http");
    node.answers_hello();
}

#[test]
fn a_granted_name_does_not_lead_to_the_node_or_its_link() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let port = outside();
    // Names that the system makes these addresses of, without asking anyone.
    for (grant, address) in [
        (format!("http://localhost.localdomain:{port}"), "127.0.0.1"),
        (format!("http://any.localhost:{port}"), "127.0.0.1"),
        (format!("http://127.1:{port}"), "127.0.0.1"),
        (format!("http://2130706433:{port}"), "127.0.0.1"),
        (format!("http://0:{port}"), "0.0.0.0"),
        ("http://2852039166".to_owned(), "169.254.169.254"),
        ("http://169.254.43518".to_owned(), "169.254.169.254"),
    ] {
        let source = python("o", &format!("allow.http = [\"{grant}\"]"), ASKS);
        let deployed = node.try_deploy_source(&source);
        if deployed.code != Some(0) {
            deployed.failed(2, &["allow.http"]);
            continue;
        }
        let reply = asked(&node, &format!("{grant}/"));
        if reply.starts_with("HTTP/1.1 502") && reply.contains("cannot reach") {
            skipped(&format!("{grant} has no address here"));
            continue;
        }
        assert!(reply.starts_with("HTTP/1.1 403"), "{grant}: {reply}");
        assert!(
            reply.contains(address) || reply.contains("::1"),
            "{grant}: {reply}"
        );
    }
    node.answers_hello();
}

#[test]
fn without_a_grant_there_is_no_way_out() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    node.deploy_source(&python("o", "", ASKS));
    assert_eq!(asked(&node, "http://169.254.169.254/"), "no way out");
    // A function of the same app that has a grant does not lend it by its variables.
    let port = outside();
    let lines = format!("allow.http = [\"http://127.0.0.1:{port}\"]");
    node.deploy_source(&python("g", &lines, ASKS));
    let url = format!("http://127.0.0.1:{port}/");
    says(
        &node.post("/g", url.as_bytes()).expect(200).text(),
        "outside",
    );
    assert_eq!(asked(&node, &url), "no way out");
    // Another app cannot reach that proxy, whatever port it guesses.
    let ports = r#"
import socket
def fn(i, h):
    found = []
    for port in range(1, 65536):
        s = socket.socket()
        # A port that the system picks for the socket itself connects it to itself.
        if s.connect_ex(("127.0.0.1", port)) == 0 and s.getsockname() != s.getpeername():
            found.append(port)
        s.close()
    return str(found)
"#;
    node.deploy_source(&python(
        "s.other",
        "timeout = \"55s\"\ncpu = \"55s\"",
        ports,
    ));
    assert_eq!(node.post("/s.other", b"").expect(200).text(), "[]");
    node.answers_hello();
}
