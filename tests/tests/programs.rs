//! Programs as functions: every contract, over both doors, from plain source, from a bare program and
//! from an image without an engine.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mote_tests::eventually::{eventually, within};
use mote_tests::node::{Node, Up};
use mote_tests::program::run;
use mote_tests::source::{Source, python, server, shell, skipped};
use serde_json::Value;

#[path = "../interop/tools.rs"]
mod tools;

/// What a call over CoAP gives.
#[track_caller]
fn coap(node: &Node, path: &str, body: &str) -> String {
    let Some(client) = tools::program("coap-client-notls") else {
        return body.to_owned();
    };
    let mut command = Command::new(client);
    command.args(["-m", "post", "-e", body]);
    command.arg(format!("coap://{}{path}", node.coap()));
    run(command, &[]).ok().trim_end().to_owned()
}

/// A static program, compiled here.
fn static_program(folder: &Path, code: &str) -> Option<Vec<u8>> {
    let source = folder.join("program.c");
    std::fs::write(&source, code).unwrap();
    let mut command = Command::new("cc");
    command.args(["-static", "-O1", "-o"]);
    command.arg(folder.join("program")).arg(&source);
    let built = command.status().is_ok_and(|status| status.success());
    if !built {
        skipped("no static program can be compiled here");
        return None;
    }
    Some(std::fs::read(folder.join("program")).unwrap())
}

#[test]
fn a_script_is_a_process_for_each_call() {
    let node = Node::start();
    let script = "echo to the log >&2\necho \"$$ $Http_Method $REQUEST_METHOD $Http_X_Test $PATH_INFO $QUERY_STRING $ROOM\"\ncat";
    node.deploy_source(&shell("s", "env = { ROOM = \"kitchen\" }", script));
    let reply = node.call("POST", "/s/a/b?c=d", &[("x-test", "yes")], b"body");
    let reply = reply.expect(200);
    assert_eq!(reply.text(), "1 POST POST yes /a/b c=d kitchen\nbody");
    assert!(
        node.log_of("s").contains("warn  to the log") || node.log_of("s").contains("to the log")
    );
    assert!(coap(&node, "/s", "over coap").ends_with("over coap"));
    let large = vec![b'x'; 300_000];
    assert!(node.post("/s", &large).expect(200).body.ends_with(&large));
}

#[test]
fn a_script_that_fails_says_why() {
    let node = Node::start();
    node.deploy_source(&shell("f", "", "echo no such luck >&2; exit 3"));
    let reply = node.post("/f", b"").expect(502);
    assert!(
        reply.text().contains("exited with status 3: no such luck"),
        "{reply:?}"
    );
    node.answers_hello();
}

#[test]
fn python_source_is_forked_for_each_call() {
    let node = Node::start();
    let handler = r#"
import os
seen = []
def handle(request):
    seen.append(request.path)
    print("seen", len(seen))
    if request.path == "/fail":
        raise ValueError("no such room")
    if request.path == "/status":
        return 201, {"x-made": "here"}, "made"
    return {"seen": len(seen), "body": request.text(), "query": request.query, "uid": os.getuid()}
"#;
    node.deploy_source(&python("p", "", handler));
    for _ in 0..3 {
        let reply = node.post("/p/x?a=b", b"on").expect(200).json();
        assert_eq!(
            (&reply["seen"], &reply["body"]),
            (&Value::from(1), &Value::from("on"))
        );
    }
    let made = node.post("/p/status", b"").expect(201);
    assert_eq!(
        (made.header("x-made"), made.text().as_str()),
        (Some("here"), "made")
    );
    let failed = node.post("/p/fail", b"").expect(502);
    assert!(failed.text().contains("no such room"), "{failed:?}");
    assert!(
        node.log_of("p").contains("Traceback"),
        "{}",
        node.log_of("p")
    );
    assert!(
        coap(&node, "/p", "on").contains("\"body\": \"on\"")
            || coap(&node, "/p", "on").contains("\"body\":\"on\"")
    );
}

#[test]
fn source_needs_no_manifest() {
    let node = Node::start();
    let source = Source::new().file(
        "handler.py",
        "def fn(input, headers):\n    return 'hello, ' + input\n",
    );
    let path = source.path().to_str().unwrap();
    node.mote(&["deploy", path, "--name", "greet"]).ok();
    assert_eq!(node.post("/greet", b"Ada").expect(200).text(), "hello, Ada");
    let source = Source::new().file(
        "handler.js",
        "module.exports = (req, res) => res.status(201).send('node got ' + req.body);\n",
    );
    let path = source.path().to_str().unwrap();
    node.mote(&["deploy", path, "--name", "js"]).ok();
    assert_eq!(node.post("/js", b"it").expect(201).text(), "node got it");
    let empty = Source::new();
    let refused = node.try_deploy_source(&empty);
    refused.failed(2, &["no mote.toml", "handler.py"]);
}

#[test]
fn a_server_takes_many_calls_at_once() {
    let node = Node::start();
    let code = "time.sleep(0.2 if h.path == '/slow' else 0)\nanswer(h, f'{os.getpid()} {h.command} {h.path} '.encode() + body)";
    node.deploy_source(&server("w", "", code));
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| node.post("/w/slow", b"x").expect(200).text()))
            .collect();
        for call in calls {
            assert_eq!(call.join().unwrap(), "1 POST /slow x");
        }
    });
    assert_eq!(node.get("/w/a?b=c").expect(200).text(), "1 GET /a?b=c ");
    assert!(coap(&node, "/w", "over coap").ends_with("over coap"));
    assert_eq!(node.function("w")["instances"]["running"], 1);
}

#[test]
fn a_server_may_listen_on_a_socket_or_on_its_own_port() {
    let node = Node::start();
    let code = "answer(h, 'own port')";
    node.deploy_source(&server("own", "port = 9000\nscale = { min = 2 }", code));
    node.await_instances("own", 2);
    assert_eq!(node.get("/own").expect(200).text(), "own port");
    let program = r#"
import os, socket
s = socket.socket(socket.AF_UNIX)
s.bind(os.environ["MOTE_SOCKET"])
s.listen(16)
while True:
    c, _ = s.accept()
    if c.recv(65536):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsocket")
    c.close()
"#;
    let lines = "runtime = \"process\"\nsource = \".\"\ncontract = \"http\"\ncommand = [\"python3\", \"s.py\"]";
    node.deploy_source(&Source::new().file("s.py", program).manifest("sock", lines));
    assert_eq!(node.get("/sock").expect(200).text(), "socket");
}

#[test]
fn replies_are_streamed_and_published() {
    let node = Node::start();
    let code = r#"
if h.path == "/big":
    return answer(h, b"x" * 3_000_000)
if h.path == "/on":
    return answer(h, "on", headers=[("Mote-Publish", "true"), ("Content-Type", "text/plain")])
answer(h, "off")"#;
    node.deploy_source(&server("w", "observable = true\nbody = \"4MiB\"", code));
    assert_eq!(node.get("/w/big").expect(200).body.len(), 3_000_000);
    let published = node.post("/w/on", b"").expect(200);
    assert_eq!(published.header("mote-publish"), None);
    let again = node.get("/w/on").expect(200);
    assert!(
        again.header("etag").is_some(),
        "a published value: {again:?}"
    );
}

#[test]
fn a_bare_program_and_a_command_of_the_system() {
    let node = Node::start();
    let folder = tempfile::tempdir().unwrap();
    let lines = "runtime = \"process\"\ncontract = \"stdio\"\ncommand = [\"/usr/bin/wc\", \"-c\"]";
    node.deploy_source(&Source::new().manifest("wc", lines));
    assert_eq!(node.post("/wc", b"12345").expect(200).text().trim(), "5");
    let code = "#include <stdio.h>\nint main(){char b[64];size_t n=fread(b,1,64,stdin);printf(\"static %.*s\",(int)n,b);return 0;}\n";
    let Some(program) = static_program(folder.path(), code) else {
        return;
    };
    let path = folder.path().join("program");
    node.mote(&["deploy", path.to_str().unwrap(), "--name", "bare"])
        .ok();
    assert_eq!(node.post("/bare", b"yes").expect(200).text(), "static yes");
    // The machine is at byte 18 of the header (ELF, e_machine).
    let mut foreign = program;
    foreign[18] = if foreign[18] == 0xb7 { 0x3e } else { 0xb7 };
    std::fs::write(&path, &foreign).unwrap();
    let refused = node.mote(&["deploy", path.to_str().unwrap(), "--name", "bare"]);
    refused.failed(2, &["exec format error"]);
    assert_eq!(
        node.post("/bare", b"still").expect(200).text(),
        "static still"
    );
}

/// A `docker save` archive of one layer with one program.
fn image(program: &[u8]) -> Option<Vec<u8>> {
    let script = r#"
import hashlib, io, json, sys, tarfile
def add(tar, name, data, mode=0o644):
    info = tarfile.TarInfo(name); info.size = len(data); info.mode = mode
    tar.addfile(info, io.BytesIO(data))
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    add(tar, "program", sys.stdin.buffer.read(), 0o755)
    add(tar, "etc/motd", b"of the image\n")
layer = layer.getvalue()
config = json.dumps({"architecture": sys.argv[1], "os": "linux",
    "config": {"Entrypoint": ["/program"], "Env": ["COLOUR=red"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode()
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
    add(tar, "manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["t:1"], "Layers": ["layer.tar"]}]).encode())
    add(tar, "config.json", config)
    add(tar, "layer.tar", layer)
"#;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("image.tar");
    let mut child = Command::new("python3")
        .args(["-c", script, architecture])
        .stdin(std::process::Stdio::piped())
        .stdout(std::fs::File::create(&out).unwrap())
        .spawn()
        .ok()?;
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), program).unwrap();
    assert!(child.wait().unwrap().success());
    Some(std::fs::read(out).unwrap())
}

#[test]
fn an_image_is_a_root_without_an_engine() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let code = r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(){
    char text[64] = {0};
    FILE *f = fopen("/etc/motd", "r");
    if (f) { fgets(text, 64, f); fclose(f); }
    printf("%s %s usr=%d", getenv("COLOUR"), text, access("/usr/bin", F_OK));
    return 0;
}"#;
    let Some(program) = static_program(folder.path(), code) else {
        return;
    };
    let Some(image) = image(&program) else {
        skipped("no python3 to make an image with");
        return;
    };
    let lines = "runtime = \"process\"\nimage = \"image.tar\"\ncontract = \"stdio\"";
    node.deploy_source(&Source::new().file("image.tar", image).manifest("i", lines));
    assert_eq!(
        node.get("/i").expect(200).text(),
        "red of the image\n usr=-1"
    );
}

#[test]
fn functions_go_to_zero_and_come_back_over_a_restart() {
    let mut node = Node::start();
    let code = "answer(h, 'here')";
    node.deploy_source(&server("w", "scale = { idle = \"200ms\", max = 2 }", code));
    node.deploy_source(&python(
        "p",
        "scale = { idle = \"200ms\" }",
        "def fn(i, h): return 'py'\n",
    ));
    for _ in 0..2 {
        assert_eq!(node.get("/w").expect(200).text(), "here");
        assert_eq!(node.get("/p").expect(200).text(), "py");
        node.await_instances("w", 0);
        node.await_instances("p", 0);
        assert_eq!(node.function("w")["state"], "cold");
        eventually("what stopped gave its memory back", || {
            node.status_field("memory_reserved_bytes") == 0
        });
        node.stop();
        node.restart();
    }
    node.mote(&["scale", "w", "2"]).ok();
    node.await_instances("w", 2);
    assert!(node.mote(&["show", "w"]).ok().contains("scale.min"));
    node.mote(&["scale", "hello", "2"])
        .failed(4, &["not deployed"]);
    node.answers_hello();
    node.mote(&["scale", "hello", "2"])
        .failed(5, &["WebAssembly"]);
}

#[test]
fn a_redeploy_loses_no_call() {
    let node = Node::start();
    let version = |number: u32| server("w", "", &format!("answer(h, 'version {number}')"));
    node.deploy_source(&version(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let reply = node.get("/w").expect(200);
                assert!(reply.text().starts_with("version "), "{reply:?}");
                count += 1;
            }
            count
        });
        for number in 1..=5 {
            node.deploy_source(&version(number));
        }
        done.store(true, Ordering::Relaxed);
        assert!(calls.join().unwrap() > 5);
    });
    assert_eq!(node.get("/w").expect(200).text(), "version 5");
    node.mote(&["rollback", "w"]).ok();
    assert_eq!(node.get("/w").expect(200).text(), "version 4");
}

#[test]
fn more_instances_come_with_more_calls() {
    let node = Up::new().start();
    let code = "time.sleep(0.1)\nanswer(h, 'slept')";
    let lines = "concurrency = 32\nscale = { max = 3, target = 1 }";
    node.deploy_source(&server("w", lines, code));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    node.get("/w").expect(200);
                }
            });
        }
        let reached = within(Duration::from_secs(60), || {
            let running = node.function("w")["instances"]["running"].as_u64();
            (running == Some(3)).then_some(())
        });
        done.store(true, Ordering::Relaxed);
        assert!(reached.is_some(), "{}", node.function("w"));
    });
}
