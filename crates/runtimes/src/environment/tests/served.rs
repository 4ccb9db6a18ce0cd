//! Plain JavaScript and shell scripts, run by their environments' own commands.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A folder of source, and the process that its environment made of it.
struct Served {
    folder: tempfile::TempDir,
    process: Child,
    port: u16,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command of the environment that knows these files, with real places for the mounted ones.
fn command(folder: &Path, files: &[(&str, &str)]) -> Command {
    let app = folder.join("app");
    fs::create_dir(&app).unwrap();
    for (name, text) in files {
        fs::write(app.join(name), text).unwrap();
        fs::set_permissions(app.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let environments = Environments::open(&folder.join("environments")).unwrap();
    let (environment, handler) = environments.detect(|name| app.join(name).exists()).unwrap();
    let words = environment.command_for(&handler);
    let mut words = words.iter().map(|word| {
        word.replace(
            "/environment/",
            &format!("{}/", environment.folder.display()),
        )
        .replace("/app/", &format!("{}/", app.display()))
    });
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

fn start(files: &[(&str, &str)]) -> Option<Served> {
    if Command::new("node").arg("-v").output().is_err() {
        eprintln!("skipped: there is no node here");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let process = command(folder.path(), files)
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut served = Served {
        folder,
        process,
        port,
    };
    served.until_ready();
    Some(served)
}

impl Served {
    /// Connects again and again, with a pause, until the loader answers or ends.
    fn until_ready(&mut self) {
        let begin = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{}", self.log());
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                assert_eq!(self.get("/.mote/ready").0, 200);
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn get(&self, target: &str) -> (u16, String, String) {
        self.ask(&format!("GET {target} HTTP/1.1\r\n"), "")
    }

    fn post(&self, target: &str, kind: &str, body: &str) -> (u16, String, String) {
        let head = format!("POST {target} HTTP/1.1\r\nContent-Type: {kind}\r\n");
        self.ask(&head, body)
    }

    /// Status, head in lower case, and body.
    fn ask(&self, head: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let length = body.len();
        write!(
            stream,
            "{head}Host: function\r\nX-Room: kitchen\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        let cut = stream.read_to_string(&mut text).is_err();
        assert!(!cut || target_is(head, "/half"), "{head} was cut off");
        // What was cut off may lack even its head.
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or(("- 0", ""));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    fn ended(&mut self) -> std::process::ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn target_is(head: &str, target: &str) -> bool {
    head.split(' ').nth(1) == Some(target)
}

const WRITING: &str = r#"
module.exports = (req, res) => {
  undeclared = req.path; // sloppy mode, as handlers of old are
  switch (req.path) {
    case "/echo": return res.send(req.body);
    case "/headers": console.log("Headers:", req.headers); return res.send(req.headers);
    case "/query": return res.json({ query: req.query, room: req.get("X-Room"), raw: req.rawBody.length });
    case "/type": return res.status(201).type("html").set({ "X-A": 1 }).send("<b>");
    case "/bytes": return res.send(Buffer.from("raw"));
    case "/code": return res.sendStatus(404);
    case "/end": res.publish(); return res.end("plain");
    case "/throw": throw new TypeError("thrown");
    case "/reject": return void Promise.reject(new Error("rejected"));
    case "/half": res.write("half"); throw new Error("after the head");
    case "/wait": console.log("waiting"); return;
    case "/crash": setImmediate(() => { throw new Error("crashed"); }); return;
    case "/stray": Promise.reject(new Error("stray")); return res.send("fine");
  }
};
"#;

#[test]
fn handlers_that_write_a_response() {
    let package = r#"{"name": "fn", "version": "1.0.0", "main": "lib.js"}"#;
    let Some(mut served) = start(&[("lib.js", WRITING), ("package.json", package)]) else {
        return;
    };
    assert_eq!(served.post("/echo", "text/plain", "grüße").2, "grüße");
    assert_eq!(
        served
            .post("/echo", "application/x-www-form-urlencoded", "{\"a\":1}")
            .2,
        "{\"a\":1}"
    );
    let (status, head, body) = served.post("/echo", "application/json", "{ \"a\": 1 }");
    assert_eq!((status, body.as_str()), (200, "{\"a\":1}"));
    assert!(head.contains("content-type: application/json"));
    assert_eq!(served.post("/echo", "application/json", "{").2, "{");
    assert!(served.get("/headers").2.contains("\"x-room\":\"kitchen\""));
    let (_, _, body) = served.post("/query?a=1&b=%20", "text/plain", "four");
    assert_eq!(
        body,
        r#"{"query":{"a":"1","b":" "},"room":"kitchen","raw":4}"#
    );
    let (status, head, body) = served.get("/type");
    assert_eq!((status, body.as_str()), (201, "<b>"));
    assert!(
        head.contains("content-type: text/html") && head.contains("x-a: 1"),
        "{head}"
    );
    assert_eq!(served.get("/bytes").2, "raw");
    assert_eq!(
        (served.get("/code").0, served.get("/code").2.as_str()),
        (404, "Not Found")
    );
    let (_, head, body) = served.get("/end");
    assert!(
        head.contains("mote-publish: true") && body == "plain",
        "{head}"
    );

    assert_eq!(
        served.get("/throw"),
        (500, served.get("/throw").1, "TypeError: thrown\n".into())
    );
    assert_eq!(served.get("/reject").2, "Error: rejected\n");
    assert_eq!(served.get("/stray").2, "fine");
    assert!(
        !served.get("/half").2.contains("after"),
        "a half answer is cut off, not completed"
    );
    assert!(
        served.log().contains("lib.js:"),
        "the log has no stack: {}",
        served.log()
    );

    // Nobody knows whose exception this is: all calls fail, and the process ends.
    let waits = std::thread::scope(|scope| {
        let waits = scope.spawn(|| served.get("/wait"));
        let begin = Instant::now();
        while !served.log().contains("waiting") {
            assert!(begin.elapsed() < Duration::from_secs(10), "it never waits");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(served.get("/crash").2, "Error: crashed\n");
        waits.join().unwrap()
    });
    assert_eq!((waits.0, waits.2.as_str()), (500, "Error: crashed\n"));
    assert_eq!(served.ended().code(), Some(1));
}

#[test]
fn handlers_that_return_their_answer() {
    let returning = r#"
export const handle = async (request) => {
  switch (request.path) {
    case "/text": return request.text() + request.headers["x-room"];
    case "/json": return request.json();
    case "/none": return;
    case "/bytes": return new Uint8Array([104, 105]);
    case "/status": request.publish(); return { status: 418, headers: { "x-a": "b" }, body: "tea" };
    case "/object": return { status: "on", since: 1 };
    case "/throw": throw "a text";
    case "/circle": { const circle = {}; circle.self = circle; return circle; }
  }
};
"#;
    let Some(served) = start(&[("handler.mjs", returning)]) else {
        return;
    };
    assert_eq!(
        served.post("/text", "text/plain", "in the ").2,
        "in the kitchen"
    );
    assert_eq!(served.post("/json", "x/y", "[1, 2]").2, "[1,2]");
    assert_eq!(served.get("/none").2, "");
    assert_eq!(served.get("/bytes").2, "hi");
    let (status, head, body) = served.get("/status");
    assert_eq!((status, body.as_str()), (418, "tea"));
    assert!(head.contains("x-a: b") && head.contains("mote-publish: true"));
    assert_eq!(served.get("/object").2, r#"{"status":"on","since":1}"#);
    assert_eq!(
        (served.get("/throw").0, served.get("/throw").2),
        (500, "a text\n".into())
    );
    assert_eq!(served.get("/circle").0, 500);

    for files in [
        &[("index.js", "exports.handle = () => 'common'")][..],
        &[("handler.js", "module.exports = async (request) => 'common'")],
        &[("handler.mjs", "export default () => 'common'")],
        &[
            ("index.js", "export default () => 'common'"),
            ("package.json", "{\"type\": \"module\"}"),
        ],
        &[
            ("main.js", "export default () => 'common'"),
            (
                "package.json",
                "{\"type\": \"module\", \"main\": \"./main.js\"}",
            ),
        ],
    ] {
        assert_eq!(start(files).unwrap().get("/").2, "common", "{files:?}");
    }
}

#[test]
fn javascript_that_cannot_be_loaded_ends_the_loader() {
    for (code, expect) in [
        (
            "exports.other = 1",
            "handler.js exports neither a function nor `handle`",
        ),
        (
            "require('nothing-like-it')",
            "Cannot find module 'nothing-like-it'",
        ),
        ("module.exports = (", "SyntaxError"),
    ] {
        let Some(mut served) = start(&[("handler.js", code)]) else {
            return;
        };
        assert_eq!(served.ended().code(), Some(1));
        assert!(served.log().contains(expect), "{}", served.log());
    }
}

#[test]
fn scripts_read_and_write() {
    let folder = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\nread -r line\nprintf 'got %s' \"$line\"\n";
    let mut process = command(folder.path(), &[("fn.sh", script)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process
        .stdin
        .take()
        .unwrap()
        .write_all(b"a line\n")
        .unwrap();
    let mut answer = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut answer)
        .unwrap();
    assert!(process.wait().unwrap().success());
    assert_eq!(answer, "got a line");
}
