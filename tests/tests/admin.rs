//! The admin API: who may use it, what it says of itself, uploads, health and logs.

use std::fs;

use mote_tests::deploy::digest;
use mote_tests::guest;
use mote_tests::http::{Connection, request};
use mote_tests::node::{Node, Up};
use mote_tests::program::{command, run};
use serde_json::{Value, json};

/// A node with a function `f` of one version that answers `one`.
#[track_caller]
fn node_with_one() -> Node {
    let node = Node::start();
    node.deploy("f", &guest::says("one"), &json!({}));
    assert_eq!(node.get("/f").expect(200).text(), "one");
    node
}

#[test]
fn an_upload_must_be_what_it_says() {
    let node = Up::new().flag("--artifact-bytes-max", "100KiB").start();
    let bytes = guest::says("one");
    let reply = node.upload(&digest(b"something else"), &bytes);
    let detail = reply.problem(400, "bad_request");
    assert!(detail.contains(&digest(&bytes)), "{detail}");
    node.upload("not-a-digest", &bytes)
        .problem(400, "bad_request");
    node.upload(&digest(b""), b"").problem(400, "bad_request");
    let large = vec![0; 200 << 10];
    node.upload(&digest(&large), &large)
        .problem(413, "too_large");
    let reply = node.upload(&digest(&bytes), &bytes).expect(200).json();
    assert_eq!(reply["bytes"], bytes.len());
    // The wrong one did not become deployable under the name it claimed.
    let claimed = json!({"artifact": digest(b"something else")}).to_string();
    node.ask("PUT", "/v1/functions/f", claimed.as_bytes())
        .problem(404, "not_found");
}

#[test]
fn only_the_token_opens_the_admin_api() {
    let node = node_with_one();
    let token = node.token().to_owned();
    let (short, long) = (token[..token.len() - 1].to_owned(), format!("{token}x"));
    let targets = [
        ("GET", "/v1/status"),
        ("GET", "/v1/functions"),
        ("GET", "/v1/functions/f"),
        ("DELETE", "/v1/functions/f"),
        ("PUT", "/v1/functions/f"),
        ("POST", "/v1/functions/f/rollback"),
        ("GET", "/v1/functions/f/logs"),
        ("PUT", "/v1/artifacts/00"),
        ("POST", "/v1/wipe"),
        ("GET", "/metrics"),
        ("GET", "/nothing/here"),
    ];
    for (method, target) in targets {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer x",
            &token,
            &format!("Bearer {short}"),
            &format!("Bearer {long}"),
            &format!("Basic {token}"),
        ] {
            let headers = [("authorization", value)];
            let headers = if value.is_empty() {
                &headers[..0]
            } else {
                &headers
            };
            let reply = request(node.admin(), method, target, headers, b"");
            reply.problem(401, "unauthorized");
            assert_eq!(
                reply.header("www-authenticate"),
                Some("Bearer"),
                "RFC 9110 §11.6.1"
            );
            assert!(!reply.text().contains(&token));
        }
    }
    assert_eq!(node.functions(), ["f"]);
    for target in ["/healthz", "/readyz"] {
        request(node.admin(), "GET", target, &[], b"").expect(200);
    }
    // The same from the command line.
    let admin = format!("http://{}", node.admin());
    for wrong in ["", "wrong-wrong-wrong-wrong"] {
        let mut ls = command(&["ls", "--node", &admin]);
        ls.env("MOTE_TOKEN", wrong);
        run(ls, b"").failed(3, &["error: ", "hint: ", "MOTE_TOKEN"]);
    }
    let mut ls = command(&["ls", "--node", &admin]);
    ls.env("MOTE_TOKEN", &token);
    assert!(run(ls, b"").ok().contains('f'));
    // And it is nobody else's to read.
    use std::os::unix::fs::PermissionsExt as _;
    for (file, mode) in [("token", 0o600), ("", 0o700)] {
        let about = fs::metadata(node.data_dir().join(file)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, mode, "{file}");
    }
}

#[test]
fn the_description_lists_every_route() {
    let node = node_with_one();
    let description = node.ask("GET", "/openapi.json", b"").expect(200).json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    let paths = description["paths"].as_object().unwrap();
    for (path, methods) in [
        ("/healthz", &["get"][..]),
        ("/readyz", &["get"]),
        ("/metrics", &["get"]),
        ("/v1/status", &["get"]),
        ("/v1/functions", &["get"]),
        ("/v1/functions/{name}", &["get", "put", "delete"]),
        ("/v1/functions/{name}/rollback", &["post"]),
        ("/v1/functions/{name}/logs", &["get"]),
        ("/v1/artifacts/{digest}", &["put"]),
        ("/v1/wipe", &["post"]),
    ] {
        for method in methods {
            assert!(paths[path][method].is_object(), "{method} {path}");
        }
    }
    // What is described without parameters also answers.
    for (path, operations) in paths {
        if operations["get"].is_object() && !path.contains('{') {
            node.ask("GET", path, b"").expect(200);
        }
    }
    node.ask("GET", "/v1/nothing", b"")
        .problem(404, "not_found");
    node.ask("PATCH", "/v1/functions", b"")
        .problem(405, "method_not_allowed");
}

#[test]
fn health_and_status() {
    let node = node_with_one();
    assert_eq!(
        request(node.admin(), "GET", "/healthz", &[], b"")
            .expect(200)
            .text(),
        "ok\n"
    );
    request(node.admin(), "GET", "/readyz", &[], b"").expect(200);
    let status = node.ask("GET", "/v1/status", b"").expect(200).json();
    assert_eq!(status["ready"], true);
    assert_eq!(status["functions"], 1);
    assert_eq!(status["calls"], 1);
    assert_eq!(status["doors"]["http"], format!("http://{}", node.http()));
    assert_eq!(status["doors"]["coap"], format!("coap://{}", node.coap()));
    let shown = node.mote(&["status"]).ok();
    assert!(shown.contains("ready"), "{shown}");
    let json: Value = serde_json::from_str(&node.mote(&["status", "--json"]).ok()).unwrap();
    assert_eq!(json["node"], status["node"]);
}

#[test]
fn logs_are_kept_and_can_be_followed() {
    let node = Node::start();
    // Writes its path, at the level `warn`.
    let code = r#"(func (export "handle") (param i32 i32) (result i32)
        (call $path (i32.const 16))
        (call $log (i32.const 3) (i32.load (i32.const 16)) (i32.load (i32.const 20)))
        (i32.store (i32.const 0) (i32.const 0))
        (i64.store (i32.const 4) (i64.const 0))
        (i32.const 0))"#;
    node.deploy("talks", &guest::component_of_world(code), &json!({}));
    for n in 0..5 {
        node.get(&format!("/talks/past-{n}")).expect(200);
    }
    let said = node.mote(&["logs", "talks"]).ok();
    assert_eq!(said.lines().count(), 5, "{said}");
    assert!(said.lines().next().unwrap().ends_with("/past-0"), "{said}");
    let said = node.mote(&["logs", "talks", "--tail", "2", "--json"]).ok();
    let lines: Vec<Value> = said
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!((lines.len(), &lines[1]["text"]), (2, &json!("/past-4")));
    assert_eq!(lines[1]["level"], "warn");
    assert_eq!(node.mote(&["logs", "talks", "--level", "error"]).ok(), "");
    node.mote(&["logs", "nobody"]).failed(4, &["`nobody`"]);

    // Followed: what was, and then what comes, until the reader leaves.
    let mut child = node
        .mote_command(&["logs", "-f", "talks", "--tail", "1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    assert!(lines.next().unwrap().unwrap().ends_with("/past-4"));
    let reply = node.get("/talks/now").expect(200);
    let line = lines.next().unwrap().unwrap();
    assert!(line.ends_with("/now"), "{line}");
    let id = reply.header("mote-call-id").unwrap();
    assert!(line.contains(&id[8..16]), "{line} is of call {id}");
    child.kill().unwrap();
    child.wait().unwrap();

    // A follower ends with its function.
    let token = format!("Bearer {}", node.token());
    let mut follower = Connection::open(node.admin());
    let headers = [("authorization", token.as_str())];
    follower.request(
        "GET",
        "/v1/functions/talks/logs?follow=true&tail=1",
        &headers,
        b"",
    );
    follower.head().unwrap().expect(200);
    assert!(
        String::from_utf8(follower.chunk().unwrap())
            .unwrap()
            .contains("/now")
    );
    node.mote(&["rm", "talks"]).ok();
    assert_eq!(
        follower.chunk(),
        Some(Vec::new()),
        "the stream goes on without its function"
    );
}
