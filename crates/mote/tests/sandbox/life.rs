//! How sandboxes and nodes end, and that nothing is left of them.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use futures_util::FutureExt as _;
use mote_runtimes::sandbox::process::{Exit, Network};
use mote_runtimes::sandbox::tier::Layer;

use super::app::{App, read, said, say, wait_for_line};
use super::denied;

#[tokio::test]
async fn killing_takes_everything_along() {
    let app = App::start("kill").await;
    if !app.sandbox.tier().has(Layer::PidNamespace) {
        eprintln!("skipped: this system allows no pid namespace");
        return;
    }
    let (mut output, stdout) = std::io::pipe().unwrap();
    let script = "setsid sh -c 'trap \"\" TERM HUP; (sleep 1000 & echo up; wait)' & wait";
    let process = app
        .sandbox
        .spawn(app.spawn(&["sh", "-c", script], stdout.into()))
        .await
        .unwrap();
    assert_ne!(process.pid(), 0);
    let mut up = [0; 3];
    output.read_exact(&mut up).unwrap();
    process.kill();
    assert_eq!(process.exited().await, Exit::Signal(9));
    // All who could write have gone.
    assert_eq!(read(output), "");
    // Also later, and also to another who asks.
    assert_eq!(process.exited().await, Exit::Signal(9));

    let (output, stdout) = std::io::pipe().unwrap();
    let process = app
        .sandbox
        .spawn(app.spawn(&["sleep", "1000"], stdout.into()))
        .await
        .unwrap();
    drop(process);
    assert_eq!(read(output), "");
}

#[tokio::test]
async fn a_sandbox_ends_with_its_first_process() {
    let app = App::start("ends").await;
    let (output, stdout) = std::io::pipe().unwrap();
    let process = app
        .sandbox
        .spawn(app.spawn(&["sleep", "1000"], stdout.into()))
        .await
        .unwrap();
    send("KILL", &parent(process.pid()));
    app.sandbox.ended().await;
    assert_eq!(process.exited().await, Exit::Lost);
    assert_eq!(read(output), "");
    assert!(app.sandbox.listen(Network::APP).await.is_err());
}

#[tokio::test]
async fn a_sandbox_ends_when_nobody_holds_it() {
    let app = App::start("dropped").await;
    let ended = app.sandbox.ended();
    let (output, stdout) = std::io::pipe().unwrap();
    let spawn = app.spawn(&["sleep", "1000"], stdout.into());
    let process = app.sandbox.spawn(spawn).await.unwrap();
    drop(app);
    assert_eq!(process.exit(), None, "a process keeps its sandbox");
    drop(process);
    ended.await;
    assert_eq!(read(output), "");
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let app = App::start("given-up").await;
    for steps in 0..20 {
        let (output, stdout) = std::io::pipe().unwrap();
        let mut start = Box::pin(
            app.sandbox
                .spawn(app.spawn(&["sleep", "1000"], stdout.into())),
        );
        // Each time it gets a little further before it is dropped.
        for _ in 0..=steps {
            if (&mut start).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(start);
        let left = tokio::task::spawn_blocking(move || read(output));
        assert_eq!(left.await.unwrap(), "");
    }
    assert_eq!(app.run(&["true"]).await.0, Exit::Code(0));
}

#[tokio::test]
async fn a_sandbox_that_hangs_is_ended() {
    let app = App::start("hangs").await;
    let (output, stdout) = std::io::pipe().unwrap();
    let spawn = app.spawn(&["sleep", "1000"], stdout.into());
    let process = app.sandbox.spawn(spawn).await.unwrap();
    send("STOP", &parent(process.pid()));
    let error = app.sandbox.listen(Network::APP).await.unwrap_err();
    assert!(error.to_string().contains("no answer in 5 s"), "{error}");
    app.sandbox.ended().await;
    assert_eq!(process.exited().await, Exit::Lost);
    assert_eq!(read(output), "");
}

/// The parent of a process, as the host sees it.
fn parent(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.unwrap().trim().to_owned()
}

fn send(signal: &str, pid: &str) {
    let sent = Command::new("kill")
        .args(["-s", signal, pid])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// A node in a process of its own; see [`node`].
struct Node {
    child: std::process::Child,
    output: std::io::PipeReader,
    /// What it leaves when it is killed is in here.
    _folder: tempfile::TempDir,
}

impl Node {
    fn start(what: &str, uid: Option<u32>) -> Self {
        let (output, stdout) = std::io::pipe().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["life::node", "--exact", "--nocapture"])
            .env("MOTE_NODE_TEST", what)
            .env("TMPDIR", folder.path())
            .current_dir("/")
            .stdin(Stdio::null())
            .stderr(stdout.try_clone().unwrap())
            .stdout(stdout);
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        Self {
            child: command.spawn().unwrap(),
            output,
            _folder: folder,
        }
    }
}

#[test]
fn nothing_is_left_of_a_node_that_was_killed() {
    for how in ["hold", "reduced hold"] {
        let mut node = Node::start(how, None);
        // The program in the sandbox has the same output.
        let output = wait_for_line(node.output, "running");
        node.child.kill().unwrap();
        node.child.wait().unwrap();
        read(output);
    }
}

#[test]
fn a_node_without_privileges_isolates_too() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: all other tests run without privileges already");
        return;
    }
    let node = Node::start("unprivileged", Some(65_534));
    let text = read(node.output);
    let said = said(&text);
    if said.is_empty() && text.contains("ermission denied") {
        eprintln!("skipped: another user cannot run this test's program");
        return;
    }
    let [tier, seen, denied] = said.as_slice() else {
        panic!("{text}");
    };
    eprintln!("without privileges: {tier}");
    if tier == "reduced: no cgroup memory, no cgroup cpu, no cgroup pids" {
        assert_eq!(seen, "1000 1 unprivileged x");
    }
    assert_eq!(denied, "[]");
}

#[test]
fn a_node_that_is_denied_namespaces_says_so() {
    let node = Node::start("reduced", None);
    let text = read(node.output);
    let said = said(&text);
    let [tier, seen] = said.as_slice() else {
        panic!("{text}");
    };
    eprintln!("without namespaces: {tier}");
    let root = rustix::process::geteuid().is_root();
    let uid = if root {
        100_000
    } else {
        rustix::process::geteuid().as_raw()
    };
    assert!(
        tier.starts_with("reduced: no user namespace, no mount namespace"),
        "{tier}"
    );
    assert!(
        tier.contains("no private root") && !tier.contains("no seccomp"),
        "{tier}"
    );
    let landlock = !tier.contains("no landlock");
    assert_eq!(
        *seen,
        format!("{uid} app {}", if landlock { "denied" } else { "secret" })
    );
}

/// Not a test, unless a test says so: a node.
#[tokio::test]
async fn node() {
    let Ok(what) = std::env::var("MOTE_NODE_TEST") else {
        return;
    };
    if what.starts_with("reduced") {
        // It holds for this thread and what it starts, and there is no other.
        denied::deny_namespaces().unwrap();
    }
    let app = App::start("unprivileged").await;
    match what.as_str() {
        "hold" | "reduced hold" => {
            let stdout = std::io::stdout();
            let stdout = rustix::io::dup(&stdout).unwrap();
            let script = "setsid sleep 1000 & echo @@running; wait";
            let mut spawn = app.spawn(&["sh", "-c", script], stdout);
            spawn.directory = "/usr".to_owned();
            let process = app.sandbox.spawn(spawn).await.unwrap();
            process.exited().await;
        }
        "reduced" => {
            // What is not among the folders of the root, though anybody may read it.
            let open = std::fs::Permissions::from_mode(0o755);
            let secret = tempfile::tempdir().unwrap();
            std::fs::set_permissions(secret.path(), open.clone()).unwrap();
            let secret = secret.path().join("secret");
            std::fs::write(&secret, "secret").unwrap();
            std::fs::set_permissions(&secret, open).unwrap();
            let code = app.code.path().join("file");
            std::fs::write(&code, "app").unwrap();
            let script = format!(
                "echo $(id -u) $(cat {}) $(cat {} 2>/dev/null || echo denied)",
                code.display(),
                secret.display()
            );
            let (output, stdout) = std::io::pipe().unwrap();
            let mut spawn = app.spawn(&["sh", "-c", &script], stdout.into());
            spawn.directory = "/usr".to_owned();
            let (_, seen) = app.finish(spawn, output).await;
            say(&app.sandbox.tier().to_string());
            say(seen.trim());
        }
        _ => {
            let (_, seen) = app
                .shell("echo x > /tmp/x; echo $(id -u) $$ $(hostname) $(ls /tmp)")
                .await;
            let denied = app.probe("denied").await;
            assert!(denied.len() > 30, "{denied:?}");
            let wrong: Vec<_> = denied
                .iter()
                .filter(|line| !line.ends_with(" ok"))
                .collect();
            say(&app.sandbox.tier().to_string());
            say(seen.trim());
            say(&format!("{wrong:?}"));
        }
    }
}
