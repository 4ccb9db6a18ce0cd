//! The command line: a relay as a user starts it, and what it says.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_mote-bench");
const COAP: &str = env!("CARGO_BIN_EXE_baseline-coap");
const PATIENCE: Duration = Duration::from_secs(30);

/// A program at work, which is ended with this.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(piped.spawn().unwrap())
    }

    /// A relay; where it listens.
    fn relay(words: &[&str]) -> (Self, String) {
        let mut command = Command::new(BENCH);
        let mut relay = Self::start(command.args(["link", "relay", "--json"]).args(words));
        let line = relay.line();
        let (listens, _) = line.split_once(" to ").unwrap();
        let (_, address) = listens.split_once(':').unwrap();
        (relay, address.to_owned())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let mut reader = BufReader::new(self.0.stdout.as_mut().unwrap());
        reader.read_line(&mut line).unwrap();
        line
    }

    /// Ends it, and reads its report.
    fn report(mut self) -> Value {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let mut said = String::new();
        let stderr = self.0.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        assert!(self.0.wait().unwrap().success(), "{said}");
        serde_json::from_str(&said).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn a_relay_tells_what_became_of_datagrams() {
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = format!("udp:{}", far.local_addr().unwrap());
    let words = ["--listen", "udp:127.0.0.1:0", "--to", &to];
    let shape = ["--delay", "5ms", "--rate", "100", "--queue", "7"];
    let (relay, address) = Program::relay(&[&words[..], &shape[..]].concat());
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    near.send_to(b"hello", &address).unwrap();
    let mut packet = [0; 16];
    assert_eq!(far.recv(&mut packet).unwrap(), 5);
    let report = relay.report();
    assert_eq!(report["kind"], "relay");
    assert_eq!(report["there"]["arrived"], 1);
    assert_eq!(report["settings"][1]["queue"], 7);
}

/// Somebody else's client, across a relay.
#[test]
fn coap_client_is_answered_across_a_relay() {
    let mut server = Program::start(&mut Command::new(COAP));
    let line = server.line();
    let (_, served) = line.trim().split_once("coap://").unwrap();
    let to = format!("udp:{served}");
    let words = [
        "--listen",
        "udp:127.0.0.1:0",
        "--to",
        &to,
        "--preset",
        "eopt",
    ];
    let (relay, address) = Program::relay(&words);
    let asked = Command::new("coap-client-notls")
        .args(["-B", "20", &format!("coap://{address}/hello")])
        .output();
    let Ok(asked) = asked else {
        let required = std::env::var_os("MOTE_REQUIRE_TOOLS").is_some();
        assert!(!required, "there is no coap-client-notls");
        eprintln!("skipped: there is no coap-client-notls");
        return;
    };
    let answer = String::from_utf8_lossy(&asked.stdout);
    assert!(answer.contains("hello, world"), "{asked:?}");
    let report = relay.report();
    for way in ["there", "back"] {
        assert!(report[way]["arrived"].as_u64().unwrap() >= 1, "{report}");
    }
}

#[test]
fn what_cannot_be_relayed_is_said() {
    let says = |words: &[&str], part: &str| {
        let mut command = Command::new(BENCH);
        let output = command
            .args(["link", "relay"])
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(part), "{said}");
    };
    let udp = "udp:127.0.0.1:0";
    says(&["--listen", udp], "--to");
    says(
        &["--listen", udp, "--to", "tcp:127.0.0.1:1"],
        "one protocol",
    );
    says(&["--listen", udp, "--listen", udp, "--to", udp], "no pairs");
    says(
        &["--listen", "127.0.0.1:5683", "--to", udp],
        "udp:127.0.0.1:5683",
    );
    says(
        &["--listen", "udp:192.0.2.1:5683", "--to", udp],
        "cannot listen at udp:192.0.2.1:5683",
    );
    says(
        &["--listen", udp, "--to", udp, "--loss", "101"],
        "--loss 101",
    );
    says(
        &["--listen", udp, "--to", udp, "--clients", "0"],
        "--clients 0",
    );
}
