//! Environments that wait for code: a function that starts in one sees, may and says what it does when
//! it starts by itself, and whatever becomes of what waits, functions are served.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use mote_tests::eventually::eventually;
use mote_tests::http::Reply;
use mote_tests::node::{Node, Up};
use mote_tests::source::{Source, python};
use serde_json::Value;

use leftovers::{Listing, Marks};

#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "../interop/leftovers.rs"]
mod leftovers;
#[path = "../interop/processes.rs"]
mod processes;

/// A node on which one instance of each environment waits; nothing where none can.
#[track_caller]
fn warm_node() -> Option<Node> {
    let node = Up::new().flag("--warm-instances", "1").start();
    processes::sandboxed(&node).then_some(node)
}

#[track_caller]
fn ready(node: &Node, environment: &str) -> u64 {
    node.status_field("warm")["ready"][environment]
        .as_u64()
        .unwrap_or(0)
}

#[track_caller]
fn taken(node: &Node) -> u64 {
    node.status_field("warm")["taken"].as_u64().unwrap()
}

/// Waits until nothing of a function runs, and one of its environment waits, which is the only one
/// on this node.
#[track_caller]
fn at_rest(node: &Node, name: &str, environment: &str) {
    node.await_instances(name, 0);
    eventually("one sandbox waits, and there is no other", || {
        let below = processes::below(node.pid());
        let sandboxes = below.values().filter(|line| line.contains("__sandbox"));
        // Each is two processes.
        ready(node, environment) == 1 && sandboxes.count() == 2
    });
}

/// A call that takes an instance that waits.
#[track_caller]
fn warm_call(node: &Node, name: &str, environment: &str) -> Reply {
    at_rest(node, name, environment);
    let before = taken(node);
    let reply = node.post(&format!("/{name}"), b"on");
    assert_eq!(taken(node), before + 1, "{reply:?}");
    reply
}

const IDLE: &str = "scale = { idle = \"200ms\" }";

fn javascript(name: &str, lines: &str, handler: &str) -> Source {
    let lines = format!("runtime = \"process\"\nsource = \".\"\n{lines}");
    Source::new()
        .file("handler.js", handler)
        .manifest(name, &lines)
}

const PYTHON_SEES: &str = r#"
import os, resource, socket, sys
def link(fd):
    try:
        return fd + " " + os.readlink("/proc/self/fd/" + fd).split(":")[0]
    except FileNotFoundError:
        return ""  # that of the listing
def handle(request):
    print("said to the log")
    mounts = [line.split() for line in open("/proc/self/mountinfo")]
    status = [line.split() for line in open("/proc/self/status")]
    try:
        open("/app/new", "w")
        denied = ""
    except OSError as error:
        denied = str(error)
    return {
        "env": dict(os.environ), "argv": sys.argv, "path": sys.path, "cwd": os.getcwd(),
        "names": [socket.gethostname(), open("/etc/hosts").read(), open("/etc/hostname").read()],
        "root": sorted(os.listdir("/")), "app": sorted(os.listdir("/app")), "etc": sorted(os.listdir("/etc")),
        "denied": denied, "written": open("/tmp/mine", "w").write("x"), "tmp": sorted(os.listdir("/tmp")),
        "tmp size": [os.statvfs("/tmp").f_blocks, os.statvfs("/tmp").f_files],
        "writable": sorted(m[4] for m in mounts if m[5].startswith("rw")),
        "rights": [line for line in status if line[0][:3] in ("Cap", "NoN", "Sec", "Uid", "Gid", "NSp")],
        "limits": [resource.getrlimit(limit) for limit in range(16)],
        "files": sorted(link(fd) for fd in os.listdir("/proc/self/fd")),
    }
"#;

const JAVASCRIPT_SEES: &str = r#"
const fs = require("fs"), os = require("os");
exports.handle = async (request) => {
  console.log("said to the log");
  const read = (file) => fs.readFileSync(file, "utf8");
  const lines = (file) => read(file).trim().split("\n").map((line) => line.split(/\s+/));
  let denied = "";
  try { fs.writeFileSync("/app/new", ""); } catch (error) { denied = error.message; }
  const { blocks, files } = fs.statfsSync("/tmp");
  return {
    env: process.env, argv: process.argv, cwd: process.cwd(), pid: process.pid, denied, tmp: [blocks, files],
    names: [os.hostname(), read("/etc/hosts"), read("/etc/hostname")],
    root: fs.readdirSync("/").sort(), app: fs.readdirSync("/app").sort(), etc: fs.readdirSync("/etc").sort(),
    writable: lines("/proc/self/mountinfo").filter((mount) => mount[5].startsWith("rw")).map((mount) => mount[4]).sort(),
    rights: lines("/proc/self/status").filter(([name]) => /^(Cap|NoN|Sec|Uid|Gid|NSp)/.test(name)),
    limits: lines("/proc/self/limits"),
    interfaces: lines("/proc/net/dev").slice(2).map(([name]) => name),
    sockets: fs.readdirSync("/proc/self/fd").filter((fd) => {
      try { return fs.readlinkSync("/proc/self/fd/" + fd).startsWith("socket"); } catch { return false; }
    }).length,
  };
};
"#;

/// What a function answers that starts in what waits, and the same on a node where nothing does.
#[track_caller]
fn same_as_cold(source: &Source, name: &str, environment: &str) {
    let Some(node) = warm_node() else {
        return;
    };
    let cold_node = Node::start();
    let see = |node: &Node| {
        node.deploy_source(source);
        node.await_instances(name, 0);
    };
    see(&node);
    see(&cold_node);
    let warm = warm_call(&node, name, environment).expect(200).json();
    let cold = cold_node.post(&format!("/{name}"), b"on").expect(200);
    let cold = cold.json();
    for (what, seen) in cold.as_object().unwrap() {
        assert_eq!(&warm[what], seen, "{what}");
    }
    assert_eq!(warm["env"]["ROOM"], "kitchen");
    assert!(
        warm["denied"]
            .to_string()
            .to_lowercase()
            .contains("read-only"),
        "{}",
        warm["denied"]
    );
    assert!(node.log_of(name).contains("said to the log"));
    assert_eq!(node.metric("mote_warm_taken_total", &[]), 1.0);
}

#[test]
fn a_python_function_sees_what_it_does_when_it_starts_cold() {
    let lines = format!("env = {{ ROOM = \"kitchen\" }}\ntmp = \"3MiB\"\n{IDLE}");
    same_as_cold(
        &python("p.house", &lines, PYTHON_SEES),
        "p.house",
        "python3",
    );
}

#[test]
fn a_javascript_function_sees_what_it_does_when_it_starts_cold() {
    let lines = format!("env = {{ ROOM = \"kitchen\" }}\nport = 9000\ntmp = \"100MiB\"\n{IDLE}");
    let source = javascript("j.house", &lines, JAVASCRIPT_SEES);
    same_as_cold(&source, "j.house", "nodejs");
}

#[test]
fn a_function_comes_and_goes_in_what_waits() {
    let Some(node) = warm_node() else {
        return;
    };
    let handler = |version: u32| {
        format!(
            "calls = 0\nmodule.exports = (req, res) => res.send(`{version} ${{req.body}} ${{++calls}}`);\n"
        )
    };
    node.deploy_source(&javascript("j", IDLE, &handler(1)));
    for _ in 0..3 {
        let reply = warm_call(&node, "j", "nodejs").expect(200);
        assert_eq!(reply.text(), "1 on 1");
        assert_eq!(node.post("/j", b"on").expect(200).text(), "1 on 2");
    }
    // A new version starts beside one that runs, and in what waits when none does.
    node.deploy_source(&javascript("j", "", &handler(2)));
    assert!(node.post("/j", b"").expect(200).text().starts_with("2 "));
    node.deploy_source(&javascript("j", IDLE, &handler(3)));
    assert!(node.post("/j", b"").expect(200).text().starts_with("3 "));
    assert_eq!(warm_call(&node, "j", "nodejs").expect(200).text(), "3 on 1");
    at_rest(&node, "j", "nodejs");
    let before = taken(&node);
    node.deploy_source(&javascript("j", IDLE, &handler(4)));
    assert_eq!(taken(&node), before + 1);
    assert!(node.post("/j", b"").expect(200).text().starts_with("4 "));
    // What nobody uses does not wait.
    node.mote(&["rm", "j"]).ok();
    eventually("nothing waits", || {
        node.status_field("warm")["ready"] == serde_json::json!({})
            && processes::below(node.pid()).is_empty()
    });
}

#[test]
fn what_waits_becomes_one_apps_and_no_others() {
    let Some(node) = warm_node() else {
        return;
    };
    let handler = r#"
import os, socket
def handle(request):
    open("/tmp/" + NAME, "w").close()
    return " ".join([socket.gethostname(), NAME, *os.listdir("/tmp")])
"#;
    let lines = "scale = { min = 1 }";
    let names = ["one", "two", "three"];
    for name in names {
        node.deploy_source(&python(
            &format!("p.{name}"),
            IDLE,
            &handler.replace("NAME", &format!("\"{name}\"")),
        ));
        node.await_instances(&format!("p.{name}"), 0);
    }
    for name in names {
        eventually("one waits", || ready(&node, "python3") == 1);
        let source = python(
            &format!("p.{name}"),
            lines,
            &handler.replace("NAME", &format!("\"{name}\"")),
        );
        let before = taken(&node);
        node.deploy_source(&source);
        assert_eq!(taken(&node), before + 1);
        let reply = node.post(&format!("/p.{name}"), b"").expect(200);
        assert_eq!(reply.text(), format!("{name} {name} {name}"));
    }
    for name in names {
        let reply = node.post(&format!("/p.{name}"), b"").expect(200);
        assert_eq!(reply.text(), format!("{name} {name} {name}"));
    }
    eventually("one waits", || ready(&node, "python3") == 1);
    let below = processes::below(node.pid());
    let sandboxes = below.values().filter(|line| line.contains("__sandbox"));
    assert_eq!(sandboxes.count(), 2 * (names.len() + 1), "{below:?}");
}

#[test]
fn the_limits_are_the_functions() {
    let Some(node) = warm_node() else {
        return;
    };
    if !node.isolates_fully() {
        return;
    }
    let handler = "import os\ndef handle(request):\n    return str(len(bytearray(int(request.text()) << 20)))\n";
    let call = |memory: &str, mib: &str| {
        let lines = format!("memory = \"{memory}\"\n{IDLE}");
        node.deploy_source(&python("p", &lines, handler));
        at_rest(&node, "p", "python3");
        let before = taken(&node);
        let reply = node.post("/p", mib.as_bytes());
        assert_eq!(taken(&node), before + 1);
        reply
    };
    // What waits may use 64 MiB.
    assert_eq!(
        call("256MiB", "150").expect(200).text(),
        (150 << 20).to_string()
    );
    let reply = call("32MiB", "50").expect(502);
    assert!(
        reply.text().contains("more memory than it may"),
        "{reply:?}"
    );
    let handler = r#"
import os, time
def handle(request):
    children = 0
    try:
        while children < 30:
            if os.fork() == 0:
                time.sleep(100)
            children += 1
    except OSError:
        pass
    return str(children)
"#;
    node.deploy_source(&python(
        "f.forks",
        &format!("processes = 8\n{IDLE}"),
        handler,
    ));
    node.await_instances("p", 0);
    let reply = warm_call(&node, "f.forks", "python3").expect(200);
    assert!(reply.text().parse::<u32>().unwrap() < 8, "{reply:?}");
}

#[test]
fn code_that_cannot_be_loaded_is_refused_in_the_same_words() {
    let Some(node) = warm_node() else {
        return;
    };
    let cold_node = Node::start();
    node.deploy_source(&python("p.ok", IDLE, "def fn(i): return i\n"));
    node.deploy_source(&javascript(
        "j.ok",
        IDLE,
        "module.exports = (req, res) => res.send('x');\n",
    ));
    let bad = [
        (
            python("b.bad", "", "import nothing_of_this_name\n"),
            "python3",
        ),
        (python("b.bad", "", "x = 1\n"), "python3"),
        (python("b.bad", "", "import os\nos._exit(3)\n"), "python3"),
        (
            javascript("b.bad", "", "throw new Error('no such luck');\n"),
            "nodejs",
        ),
        (javascript("b.bad", "", "exports.x = 1;\n"), "nodejs"),
        (javascript("b.bad", "", "process.exit(3);\n"), "nodejs"),
    ];
    for (count, (source, environment)) in (1..).zip(&bad) {
        eventually("one waits", || ready(&node, environment) == 1);
        let warm = node.try_deploy_source(source);
        assert_eq!(taken(&node), count, "{warm:?}");
        let cold = cold_node.try_deploy_source(source);
        assert_eq!((warm.code, warm.stderr), (cold.code, cold.stderr));
        assert_ne!(warm.code, Some(0));
    }
    assert_eq!(node.post("/p.ok", b"x").expect(200).text(), "x");
    assert_eq!(node.post("/j.ok", b"").expect(200).text(), "x");
}

#[test]
fn a_function_that_needs_more_before_it_starts_starts_cold() {
    let Some(node) = warm_node() else {
        return;
    };
    let granted = tempfile::tempdir().unwrap();
    std::fs::write(granted.path().join("file"), "granted").unwrap();
    let handler = "import os\ndef handle(request):\n    return open('/data/file').read() if os.path.exists('/data') else os.environ['LANG']\n";
    let read = format!(
        "allow.read = [{{ host = {:?}, guest = \"/data\" }}]\n{IDLE}",
        granted.path()
    );
    node.deploy_source(&python("p.plain", IDLE, handler));
    for (name, lines, answer) in [
        ("p.read", read.as_str(), "granted"),
        ("p.lang", "env = { LANG = \"C.UTF-8\" }", "C.UTF-8"),
    ] {
        eventually("one waits", || ready(&node, "python3") == 1);
        node.deploy_source(&python(name, lines, handler));
        assert_eq!(
            node.post(&format!("/{name}"), b"").expect(200).text(),
            answer
        );
    }
    assert_eq!(taken(&node), 0);
}

/// Something outside of every sandbox that answers `outside` to whoever reaches it.
fn outside() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\noutside");
        }
    });
    port
}

#[test]
fn the_way_out_is_the_functions() {
    let Some(node) = warm_node() else {
        return;
    };
    let handler = r#"
import urllib.request
def fn(url, headers):
    try:
        return urllib.request.urlopen(url, timeout=20).read().decode()
    except Exception as error:
        return str(error)
"#;
    let (granted, other) = (outside(), outside());
    let lines = format!("allow.http = [\"http://127.0.0.1:{granted}\"]\n{IDLE}");
    node.deploy_source(&python("p", &lines, handler));
    at_rest(&node, "p", "python3");
    let ask = |port: u16| {
        let url = format!("http://127.0.0.1:{port}/");
        node.post("/p", url.as_bytes()).expect(200).text()
    };
    assert_eq!(ask(granted), "outside");
    assert_eq!(taken(&node), 1);
    let refused = ask(other);
    assert!(refused.contains("403"), "{refused}");
}

/// An environment that serves, and does not know how to wait.
const IMPATIENT: &str = r#"
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
if len(sys.argv) == 1:
    sys.exit("where is the code?")
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open(sys.argv[1], "rb").read())
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

#[test]
fn an_environment_that_does_not_wait_hurts_nobody() {
    let Some(node) = warm_node() else {
        return;
    };
    let folder = node.data_dir().join("environments/impatient");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = "version = 1\nfiles = [\"words\"]\ncontract = \"http\"\nwarm = true\ncommand = [\"python3\", \"/environment/loader.py\", \"/app/{handler}\"]\n";
    std::fs::write(folder.join("environment.toml"), manifest).unwrap();
    std::fs::write(folder.join("loader.py"), IMPATIENT).unwrap();
    let lines = format!("runtime = \"process\"\nsource = \".\"\n{IDLE}");
    let source = Source::new()
        .file("words", "served")
        .manifest("w.words", &lines);
    node.deploy_source(&source);
    eventually("it is tried", || {
        let log = node.log();
        log.contains("a warm instance did not start") && log.contains("where is the code?")
    });
    node.await_instances("w.words", 0);
    assert_eq!(node.post("/w.words", b"").expect(200).text(), "served");
    // Others are not held up by it.
    node.deploy_source(&python("p.ok", IDLE, "def fn(i): return i\n"));
    eventually("another waits", || ready(&node, "python3") == 1);
    assert_eq!((ready(&node, "impatient"), taken(&node)), (0, 0));
}

#[test]
fn what_waits_makes_room_for_what_is_needed() {
    let up = Up::new().flag("--warm-instances", "2");
    let node = up.flag("--memory-bytes-max", "800MiB").start();
    if !processes::sandboxed(&node) {
        return;
    }
    node.deploy_source(&python("p.small", IDLE, "def fn(i): return i\n"));
    node.await_instances("p.small", 0);
    eventually("two wait", || ready(&node, "python3") == 2);
    let lines = format!("memory = \"700MiB\"\n{IDLE}");
    node.deploy_source(&python("p.large", &lines, "def fn(i): return i\n"));
    eventually("one is left", || ready(&node, "python3") == 1);
    assert_eq!(node.post("/p.large", b"x").expect(200).text(), "x");
    node.await_instances("p.large", 0);
    eventually("two wait again", || ready(&node, "python3") == 2);
}

#[test]
fn a_small_node_keeps_nothing_warm_and_says_so() {
    let up = Up::new().flag("--warm-instances", "1");
    let node = up.flag("--memory-bytes-max", "512MiB").start();
    node.deploy_source(&python("p", IDLE, "def fn(i): return i\n"));
    node.await_instances("p", 0);
    assert_eq!(node.post("/p", b"x").expect(200).text(), "x");
    let warm = node.status_field("warm");
    assert_eq!(
        (&warm["ready"], &warm["taken"]),
        (&serde_json::json!({}), &Value::from(0))
    );
    let text = node.mote(&["status"]).ok();
    assert!(text.contains("less than 1 GB"), "{text}");
    assert!(node.log().contains("less than 1 GB"));
    let plain = Node::start().mote(&["status"]).ok();
    assert!(!plain.contains("warm"), "{plain}");
}

#[test]
fn nothing_is_left_of_what_waits() {
    let word = format!("warm{:08x}", fastrand::u32(..));
    let Some(mut node) = warm_node() else {
        return;
    };
    let name = format!("p.{word}");
    let mut marks = Marks::new(&node, &word);
    node.deploy_source(&python(&name, IDLE, "def fn(i): return i\n"));
    at_rest(&node, &name, "python3");
    let below = processes::below(node.pid());
    assert!(
        below.values().any(|line| line.contains("loader.py")),
        "{below:?}"
    );
    node.kill();
    eventually("every process of the node is gone", || {
        !below.keys().any(processes::is_there)
    });
    node.restart();
    assert_eq!(warm_call(&node, &name, "python3").expect(200).text(), "on");
    at_rest(&node, &name, "python3");
    let below = processes::below(node.pid());
    node.stop();
    eventually("every process of the node is gone", || {
        !below.keys().any(processes::is_there)
    });
    assert_eq!(marks.running(None, None), Listing::new());
}

#[test]
fn what_dies_while_it_waits_is_replaced() {
    let Some(node) = warm_node() else {
        return;
    };
    node.deploy_source(&python("p", IDLE, "def fn(i): return i\n"));
    at_rest(&node, "p", "python3");
    let below = processes::below(node.pid());
    let waiting = below.iter().find(|(_, line)| line.contains("loader.py"));
    let ((pid, _), _) = waiting.unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("its death is told", || {
        node.log().contains("a warm instance died")
    });
    assert_eq!(warm_call(&node, "p", "python3").expect(200).text(), "on");
}
