//! Programs that mean harm, or are merely broken: each gets a clear answer through every door, the
//! node keeps serving, and nothing of them is left.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::atomic::{AtomicU32, Ordering};

use mote_tests::eventually::eventually;
use mote_tests::node::Node;
use mote_tests::source::Source;

#[path = "../interop/datagram.rs"]
mod datagram;

use datagram::{CON, Message, POST, Socket};

#[path = "hostile_programs/start.rs"]
mod start;

#[path = "hostile_programs/replies.rs"]
mod replies;

#[path = "hostile_programs/limits.rs"]
mod limits;

#[path = "hostile_programs/ends.rs"]
mod ends;

#[path = "hostile_programs/deaths.rs"]
mod deaths;

#[path = "hostile_programs/walls.rs"]
mod walls;

#[path = "hostile_programs/way_out.rs"]
mod way_out;

/// A status of HTTP with the code of CoAP that means the same.
type Failure = (u16, (u8, u8));
const BAD_REPLY: Failure = (502, (5, 2));
const UNAVAILABLE: Failure = (503, (5, 3));
const LATE: Failure = (504, (5, 4));

/// Calls a function through the CoAP door.
#[track_caller]
fn coap(node: &Node, name: &str, body: &[u8]) -> Message {
    let request = Message::request(CON, POST, 1, name).payload(body);
    Socket::open(node.coap()).ask(&request)
}

/// Calls a function through both doors, which must fail alike, and gives what HTTP said.
#[track_caller]
fn fails(node: &Node, name: &str, body: &[u8], (status, code): Failure) -> String {
    let reply = node.post(&format!("/{name}"), body).expect(status);
    let response = coap(node, name, body);
    assert_eq!(response.code, code, "{}", response.text());
    reply.json()["detail"].as_str().unwrap().to_owned()
}

#[track_caller]
fn says(text: &str, part: &str) {
    assert!(text.contains(part), "`{part}` is not in: {text}");
}

/// A number that only the processes of one test have in their command lines.
struct Mark(String);

impl Mark {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!(
            "{}",
            u64::from(std::process::id()) * 1000 + 10_000_000 + u64::from(next)
        ))
    }

    /// How many processes of this machine have it.
    fn processes(&self) -> usize {
        processes_with(&self.0)
    }

    /// Waits until none has it.
    #[track_caller]
    fn gone(&self) {
        eventually("none of its processes is left", || self.processes() == 0);
    }
}

/// How many processes of this machine have this text in their command line.
fn processes_with(text: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(text))
        .count()
}

/// A folder with one Python program and the manifest that runs it.
#[track_caller]
fn program(name: &str, contract: &str, lines: &str, code: &str) -> Source {
    let lines = format!(
        "runtime = \"process\"\nsource = \".\"\ncontract = \"{contract}\"\ncommand = [\"python3\", \"-u\", \"main.py\"]\n{lines}"
    );
    Source::new().file("main.py", code).manifest(name, &lines)
}
