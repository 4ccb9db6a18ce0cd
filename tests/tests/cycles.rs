//! From zero to load and back, again and again over every runtime, with the node killed in the middle
//! of it: what the node has on its system is afterwards what it was before.
//!
//! Ten cycles; a hundred with `MOTE_FULL=1`.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use mote_tests::engine::Engine;
use mote_tests::eventually::{eventually, within};
use mote_tests::guest;
use mote_tests::http::{Connection, Reply};
use mote_tests::node::{Node, Up};
use mote_tests::program::repository;
use mote_tests::source::{Source, python, server, shell};
use serde_json::json;

use leftovers::{Listing, Marks};

#[path = "../interop/leftovers.rs"]
mod leftovers;
#[path = "../interop/processes.rs"]
mod processes;
#[path = "../interop/tools.rs"]
mod tools;

/// How often the node is killed.
const KILLS: usize = 3;
/// Calls of each function in a cycle.
const CALLS: usize = 4;

const EVENT: &[u8] = br#"{"name":"Ada"}"#;
/// What every program takes long for.
const HANG: &[u8] = br#"{"hang":true}"#;

/// Functions of every runtime, at zero between the cycles.
struct Functions {
    word: String,
    /// Those that run outside of the node.
    programs: Vec<Program>,
}

/// A function outside of the node, and what a listing has of it while it runs.
struct Program {
    name: String,
    shows: &'static str,
}

impl Functions {
    #[track_caller]
    fn deploy(node: &Node, word: &str, engine: Option<&Engine>) -> Self {
        let mut all = Self {
            word: word.to_owned(),
            programs: Vec::new(),
        };
        node.deploy_example("hello");
        let patient = json!({"cpu": "600s", "timeout": "600s"});
        node.deploy("loops", &guest::loops(), &patient);
        let lines = format!(
            "timeout = \"60s\"\nenv.MARK = \"{word}\"\nenv._HANDLER = \"serve\"\nscale = {{ idle = \"100ms\" }}"
        );
        // Each leaves something behind: a file, and a process that belongs to nobody.
        let script = format!(
            "event=$(cat)\necho x > /tmp/{word}\nsetsid sleep 600 </dev/null >/dev/null 2>&1 &\ncase $event in *hang*) sleep 600 ;; esac\necho done"
        );
        all.add(node, ("stdio", "/app/fn.sh"), |name| {
            shell(name, &lines, &script)
        });
        let orphan = format!(
            "open('/tmp/{word}', 'w').write('x')\nsubprocess.Popen(['sleep', '600'], start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\ntime.sleep(600 if 'hang' in str(EVENT) else 0)\n"
        );
        let code = format!(
            "import subprocess\n{}answer(h, 'done')",
            orphan.replace("EVENT", "body")
        );
        all.add(node, ("http", "server.py"), |name| {
            server(name, &lines, &code)
        });
        let code = format!(
            "import subprocess, time\ndef fn(event, headers):\n    {}\n    return 'done'\n",
            orphan
                .replace("EVENT", "event")
                .trim()
                .replace('\n', "\n    ")
        );
        all.add(node, ("zygote", "handler.py"), |name| {
            python(name, &lines, &code)
        });
        if tools::program("curl").is_some() {
            let bootstrap = repository().join("tests/interop/lambda/bootstrap");
            let keys = format!(
                "runtime = \"process\"\nsource = \".\"\ncontract = \"lambda\"\ncommand = [\"sh\", \"-c\", \"trap exit TERM; ./bootstrap & wait\"]\n{lines}"
            );
            all.add(node, ("lambda", "./bootstrap"), |name| {
                Source::new()
                    .file("bootstrap", std::fs::read(&bootstrap).unwrap())
                    .manifest(name, &keys)
            });
        }
        if engine.is_some() {
            let keys = format!(
                "runtime = \"container\"\nimage = \"mote-test/python-node\"\ncontract = \"http\"\ncommand = [\"python3\", \"-u\", \"-c\", '''{CONTAINER}''']\n{lines}"
            );
            all.add(node, ("container", "container "), |name| {
                Source::new().manifest(name, &keys)
            });
        }
        all
    }

    #[track_caller]
    fn add(
        &mut self,
        node: &Node,
        (kind, shows): (&str, &'static str),
        source: impl FnOnce(&str) -> Source,
    ) {
        // Two apps, so that some sandboxes are shared and some are not.
        let app = match kind {
            "http" | "container" => format!("{}b", self.word),
            _ => format!("{}a", self.word),
        };
        let name = format!("{kind}.{app}");
        node.deploy_source(&source(&name));
        self.programs.push(Program { name, shows });
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.programs.iter().map(|program| program.name.as_str())
    }

    /// Calls all of them at once, and each some times in a row.
    fn load(&self, node: &Node) {
        thread::scope(|scope| {
            for name in self.names().chain(["hello"]) {
                scope.spawn(move || {
                    for _ in 0..CALLS {
                        post(node, name, EVENT).expect(200);
                    }
                });
            }
        });
    }

    /// A call of each of them that does not end; they are all under way.
    #[track_caller]
    fn hang(&self, node: &Node) -> Vec<Connection> {
        let names: Vec<&str> = self.names().chain(["loops"]).collect();
        let calls = names.iter().map(|name| begin(node, name, HANG)).collect();
        for name in names {
            eventually(&format!("{name} has a call"), || {
                node.function(name)["in_flight"] == 1
            });
        }
        for name in self.names() {
            node.await_instances(name, 1);
        }
        calls
    }

    #[track_caller]
    fn await_zero(&self, node: &Node) {
        for name in self.names() {
            node.await_instances(name, 0);
        }
        eventually("all memory is given back", || {
            node.status_field("memory_reserved_bytes") == 0
        });
    }
}

/// A server that hangs when it is told to.
const CONTAINER: &str = r#"
import os, signal, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(600 if b"hang" in body else 0)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"done")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
"#;

#[track_caller]
fn begin(node: &Node, name: &str, event: &[u8]) -> Connection {
    let mut connection = Connection::open(node.http());
    let headers = [("content-type", "application/json")];
    connection.request("POST", &format!("/{name}"), &headers, event);
    connection
}

#[track_caller]
fn post(node: &Node, name: &str, event: &[u8]) -> Reply {
    begin(node, name, event).reply("POST").unwrap()
}

/// Waits until a listing is what it was.
#[track_caller]
fn same(when: &str, before: &Listing, mut now: impl FnMut() -> Listing) {
    let mut last = Listing::new();
    let reached = within(Duration::from_secs(30), || {
        last = now();
        (last == *before).then_some(())
    });
    if reached.is_none() {
        let more: Vec<_> = last.difference(before).collect();
        let less: Vec<_> = before.difference(&last).collect();
        panic!("{when} there is more: {more:#?}, and less: {less:#?}");
    }
}

#[test]
fn cycles_leave_nothing() {
    let full = std::env::var_os("MOTE_FULL").is_some();
    let cycles = if full { 100 } else { 10 };
    let word = format!("cycles{:08x}", fastrand::u32(..));
    let temporary = tempfile::tempdir().unwrap();
    let engine = Engine::start();
    let mut up = Up::new().variable("TMPDIR", temporary.path().to_str().unwrap());
    if let Some(engine) = &engine {
        up = up.flag("--container-socket", engine.socket().to_str().unwrap());
    }
    let mut node = up.start();
    if !processes::sandboxed(&node) {
        return;
    }
    let mut marks = Marks::new(&node, &word);
    let mut before = Listing::new();
    eventually("what the node tried at its start has ended", || {
        before = marks.running(Some(&node), engine.as_ref());
        !before.iter().any(|line| line.starts_with("process "))
    });
    let files_before = marks.files(temporary.path());

    let functions = Functions::deploy(&node, &word, engine.as_ref());
    functions.load(&node);
    functions.await_zero(&node);
    // Between its containers an app keeps its network, and nothing else.
    let mut at_zero = Listing::new();
    eventually("only networks are left", || {
        at_zero = marks.running(Some(&node), engine.as_ref());
        let more = at_zero.difference(&before);
        more.into_iter()
            .all(|line| line.starts_with("network ") || line.starts_with("interface "))
    });
    let files = marks.files(temporary.path());
    let descriptors = leftovers::descriptors(&node);
    let mut killed = 0;
    for cycle in 0..cycles {
        let when = format!("in cycle {cycle}");
        functions.load(&node);
        if (cycle + 1) % (cycles / KILLS) == 0 {
            killed += 1;
            kill_under_load(&mut node, &mut marks, &functions, engine.as_ref());
            functions.load(&node);
        }
        functions.await_zero(&node);
        same(&when, &at_zero, || {
            marks.running(Some(&node), engine.as_ref())
        });
        same(&when, &files, || marks.files(temporary.path()));
        eventually(
            &format!("no more descriptors {when}: {descriptors:?}"),
            || {
                let open = leftovers::descriptors(&node);
                open.iter()
                    .all(|(kind, count)| *count <= descriptors.get(kind).copied().unwrap_or(0))
            },
        );
    }
    assert_eq!(killed, KILLS);
    for name in functions.names().chain(["hello", "loops"]) {
        node.mote(&["rm", name]).ok();
    }
    same("without functions", &before, || {
        marks.running(Some(&node), engine.as_ref())
    });
    // Code that nobody uses is kept for a while, and goes with the first look after that.
    node.stop();
    for folder in ["artifacts", "images"] {
        make_old(&node.data_dir().join(folder));
    }
    node.restart();
    same("without artifacts", &files_before, || {
        marks.files(temporary.path())
    });
    node.stop();
    same("after the stop", &Listing::new(), || {
        marks.running(None, engine.as_ref())
    });
}

/// Sets the files of a folder back by a year.
#[track_caller]
fn make_old(folder: &Path) {
    let then = SystemTime::now() - Duration::from_secs(365 * 86_400);
    for file in std::fs::read_dir(folder).unwrap().flatten() {
        let file = File::options().write(true).open(file.path()).unwrap();
        file.set_modified(then).unwrap();
    }
}

/// Ends the node while every function has a call, and starts it again.
#[track_caller]
fn kill_under_load(
    node: &mut Node,
    marks: &mut Marks,
    functions: &Functions,
    engine: Option<&Engine>,
) {
    let calls = functions.hang(node);
    let loaded = marks.running(Some(node), engine);
    for Program { name, shows } in &functions.programs {
        let shown = loaded.iter().any(|line| line.contains(shows));
        assert!(shown, "{name} is not listed: {loaded:#?}");
    }
    let below = processes::below(node.pid());
    node.kill();
    eventually("every process of the node is gone", || {
        !below.keys().any(processes::is_there)
    });
    drop(calls);
    node.restart();
}

/// The kernel gives up on a path with `..` in it when anything is renamed meanwhile (openat2(2)).
#[test]
fn sandboxes_are_made_while_files_are_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (here, there) = (folder.path().join("here"), folder.path().join("there"));
            File::create(&here).unwrap();
            while !done.load(Ordering::Relaxed) {
                std::fs::rename(&here, &there).unwrap();
                std::fs::rename(&there, &here).unwrap();
            }
        });
        // Also when a check fails.
        let _end = End(&done);
        for number in 0..20 {
            let name = format!("s.app{number}");
            node.deploy_source(&shell(&name, "", "cat"));
            let reply = node.post(&format!("/{name}"), b"x").expect(200);
            assert_eq!(reply.text(), "x");
        }
    });
}

/// Ends what looks at it.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
