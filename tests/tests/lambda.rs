//! Handlers written for AWS Lambda run as they are: with the runtimes that people install from PyPI,
//! npm and crates.io, and as a `bootstrap` file of one's own, over both doors.
//!
//! The handlers are in `tests/interop/lambda`, one for each language, and all do the same.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use mote_tests::eventually::eventually;
use mote_tests::http::{Connection, Reply};
use mote_tests::node::Node;
use mote_tests::program::{repository, run};
use mote_tests::source::Source;
use serde_json::{Value, json};

#[path = "../interop/processes.rs"]
mod processes;
#[path = "../interop/tools.rs"]
mod tools;

/// A handler and what runs it.
struct Language {
    /// The handler's file, or the program that it was built to.
    handler: PathBuf,
    /// The runtime's folder, and its name beside the handler.
    packages: Option<(PathBuf, &'static str)>,
    command: &'static str,
    /// Keys of the manifest.
    lines: &'static str,
    /// What the log says of a call that failed.
    trace: &'static str,
}

/// With `awslambdaric` from PyPI.
fn python() -> Option<Language> {
    let runtime = tools::tool("lambda/python/awslambdaric/__main__.py")?;
    Some(Language {
        handler: interop("handler.py"),
        packages: Some((runtime.ancestors().nth(2)?.to_owned(), "packages")),
        command: r#""/usr/bin/python3", "-m", "awslambdaric", "handler.handler""#,
        lines: "env.PYTHONPATH = \"/app/packages\"\nmemory = \"128MiB\"",
        trace: "handler.py",
    })
}

/// With `aws-lambda-ric` from npm.
fn node_js(function: &str) -> Option<Language> {
    let runtime = tools::tool("lambda/node/node_modules/aws-lambda-ric/bin/index.mjs")?;
    let command = match function {
        "stream" => {
            r#""/usr/bin/node", "node_modules/aws-lambda-ric/bin/index.mjs", "handler.stream""#
        }
        _ => r#""/usr/bin/node", "node_modules/aws-lambda-ric/bin/index.mjs", "handler.handler""#,
    };
    Some(Language {
        handler: interop("handler.js"),
        packages: Some((runtime.ancestors().nth(3)?.to_owned(), "node_modules")),
        command,
        lines: "memory = \"256MiB\"",
        trace: "handler.js",
    })
}

/// With `lambda_runtime` from crates.io.
fn rust() -> Option<Language> {
    Some(Language {
        handler: tools::tool("lambda/rust/handler")?,
        packages: None,
        command: r#""/app/handler""#,
        lines: "",
        trace: "handler.rs",
    })
}

/// With nothing but a shell and curl.
fn bootstrap() -> Option<Language> {
    tools::program("curl")?;
    Some(Language {
        handler: interop("bootstrap"),
        packages: None,
        command: r#""/app/bootstrap""#,
        lines: "",
        trace: "bootstrap: in the loop",
    })
}

fn interop(name: &str) -> PathBuf {
    repository().join("tests/interop/lambda").join(name)
}

impl Language {
    /// Its handler as the function `l`, in one of the ways that the handler knows.
    #[track_caller]
    fn source(&self, way: &str, lines: &str) -> Source {
        let Self { command, .. } = self;
        let lines = format!(
            "runtime = \"process\"\nsource = \".\"\ncontract = \"lambda\"\ncommand = [{command}]\nenv._HANDLER = \"{way}\"\n{}\n{lines}",
            self.lines
        );
        let name = self.handler.file_name().unwrap().to_str().unwrap();
        let source = Source::new()
            .file(name, std::fs::read(&self.handler).unwrap())
            .manifest("l", &lines);
        if let Some((packages, name)) = &self.packages {
            let mut copy = Command::new("cp");
            copy.arg("-r").arg(packages).arg(source.path().join(name));
            run(copy, &[]).ok();
        }
        source
    }
}

/// A node, where it can run what these tests deploy.
#[track_caller]
fn start() -> Option<Node> {
    let node = Node::start();
    processes::sandboxed(&node).then_some(node)
}

/// Posts an event.
#[track_caller]
fn post(node: &Node, event: &Value) -> Reply {
    let headers = [("content-type", "application/json")];
    node.call("POST", "/l", &headers, event.to_string().as_bytes())
}

/// What a client over CoAP says; `None`, said visibly, where there is none.
#[track_caller]
fn coap(node: &Node, arguments: &[&str], path: &str) -> Option<String> {
    let mut command = Command::new(tools::program("coap-client-notls")?);
    command
        .args(arguments)
        .arg(format!("coap://{}{path}", node.coap()));
    let ended = run(command, &[]);
    // It writes the reason of an error to the other one.
    Some(ended.stdout + &ended.stderr)
}

/// The programs of a node's functions, without what keeps each in its sandbox.
fn programs(node: &Node) -> Vec<processes::Process> {
    let below = processes::below(node.pid()).into_iter();
    let programs = below.filter(|(_, line)| !line.contains("__sandbox"));
    programs.map(|(process, _)| process).collect()
}

/// Longest call of the handlers: time enough for a busy machine to start one.
const TIMEOUT_MS: u64 = 6000;

/// What a handler of every language has to do.
#[track_caller]
fn check(language: Option<Language>) {
    // What is missing was said.
    let Some(language) = language else { return };
    let Some(node) = start() else { return };
    let timeout = format!("timeout = \"{TIMEOUT_MS}ms\"");
    node.deploy_source(&language.source("serve", &timeout));
    events(&node);
    function_urls(&node);
    failures(&node, language.trace);
    over_coap(&node);
    late(&node);
}

/// JSON in, JSON out; the handler sees who calls and until when, and one process serves all calls.
#[track_caller]
fn events(node: &Node) {
    let mut ids = Vec::new();
    for calls in 1..=3 {
        let reply = post(node, &json!({"name": "Ada"})).expect(200);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let reply = reply.json();
        assert_eq!(reply["hello"], "Ada");
        assert_eq!(reply["calls"], calls, "not the same process");
        let left = reply["left"].as_u64().unwrap();
        assert!((1..=TIMEOUT_MS).contains(&left), "{reply}");
        ids.push(reply["id"].as_str().unwrap().to_owned());
    }
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    // The log has what it wrote, under the number of the call.
    for id in &ids {
        eventually("what it wrote is in the log", || {
            let log = node.mote(&["logs", "l", "--json"]).ok();
            let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
            let mut of_call = lines.filter(|line: &Value| line["call"] == *id.as_str());
            of_call.any(|line| line["text"].as_str().unwrap().contains(id))
        });
    }
}

/// Anything but JSON that was posted to the function is the event of a function URL.
#[track_caller]
fn function_urls(node: &Node) {
    let headers = [("x-sent", "yes"), ("content-type", "text/plain")];
    let put = node.call("PUT", "/l/rooms/a?floor=2", &headers, b"on");
    let put = put.expect(201);
    assert_eq!(put.header("x-made"), Some("PUT /rooms/a"));
    assert_eq!(put.header("content-type"), Some("text/plain"));
    assert_eq!(put.text(), "2 yes on");
    let get = node.get("/l").expect(201);
    assert_eq!(get.header("x-made"), Some("GET /"));
}

/// What a handler throws is the reason of a 502, and the log has where.
#[track_caller]
fn failures(node: &Node, trace: &str) {
    let detail = post(node, &json!({"fail": true})).problem(502, "function_failed");
    assert!(detail.contains("LookupError: no such room"), "{detail}");
    eventually("the log has where it failed", || {
        node.log_of("l").contains(trace)
    });
    // The same process goes on: it has served three events, two URLs and the failure.
    let reply = post(node, &json!({"name": "Eve"})).expect(200).json();
    assert_eq!(reply["calls"], 7);
}

#[track_caller]
fn over_coap(node: &Node) {
    // Content-Format 50 is JSON (RFC 7252 §12.3).
    let event = ["-m", "post", "-t", "50", "-e", "{\"name\":\"Bob\"}"];
    let Some(reply) = coap(node, &event, "/l") else {
        return;
    };
    let reply: Value = serde_json::from_str(&reply).unwrap_or_else(|_| panic!("{reply}"));
    assert_eq!(reply["hello"], "Bob");
    let got = coap(node, &["-m", "get"], "/l/rooms?floor=3").unwrap();
    assert_eq!(got.trim(), "3");
    let event = ["-m", "post", "-t", "50", "-e", "{\"fail\":true}"];
    let failed = coap(node, &event, "/l").unwrap();
    assert!(failed.contains("5.02"), "{failed}");
    assert!(failed.contains("no such room"), "{failed}");
}

/// A handler that is over its time is killed, and the next call gets another process.
#[track_caller]
fn late(node: &Node) {
    let before = programs(node);
    assert!(!before.is_empty());
    post(node, &json!({"hang": true})).problem(504, "timeout");
    let reply = post(node, &json!({"name": "Max"})).expect(200).json();
    assert_eq!(
        (&reply["hello"], &reply["calls"]),
        (&json!("Max"), &json!(1))
    );
    eventually("the late process is gone", || {
        !before.iter().any(processes::is_there)
    });
}

/// A handler that does not start is not deployed, and the reason is the handler's.
#[track_caller]
fn check_broken(language: Option<Language>) {
    let Some(language) = language else { return };
    let Some(node) = start() else { return };
    node.try_deploy_source(&language.source("broken", ""))
        .failed(7, &["`l`", "no configuration"]);
    assert_eq!(node.functions(), Vec::<String>::new());
    eventually("nothing of it is left", || programs(&node).is_empty());
}

/// The first piece of an answer arrives while the second is not written yet.
#[track_caller]
fn check_stream(language: Option<Language>) {
    let Some(language) = language else { return };
    let gate = tempfile::tempdir().unwrap();
    open_to_all(gate.path());
    let read = format!(
        "allow.read = [{{ host = \"{}\", guest = \"/gate\" }}]\ntimeout = \"60s\"",
        gate.path().display()
    );
    let Some(node) = start() else { return };
    node.deploy_source(&language.source("stream", &read));
    for number in 0..2 {
        let mut connection = Connection::open(node.http());
        let file = format!("open{number}");
        let event = json!({ "gate": format!("/gate/{file}") }).to_string();
        let headers = [("content-type", "application/json")];
        connection.request("POST", "/l", &headers, event.as_bytes());
        let head = connection.head().unwrap().expect(203);
        assert_eq!(head.header("content-type"), Some("text/plain"));
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        let mut body = Vec::new();
        while body.len() < b"first ".len() {
            body.extend(connection.chunk().unwrap());
        }
        assert_eq!(body, b"first ");
        std::fs::write(gate.path().join(file), "").unwrap();
        loop {
            let chunk = connection.chunk().expect("the whole answer");
            if chunk.is_empty() {
                break;
            }
            body.extend(chunk);
        }
        assert_eq!(body, b"first second");
    }
}

/// Programs in a sandbox have a user of their own.
fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn awslambdaric_serves() {
    check(python());
}

#[test]
fn aws_lambda_ric_serves() {
    check(node_js("handler"));
}

#[test]
fn lambda_runtime_serves() {
    check(rust());
}

#[test]
fn a_bootstrap_file_serves() {
    check(bootstrap());
}

#[test]
fn awslambdaric_says_why_it_cannot_start() {
    check_broken(python());
}

#[test]
fn aws_lambda_ric_says_why_it_cannot_start() {
    check_broken(node_js("handler"));
}

#[test]
fn lambda_runtime_says_why_it_cannot_start() {
    check_broken(rust());
}

#[test]
fn a_bootstrap_file_says_why_it_cannot_start() {
    check_broken(bootstrap());
}

#[test]
fn aws_lambda_ric_streams() {
    check_stream(node_js("stream"));
}

#[test]
fn lambda_runtime_streams() {
    check_stream(rust());
}
