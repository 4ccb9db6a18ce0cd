//! Programs that mean harm, or are merely broken: each gets a clear answer, and the node keeps
//! serving.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

use mote_tests::eventually::eventually;
use mote_tests::node::{Node, Up};
use mote_tests::source::{Source, python, server, shell};

/// Deploys a raw TCP program: `code` is given each connection `c` after its request was read.
fn raw(name: &str, lines: &str, code: &str) -> Source {
    let code = code.replace('\n', "\n    ");
    let program = format!(
        r#"
import os, socket, sys, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(os.environ["PORT"])))
s.listen(64)
while True:
    c, _ = s.accept()
    if not c.recv(65536):
        continue
    {code}
    c.close()
"#
    );
    let lines = format!(
        "runtime = \"process\"\nsource = \".\"\ncontract = \"http\"\ncommand = [\"python3\", \"raw.py\"]\n{lines}"
    );
    Source::new().file("raw.py", program).manifest(name, &lines)
}

/// How many processes of this machine have this text in their command line.
fn processes_with(text: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(text))
        .count()
}

#[test]
fn one_that_exits_at_once_is_refused_at_deploy() {
    let node = Node::start();
    let program = Source::new()
        .file("x.py", "import sys\nsys.exit('no configuration')\n")
        .manifest(
            "x",
            "runtime = \"process\"\nsource = \".\"\ncontract = \"http\"\ncommand = [\"python3\", \"x.py\"]",
        );
    let refused = node.try_deploy_source(&program);
    refused.failed(7, &["exited with status 1", "no configuration"]);
    let missing = Source::new().manifest(
        "x",
        "runtime = \"process\"\ncontract = \"http\"\ncommand = [\"/usr/bin/no-such-program\"]",
    );
    node.try_deploy_source(&missing)
        .failed(7, &["does not exist"]);
    let broken = python("x", "", "def fn(:\n");
    node.try_deploy_source(&broken).failed(7, &["SyntaxError"]);
    assert!(node.functions().is_empty());
    node.answers_hello();
}

#[test]
fn one_that_answers_garbage_half_or_without_end_fails_its_call() {
    let node = Up::new().start();
    let code = r#"
c.sendall({
    "garbage": b"\x00\xff garbage\r\n\r\n",
    "half": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "head": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000000,
}.get(os.environ["KIND"], b"HTTP/1.1 200 OK\r\n\r\n"))
if os.environ["KIND"] == "endless":
    try:
        while True: c.sendall(b"x" * 65536)
    except OSError: pass"#;
    for kind in ["garbage", "half", "head", "endless"] {
        let lines = format!("env = {{ KIND = \"{kind}\" }}\nbody = \"256KiB\"");
        node.deploy_source(&raw("g", &lines, code));
        // Not by the harness's client, which wants a whole reply.
        let mut stream = std::net::TcpStream::connect(node.http()).unwrap();
        let request = b"GET /g HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        let line = String::from_utf8_lossy(&reply[..reply.len().min(12)]).into_owned();
        match kind {
            "endless" => assert!(reply.len() < 512 << 10, "{}", reply.len()),
            _ => assert_eq!(line, "HTTP/1.1 502", "{kind}"),
        }
        node.answers_hello();
    }
}

#[test]
fn limits_of_processes_memory_and_tmp_hold() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let bomb = "f() { f & f & wait; }; f 2>/dev/null; echo survived";
    node.deploy_source(&shell("bomb", "timeout = \"2s\"\nprocesses = 32", bomb));
    let status = node.post("/bomb", b"").status;
    assert!(matches!(status, 200 | 502 | 504), "{status}");
    let hungry =
        "data = bytearray()\ndef fn(i, h):\n    while True: data.extend(b'x' * (1 << 20))\n";
    node.deploy_source(&python("hungry", "memory = \"64MiB\"", hungry));
    let reply = node.post("/hungry", b"").expect(502);
    assert!(!reply.text().is_empty());
    let hungry = "exec python3 -c 'bytearray(1 << 30)'";
    node.deploy_source(&shell("eats", "memory = \"64MiB\"", hungry));
    let reply = node.post("/eats", b"").expect(502);
    assert!(reply.text().contains("memory"), "{}", reply.text());
    let fills = "head -c 20000000 /dev/zero > /tmp/full; ls -l /tmp/full | awk '{print $5}'";
    node.deploy_source(&shell("fills", "tmp = \"1MiB\"", fills));
    for _ in 0..2 {
        let size: u64 = node
            .post("/fills", b"")
            .expect(200)
            .text()
            .trim()
            .parse()
            .unwrap();
        assert!(size <= 1 << 20, "{size}");
    }
    node.answers_hello();
}

#[test]
fn what_hangs_is_killed_with_all_it_started() {
    let node = Node::start();
    let mark = format!("{}", 3_000_000 + std::process::id());
    let hang = format!("setsid sleep {mark} & sleep {mark}");
    node.deploy_source(&shell("h", "timeout = \"500ms\"", &hang));
    node.post("/h", b"").expect(504);
    eventually("no process of the call is left", || {
        processes_with(&mark) == 0
    });
    let code = format!(
        "import os\nos.spawnlp(os.P_NOWAIT, 'setsid', 'setsid', 'sleep', '{mark}')\nwhile True: pass"
    );
    let lines = "timeout = \"1s\"\nconcurrency = 1";
    node.deploy_source(&server(
        "one",
        lines,
        &format!(
            "if h.path == '/hang':\n    {}\nanswer(h, 'fine')",
            code.replace('\n', "\n    ")
        ),
    ));
    assert_eq!(node.get("/one").expect(200).text(), "fine");
    node.get("/one/hang").expect(504);
    eventually("the program and what it started is gone", || {
        processes_with(&mark) == 0
    });
    assert_eq!(node.get("/one").expect(200).text(), "fine");
    let handler = format!(
        "import subprocess, time\ndef fn(i, h):\n    if i == 'hang':\n        subprocess.Popen(['sleep', '{mark}'])\n        time.sleep(600)\n    return 'fine'\n"
    );
    node.deploy_source(&python("z", "timeout = \"1s\"", &handler));
    node.post("/z", b"hang").expect(504);
    assert_eq!(node.post("/z", b"").expect(200).text(), "fine");
    eventually("the worker and what it started is gone", || {
        processes_with(&mark) == 0
    });
}

#[test]
fn a_death_is_its_own_calls_and_healed_and_five_are_unhealthy() {
    let node = Node::start();
    let code = "if h.path == '/die': os._exit(9)\ntime.sleep(0.2 if h.path == '/slow' else 0)\nanswer(h, 'fine')";
    node.deploy_source(&server("d", "scale = { min = 2, max = 2 }", code));
    node.await_instances("d", 2);
    let died = node.get("/d/die").expect(502);
    assert!(
        died.text().contains("exited with status 9"),
        "{}",
        died.text()
    );
    assert_eq!(node.get("/d").expect(200).text(), "fine");
    node.await_instances("d", 2);
    // A call that kills its program, over a connection that was kept, is not given to the others.
    let before = node.function("d")["instances"]["deaths"].as_u64().unwrap();
    node.get("/d").expect(200);
    node.get("/d/die").expect(502);
    node.await_instances("d", 2);
    let after = node.function("d")["instances"]["deaths"].as_u64().unwrap();
    assert_eq!(after, before + 1);
    let crash = "answer(h, 'fine') if h.path != '/die' else os._exit(9)";
    node.deploy_source(&server("u", "scale = { max = 1 }", crash));
    let refused = AtomicBool::new(false);
    eventually("five deaths in a minute are unhealthy", || {
        let reply = node.get("/u/die");
        let unhealthy = reply.status == 503 && reply.text().contains("unhealthy");
        refused.store(unhealthy, Ordering::Relaxed);
        unhealthy
    });
    assert!(refused.load(Ordering::Relaxed));
    assert_eq!(node.function("u")["state"], "unhealthy");
    node.deploy_source(&server("u", "", "answer(h, 'mended')"));
    assert_eq!(node.get("/u").expect(200).text(), "mended");
}

#[test]
fn what_the_sandbox_denies_is_denied() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = door.local_addr().unwrap().port();
    let (own_door, data) = (node.http().port(), node.data_dir().display().to_string());
    let handler = format!(
        r#"
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def tries(name, what):
    try:
        return f"{{name}}: {{what()}}"
    except Exception as e:
        return f"{{name}}: denied {{type(e).__name__}}"
def call(result):
    if result < 0: raise OSError(ctypes.get_errno())
    return "done"
def connect(host, port):
    s = socket.socket(); s.settimeout(2); s.connect((host, port)); return "connected"
def handle(request):
    return "\n".join([
        tries("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
        tries("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        tries("mount", lambda: call(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))),
        tries("unshare", lambda: call(libc.unshare(0x10000000))),
        tries("chroot", lambda: call(libc.chroot(b"/tmp"))),
        tries("setuid", lambda: os.setuid(0)),
        tries("ptrace", lambda: call(libc.ptrace(16, 1, 0, 0))),
        tries("write", lambda: open("/usr/evil", "w")),
        tries("code", lambda: open("/app/handler.py", "a")),
        tries("data", lambda: os.listdir("{data}")),
        tries("token", lambda: open("{data}/token").read()),
        tries("shadow", lambda: open("/etc/shadow").read()),
        tries("root", lambda: os.listdir("/root")),
        tries("other", lambda: connect("127.0.0.1", {port})),
        tries("node", lambda: connect("127.0.0.1", {own_door})),
        tries("metadata", lambda: connect("169.254.169.254", 80)),
        tries("outside", lambda: connect("192.0.2.1", 80)),
        tries("pids", lambda: [p for p in os.listdir("/proc") if p.isdigit() and b"mote up" in open(f"/proc/{{p}}/cmdline","rb").read().replace(b"\0", b" ")] and "seen" or exec("raise OSError")),
    ])
"#
    );
    node.deploy_source(&python("s.spy", "", &handler));
    let text = node.post("/s.spy", b"").expect(200).text();
    for line in text.lines() {
        assert!(line.contains(": denied "), "{line} of\n{text}");
    }
    assert_eq!(text.lines().count(), 18, "{text}");
}

#[test]
fn apps_do_not_see_each_other() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let keeps = "open('/tmp/secret', 'w').write('secret')\nanswer(h, 'kept')";
    node.deploy_source(&server("a.one", "port = 7000", keeps));
    node.get("/a.one").expect(200);
    let spies = "ls /tmp; cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '; ls /proc | grep -c '^[0-9]'; (echo > /dev/tcp/127.0.0.1/7000) 2>&1; python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 7000), 1)' 2>&1 | tail -1";
    node.deploy_source(&shell("b.two", "", spies));
    let text = node.post("/b.two", b"").expect(200).text();
    assert!(
        !text.contains("secret") && !text.contains("server.py"),
        "{text}"
    );
    assert!(text.contains("refused"), "{text}");
}

#[test]
fn the_way_out_leads_to_granted_origins_only() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let granted = format!("http://127.0.0.1:{}", outside.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in outside.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\noutside",
            );
        }
    });
    let handler = r#"
import urllib.request, urllib.error
def fn(url, headers):
    try:
        proxies = urllib.request.ProxyHandler({"http": __import__("os").environ["http_proxy"]})
        opener = urllib.request.build_opener(proxies)
        return opener.open(url, timeout=5).read().decode()
    except urllib.error.HTTPError as e:
        return f"{e.code} {e.read().decode()}"
"#;
    let lines = format!("allow.http = [\"{granted}\", \"http://localhost:1\"]");
    node.deploy_source(&python("o", &lines, handler));
    let ask = |url: &str| node.post("/o", url.as_bytes()).expect(200).text();
    assert_eq!(ask(&format!("{granted}/x")), "outside");
    let denied = ask("http://example.org/");
    assert!(
        denied.starts_with("403") && denied.contains("allow.http = [\"http://example.org\"]"),
        "{denied}"
    );
    assert!(ask("http://169.254.169.254/latest").starts_with("403"));
    assert!(
        node.log_of("o").contains("allow.http"),
        "{}",
        node.log_of("o")
    );
}

#[test]
fn what_ignores_the_end_is_ended() {
    let mut node = Node::start();
    let mark = format!("{}", 4_000_000 + std::process::id());
    let code = format!("signal_was = 0\nanswer(h, 'here {mark}')");
    let stubborn = server("w", "", &code);
    let path = stubborn.path().join("server.py");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("lambda *_: os._exit(0)", &format!("lambda *_: {mark}")),
    )
    .unwrap();
    node.deploy_source(&stubborn);
    node.get("/w").expect(200);
    node.stop();
    let tag_left = processes_with("__sandbox");
    assert_eq!(processes_with(&node.data_dir().display().to_string()), 0);
    eventually("its sandbox is gone", || {
        processes_with("__sandbox") <= tag_left
    });
}

#[test]
fn archives_lead_nowhere_else() {
    let node = Node::start();
    let spec = serde_json::json!({ "runtime": "process" });
    let entry = |name: &str, kind: u8, link: &str, size: u64, data: &[u8]| {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000755");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..263].copy_from_slice(b"ustar\0");
        header[263..265].copy_from_slice(b"00");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    let end = [0; 1024];
    let victim = tempfile::tempdir().unwrap();
    let away = victim.path().join("x").display().to_string();
    let good = entry("handler.py", b'0', "", 1, b"\n");
    let cases = [
        ("up", entry("../escaped", b'0', "", 1, b"x")),
        ("absolute", entry(&away, b'0', "", 1, b"x")),
        ("link out", entry("l", b'2', "/", 0, b"")),
        ("device", entry("d", b'3', "", 0, b"")),
        ("zeros", entry("z", b'0', "", 8_589_934_591, b"x")),
        ("half", entry("handler.py", b'0', "", 4096, b"x")),
    ];
    for (what, bad) in cases {
        let archive = [good.as_slice(), &bad, &end].concat();
        let reply = node.try_deploy("a", &archive, &spec);
        assert!(
            matches!(reply.status, 400 | 413 | 415),
            "{what}: {} {}",
            reply.status,
            reply.text()
        );
    }
    assert_eq!(std::fs::read_dir(victim.path()).unwrap().count(), 0);
    assert_eq!(
        std::fs::read_dir(node.data_dir().join("trees"))
            .unwrap()
            .count(),
        0
    );
    node.answers_hello();
}

#[test]
fn what_cannot_be_had_is_said() {
    let socket = tempfile::tempdir().unwrap();
    let missing = socket.path().join("engine.sock");
    let node = Up::new()
        .flag("--container-socket", missing.to_str().unwrap())
        .flag("--memory-bytes-max", "256MiB")
        .start();
    let image = Source::new().manifest("c", "runtime = \"container\"\nimage = \"no/such:image\"");
    let refused = node.try_deploy_source(&image);
    refused.failed(2, &["engine.sock"]);
    let large = server("m", "memory = \"300MiB\"", "answer(h, '')");
    node.try_deploy_source(&large)
        .failed(2, &["300 MiB", "256 MiB"]);
    let wasm = Source::new()
        .file("x.wasm", b"\0asm")
        .manifest("x", "source = \"x.wasm\"\ncommand = [\"x\"]");
    node.try_deploy_source(&wasm)
        .failed(2, &["`command` is not for WebAssembly"]);
    let empty = Source::new().manifest("e", "runtime = \"process\"\nsource = \".\"");
    node.try_deploy_source(&empty).failed(2, &["how to run it"]);
    node.deploy_source(&shell("p", "", "env"));
    let environment = node.call(
        "POST",
        "/p",
        &[("proxy", "http://evil"), ("x-odd", "a b;$(c)")],
        b"",
    );
    let text = environment.expect(200).text();
    assert!(
        !text.contains("HTTP_PROXY") && text.contains("a b;$(c)"),
        "{text}"
    );
}
