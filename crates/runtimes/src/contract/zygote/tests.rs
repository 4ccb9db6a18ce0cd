//! Real Python processes behind the zygote: what handlers answer, and what their failures do to others.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use mote_core::invocation::{FunctionId, InvocationId, Meta, Origin};
use mote_core::log::Level;
use tokio::process::{Child, Command};

use super::*;
use crate::environment::Environments;

/// Collects lines.
#[derive(Default)]
struct Lines(Mutex<Vec<(u64, Level, String)>>);

impl LogSink for Lines {
    fn line(&self, call: InvocationId, level: Level, text: &str) {
        let line = (call.sequence, level, text.to_owned());
        self.0.lock().unwrap().push(line);
    }
}

/// A zygote with the process behind it, which ends with the test.
struct Running {
    zygote: Arc<Zygote>,
    process: Child,
    lines: Arc<Lines>,
    folder: tempfile::TempDir,
    next: AtomicU64,
}

const LIMITS: CallLimits = CallLimits {
    body_bytes: 1 << 20,
    log_bytes: 4096,
};

fn once() -> Settings {
    Settings {
        calls_per_worker: NonZeroU32::MIN,
        spares: 0,
        workers_max: NonZeroU32::new(8).unwrap(),
        cgroups: Vec::new(),
    }
}

/// Starts a loader with the control socket as descriptor 3.
fn launch(before: &[&str], command: &[String], control: OwnedFd) -> Child {
    Command::new(before.first().unwrap_or(&"sh"))
        .args(before.iter().skip(1))
        .args((!before.is_empty()).then_some("sh"))
        .args(["-c", "exec \"$@\" 3<&0 0</dev/null", "sh"])
        .args(command)
        .stdin(Stdio::from(control))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn start_with(before: &[&str], file: &str, code: &str, settings: Settings) -> Option<Running> {
    let (process, control, folder) = loader(before, file, code)?;
    Some(Running {
        zygote: Arc::new(Zygote::new(control, settings).unwrap()),
        process,
        lines: Arc::default(),
        folder,
        next: AtomicU64::new(1),
    })
}

/// A loader with the node's end of its control socket, and the folder of its files.
fn loader(before: &[&str], file: &str, code: &str) -> Option<(Child, OwnedFd, tempfile::TempDir)> {
    let found = std::process::Command::new("python3").arg("-V").output();
    if found.is_err() {
        eprintln!("skipped: there is no python3 here");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let environments = Environments::open(&folder.path().join("environments")).unwrap();
    let app = folder.path().join("app");
    std::fs::create_dir(&app).unwrap();
    std::fs::write(app.join(file), code).unwrap();
    let (environment, handler) = environments.detect(|name| app.join(name).exists()).unwrap();
    // Here nothing is mounted: the places are the real ones.
    let real = |word: String| {
        word.replace(
            "/environment/",
            &format!("{}/", environment.folder.display()),
        )
        .replace("/app/", &format!("{}/", app.display()))
    };
    let command: Vec<_> = environment
        .command_for(&handler)
        .into_iter()
        .map(real)
        .collect();
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    Some((launch(before, &command, theirs), ours, folder))
}

async fn start(file: &str, code: &str, settings: Settings) -> Option<Running> {
    let running = start_with(&[], file, code, settings)?;
    running.zygote.ready(Duration::from_secs(20)).await.unwrap();
    Some(running)
}

impl Running {
    fn invocation(&self, target: &str, body: &[u8]) -> Invocation {
        let mut headers = HeaderMap::new();
        headers.insert("x-room", "kitchen".parse().unwrap());
        Invocation {
            id: InvocationId {
                sequence: self.next.fetch_add(1, Ordering::Relaxed),
                node: 1,
            },
            function: FunctionId(0),
            meta: Meta {
                method: Method::POST,
                target: target.parse::<PathAndQuery>().unwrap(),
                prefix: 0,
                headers,
            },
            body: bytes::Bytes::copy_from_slice(body).into(),
            budget: Duration::from_secs(5),
            origin: Origin::Http,
            hops: 0,
        }
    }

    async fn call(&self, target: &str, body: &[u8]) -> Result<Reply, Error> {
        let mut offered = Some(self.invocation(target, body));
        let sink: Arc<dyn LogSink> = Arc::clone(&self.lines) as Arc<dyn LogSink>;
        self.zygote.call(&mut offered, &sink, LIMITS).await
    }

    async fn text(&self, target: &str, body: &[u8]) -> String {
        let reply = self.call(target, body).await.unwrap();
        let bytes = reply.body.collect(1 << 20).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    async fn error(&self, target: &str) -> Error {
        self.call(target, b"").await.unwrap_err()
    }

    fn lines(&self) -> Vec<(u64, Level, String)> {
        self.lines.0.lock().unwrap().clone()
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

/// Asks again and again, with a pause, until it is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

async fn pid_in(path: &Path) -> i32 {
    until("a pid is written", || {
        std::fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    std::fs::read_to_string(path)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

const ANSWERS: &str = r#"
import json
def handle(request):
    kind = request.path.strip("/")
    if kind == "all":
        return {"method": request.method, "path": request.path, "query": request.query,
                "room": request.headers["X-Room"], "text": request.text(), "id": request.call_id}
    if kind == "bytes": return b"\x00\xff"
    if kind == "none": return None
    if kind == "json": return request.json()
    if kind == "status": return 404, "nothing here"
    if kind == "headers": return 201, {"Content-Type": "text/csv", "X-A": 1, "Mote-Publish": "true"}, "a,b"
    if kind == "publish":
        request.publish()
        return "on"
    if kind == "number": return 7
    if kind == "bad-status": return 99, ""
    if kind == "bad-header": return 200, {"a b": "c"}, ""
    if kind == "large": return "x" * (2 << 20)
    if kind == "echo": return request.body
"#;

#[tokio::test]
async fn handlers_answer_in_many_ways() {
    let Some(running) = start("handler.py", ANSWERS, once()).await else {
        return;
    };
    let all: serde_json::Value =
        serde_json::from_str(&running.text("/all?a=1&b=%20", "grüße".as_bytes()).await).unwrap();
    assert_eq!(
        all,
        serde_json::json!({"method": "POST", "path": "/all", "query": {"a": "1", "b": " "},
            "room": "kitchen", "text": "grüße", "id": "000000000000000100000001"})
    );
    assert_eq!(running.text("/json", b"[1, 2]").await, "[1, 2]");
    assert_eq!(running.text("/none", b"").await, "");
    let big = vec![b'x'; 1 << 20];
    assert_eq!(running.text("/echo", &big).await.len(), big.len());

    for (path, status, kind, publish) in [
        ("/bytes", 200, Some("application/octet-stream"), false),
        ("/none", 200, None, false),
        ("/status", 404, Some("text/plain; charset=utf-8"), false),
        ("/headers", 201, Some("text/csv"), true),
        ("/publish", 200, Some("text/plain; charset=utf-8"), true),
    ] {
        let reply = running.call(path, b"").await.unwrap();
        let found = reply
            .headers
            .get("content-type")
            .map(|kind| kind.to_str().unwrap());
        assert_eq!(
            (reply.status.as_u16(), found, reply.publish),
            (status, kind, publish),
            "{path}"
        );
        assert!(!reply.headers.contains_key("mote-publish"));
    }
    for (path, kind, expect) in [
        ("/number", ErrorKind::FunctionFailed, "returned int"),
        ("/bad-status", ErrorKind::FunctionFailed, "status 99"),
        ("/bad-header", ErrorKind::FunctionFailed, "header `a b`"),
        ("/large", ErrorKind::TooLarge, "limit of 1048576 bytes"),
    ] {
        let error = running.error(path).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(expect), "{error}");
    }
}

#[tokio::test]
async fn handlers_of_tinyfaas_run_unchanged() {
    let code = "import typing\ndef fn(input: typing.Optional[str], headers):\n    return input and input + headers['X-Room']\n";
    let Some(running) = start("fn.py", code, once()).await else {
        return;
    };
    assert_eq!(running.text("/", b"in the ").await, "in the kitchen");
    assert_eq!(running.text("/", b"").await, "");
    let running = start("fn.py", "def fn(input): return str(input)", once())
        .await
        .unwrap();
    assert_eq!(running.text("/", b"").await, "None");
    let code =
        "import asyncio\nasync def handle(r):\n    await asyncio.sleep(0)\n    return 'later'";
    let running = start("handler.py", code, once()).await.unwrap();
    assert_eq!(running.text("/", b"").await, "later");
}

const FAILURES: &str = r#"
import os, sys, ctypes, random, threading, time
calls = 0
start = random.random()
def deep(): return deep()
def handle(request):
    global calls
    calls += 1
    kind = request.path.strip("/")
    if kind == "raise": raise ValueError("no\nluck")
    if kind == "exit": sys.exit(3)
    if kind == "_exit": os._exit(4)
    if kind == "crash": ctypes.string_at(0)
    if kind == "memory": raise MemoryError()
    if kind == "deep": deep()
    if kind == "kill": os.kill(os.getpid(), 9)
    if kind == "close": os.closerange(0, 64); time.sleep(60)
    if kind == "group": os.kill(0, 15)
    if kind == "parent": os.kill(os.getppid(), 0)
    if kind == "random": return str(random.random())
    return str(calls)
"#;

#[tokio::test]
async fn a_failure_is_its_own_calls() {
    let Some(running) = start("handler.py", FAILURES, once()).await else {
        return;
    };
    for (path, expect) in [
        ("/raise", "the handler failed: ValueError: no"),
        ("/exit", "the handler failed: SystemExit: 3"),
        ("/_exit", "exited with status 4"),
        ("/crash", "killed by signal 11"),
        ("/memory", "the handler failed: MemoryError"),
        ("/deep", "the handler failed: RecursionError"),
        ("/kill", "killed by signal 9"),
        ("/close", "closed its stream"),
        ("/group", "killed by signal 15"),
    ] {
        let error = running.error(path).await;
        assert_eq!(error.kind(), ErrorKind::FunctionFailed);
        assert!(error.message().contains(expect), "{path}: {error}");
        // The next call knows nothing of it: neither the crash nor what was counted.
        assert_eq!(running.text("/", b"").await, "1", "after {path}");
    }
    let (first, second) = (
        running.text("/random", b"").await,
        running.text("/random", b"").await,
    );
    assert_ne!(first, second, "two workers draw the same random numbers");
    until("all workers are gone", || {
        running.zygote.counts().workers == 0
    })
    .await;
}

#[tokio::test]
async fn lines_belong_to_their_call() {
    let code = r#"
import os, sys
print("imported")
sys.stdout.write("half")
def handle(request):
    print("out", request.text())
    print("err", file=sys.stderr)
    os.write(1, b"raw\n")
    if request.path == "/many":
        for _ in range(10000): print("x" * 100)
    if request.path == "/raise": 1 / 0
    return ""
"#;
    let Some(running) = start("handler.py", code, once()).await else {
        return;
    };
    running.call("/", b"one").await.unwrap();
    running.call("/", b"two").await.unwrap();
    let own = |number, level| {
        let lines = running.lines().into_iter();
        let mine = lines.filter(move |line| (line.0, line.1) == (number, level));
        mine.map(|line| line.2).collect::<Vec<_>>()
    };
    assert_eq!(own(1, Level::Info), ["out one", "raw"]);
    assert_eq!(own(2, Level::Info), ["out two", "raw"]);
    assert_eq!(own(2, Level::Warn), ["err"]);

    running.call("/raise", b"").await.unwrap_err();
    let trace = own(3, Level::Warn).join("\n");
    assert!(
        trace.contains("handler.py\", line 11, in handle") && trace.contains("ZeroDivisionError"),
        "{trace}"
    );
    assert!(!trace.contains("loader.py"), "{trace}");

    running.call("/many", b"").await.unwrap();
    let lines = own(4, Level::Info);
    assert!(lines.len() < 50, "{} lines", lines.len());
    assert!(
        own(4, Level::Warn)
            .last()
            .unwrap()
            .contains("more than its 4096 bytes")
    );
}

#[tokio::test]
async fn a_bad_import_is_told() {
    for (code, expect) in [
        (
            "import nothing_like_it",
            "ModuleNotFoundError: No module named 'nothing_like_it'",
        ),
        (
            "def handle(:",
            "SyntaxError: invalid syntax (handler.py, line 1)",
        ),
        (
            "x = 1",
            "defines neither handle(request) nor fn(input, headers)",
        ),
        ("raise SystemExit(2)", "SystemExit: 2"),
        ("import os; os._exit(1)", "the loader ended before"),
        (
            "import os; os.write(3, b'garbage'); import time; time.sleep(60)",
            "the loader ended before",
        ),
    ] {
        let Some(running) = start_with(&[], "handler.py", code, once()) else {
            return;
        };
        let error = running
            .zygote
            .ready(Duration::from_secs(20))
            .await
            .unwrap_err();
        assert!(error.message().contains(expect), "{error}");
        let mut offered = Some(running.invocation("/", b""));
        let sink: Arc<dyn LogSink> = Arc::clone(&running.lines) as Arc<dyn LogSink>;
        until("the loader is gone", || {
            running.zygote.ended() || code.len() < 24
        })
        .await;
        let called = running.zygote.call(&mut offered, &sink, LIMITS);
        let called = tokio::time::timeout(Duration::from_secs(5), called)
            .await
            .unwrap();
        assert!(
            called.is_err() && offered.is_some(),
            "the call is given back"
        );
    }
    let slow = start_with(&[], "handler.py", "import time; time.sleep(60)", once()).unwrap();
    let error = slow
        .zygote
        .ready(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(
        error.message().contains("not imported within 50 ms"),
        "{error}"
    );
}

#[tokio::test]
async fn workers_are_reused_and_kept_ready_as_told() {
    let settings = Settings {
        calls_per_worker: NonZeroU32::new(3).unwrap(),
        ..once()
    };
    let Some(running) = start("handler.py", FAILURES, settings).await else {
        return;
    };
    for expect in ["1", "2", "3", "1"] {
        assert_eq!(running.text("/", b"").await, expect);
    }
    assert_eq!(running.zygote.counts().forks, 2);
    running.error("/raise").await;
    assert_eq!(
        running.text("/", b"").await,
        "1",
        "a worker that failed is not used again"
    );

    let settings = Settings {
        spares: 1,
        ..once()
    };
    let running = start("handler.py", FAILURES, settings).await.unwrap();
    for _ in 0..5 {
        assert_eq!(running.text("/", b"").await, "1");
    }
    let counts = running.zygote.counts();
    assert_eq!(
        (counts.warm, counts.forks, counts.idle),
        (5, 6, 1),
        "{counts:?}"
    );
}

#[tokio::test]
async fn there_are_never_too_many_workers() {
    let settings = Settings {
        workers_max: NonZeroU32::MIN,
        ..once()
    };
    let code = "import time\ndef handle(request):\n    open(request.text(), 'w').close()\n    time.sleep(60)";
    let Some(running) = start("handler.py", code, settings).await else {
        return;
    };
    let mark = running.file("mark");
    let begun = {
        let first = running.call("/", mark.to_str().unwrap().as_bytes());
        tokio::pin!(first);
        tokio::select! {
            _ = &mut first => panic!("it sleeps"),
            () = until("the first call has begun", || mark.exists()) => {}
        }
        let error = running.error("/").await;
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        Instant::now()
    };
    until("the dropped call gave its place back", || {
        running.zygote.counts().workers == 0
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

const TREE: &str = r#"
import os, subprocess, time
def handle(request):
    # One process in the call's group, and one that left its session.
    for number, new in enumerate((False, True)):
        child = subprocess.Popen(["sleep", "300"], start_new_session=new)
        with open(request.text() + str(number), "w") as file: print(child.pid, file=file)
    if request.path == "/hang": time.sleep(300)
    return ""
"#;

mod ends;
