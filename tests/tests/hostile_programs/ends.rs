//! Programs that do not end when they should: killed with all that they started, by the clock, a
//! redeploy, a removal, or the end of the node.

use mote_tests::node::Node;
use mote_tests::source::{Source, python, server, shell};

use crate::{LATE, Mark, coap, program, says};

/// Starts a process in a session of its own, says so, and never ends.
fn spins(mark: &Mark) -> String {
    format!(
        "import os, subprocess\nsubprocess.Popen(['setsid', 'sh', '-c', 'trap \"\" TERM; setsid sleep {0} & sleep {0}'])\nos.write(2, b'spins\\n')\nwhile True: pass",
        mark.0
    )
}

fn indented(code: &str, by: usize) -> String {
    code.replace('\n', &format!("\n{}", " ".repeat(by)))
}

#[track_caller]
fn hangs_and_recovers(source: impl Fn(&Mark) -> Source) {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let mark = Mark::new();
    node.deploy_source(&source(&mark));
    assert_eq!(node.post("/f", b"fine").expect(200).text(), "fine");
    for _ in 0..2 {
        node.post("/f", b"hang").problem(LATE.0, "timeout");
        mark.gone();
        assert_eq!(coap(&node, "f", b"hang").code, LATE.1);
        mark.gone();
        assert_eq!(node.post("/f", b"fine").expect(200).text(), "fine");
        assert_eq!(coap(&node, "f", b"fine").text(), "fine");
    }
    says(&node.log_of("f"), "spins");
    node.answers_hello();
}

/// Time of the clock and not of the processor is what ends these.
const LINES: &str = "timeout = \"3s\"\ncpu = \"60s\"\nconcurrency = 1";

#[test]
fn a_late_process_is_killed_with_all_it_started() {
    hangs_and_recovers(|mark| {
        let code = format!(
            "import sys\nbody = sys.stdin.read()\nif body == 'hang':\n    {}\nprint(body, end='')\n",
            indented(&spins(mark), 4)
        );
        program("f", "stdio", LINES, &code)
    });
}

#[test]
fn a_late_server_is_killed_with_all_it_started() {
    hangs_and_recovers(|mark| {
        let code = format!(
            "if body == b'hang':\n    {}\nanswer(h, body)",
            indented(&spins(mark), 4)
        );
        server("f", LINES, &code)
    });
}

#[test]
fn a_late_lambda_is_killed_with_all_it_started() {
    hangs_and_recovers(|mark| {
        let code = format!(
            r#"
import os
from urllib.request import Request, urlopen
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urlopen(api + "next") as event:
        call, body = event.headers["Lambda-Runtime-Aws-Request-Id"], event.read()
    if b"hang" in body or b"aGFuZw" in body:
        {}
    reply = b'{{"statusCode": 200, "body": "fine"}}'
    urlopen(Request(api + call + "/response", data=reply)).read()
"#,
            indented(&spins(mark), 8)
        );
        program("f", "lambda", LINES, &code)
    });
}

#[test]
fn a_late_handler_is_killed_with_all_it_started() {
    hangs_and_recovers(|mark| {
        let code = format!(
            "def fn(i, h):\n    if i == 'hang':\n        {}\n    return i\n",
            indented(&spins(mark), 8)
        );
        python("f", LINES, &code)
    });
}

#[test]
fn a_call_that_follows_a_late_one_does_not_share_its_end() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let mark = Mark::new();
    let code = format!(
        "if body == b'hang':\n    {}\nanswer(h, body)",
        indented(&spins(&mark), 4)
    );
    let lines = "timeout = \"1s\"\ncpu = \"60s\"\nconcurrency = 1";
    node.deploy_source(&server("f", lines, &code));
    for _ in 0..3 {
        node.post("/f", b"hang").problem(LATE.0, "timeout");
        assert_eq!(node.post("/f", b"fine").expect(200).text(), "fine");
    }
}

#[test]
fn what_a_call_leaves_behind_ends_with_the_call() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let mark = Mark::new();
    // It holds the reply's pipe open, which must not keep the caller waiting.
    let leaves = format!("setsid sleep {} & echo done", mark.0);
    node.deploy_source(&shell("l", "timeout = \"50s\"", &leaves));
    assert_eq!(node.post("/l", b"").expect(200).text(), "done\n");
    mark.gone();
    assert_eq!(coap(&node, "l", b"").text(), "done\n");
    mark.gone();
    // A handler of a zygote, whose worker goes on or not.
    let handler = format!(
        "import subprocess\ndef fn(i, h):\n    subprocess.Popen(['setsid', 'sleep', '{}'])\n    return 'done'\n",
        mark.0
    );
    node.deploy_source(&python("z", "reuse = 1", &handler));
    assert_eq!(node.post("/z", b"").expect(200).text(), "done");
    mark.gone();
    node.answers_hello();
}

/// A program that ignores SIGTERM, as does what it starts.
fn stubborn(mark: &Mark, answer: &str) -> Source {
    let code = format!(
        r#"
import os, signal, subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
subprocess.Popen(["setsid", "sleep", "{}"])
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "{}")
        self.end_headers()
        self.wfile.write(b"{answer}")
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#,
        mark.0,
        answer.len()
    );
    program("w", "http", "", &code)
}

#[test]
fn what_ignores_the_end_is_ended_by_a_redeploy_and_a_removal() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let (first, second) = (Mark::new(), Mark::new());
    node.deploy_source(&stubborn(&first, "one"));
    assert_eq!(node.get("/w").expect(200).text(), "one");
    assert!(first.processes() > 0);
    node.deploy_source(&stubborn(&second, "two"));
    assert_eq!(node.get("/w").expect(200).text(), "two");
    first.gone();
    assert!(second.processes() > 0);
    node.mote(&["rm", "w"]).ok();
    second.gone();
    node.answers_hello();
}

#[test]
fn what_ignores_the_end_is_ended_with_the_node() {
    let mut node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let mark = Mark::new();
    node.deploy_source(&stubborn(&mark, "here"));
    assert_eq!(node.get("/w").expect(200).text(), "here");
    assert!(mark.processes() > 0);
    node.stop();
    mark.gone();
    let data = node.data_dir().display().to_string();
    assert_eq!(crate::processes_with(&data), 0);
    // A node that is killed leaves nothing either.
    node.restart();
    assert_eq!(node.get("/w").expect(200).text(), "here");
    assert!(mark.processes() > 0);
    node.kill();
    mark.gone();
}
