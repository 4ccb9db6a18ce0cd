//! Folders of plain source, deployed with `mote deploy` as a person does.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::node::Node;
use crate::program::Ended;

/// A folder with the code of one function, and perhaps a manifest.
#[derive(Debug)]
pub struct Source {
    folder: TempDir,
}

impl Source {
    /// An empty folder.
    #[track_caller]
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// With a file; a script that begins with `#!` may be executed.
    #[must_use]
    #[track_caller]
    pub fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.folder.path().join(name);
        let text = text.as_ref();
        fs::write(&path, text).unwrap();
        if text.starts_with(b"#!") || text.starts_with(b"\x7fELF") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        self
    }

    /// With a manifest of one function: these lines below `[function.NAME]`.
    #[must_use]
    #[track_caller]
    pub fn manifest(self, name: &str, lines: &str) -> Self {
        let (function, app) = name.split_once('.').unwrap_or((name, "default"));
        let text = format!("version = 1\napp = \"{app}\"\n[function.{function}]\n{lines}\n");
        self.file("mote.toml", text)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::new()
    }
}

/// A process function of this Python handler; `lines` are further keys of its manifest.
#[track_caller]
pub fn python(name: &str, lines: &str, handler: &str) -> Source {
    let lines = format!("runtime = \"process\"\nsource = \".\"\n{lines}");
    Source::new()
        .file("handler.py", handler)
        .manifest(name, &lines)
}

/// A process function of this shell script, a process for each call.
#[track_caller]
pub fn shell(name: &str, lines: &str, script: &str) -> Source {
    let lines = format!("runtime = \"process\"\nsource = \".\"\n{lines}");
    Source::new()
        .file("fn.sh", format!("#!/bin/sh\n{script}\n"))
        .manifest(name, &lines)
}

/// A process function of a Python program that serves HTTP on `$PORT`; `code` handles a request `h`
/// (an `http.server` handler) for every method.
#[track_caller]
pub fn server(name: &str, lines: &str, code: &str) -> Source {
    let lines = format!(
        "runtime = \"process\"\nsource = \".\"\ncontract = \"http\"\ncommand = [\"python3\", \"-u\", \"server.py\"]\n{lines}"
    );
    let code = code.replace('\n', "\n    ");
    let program = format!(
        r#"
import os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
def answer(h, body, status=200, headers=()):
    body = body.encode() if isinstance(body, str) else body
    h.send_response(status)
    for name, value in headers:
        h.send_header(name, value)
    h.send_header("Content-Length", str(len(body)))
    h.end_headers()
    h.wfile.write(body)
def serve(h):
    body = h.rfile.read(int(h.headers.get("Content-Length") or 0))
    {code}
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def __getattr__(self, name):
        if name.startswith("do_"):
            return lambda: serve(self)
        raise AttributeError(name)
class Server(ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#
    );
    Source::new()
        .file("server.py", program)
        .manifest(name, &lines)
}

/// Says why a test, or the rest of it, does not run here.
pub fn skipped(why: &str) {
    let test = std::thread::current();
    let line = format!("skipped: {}: {why}\n", test.name().unwrap_or_default());
    // Not by `eprintln!`, which a test that passes does not show.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

impl Node {
    /// Deploys a folder, which must succeed.
    #[track_caller]
    pub fn deploy_source(&self, source: &Source) {
        self.deploy_folder(source.path());
    }

    /// Deploys a folder, whatever comes of it.
    #[track_caller]
    pub fn try_deploy_source(&self, source: &Source) -> Ended {
        self.mote(&["deploy", source.path().to_str().unwrap()])
    }

    /// The lines that a function has logged.
    #[track_caller]
    pub fn log_of(&self, name: &str) -> String {
        self.mote(&["logs", name]).ok()
    }

    /// Waits until the function has so many instances that run or are paused.
    #[track_caller]
    pub fn await_instances(&self, name: &str, count: u64) {
        eventually(&format!("{name} has {count} instances"), || {
            let instances = &self.function(name)["instances"];
            let number = |key: &str| instances[key].as_u64().unwrap_or(0);
            number("running") + number("paused") == count && number("starting") == 0
        });
    }

    /// A field of `mote status --json`.
    #[track_caller]
    pub fn status_field(&self, field: &str) -> Value {
        self.ask("GET", "/v1/status", &[]).expect(200).json()[field].clone()
    }

    /// Whether programs can be kept apart in every way here; otherwise says so, for tests that
    /// depend on it.
    #[track_caller]
    pub fn isolates_fully(&self) -> bool {
        let tier = self.status_field("isolation")["process"].to_string();
        let full = tier == "\"full\"";
        if !full {
            skipped(&format!(
                "programs cannot be isolated in every way here: {tier}"
            ));
        }
        full
    }
}
