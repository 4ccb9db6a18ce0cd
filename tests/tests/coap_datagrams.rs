//! CoAP as no client library would speak it: datagrams that are copies, broken, or refused, and
//! what a node answers to each (RFC 7252, 7641).

use std::time::{Duration, Instant};

use mote_tests::guest;
use mote_tests::node::Node;
use serde_json::json;

#[path = "../interop/command.rs"]
mod command;
#[path = "../interop/datagram.rs"]
mod datagram;

use datagram::{
    ACCEPT, ACK, CON, CONTENT, EMPTY, GET, Message, NON, OBSERVE, POST, RST, SIZE1, Socket,
};

/// Longer than a door waits before it acknowledges (200 ms), shorter than a client waits before it
/// repeats itself (2 s).
const SLOW_MS: u64 = 700;
const BAD_OPTION: (u8, u8) = (4, 2);
const NOT_FOUND: (u8, u8) = (4, 4);
const NOT_ACCEPTABLE: (u8, u8) = (4, 6);
const TOO_LARGE: (u8, u8) = (4, 13);
/// A critical option of the range for experiments (RFC 7252 §12.2).
const UNKNOWN_CRITICAL: u16 = 65_001;

fn node_with_slow() -> Node {
    let node = Node::start();
    node.deploy("slow", &command::sleeps(SLOW_MS, "at last"), &json!({}));
    node
}

#[track_caller]
fn calls(node: &Node, function: &str) -> f64 {
    node.metric("mote_calls_total", &[&format!("function=\"{function}\"")])
}

#[test]
fn a_copy_of_a_request_runs_nothing() {
    let node = Node::start();
    node.deploy("quick", &guest::says("done"), &json!({}));
    let client = Socket::open(node.coap());
    let request = Message::request(CON, POST, 7, "quick");
    let first = client.ask(&request);
    assert_eq!((first.kind, first.id, first.code), (ACK, 7, CONTENT));
    for _ in 0..4 {
        assert_eq!(client.ask(&request), first);
    }
    assert_eq!(calls(&node, "quick"), 1.0);
    // The same id for another request is no copy, and neither is the same request of another client.
    assert_eq!(
        client.ask(&Message::request(CON, GET, 7, "quick")).code,
        CONTENT
    );
    let other = Socket::open(node.coap());
    assert_eq!(other.ask(&request).code, CONTENT);
    assert_eq!(calls(&node, "quick"), 3.0);
}

#[test]
fn a_slow_function_answers_separately_and_runs_once() {
    let node = node_with_slow();
    let client = Socket::open(node.coap());
    let request = Message::request(CON, GET, 1, "slow");
    for _ in 0..3 {
        client.send(&request);
    }
    // RFC 7252 §5.2.2: first an empty acknowledgement, then a message of its own.
    assert_eq!(client.receive(), Message::empty(ACK, 1));
    client.send(&request);
    let response = loop {
        let message = client.receive();
        if message.code != EMPTY {
            break message;
        }
        // A copy of a request that was acknowledged is acknowledged again, or nothing is said.
        assert_eq!(message, Message::empty(ACK, 1));
    };
    assert_eq!((response.kind, response.code), (CON, CONTENT));
    assert_eq!(
        (response.text(), &response.token),
        ("at last".to_owned(), &request.token)
    );
    client.send(&Message::empty(ACK, response.id));

    // A copy that comes after all that is acknowledged as the first one was (§4.2).
    client.send(&request);
    assert_eq!(client.receive(), Message::empty(ACK, 1));
    assert_eq!(calls(&node, "slow"), 1.0);
    assert_eq!(node.metric("mote_coap_duplicates_total", &[]), 4.0);
}

#[test]
fn a_separate_response_is_repeated_until_it_is_acknowledged() {
    let node = node_with_slow();
    let client = Socket::open(node.coap());
    client.send(&Message::request(CON, GET, 1, "slow"));
    assert_eq!(client.receive(), Message::empty(ACK, 1));
    let response = client.receive();
    let before = Instant::now();
    assert_eq!(client.receive(), response, "the same bytes again");
    let waited = before.elapsed();
    // ACK_TIMEOUT is 2 s, with a random factor of up to 1.5 (RFC 7252 §4.8).
    assert!(waited >= Duration::from_millis(1900), "{waited:?}");
    client.send(&Message::empty(ACK, response.id));
    assert_eq!(client.drain(2), [], "acknowledged");
    assert_eq!(calls(&node, "slow"), 1.0);
}

#[test]
fn a_non_confirmable_request_is_answered_in_kind() {
    let node = node_with_slow();
    node.deploy("quick", &guest::says("done"), &json!({}));
    let client = Socket::open(node.coap());
    for (id, path, text) in [(1, "quick", "done"), (2, "slow", "at last")] {
        let request = Message::request(NON, GET, id, path);
        client.send(&request);
        client.send(&request);
        let response = client.receive();
        assert_eq!((response.kind, response.code), (NON, CONTENT), "{path}");
        assert_eq!(
            (response.text().as_str(), &response.token),
            (text, &request.token)
        );
        client.drain(100 + id);
        assert_eq!(calls(&node, path), 1.0);
    }
}

#[test]
fn what_cannot_be_answered_is_refused_by_its_code() {
    let node = Node::start();
    node.deploy_example("light");
    node.deploy("small", &guest::says("done"), &json!({"body": "100B"}));
    let client = Socket::open(node.coap());

    client.send(&Message::empty(CON, 1));
    assert_eq!(client.receive(), Message::empty(RST, 1), "a ping");

    let unknown =
        |kind, id| Message::request(kind, GET, id, "light").option(UNKNOWN_CRITICAL, b"x");
    let refused = client.ask(&unknown(CON, 2));
    assert_eq!((refused.kind, refused.code), (ACK, BAD_OPTION));
    // RFC 7252 §5.4.1: a non-confirmable one is rejected.
    client.send(&unknown(NON, 3));
    assert_eq!(client.receive(), Message::empty(RST, 3));
    // An elective one is ignored.
    let ignored = Message::request(CON, GET, 4, "light").option(UNKNOWN_CRITICAL - 1, b"x");
    assert_eq!(client.ask(&ignored).code, CONTENT);

    assert_eq!(
        client.ask(&Message::request(CON, GET, 5, "nobody")).code,
        NOT_FOUND
    );

    let large = Message::request(CON, POST, 6, "small").payload(&[b'x'; 101]);
    let refused = client.ask(&large);
    assert_eq!(
        (refused.code, refused.number(SIZE1)),
        (TOO_LARGE, Some(100))
    );
    let announced = Message::request(CON, POST, 7, "small").option(SIZE1, &[101]);
    assert_eq!(client.ask(&announced).code, TOO_LARGE);
    let fits = Message::request(CON, POST, 8, "small").payload(&[b'x'; 100]);
    assert_eq!(client.ask(&fits).code, CONTENT);

    // JSON is 50; text is 0, an option without bytes; 12,345 is nothing.
    let accept = |id, format: &[u8]| Message::request(CON, GET, id, "light").option(ACCEPT, format);
    assert_eq!(client.ask(&accept(9, &[50])).code, CONTENT);
    assert_eq!(client.ask(&accept(10, &[])).code, NOT_ACCEPTABLE);
    assert_eq!(
        client.ask(&accept(11, &12_345_u16.to_be_bytes())).code,
        NOT_ACCEPTABLE
    );
    let discovery = Message::request(CON, GET, 12, ".well-known/core").option(ACCEPT, &[50]);
    assert_eq!(client.ask(&discovery).code, NOT_ACCEPTABLE);
}

#[test]
fn datagrams_that_are_no_messages_do_no_harm() {
    let node = Node::start();
    node.deploy_example("light");
    let client = Socket::open(node.coap());
    let whole = Message::request(CON, POST, 1, "light")
        .option(OBSERVE, &[0])
        .option(ACCEPT, &[50])
        .payload(b"on")
        .bytes();
    let seed = std::env::var("MOTE_SEED").map_or(7252, |seed| seed.parse().unwrap());
    // It passes in silence, and is in what a failed test printed.
    println!("MOTE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..200 {
        for number in 0..50 {
            let mut bytes = match number % 3 {
                0 => (0..random.usize(..1500)).map(|_| random.u8(..)).collect(),
                1 => whole[..random.usize(..whole.len())].to_vec(),
                _ => whole.clone(),
            };
            // Mostly of the right version, or all would be dropped at the first bits.
            if let Some(first) = bytes.first_mut().filter(|_| random.u8(..) > 32) {
                *first = *first & 0b0011_1111 | 0b0100_0000;
            }
            if number % 3 == 2 {
                let place = random.usize(..bytes.len());
                bytes[place] = random.u8(..);
            }
            client.send_bytes(&bytes);
        }
        // Whatever it said to these, it is there, and has taken the last of them.
        let ping = Message::empty(CON, 60_000 + round);
        client.send(&ping);
        while client.receive() != Message::empty(RST, ping.id) {}
    }
    assert!(node.metric("mote_coap_malformed_total", &[]) > 1000.0);
    let light = Message::request(CON, GET, 50_000, "light");
    assert_eq!(Socket::open(node.coap()).ask(&light).code, CONTENT);
    assert_eq!(
        node.get("/light").expect(200).header("content-type"),
        Some("application/json")
    );
}

#[test]
fn a_private_reply_is_never_shown_to_observers() {
    let node = Node::start();
    // Answers with its body, or `nobody` without one, and publishes bodies that begin with `p`.
    let code = format!(
        r#"(data (i32.const 64) "nobody")
        (func (export "handle") (param $body i32) (param $length i32) (result i32)
            (if (i32.eqz (local.get $length))
                (then (return (block (result i32) {nobody}))))
            (if (i32.eq (i32.load8_u (local.get $body)) (i32.const 112))
                (then (call $publish)))
            (i32.store (i32.const 0) (i32.const 0))
            (i32.store (i32.const 4) (local.get $body))
            (i32.store (i32.const 8) (local.get $length))
            (i32.const 0))"#,
        nobody = guest::answer(64, 6),
    );
    let wasm = guest::component_of_world(&code);
    node.deploy("secrets", &wasm, &json!({"observable": true}));
    let observe = |id| Message::request(CON, GET, id, "secrets").option(OBSERVE, &[]);
    let tell = |id, what: &str| Message::request(CON, POST, id, "secrets").payload(what.as_bytes());

    let watching = Socket::open(node.coap());
    let own = watching.ask(&observe(1));
    assert_eq!((own.text().as_str(), own.code), ("nobody", CONTENT));
    assert!(own.number(OBSERVE).is_some(), "{own:?}");

    let somebody = Socket::open(node.coap());
    assert_eq!(somebody.ask(&tell(1, "my secret")).text(), "my secret");
    assert_eq!(
        node.post("/secrets", b"another").expect(200).text(),
        "another"
    );
    // Nor is what a second observer is answered first.
    let second = Socket::open(node.coap());
    assert_eq!(second.ask(&observe(1)).text(), "nobody");
    assert_eq!(somebody.ask(&tell(2, "public")).text(), "public");

    for observer in [&watching, &second] {
        let shown = observer.receive();
        assert_eq!((shown.text().as_str(), shown.code), ("public", CONTENT));
        assert!(shown.number(OBSERVE).is_some(), "{shown:?}");
        if shown.kind == CON {
            observer.send(&Message::empty(ACK, shown.id));
        }
        assert_eq!(observer.drain(9), [], "nothing else was shown");
    }
    // Who comes later gets the published value; running the function would say `nobody`.
    assert_eq!(Socket::open(node.coap()).ask(&observe(1)).text(), "public");
    assert_eq!(node.get("/secrets").expect(200).text(), "public");
}
