//! Functions of an app call each other and share data: real guests on a real node.
//!
//! The guests do what the path says, see `tests/guests/composer`.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::thread;

use mote_tests::eventually::eventually;
use mote_tests::http::{Connection, Reply};
use mote_tests::node::{Node, Up};
use mote_tests::program::{repository, run};
use serde_json::{Value, json};

#[track_caller]
fn guest(name: &str) -> Vec<u8> {
    std::fs::read(repository().join(format!("tests/guests/{name}/{name}.wasm"))).unwrap()
}

/// Deploys the guest that does what it is told, under several names.
#[track_caller]
fn deploy(node: &Node, names: &[&str], spec: &Value) {
    let composer = guest("composer");
    for name in names {
        let info = node.deploy(name, &composer, spec);
        assert_eq!(info["shape"], "mote:function");
    }
}

/// The texts of a function's log.
#[track_caller]
fn logged(node: &Node, name: &str) -> String {
    let lines = node.ask("GET", &format!("/v1/functions/{name}/logs"), &[]);
    lines.expect(200).text()
}

#[track_caller]
fn says(reply: Reply, text: &str) {
    assert_eq!(reply.expect(200).text(), text);
}

/// Ended calls of a function, of some kind: `ended(&node, "b", "door=\"function\"")`.
#[track_caller]
fn ended(node: &Node, name: &str, label: &str) -> f64 {
    let function = format!("function=\"{name}\"");
    node.metric("mote_calls_total", &[&function, label])
}

#[test]
fn a_sibling_is_called_with_all_that_belongs_to_a_request() {
    let node = Node::start();
    deploy(&node, &["a", "b", "a.home", "b.home"], &json!({}));
    let headers = [("x-test", "kept"), ("x-other", "1")];
    for b in ["b", "b.default"] {
        let target = format!("/a/call/{b}/some/path?x=1&y=2");
        let reply = node.call("PUT", &target, &headers, b"the body").expect(200);
        assert_eq!(reply.text(), "PUT /some/path x=1&y=2 kept the body");
        assert_eq!(reply.header("x-composer"), Some("yes"));
    }
    says(node.get("/a.home/call/b.home"), "GET  - - ");
    // What has no reply says why, in the platform's own kinds.
    for (target, said) in [
        (
            "/a/call/nobody",
            "ErrorKind::NotFound: function `nobody` is not deployed",
        ),
        (
            "/a.home/call/b.default",
            "ErrorKind::Forbidden: function `a.home` of app `home` may not",
        ),
        ("/a/call/b.home", "ErrorKind::Forbidden: "),
        (
            "/a/call/B",
            "ErrorKind::BadRequest: function name `B` is not valid",
        ),
        (
            "/a/call/b/trap",
            "ErrorKind::FunctionFailed: the function failed: wasm trap: wasm `unreachable`",
        ),
    ] {
        let text = node.get(target).expect(200).text();
        assert!(text.starts_with(said), "{target}: {text}");
    }
    let connection = [("connection", "keep-alive")];
    let text = node.call("GET", "/a/call/b", &connection, b"").text();
    assert!(
        text.contains("header `connection` belongs to a connection"),
        "{text}"
    );
    // A sibling's own failure is a reply.
    let failed = node.get("/a/call/b/fail").expect(500);
    assert_eq!(failed.text(), "the script says so");
    assert_eq!(ended(&node, "b", "outcome=\"function_error\""), 1.0);
    assert_eq!(ended(&node, "b", "door=\"http\""), 0.0);
    let unknown = ["door=\"function\"", "reason=\"not_found\""];
    assert_eq!(node.metric("mote_refused_total", &unknown), 1.0);
}

#[test]
fn a_sibling_that_streams_is_read_to_its_end() {
    let node = Node::start();
    deploy(&node, &["a"], &json!({}));
    node.deploy("stream", &guest("http-hello"), &json!({ "concurrency": 1 }));
    let body: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    for _ in 0..3 {
        let reply = node.post("/a/call/stream/echo", &body).expect(200);
        assert!(reply.body == body, "other bytes came back");
    }
    assert_eq!(ended(&node, "stream", "outcome=\"ok\""), 3.0);
    // It is not done before its reply is: the permit is free again.
    let gauge = ["function=\"stream\""];
    assert_eq!(node.metric("mote_function_in_flight", &gauge), 0.0);
}

#[test]
fn a_siblings_limits_hold() {
    let node = Node::start();
    deploy(&node, &["a"], &json!({ "timeout": "20s" }));
    deploy(
        &node,
        &["b"],
        &json!({ "body": 10, "timeout": "1s", "cpu": "20s" }),
    );
    let text = node.post("/a/call/b", b"0123456789").text();
    // The answer is longer than ten bytes: that is the sibling's failure.
    assert!(
        text.starts_with("ErrorKind::FunctionFailed: the reply is larger"),
        "{text}"
    );
    let text = node.post("/a/call/b", b"0123456789a").text();
    let too_large = "ErrorKind::TooLarge: the body is larger than the limit of 10 bytes";
    assert!(text.starts_with(too_large), "{text}");
    let text = node.get("/a/call/b/burn/1000000").text();
    let late = "ErrorKind::Timeout: function `b` did not answer in ";
    assert!(text.starts_with(late), "{text}");
    assert_eq!(ended(&node, "b", "outcome=\"timeout\""), 1.0);
    assert_eq!(ended(&node, "a", "outcome=\"ok\""), 3.0);
}

#[test]
fn waiting_for_a_sibling_takes_no_cpu_time() {
    let node = Node::start();
    deploy(&node, &["a"], &json!({ "cpu": "30ms" }));
    deploy(&node, &["b"], &json!({ "cpu": "30s", "timeout": "30s" }));
    // The sibling alone takes far more than the caller has.
    let text = node.get("/a/burn/300").problem(504, "timeout");
    assert!(text.contains("CPU time"), "{text}");
    for target in ["/a/call/b/burn/300", "/a/fan/2/b/burn/300"] {
        let text = node.get(target).expect(200).text();
        assert!(text.starts_with("burnt "), "{text}");
    }
}

#[test]
fn calls_that_nest_for_ever_end() {
    let node = Node::start();
    deploy(&node, &["a", "b"], &json!({}));
    let deep = format!("/a{}", "/call/b/call/a".repeat(8));
    says(node.get(&deep), "GET  - - ");
    let deeper = format!("/a{}", "/call/b/call/a".repeat(50));
    let text = node.get(&deeper).expect(200).text();
    assert!(
        text.starts_with(
            "ErrorKind::BadRequest: the calls nest too deep: this one came through 17 others"
        ),
        "{text}"
    );
    assert_eq!(ended(&node, "b", "door=\"function\""), 8.0 + 8.0);
}

#[test]
fn several_at_once_run_at_once() {
    let node = Node::start();
    let spec = json!({ "allow": { "keyvalue": true }, "cpu": "10s" });
    deploy(&node, &["a", "b"], &spec);
    // The first ends only when the second has begun.
    let met = "0 met 1\n1 met 1\n";
    says(node.get("/a/fan/2/b/meet/%7B%7D/1"), met);
    let bodies: String = (0..64).map(|n| format!("GET /{n} - - \n")).collect();
    says(node.get("/a/fan/64/b/%7B%7D"), &bodies);
    let text = node.get("/a/fan/65/b/%7B%7D").text();
    let full = "ErrorKind::Overloaded: the call has 64 started calls it has not waited for";
    assert!(text.starts_with(full), "{text}");
    let text = node.get("/a/twice/b").text();
    let once = "ErrorKind::BadRequest: this call was waited for already";
    assert!(text.starts_with(once), "{text}");
}

#[test]
fn a_started_call_ends_with_its_handle_or_its_caller() {
    let node = Node::start();
    deploy(&node, &["a", "reused"], &json!({ "reuse": 100 }));
    deploy(&node, &["b"], &json!({ "cpu": "60s", "timeout": "60s" }));
    let cancelled = |count: f64| {
        eventually("the started call is cancelled", || {
            ended(&node, "b", "outcome=\"cancelled\"") == count
        });
        eventually("nothing is held", || {
            node.metric("mote_function_in_flight", &["function=\"b\""]) == 0.0
        });
    };
    says(node.get("/a/drop/b/burn/1000000"), "dropped");
    cancelled(1.0);
    says(node.get("/a/leave/b/burn/1000000"), "left");
    cancelled(2.0);
    // A client that goes away takes them along.
    let mut client = Connection::open(node.http());
    client.request("GET", "/a/fan/2/b/burn/1000000", &[], b"");
    eventually("both run", || {
        node.metric("mote_function_in_flight", &["function=\"b\""]) == 2.0
    });
    drop(client);
    cancelled(4.0);
}

#[test]
fn a_store_that_serves_several_calls_keeps_their_siblings_apart() {
    let node = Up::new().flag("--workers", "1").start();
    deploy(&node, &["a"], &json!({ "reuse": 100 }));
    deploy(&node, &["b"], &json!({}));
    says(node.get("/a/leave/b"), "left");
    // The next call in the same memory finds the handle, and nothing behind it.
    let text = node.get("/a/stale").text();
    let gone = "ErrorKind::BadRequest: this call was started by another call of the function";
    assert!(text.starts_with(gone), "{text}");
    // And starts its own, which the stale one is not mistaken for.
    says(node.get("/a/fan/1/b"), "GET  - - \n");
}

#[test]
fn a_call_that_is_handed_over_runs_on_its_own() {
    let node = Node::start();
    let spec = json!({ "allow": { "keyvalue": true } });
    deploy(&node, &["a", "b"], &spec);
    let id = node
        .post("/a/spawn/b/kv/set/done", b"by b")
        .expect(200)
        .text();
    assert_eq!(id.len(), 24, "{id}");
    eventually("the handed-over call has run", || {
        node.get("/b/kv/get/done").text() == "by b"
    });
    let text = node.get("/a/spawn/nobody").text();
    assert!(text.starts_with("ErrorKind::NotFound: "), "{text}");
    node.get("/a/spawn/b/trap").expect(200);
    eventually("its failure is in the log", || {
        logged(&node, "b").contains("the function failed: wasm trap: wasm `unreachable`")
    });
    assert_eq!(ended(&node, "b", "door=\"function\""), 2.0);
    assert_eq!(ended(&node, "b", "outcome=\"function_failed\""), 1.0);
    assert_eq!(node.metric("mote_calls_handed_over", &[]), 0.0);
}

#[test]
fn a_node_that_stops_waits_for_handed_over_calls_and_no_longer_than_its_grace() {
    let mut node = Up::new().flag("--drain", "1s").start();
    let spec = json!({ "allow": { "keyvalue": true }, "cpu": "60s", "timeout": "60s" });
    deploy(&node, &["a", "b"], &spec);
    node.get("/a/spawn/b/burn/1000000").expect(200);
    node.stop();
    node.restart();
    // One that can end does.
    node.post("/a/spawn/b/kv/set/last", b"words").expect(200);
    node.stop();
    node.restart();
    says(node.get("/b/kv/get/last"), "words");
}

#[test]
fn functions_that_call_each_other_with_no_room_to_spare_all_end() {
    const CLIENTS: usize = 6;
    const ROUNDS: usize = 20;
    let node = Node::start();
    deploy(
        &node,
        &["a", "b"],
        &json!({ "concurrency": 1, "timeout": "60s" }),
    );
    let targets = ["/a/call/b", "/b/call/a", "/a/call/b/call/a", "/b/fan/3/a"];
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (node, targets) = (&node, &targets);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let reply = node.get(targets[(client + round) % targets.len()]);
                    let text = reply.text();
                    // A circle would end with the first timeout, after a minute.
                    let fits = text.starts_with("GET ")
                        || text.contains("waiting for one could last for ever");
                    assert!(reply.status == 200 && fits, "{reply:?}");
                }
            });
        }
    });
    let calls = (CLIENTS * ROUNDS) as f64;
    let outside = ended(&node, "a", "door=\"http\"") + ended(&node, "b", "door=\"http\"");
    assert_eq!(outside, calls);
    assert_eq!(ended(&node, "a", "outcome=\"timeout\""), 0.0);
    for name in ["a", "b"] {
        let function = format!("function=\"{name}\"");
        for gauge in ["mote_function_in_flight", "mote_function_waiting"] {
            assert_eq!(node.metric(gauge, &[&function]), 0.0, "{gauge}");
        }
    }
    assert_eq!(node.metric("mote_calls_in_flight", &[]), 0.0);
    says(node.get("/a/call/b"), "GET  - - ");
}

#[test]
fn functions_of_an_app_share_data() {
    let node = Node::start();
    let spec = json!({ "allow": { "keyvalue": true } });
    deploy(&node, &["a", "b", "c.home"], &spec);
    says(node.get("/a/kv/get/light"), "none");
    says(node.post("/a/kv/set/light", b"on"), "set");
    says(node.get("/b/kv/get/light"), "on");
    says(node.get("/b/kv/exists/light"), "true");
    // Not those of another.
    says(node.get("/c.home/kv/get/light"), "none");
    says(node.get("/c.home/kv/list/"), " after that none");
    // People see the same.
    assert_eq!(node.mote(&["kv", "get", "light"]).ok(), "on");
    node.mote(&["kv", "set", "lamp", "by hand"]).ok();
    says(node.get("/a/kv/get/lamp"), "by hand");
    says(node.get("/a/kv/list/"), "lamp,light after that none");
    says(node.get("/a/kv/list/lamp"), "light after that none");
    says(node.get("/a/kv/delete/lamp"), "deleted");
    says(node.get("/a/kv/exists/lamp"), "false");

    says(node.post("/a/kv/add/visits", b"2"), "2");
    says(node.post("/b/kv/add/visits", b"-5"), "-3");
    let text = node.post("/a/kv/add/light", b"1").text();
    assert_eq!(
        text,
        "Other: the value of key `light` is not a number: it cannot be incremented"
    );
    says(node.post("/a/kv/swap/new", b"x"), "x");
    says(node.post("/a/kv/swap/new", b"y"), "xy");
    says(node.post("/a/kv/race/new", b"mine"), "somebody else's");
    says(node.get("/a/kv/get/new"), "mine");

    says(node.get("/a/open/other-1"), "0");
    says(node.get("/a/open/Not%20valid"), "NoSuchStore: ");
    let log = logged(&node, "a");
    assert!(
        log.contains("bucket name `Not%20valid` is not valid"),
        "{log}"
    );
}

#[test]
fn changes_at_once_are_all_there() {
    let node = Node::start();
    deploy(&node, &["a"], &json!({ "allow": { "keyvalue": true } }));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    node.post("/a/kv/add/sum", b"1").expect(200);
                    node.post("/a/kv/swap/text", b"x").expect(200);
                }
            });
        }
    });
    says(node.get("/a/kv/get/sum"), "100");
    says(node.get("/a/kv/get/text"), &"x".repeat(100));
}

#[test]
fn data_needs_a_grant_and_has_bounds() {
    let node = Up::new().flag("--kv-app-bytes-max", "100KiB").start();
    deploy(&node, &["denied"], &json!({}));
    says(node.get("/denied/kv/get/x"), "AccessDenied: ");
    let log = logged(&node, "denied");
    assert!(
        log.contains("to grant it write: allow.keyvalue = true"),
        "{log}"
    );

    deploy(
        &node,
        &["a", "b.home"],
        &json!({ "allow": { "keyvalue": true } }),
    );
    let text = node.post("/a/kv/set/x", &[b'v'; 70_000]).text();
    assert_eq!(
        text,
        "Other: value of 70000 bytes for key `x`: the limit is 65536 bytes"
    );
    says(node.post("/a/kv/set/x", &[b'v'; 60_000]), "set");
    let text = node.post("/a/kv/set/y", &[b'v'; 60_000]).text();
    assert!(
        text.starts_with("Other: ") && text.contains("102400 bytes"),
        "{text}"
    );
    says(node.get("/a/kv/exists/y"), "false");
    // One app's data leaves that of others their room.
    says(node.post("/b.home/kv/set/y", &[b'v'; 60_000]), "set");
    let long = "k".repeat(513);
    let text = node.get(&format!("/a/kv/get/{long}")).text();
    assert!(
        text.contains("has 513 bytes: the limit is 512 bytes"),
        "{text}"
    );
}

#[test]
fn settings_are_variables_and_granted_secrets() {
    let node = Node::start();
    let env = json!({ "ROOM": "kitchen", "KEY": "from env" });
    let spec = json!({ "env": env, "allow": { "secrets": ["KEY", "MISSING"] } });
    deploy(&node, &["a", "c.home"], &spec);
    deploy(&node, &["b"], &json!({ "env": env }));
    says(node.get("/a/config/ROOM"), "kitchen");
    says(node.get("/a/config/KEY"), "from env");
    says(node.get("/a/config/MISSING"), "none");
    for (name, value) in [("KEY", "hidden"), ("OTHER", "not granted")] {
        run(
            node.mote_command(&["secret", "set", name]),
            value.as_bytes(),
        )
        .ok();
    }
    // Seen by the next call, of the functions of this app that were granted it.
    says(node.get("/a/config/KEY"), "hidden");
    says(node.get("/a/config"), "KEY=hidden\nROOM=kitchen\n");
    says(node.get("/a/config/OTHER"), "none");
    says(node.get("/b/config/KEY"), "from env");
    says(node.get("/c.home/config/KEY"), "from env");
    assert!(!node.log().contains("hidden"), "the node logs a secret");
    let spec = json!({ "allow": { "secrets": ["lower case"] } });
    let refused = node.try_deploy("a", &guest("composer"), &spec);
    assert!(
        refused
            .problem(400, "bad_request")
            .contains("secret name `lower case`")
    );
}

#[test]
fn a_wasi_http_component_has_the_same() {
    let node = Node::start();
    let spec = json!({ "env": { "ROOM": "kitchen" }, "allow": { "keyvalue": true } });
    let info = node.deploy("web", &guest("http-composer"), &spec);
    assert_eq!(info["shape"], "wasi:http");
    deploy(&node, &["b", "c.home"], &json!({}));
    says(node.get("/web/b"), "GET /hello - - ; 1; kitchen\n");
    says(
        node.get("/web/c.home"),
        "ErrorKind::Forbidden; 2; kitchen\n",
    );
    // And is called like any other.
    deploy(&node, &["a"], &json!({}));
    says(node.get("/a/call/web/b"), "GET /hello - - ; 3; kitchen\n");
}
