//! A crowd of devices: 1,024 CoAP clients, each with one call at a time, while the operator looks on.
//!
//! By default each calls 20 times, and only the answers are judged. With `MOTE_FULL=1` it is the
//! promise: 500 calls each, an answer within a second, and the admin API within 100 ms meanwhile.
//! That needs a quiet machine and a release build of `mote` (see `MOTE_BIN`).

#![expect(
    clippy::unwrap_used,
    reason = "this is test code: it stops at the first surprise"
)]

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use mote_tests::http::Connection;
use mote_tests::node::Node;
use serde_json::Value;

const CLIENTS: u64 = 1024;
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
const ADMIN_WITHIN: Duration = Duration::from_millis(100);

#[test]
fn a_crowd_is_answered() {
    let full = std::env::var("MOTE_FULL").is_ok_and(|value| value == "1");
    // Late answers are no answers only where time is judged; 20 s is within the clients' patience.
    let (calls, timeout) = if full { (500, "1s") } else { (20, "20s") };
    let node = Node::start();
    node.deploy_example("sieve");
    let primes = node.get("/sieve").expect(200).text();
    let kernel_before = kernel_drops();

    let load = node
        .mote_command(&[
            "bench",
            "load",
            &format!("coap://{}/sieve", node.coap()),
            "--clients",
            &CLIENTS.to_string(),
            "--requests",
            &calls.to_string(),
            "--timeout",
            timeout,
            "--expect-status",
            "2.05",
            "--expect-body",
            &primes,
            "--json",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let load = thread::spawn(move || load.wait_with_output().unwrap());
    let mut admin = sample_admin(&node, || load.is_finished());
    admin.sort();
    let output = load.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));

    let number = |value: &Value| value.as_u64().unwrap();
    let (sent, ok) = (number(&report["sent"]), number(&report["ok"]));
    let refused = report["failed"]["status"].as_object().unwrap();
    let refused: u64 = refused.values().map(number).sum();
    println!(
        "{CLIENTS} clients, {sent} calls in {} s: {ok} answered, {refused} refused by a code, failed {}\n\
        latency in µs {}, retransmissions {}\n\
        dropped by the kernel: {} at the door, {} on this machine\n\
        admin API: {} samples, median {:?}, slowest {:?}; generator {}",
        report["seconds"],
        report["failed"],
        report["latency_us"],
        report["retransmissions"],
        node.metric("mote_coap_dropped_in_total", &[]),
        kernel_drops() - kernel_before,
        admin.len(),
        admin.get(admin.len() / 2),
        admin.last(),
        report["generator"],
    );

    assert_eq!(sent, CLIENTS * calls);
    // Every other one is answered too: with a code that says why not.
    assert_eq!(ok + refused, sent, "{report:#}");
    assert!(ok * 1000 >= sent * 999, "{ok} of {sent}");
    assert!(!admin.is_empty());
    if full {
        let slow: Vec<_> = admin.iter().filter(|time| **time > ADMIN_WITHIN).collect();
        assert!(
            slow.is_empty(),
            "{} of {} samples: {slow:?}",
            slow.len(),
            admin.len()
        );
    }
}

/// How long the admin API takes to say how the node is, again and again until it is over.
fn sample_admin(node: &Node, is_over: impl Fn() -> bool) -> Vec<Duration> {
    let mut connection = Connection::open(node.admin());
    let token = format!("Bearer {}", node.token());
    let headers = [("authorization", token.as_str())];
    let mut times = Vec::new();
    while !is_over() {
        let before = Instant::now();
        connection.request("GET", "/v1/status", &headers, &[]);
        let reply = connection.reply("GET").expect("the connection stays");
        times.push(before.elapsed());
        assert_eq!(reply.expect(200).json()["ready"], true);
        // Not waiting for anything: this is how often somebody looks.
        thread::sleep(SAMPLE_EVERY.saturating_sub(before.elapsed()));
    }
    times
}

/// Datagrams that the kernel dropped because a socket's buffer was full, of every program on this
/// machine.
fn kernel_drops() -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(values.split(' '));
    let found = both.find(|(name, _)| *name == "RcvbufErrors").unwrap();
    found.1.parse().unwrap()
}
