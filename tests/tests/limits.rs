//! Limits of functions and of the node: what is over them waits, is refused with a word on when to
//! come back, or ends in time; and every call is counted once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mote_tests::eventually::{eventually, within};
use mote_tests::guest;
use mote_tests::http::Connection;
use mote_tests::node::{Node, Up};
use serde_json::json;

/// Starts a call and does not wait for its reply.
#[track_caller]
fn begin(node: &Node, target: &str) -> Connection {
    let mut connection = Connection::open(node.http());
    connection.request("GET", target, &[], b"");
    connection
}

/// Waits until so many calls of a function run, and so many wait.
#[track_caller]
fn load_is(node: &Node, function: &str, running: u32, waiting: u32) {
    let mut is = json!(null);
    let wanted = json!([running, waiting]);
    let reached = within(Duration::from_secs(20), || {
        let function = node.function(function);
        is = json!([function["in_flight"], function["waiting"]]);
        (is == wanted).then_some(())
    });
    assert!(reached.is_some(), "run and wait: {is}, not {wanted}");
}

/// A spec for a guest that loops until its client leaves.
fn patient() -> serde_json::Value {
    json!({"cpu": "60s", "timeout": "60s"})
}

#[test]
fn a_function_at_its_limit_refuses_and_says_when_to_come_back() {
    let node = Node::start();
    let mut spec = patient();
    spec["concurrency"] = json!(1);
    spec["queue"] = json!(0);
    node.deploy("one", &guest::loops(), &spec);
    node.answers_hello();
    let running = begin(&node, "/one");
    load_is(&node, "one", 1, 0);
    for _ in 0..3 {
        let reply = node.get("/one");
        let detail = reply.problem(429, "throttled");
        assert!(detail.contains("`one`"), "{detail}");
        let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&after), "RFC 9110 §10.2.3: {after}");
    }
    // Others have limits of their own.
    node.answers_hello();
    drop(running);
    load_is(&node, "one", 0, 0);
    let labels = ["function=\"one\"", "outcome=\"throttled\""];
    assert_eq!(node.metric("mote_calls_total", &labels), 3.0);
}

#[test]
fn a_queue_holds_what_comes_too_early() {
    let node = Node::start();
    let spec = json!({"cpu": "30s", "timeout": "60s", "concurrency": 1, "queue": 3});
    node.deploy("busy", &guest::busy(100, "done"), &spec);
    let mut calls: Vec<_> = (0..10).map(|_| begin(&node, "/busy")).collect();
    let statuses: Vec<u16> = calls
        .iter_mut()
        .map(|call| call.reply("GET").unwrap().status)
        .collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(served + refused, 10, "{statuses:?}");
    assert!(
        (4..10).contains(&served),
        "one runs, three wait: {statuses:?}"
    );
    let waited = node.metric("mote_queue_wait_seconds_sum", &["function=\"busy\""]);
    assert!(waited > 0.0, "nobody waited");
    load_is(&node, "busy", 0, 0);
}

#[test]
fn a_call_ends_with_its_timeout_also_when_it_waits() {
    let node = Node::start();
    let spec = json!({"cpu": "60s", "timeout": "1s", "concurrency": 1, "queue": 10});
    node.deploy("slow", &guest::loops(), &spec);
    let start = Instant::now();
    let mut calls: Vec<_> = (0..8).map(|_| begin(&node, "/slow")).collect();
    for call in &mut calls {
        call.reply("GET").unwrap().problem(504, "timeout");
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    // One after the other they would take eight seconds.
    assert!(took < Duration::from_secs(5), "{took:?}");
    load_is(&node, "slow", 0, 0);
    let labels = ["function=\"slow\"", "outcome=\"timeout\""];
    assert_eq!(node.metric("mote_calls_total", &labels), 8.0);
}

#[test]
fn a_node_at_its_limit_refuses_and_recovers() {
    let node = Up::new()
        .flag("--calls-max", "2")
        .flag("--queue-max", "1")
        .start();
    node.answers_hello();
    node.deploy("loops", &guest::loops(), &patient());
    let running: Vec<_> = (0..3).map(|_| begin(&node, "/loops")).collect();
    eventually("one waits", || {
        node.ask("GET", "/v1/status", b"").json()["waiting"] == 1
    });
    let reply = node.get("/hello");
    reply.problem(503, "overloaded");
    let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    // Whoever looks after the node is still served.
    node.ask("GET", "/v1/status", b"").expect(200);
    node.deploy("other", &guest::says("new"), &json!({}));
    drop(running);
    eventually("there is room again", || node.get("/hello").status == 200);
}

#[test]
fn a_node_lets_as_many_wait_as_it_says() {
    let node = Up::new()
        .flag("--calls-max", "1")
        .flag("--queue-max", "2")
        .start();
    node.answers_hello();
    node.deploy("loops", &guest::loops(), &patient());
    let running = begin(&node, "/loops");
    load_is(&node, "loops", 1, 0);
    let mut waiting = [begin(&node, "/hello"), begin(&node, "/hello")];
    eventually("two wait", || {
        node.ask("GET", "/v1/status", b"").json()["waiting"] == 2
    });
    node.get("/hello").problem(503, "overloaded");
    drop(running);
    for call in &mut waiting {
        call.reply("GET").unwrap().expect(200);
    }
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let node = Node::start();
    let mut spec = patient();
    spec["concurrency"] = json!(2);
    spec["queue"] = json!(2);
    node.deploy("loops", &guest::loops(), &spec);
    for _ in 0..5 {
        let calls: Vec<_> = (0..4).map(|_| begin(&node, "/loops")).collect();
        load_is(&node, "loops", 2, 2);
        drop(calls);
        load_is(&node, "loops", 0, 0);
    }
    let cancelled = ["function=\"loops\"", "outcome=\"cancelled\""];
    assert_eq!(node.metric("mote_calls_total", &cancelled), 20.0);
}

/// Clients that come, wait, leave early or stay: no place is lost and no call goes uncounted.
#[test]
fn no_place_is_lost_in_a_crowd_that_changes_its_mind() {
    let node = Node::start();
    let spec = json!({"concurrency": 2, "queue": 4, "cpu": "10s"});
    node.deploy("busy", &guest::busy(1, "done"), &spec);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..8 {
            let (node, done) = (&node, &done);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed + number);
                while !done.load(Ordering::Relaxed) {
                    let mut call = begin(node, "/busy");
                    if random.bool() {
                        thread::sleep(Duration::from_micros(random.u64(..5000)));
                        continue;
                    }
                    let reply = call.reply("GET").unwrap();
                    assert!(matches!(reply.status, 200 | 429), "{reply:?}");
                }
            });
        }
        thread::sleep(Duration::from_secs(3));
        done.store(true, Ordering::Relaxed);
    });
    load_is(&node, "busy", 0, 0);
    // Both places serve, and the queue is as long as it was.
    for _ in 0..20 {
        let mut calls: Vec<_> = (0..6).map(|_| begin(&node, "/busy")).collect();
        for call in &mut calls {
            call.reply("GET").unwrap().expect(200);
        }
    }
    let status = node.ask("GET", "/v1/status", b"").json();
    assert_eq!(
        (&status["in_flight"], &status["waiting"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn every_call_is_counted_once() {
    let node = Node::start();
    node.deploy_example("echo");
    node.deploy("traps", &guest::does("unreachable", ""), &json!({}));
    node.deploy("refuses", &guest::refuses("no"), &json!({}));
    node.deploy("loops", &guest::loops(), &json!({"cpu": "20ms"}));
    node.deploy("small", &guest::says("x"), &json!({"body": 10}));
    let count = 10;
    for _ in 0..count {
        node.post("/echo", b"x").expect(200);
        node.get("/traps").expect(502);
        node.get("/refuses").expect(500);
        node.get("/loops").expect(504);
        node.post("/small", &[0; 11]).expect(413);
        node.get("/nothing").expect(404);
    }
    let count = f64::from(count);
    for (function, outcome) in [
        ("echo", "ok"),
        ("traps", "function_failed"),
        ("refuses", "function_error"),
        ("loops", "timeout"),
    ] {
        let labels = [
            format!("function=\"{function}\""),
            format!("outcome=\"{outcome}\""),
        ];
        let labels = [labels[0].as_str(), labels[1].as_str()];
        assert_eq!(
            node.metric("mote_calls_total", &labels),
            count,
            "{labels:?}"
        );
        assert_eq!(
            node.metric("mote_calls_total", &labels[..1]),
            count,
            "{labels:?}"
        );
        let durations = node.metric("mote_call_duration_seconds_count", &labels[..1]);
        assert_eq!(durations, count, "{labels:?}");
    }
    // What a door refused was no call.
    assert_eq!(
        node.metric("mote_calls_total", &["function=\"small\""]),
        0.0
    );
    for kind in ["too_large", "not_found"] {
        let label = format!("\"{kind}\"");
        assert_eq!(
            node.metric("mote_refused_total", &[&label, "\"http\""]),
            count,
            "{kind}"
        );
    }
}

/// A store that is kept for the next call holds room that another function's call may need.
#[test]
fn stores_that_are_kept_leave_room_for_others() {
    let node = Up::new()
        .flag("--calls-max", "2")
        .flag("--workers", "1")
        .start();
    for number in 0..8 {
        let name = format!("kept{number}");
        node.deploy(&name, &guest::says("kept"), &json!({"reuse": 1000}));
    }
    for _ in 0..3 {
        for number in 0..8 {
            node.get(&format!("/kept{number}")).expect(200);
        }
    }
    node.answers_hello();
}
