//! A function is replaced again and again while clients call it over both doors: no call fails, each
//! is answered by one of the two versions, and once a deploy is acknowledged by the new one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mote_tests::deploy::example;
use mote_tests::eventually::eventually;
use mote_tests::guest;
use mote_tests::http::Connection;
use mote_tests::node::Node;
use serde_json::json;

#[path = "../interop/command.rs"]
mod command;
#[path = "../interop/datagram.rs"]
mod datagram;

use datagram::{CON, CONTENT, GET, Message, Socket};

const REDEPLOYS: usize = 50;
/// Clients of each door.
const CLIENTS: usize = 4;
const TEXTS: [&str; 2] = ["hello, world\n", "from text"];

#[test]
fn replacing_a_function_loses_no_call() {
    let node = Node::start();
    let versions = [example("hello"), guest::says(TEXTS[1])];
    node.deploy("twin", &versions[0], &json!({}));
    let over = AtomicBool::new(false);

    let counts = thread::scope(|scope| {
        // Whatever fails here: the clients must end, or the scope never does.
        let _end = SetAtEnd(&over);
        let clients: Vec<_> = (0..CLIENTS)
            .flat_map(|_| {
                [
                    scope.spawn(|| call_over_http(node.http(), &over)),
                    scope.spawn(|| call_over_coap(node.coap(), &over)),
                ]
            })
            .collect();
        // One socket, and an id a round: another socket may come by the port of one that is closed,
        // and the same id from the same port is the same message (RFC 7252 §4.5).
        let socket = Socket::open(node.coap());
        for (round, id) in (1..=REDEPLOYS).zip(0..) {
            // With another limit each time, so that not only the code changes.
            let spec = json!({"memory": format!("{}MiB", 1 + round)});
            let info = node.deploy("twin", &versions[round % 2], &spec);
            assert_eq!(info["version"], round + 1);
            let now = TEXTS[round % 2];
            assert_eq!(node.get("/twin").expect(200).text(), now);
            let request = Message::request(CON, GET, id, "twin");
            assert_eq!(socket.ask(&request).text(), now);
        }
        over.store(true, Ordering::Relaxed);
        let counts = clients.into_iter().map(|client| client.join().unwrap());
        counts.collect::<Vec<[u64; 2]>>()
    });

    let total: u64 = counts.iter().flatten().sum();
    println!(
        "{REDEPLOYS} redeploys, {total} calls of {} clients",
        counts.len()
    );
    for count in &counts {
        assert!(
            count[0] > 0 && count[1] > 0,
            "a client met both versions: {counts:?}"
        );
    }
    // Counters of the function go on over its versions, and count nothing but good calls.
    let own = 2 * REDEPLOYS as u64;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 calls")]
    let expect = (total + own) as f64;
    assert_eq!(
        node.metric("mote_calls_total", &["function=\"twin\"", "outcome=\"ok\""]),
        expect
    );
    assert_eq!(
        node.metric("mote_calls_total", &["function=\"twin\""]),
        expect
    );
}

#[test]
fn a_call_that_runs_ends_on_the_version_it_began_on() {
    let node = Node::start();
    node.deploy("slow", &command::sleeps(2000, "old"), &json!({}));
    thread::scope(|scope| {
        let over_http = scope.spawn(|| node.get("/slow"));
        let over_coap = scope.spawn(|| {
            let request = Message::request(CON, GET, 1, "slow");
            Socket::open(node.coap()).ask(&request)
        });
        eventually("both calls run", || node.function("slow")["in_flight"] == 2);
        node.deploy("slow", &guest::says("new"), &json!({}));
        assert_eq!(node.get("/slow").expect(200).text(), "new");
        assert_eq!(over_http.join().unwrap().expect(200).text(), "old");
        assert_eq!(over_coap.join().unwrap().text(), "old");
    });
}

/// Calls one after the other on one connection, and counts the replies of each version.
fn call_over_http(door: SocketAddr, over: &AtomicBool) -> [u64; 2] {
    let mut connection = Connection::open(door);
    let mut counts = [0; 2];
    while !over.load(Ordering::Relaxed) {
        connection.request("GET", "/twin", &[], &[]);
        let reply = connection.reply("GET").expect("the connection stays");
        counts[version(&reply.expect(200).text())] += 1;
    }
    counts
}

/// The same over CoAP. An id may be used again after four minutes only (RFC 7252 §4.4): after all
/// of them comes another socket.
fn call_over_coap(door: SocketAddr, over: &AtomicBool) -> [u64; 2] {
    let mut counts = [0; 2];
    loop {
        let socket = Socket::open(door);
        for id in 0..=u16::MAX {
            if over.load(Ordering::Relaxed) {
                return counts;
            }
            let reply = socket.ask(&Message::request(CON, GET, id, "twin"));
            assert_eq!(reply.code, CONTENT, "{reply:?}");
            counts[version(&reply.text())] += 1;
        }
    }
}

#[track_caller]
fn version(text: &str) -> usize {
    let version = TEXTS.iter().position(|known| *known == text);
    version.unwrap_or_else(|| panic!("no version says {text:?}"))
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
