//! A node and other people's CoAP clients: libcoap, aiocoap, and node's `coap`.
//!
//! Each does what a program on a gateway or in a browser's backend does: GET, POST, a body of
//! 100 KiB in blocks both ways, observation, discovery, and an error.

#![expect(
    clippy::unwrap_used,
    reason = "this is test code: it stops at the first surprise"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use mote_tests::deploy::example;
use mote_tests::node::Node;
use mote_tests::program::{clean, repository};
use serde_json::json;

#[path = "../interop/tools.rs"]
mod tools;

const BODY_BYTES: usize = 100 << 10;

#[test]
fn libcoap() {
    if let Some(program) = tools::program("coap-client-notls") {
        check(|method, uri, file| {
            let mut command = Command::new(&program);
            command.args(["-B", "60", "-o", "-"]);
            match (method, file) {
                ("observe", _) => command.args(["-w", "-s", "60"]),
                (_, Some(file)) => command.args(["-m", method, "-f"]).arg(file),
                (_, None) => command.args(["-m", method]),
            };
            command.arg(uri);
            command
        });
    }
}

#[test]
fn aiocoap() {
    if let Some(python) = tools::tool("venv/bin/python") {
        check(|method, uri, file| {
            let mut command = Command::new(&python);
            command.arg(repository().join("tests/interop/aiocoap_client.py"));
            command.args([method, uri]).args(file);
            command
        });
    }
}

#[test]
fn node_coap() {
    let manifest = tools::tool("node/node_modules/coap/package.json");
    if let (Some(node), Some(manifest)) = (tools::program("node"), manifest) {
        let modules = manifest.ancestors().nth(2).unwrap();
        check(|method, uri, file| {
            let mut command = Command::new(&node);
            command.arg(repository().join("tests/interop/node_coap_client.cjs"));
            command.args([method, uri]).args(file);
            clean(&mut command);
            command.env("NODE_PATH", modules);
            command
        });
    }
}

/// What every client must be able to do. `client` makes the command for a method (or `observe`),
/// a URI and a file with the body.
fn check(client: impl Fn(&str, &str, Option<&Path>) -> Command) {
    let node = Node::start();
    node.deploy_example("hello");
    node.deploy_example("light");
    node.deploy("echo", &example("echo"), &json!({"body": "256KiB"}));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let uri = |path: &str| format!("coap://{}/{path}", node.coap());
    let ask = |method: &str, path: &str, file: Option<&Path>| {
        let output = client(method, &uri(path), file).output().unwrap();
        (
            output.stdout,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let ok = |method: &str, path: &str, file: Option<&Path>| {
        let (body, said) = ask(method, path, file);
        assert_eq!(said, "", "{method} {path}");
        body
    };

    assert_eq!(ok("get", "hello", None), b"hello, world\n");
    let off = file("off", b"off");
    assert_eq!(ok("post", "light", Some(&off)), br#"{"light":"off"}"#);
    let links = String::from_utf8(ok("get", ".well-known/core", None)).unwrap();
    for link in [
        "</echo>;rt=\"mote.function\";title=\"echo.default\"",
        "</hello>;rt=\"mote.function\";title=\"hello.default\"",
        "</light>;rt=\"mote.function\";title=\"light.default\";obs",
    ] {
        assert!(
            links.split(',').any(|found| found == link),
            "{link}: {links}"
        );
    }

    // Bytes without a pattern: a block in the wrong place cannot go unseen.
    let mut random = fastrand::Rng::with_seed(7959);
    let body: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(BODY_BYTES)
        .collect();
    let large = file("body", &body);
    for method in ["put", "post"] {
        let echoed = ok(method, "echo", Some(&large));
        assert_eq!(echoed.len(), body.len(), "{method}");
        assert!(echoed == body, "{method}: other bytes came back");
    }

    let (_, said) = ask("get", "nobody", None);
    assert!(said.contains("4.04"), "{said}");

    let mut watching = Watching::start(client("observe", &uri("light"), None));
    assert_eq!(watching.next(), r#"{"light":"off"}"#);
    let somebody_else = node.post("/light", b"on");
    assert_eq!(somebody_else.expect(200).text(), r#"{"light":"on"}"#);
    assert_eq!(watching.next(), r#"{"light":"on"}"#);
    assert_eq!(node.metric("mote_coap_malformed_total", &[]), 0.0);
}

/// A client that writes each value on a line. It is ended with the value.
struct Watching {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watching {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next value. The clients themselves give up after a while, which ends their output.
    fn next(&mut self) -> String {
        loop {
            let mut line = String::new();
            let length = self.lines.read_line(&mut line).unwrap();
            assert!(length > 0, "the client ended");
            // libcoap ends some values with an empty line.
            if !line.trim().is_empty() {
                return line.trim().to_owned();
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
