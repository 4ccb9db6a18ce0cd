//! Programs that do not come up, and what no node could run: refused at deploy, with the reason.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use mote_tests::node::{Node, Up};
use mote_tests::program::{command, run};
use mote_tests::source::{Source, python, server, shell, skipped};

use crate::{coap, program, says};

#[test]
fn one_that_exits_at_once_is_refused_at_deploy() {
    let node = Node::start();
    let exits = "import sys\nsys.exit('no configuration')\n";
    for contract in ["http", "lambda"] {
        let refused = node.try_deploy_source(&program("x", contract, "", exits));
        refused.failed(7, &["exited with status 1", "no configuration"]);
    }
    let quiet = program("x", "http", "", "import os\nos._exit(0)\n");
    node.try_deploy_source(&quiet)
        .failed(7, &["exited with status 0"]);
    let missing = Source::new().manifest(
        "x",
        "runtime = \"process\"\ncontract = \"http\"\ncommand = [\"/usr/bin/no-such-program\"]",
    );
    node.try_deploy_source(&missing)
        .failed(7, &["does not exist"]);
    assert!(node.functions().is_empty());
    node.answers_hello();
}

#[test]
fn one_that_never_becomes_ready_is_refused_at_deploy() {
    let node = Node::start();
    let sleeps = "import time\ntime.sleep(600)\n";
    let mute = r#"
import os, socket, time
s = socket.socket()
s.bind(("127.0.0.1", int(os.environ["PORT"])))
s.listen(64)
time.sleep(600)
"#;
    let lines = "timeout = \"500ms\"";
    let listens = "$PORT";
    let cases = [
        ("silent", program("silent", "http", lines, sleeps), listens),
        (
            "mute",
            program(
                "mute",
                "http",
                "timeout = \"500ms\"\nready = \"/health\"",
                mute,
            ),
            "not ready after",
        ),
        ("idle", program("idle", "lambda", lines, sleeps), "after"),
        (
            "import",
            python("import", lines, sleeps),
            "not imported within",
        ),
    ];
    // Side by side, since each takes as long as a start may take.
    std::thread::scope(|scope| {
        for (what, source, expected) in &cases {
            let node = &node;
            scope.spawn(move || {
                let refused = node.try_deploy_source(source);
                assert!(matches!(refused.code, Some(7 | 8)), "{what}: {refused:?}");
                says(&refused.stderr, expected);
            });
        }
    });
    assert!(node.functions().is_empty());
    node.answers_hello();
}

#[test]
fn a_handler_that_is_no_code_says_where() {
    let node = Node::start();
    node.try_deploy_source(&python("b", "", "def fn(:\n"))
        .failed(7, &["SyntaxError"]);
    let wrong = python("b", "", "import no_such_module\n");
    node.try_deploy_source(&wrong)
        .failed(7, &["ModuleNotFoundError", "no_such_module"]);
    // One that breaks only when it is called says the last line of its traceback to the caller.
    node.deploy_source(&python("b", "", "def fn(i, h):\n    return 1 / 0\n"));
    let told = crate::fails(&node, "b", b"", crate::BAD_REPLY);
    says(&told, "ZeroDivisionError: division by zero");
    says(&node.log_of("b"), "handler.py");
    node.answers_hello();
}

/// The head of a program for another machine, and the name of that machine.
fn foreign() -> (Vec<u8>, &'static str) {
    let (machine, name) = match cfg!(target_arch = "aarch64") {
        true => (62_u16, "x86_64"),
        false => (183, "aarch64"),
    };
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    elf.extend(machine.to_le_bytes());
    elf.resize(4096, 0);
    (elf, name)
}

#[test]
fn a_program_of_another_machine_is_an_exec_format_error() {
    let node = Node::start();
    let (elf, name) = foreign();
    let said = ["exec format error", name];
    let source = Source::new()
        .file("prog", &elf)
        .manifest("e", "runtime = \"process\"\nsource = \"prog\"");
    node.try_deploy_source(&source).failed(2, &said);
    // Without a manifest too.
    let path = source.path().join("prog");
    node.mote(&["deploy", path.to_str().unwrap()])
        .failed(2, &said);
    assert!(node.functions().is_empty());
    node.answers_hello();
}

#[test]
fn a_command_of_another_machine_is_an_exec_format_error() {
    let node = Node::start();
    let (elf, _) = foreign();
    let served = "contract = \"http\"\ncommand = [\"./program\"]";
    for lines in [
        served,
        "command = [\"./program\"]",
        "command = [\"/app/program\"]",
        // What it is comes from its name.
        "",
    ] {
        let text = format!("runtime = \"process\"\nsource = \".\"\n{lines}");
        let source = Source::new().file("program", &elf).file("data", "x");
        let refused = node.try_deploy_source(&source.manifest("e", &text));
        refused.failed(2, &["exec format error", "program` is for"]);
        assert!(!refused.stderr.contains("trees"), "{refused:?}");
    }
    assert!(node.functions().is_empty());
}

#[test]
fn manifests_that_no_node_could_follow_are_refused() {
    let node = Node::start();
    for (memory, said) in [
        ("1000TiB", "`1000TiB` is not a size"),
        ("99999999999999999999GiB", "99999999999999999999GiB"),
        ("0B", "memory"),
        ("-1", "`-1` is not a size"),
    ] {
        let lines = format!("memory = \"{memory}\"");
        let refused = node.try_deploy_source(&shell("m", &lines, "true"));
        assert_eq!(refused.code, Some(2), "{memory}: {refused:?}");
        says(&refused.stderr, said);
    }
    let wasm = Source::new()
        .file("x.wasm", b"\0asm")
        .manifest("x", "source = \"x.wasm\"\ncommand = [\"x\"]");
    node.try_deploy_source(&wasm)
        .failed(2, &["`command` is not for WebAssembly"]);
    let alone = Source::new().manifest("e", "runtime = \"process\"\nsource = \".\"");
    node.try_deploy_source(&alone).failed(2, &["how to run it"]);
    let empty = Source::new().manifest("e", "runtime = \"process\"\nsource = \"code\"");
    std::fs::create_dir(empty.path().join("code")).unwrap();
    node.try_deploy_source(&empty).failed(2, &["is empty"]);
    let out = Source::new().manifest("e", "runtime = \"process\"\nsource = \"../x\"");
    node.try_deploy_source(&out).failed(2, &["leads out"]);
    assert!(node.functions().is_empty());
    node.answers_hello();
}

#[test]
fn memory_that_no_node_has_is_refused_for_every_contract() {
    let node = Up::new().flag("--memory-bytes-max", "256MiB").start();
    let handler = "def fn(i, h):\n    return i\n";
    for source in [
        server("m", "memory = \"300MiB\"", "answer(h, '')"),
        python("m", "memory = \"300MiB\"", handler),
        shell("m", "memory = \"300MiB\"", "true"),
    ] {
        let refused = node.try_deploy_source(&source);
        refused.failed(2, &["300 MiB", "256 MiB"]);
    }
    assert!(node.functions().is_empty());
    node.answers_hello();
}

#[test]
fn a_container_without_an_engine_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let image = Source::new().manifest("c", "runtime = \"container\"\nimage = \"no/such:image\"");
    let missing = folder.path().join("engine.sock");
    let with_socket = |path: &std::path::Path| {
        Up::new()
            .flag("--container-socket", path.to_str().unwrap())
            .start()
    };
    let node = with_socket(&missing);
    node.try_deploy_source(&image).failed(2, &["engine.sock"]);
    node.answers_hello();

    // Something listens there, and it is no engine.
    let path = folder.path().join("other.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"\x00\xff this is no engine\r\n\r\n");
        }
    });
    let node = with_socket(&path);
    let refused = node.try_deploy_source(&image);
    assert!(matches!(refused.code, Some(2 | 6)), "{refused:?}");
    says(&refused.stderr, "other.sock");
    node.answers_hello();
}

/// A node that ends with the value.
struct Unprivileged {
    child: Child,
    admin: String,
    token: String,
    _folder: tempfile::TempDir,
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Unprivileged {
    /// A node that has no rights, so that it cannot isolate in every way. `None` where no node can
    /// be started like that.
    fn start() -> Option<Self> {
        const NOBODY: u32 = 65_534;
        let folder = tempfile::tempdir().unwrap();
        // Its path is open to that user, its program perhaps not.
        let program = folder.path().join("mote");
        std::fs::copy(mote_tests::program::mote(), &program).unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let usual = Up::new().command(&data);
        let mut up = match rustix::process::getuid().is_root() {
            false => Command::new(&program),
            true => {
                chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
                let mut setpriv = Command::new("setpriv");
                let user = NOBODY.to_string();
                setpriv.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
                setpriv.args(["--inh-caps=-all", "--no-new-privs"]);
                setpriv.arg(&program);
                setpriv
            }
        };
        mote_tests::program::clean(&mut up);
        up.args(usual.get_args());
        let spawned = up.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut child) = spawned else {
            skipped("there is no `setpriv` to start a node without rights");
            return None;
        };
        let stdout = child.stdout.take().unwrap();
        let mut node = Self {
            child,
            admin: String::new(),
            token: String::new(),
            _folder: folder,
        };
        for line in BufReader::new(stdout).lines() {
            let line = line.unwrap();
            match line.split_once(' ') {
                Some(("admin", address)) => address.clone_into(&mut node.admin),
                Some(("token", path)) => {
                    node.token = std::fs::read_to_string(PathBuf::from(path)).unwrap();
                    return Some(node);
                }
                _ => {}
            }
        }
        panic!("a node without rights did not start");
    }

    #[track_caller]
    fn mote(&self, arguments: &[&str]) -> mote_tests::program::Ended {
        let mut command = command(arguments);
        command
            .env("MOTE_NODE", &self.admin)
            .env("MOTE_TOKEN", self.token.trim());
        run(command, &[])
    }
}

#[test]
fn isolation_that_cannot_be_had_is_refused_where_it_is_required() {
    let Some(node) = Unprivileged::start() else {
        return;
    };
    let status: serde_json::Value =
        serde_json::from_str(&node.mote(&["status", "--json"]).ok()).unwrap();
    let tier = status["isolation"]["process"].to_string();
    if tier == "\"full\"" {
        skipped("a node without rights isolates in every way here");
        return;
    }
    says(&tier, "reduced: no ");
    let strict = shell("r", "isolation = \"required\"", "echo here");
    let refused = node.mote(&["deploy", strict.path().to_str().unwrap()]);
    refused.failed(2, &["isolation = \"required\"", "reduced: no "]);
    assert!(!node.mote(&["ls"]).ok().contains("required"));
    // With what there is, it runs, and the answer says what is missing.
    let loose = shell("r", "isolation = \"best-effort\"", "echo here");
    node.mote(&["deploy", loose.path().to_str().unwrap()]).ok();
    says(&node.mote(&["show", "r"]).ok(), "reduced: no ");
    assert_eq!(node.mote(&["invoke", "r"]).ok().trim(), "here");
}

#[test]
fn isolation_that_is_there_may_be_required() {
    let node = Node::start();
    if !node.isolates_fully() {
        return;
    }
    node.deploy_source(&shell("r", "isolation = \"required\"", "echo here"));
    assert_eq!(node.get("/r").expect(200).text(), "here\n");
    assert_eq!(coap(&node, "r", b"").text(), "here\n");
}
