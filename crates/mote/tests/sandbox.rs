//! The application sandbox with the real program: what programs see in it, what they cannot do, and
//! that nothing of it is left.
//!
//! Where a shell cannot say what is to be seen, the program in the sandbox is this test itself:
//! [`probe`] is a test that does something only when it is told to.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "sandbox/app.rs"]
mod app;
#[path = "sandbox/denied.rs"]
mod denied;
#[path = "sandbox/life.rs"]
mod life;
#[path = "sandbox/limits.rs"]
mod limits;

use std::io::{Read as _, Seek as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use mote_runtimes::sandbox::process::{Exit, Network};
use mote_runtimes::sandbox::root::{Base, Root};
use mote_runtimes::sandbox::tier::Layer;

use app::{App, TMP_BYTES, bind, nothing, read, said, say, wait_for_line};

/// Writes wherever a program may.
const ALLOWED: &str = "echo x > /tmp/a && echo x > /dev/shm/b && echo x > /var/tmp/c && \
    echo x > /dev/null && ls /tmp";

#[tokio::test]
async fn a_program_sees_its_own_things_only() {
    let Some(app) = App::start_private("sight").await else {
        return;
    };
    assert_eq!(
        app.sandbox.tier().missing().collect::<Vec<_>>(),
        [Layer::CgroupMemory, Layer::CgroupCpu, Layer::CgroupPids],
    );
    let see = async |script: &str| app.shell(script).await.1.trim().to_owned();
    assert_eq!(
        see("id -u; id -g; id -G; echo $$; hostname; pwd").await,
        "1000\n1000\n1000\n1\nsight\n/app"
    );
    assert_eq!(see("echo /*").await, expected_root());
    assert_eq!(
        see("ls /dev | tr '\\n' ' '").await,
        "fd full null random shm stderr stdin stdout urandom zero"
    );
    assert_eq!(
        see("cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '").await,
        "lo"
    );
    // Only the shell and what it runs, and only by their own numbers.
    let list = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done";
    let others = format!("{list} | grep -v -e '^sh ' -e '^tr ' -e '^grep ' -e '^$'");
    assert_eq!(see(&others).await, "");
    let rights = "grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t:\\n0'";
    assert_eq!(
        see(rights).await,
        "CapInhCapPrmCapEffCapBndCapAmbNoNewPrivs1Seccomp2"
    );
    assert_eq!(
        see("cat /etc/passwd | head -1; cat /etc/resolv.conf").await,
        "app:x:1000:1000::/tmp:/bin/sh"
    );
    assert_eq!(see("ulimit -c; ulimit -n").await, "0\n256");

    let secret = tempfile::tempdir().unwrap();
    let secret = secret.path().join("secret");
    std::fs::write(&secret, "of the node").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, text) = app.run(&["cat", secret.to_str().unwrap()]).await;
    assert_eq!(exit, Exit::Code(1), "{text}");
    assert!(text.contains("No such file"), "{text}");
}

/// What is in the root of a system: what it has of the folders that are given, and what is made.
fn expected_root() -> String {
    let mut names: Vec<String> = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"]
        .into_iter()
        .filter(|name| Path::new("/").join(name).symlink_metadata().is_ok())
        .chain(["app", "dev", "etc", "proc", "run", "tmp", "var"])
        .map(|name| format!("/{name}"))
        .collect();
    names.sort();
    names.join(" ")
}

#[tokio::test]
async fn a_program_writes_only_where_it_may() {
    let Some(app) = App::start_private("writes").await else {
        return;
    };
    for place in [
        "/", "/app/", "/usr/", "/etc/", "/dev/", "/var/", "/run/", "/proc/",
    ] {
        let (exit, text) = app.shell(&format!("echo x > {place}victim")).await;
        assert_ne!(exit, Exit::Code(0), "{place}: {text}");
    }
    let (exit, text) = app.shell(ALLOWED).await;
    assert_eq!((exit, text.as_str()), (Exit::Code(0), "a\nb\nc\n"));
    let (_, text) = app.shell("ls -A /tmp").await;
    assert_eq!(text, "", "another process has another /tmp");

    let (exit, text) = app
        .shell("dd if=/dev/zero of=/tmp/big bs=4096 count=1000 2>&1; stat -c %s /tmp/big")
        .await;
    assert_eq!(exit, Exit::Code(0));
    assert!(text.contains("No space left"), "{text}");
    assert!(text.ends_with(&format!("{TMP_BYTES}\n")), "{text}");
    assert!(std::fs::read_dir(app.code.path()).unwrap().count() == 1);
}

#[tokio::test]
async fn two_at_once_have_different_tmps() {
    let Some(app) = App::start_private("tmps").await else {
        return;
    };
    let (first, stdout) = std::io::pipe().unwrap();
    let (stdin, mut hold) = std::io::pipe().unwrap();
    let mut spawn = app.spawn(
        &[
            "sh",
            "-c",
            "echo x > /tmp/first; echo ok; read line; ls /tmp",
        ],
        stdout.into(),
    );
    spawn.stdin = stdin.into();
    let process = app.sandbox.spawn(spawn).await.unwrap();
    let mut ok = [0; 3];
    let mut first = first;
    first.read_exact(&mut ok).unwrap();
    assert_eq!(
        app.shell("echo x > /tmp/second; ls /tmp").await.1,
        "second\n"
    );
    hold.write_all(b"\n").unwrap();
    assert_eq!(process.exited().await, Exit::Code(0));
    assert_eq!(read(first), "first\n");
}

#[tokio::test]
async fn a_program_cannot_do_what_none_needs() {
    let Some(app) = App::start_private("denied").await else {
        return;
    };
    let said = app.probe("denied").await;
    assert!(said.len() > 30, "{said:?}");
    let wrong: Vec<_> = said.iter().filter(|line| !line.ends_with(" ok")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn networks_are_apart() {
    let Some(app) = App::start_private("network").await else {
        return;
    };
    let other = App::start("other").await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(app.probe(&format!("connect {port}")).await, ["refused"]);

    // Two programs on the same port, and another app.
    let mut running = Vec::new();
    for own_network in [false, true] {
        let (output, stdout) = std::io::pipe().unwrap();
        let mut spawn = app.probing("serve 8080", stdout.into());
        spawn.own_network = own_network;
        let process = app.sandbox.spawn(spawn).await.unwrap();
        assert_eq!(process.network() == Network::APP, !own_network);
        let output = wait_for_line(output, "serving");
        let stream = app.sandbox.connect(process.network(), 8080).await.unwrap();
        stream.set_nonblocking(false).unwrap();
        assert_eq!(read(stream), format!("pid {}", 1));
        running.push((process, output));
    }
    assert_eq!(app.probe("connect 8080").await, ["connected"]);
    assert_eq!(other.probe("connect 8080").await, ["refused"]);
    let refused = other.sandbox.connect(Network::APP, 8080).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    let (gone, _) = running.pop().unwrap();
    gone.kill();
    gone.exited().await;
    assert!(app.sandbox.connect(gone.network(), 8080).await.is_err());

    let inside = app.sandbox.listen(Network::APP).await.unwrap();
    let port = inside.local_addr().unwrap().port();
    assert_eq!(app.probe(&format!("connect {port}")).await, ["connected"]);
    assert_eq!(other.probe(&format!("connect {port}")).await, ["refused"]);
}

#[tokio::test]
async fn a_program_has_the_descriptors_it_was_given() {
    let app = App::start("files").await;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"extra").unwrap();
    let extra = |file: &std::fs::File| vec![file.try_clone().unwrap().into(), nothing()];
    let (output, stdout) = std::io::pipe().unwrap();
    let mut spawn = app.probing("descriptors", stdout.into());
    spawn.extra = extra(&file);
    let (_, text) = app.finish(spawn, output).await;
    assert_eq!(said(&text), ["0 1 2 3 4"]);

    file.rewind().unwrap();
    let (output, stdout) = std::io::pipe().unwrap();
    // Opening it anew would need its path, which is none of the program's.
    let script = "cat <&3; cat /proc/self/fd/3 2>/dev/null || echo denied";
    let mut spawn = app.spawn(&["sh", "-c", script], stdout.into());
    spawn.extra = extra(&file);
    let (_, text) = app.finish(spawn, output).await;
    if app.sandbox.tier().has(Layer::Landlock) {
        assert_eq!(text, "extradenied\n");
    } else {
        assert!(text.starts_with("extra"), "{text}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_run_says_why() {
    let app = App::start("exec").await;
    let put = |name: &str, bytes: &[u8], mode: u32| {
        let path = app.code.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut foreign = std::fs::read("/bin/true").unwrap();
    // The machine of an ELF header: one that nobody has (EM_NONE).
    foreign[18..20].copy_from_slice(&[0, 0]);
    put("foreign", &foreign, 0o755);
    put("script", b"#!/missing/interpreter\n", 0o755);
    put("text", b"just words\n", 0o755);
    put("unmarked", b"#!/bin/sh\n", 0o644);
    let at = |name: &str| {
        let path = Path::new("/app").join(name);
        let private = app.sandbox.tier().has(Layer::PrivateRoot);
        if private {
            path
        } else {
            app.code.path().join(name)
        }
    };
    for (program, expected) in [
        (at("foreign"), "exec format error"),
        (at("text"), "exec format error"),
        (at("script"), "interpreter or a loader that does not exist"),
        (at("unmarked"), "may not be run"),
        (at("missing"), "does not exist"),
        ("no-such-program".into(), "does not exist"),
    ] {
        let (_output, stdout) = std::io::pipe().unwrap();
        let spawn = app.spawn(&[program.to_str().unwrap()], stdout.into());
        let error = app.sandbox.spawn(spawn).await.map(|_| ()).unwrap_err();
        assert!(error.message().contains(expected), "{error:?}");
    }
    let (_output, stdout) = std::io::pipe().unwrap();
    let mut spawn = app.spawn(&["true"], stdout.into());
    spawn.directory = "/missing".to_owned();
    let error = app.sandbox.spawn(spawn).await.map(|_| ()).unwrap_err();
    assert!(error.message().contains("directory"), "{error:?}");
    // The sandbox is none the worse for it.
    assert_eq!(app.run(&["true"]).await.0, Exit::Code(0));
    assert_eq!(app.run(&["false"]).await.0, Exit::Code(1));
}

#[tokio::test]
async fn an_image_cannot_lead_mounts_elsewhere() {
    let Some(app) = App::start_private("image").await else {
        return;
    };
    let merged = Path::new("/bin").is_symlink() && Path::new("/lib64").is_symlink();
    if !merged {
        eprintln!("skipped: the image of this test needs a system with a merged /usr");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let victim = place.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("file"), "of the host").unwrap();
    let image = place.path().join("image");
    std::fs::create_dir_all(image.join("etc")).unwrap();
    std::fs::create_dir_all(image.join("opt/tools")).unwrap();
    std::fs::write(image.join("opt/readme"), "hello").unwrap();
    for (name, target) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("tmp", victim.to_str().unwrap()),
        ("app", victim.to_str().unwrap()),
        ("dev", "../../../../../dev"),
    ] {
        std::os::unix::fs::symlink(target, image.join(name)).unwrap();
    }
    let root = Root {
        base: Base::Image(image),
        binds: vec![
            bind(Path::new("/usr"), "/usr"),
            bind(app.code.path(), "/app"),
            bind(app.code.path(), "/opt/tools/mine"),
        ],
        tmp_bytes: TMP_BYTES,
    };
    let root = app.sandbox.add_root(root).await.unwrap();
    let (output, stdout) = std::io::pipe().unwrap();
    let script = "echo x > /tmp/x; ls /tmp /app /opt /opt/tools/mine; cat /opt/readme; ls -d /host /build 2>/dev/null";
    let mut spawn = app.spawn(&["/bin/sh", "-c", script], stdout.into());
    spawn.root = root;
    let (_, text) = app.finish(spawn, output).await;
    assert_eq!(
        text,
        "/app:\nprobe\n\n/opt:\nreadme\ntools\n\n/opt/tools/mine:\nprobe\n\n/tmp:\nx\nhello"
    );
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1);

    app.sandbox.remove_root(root).await;
    let (_output, stdout) = std::io::pipe().unwrap();
    let mut spawn = app.spawn(&["true"], stdout.into());
    spawn.root = root;
    assert!(app.sandbox.spawn(spawn).await.is_err());

    let missing = Root {
        base: Base::System,
        binds: vec![bind(&place.path().join("missing"), "/app")],
        tmp_bytes: TMP_BYTES,
    };
    let error = app.sandbox.add_root(missing).await.unwrap_err();
    assert!(error.message().contains("missing"), "{error:?}");
}

/// Not a test, unless a sandboxed test says so: something to do inside.
#[test]
fn probe() {
    let Ok(what) = std::env::var("MOTE_PROBE") else {
        return;
    };
    let port = |text: &str| text.parse::<u16>().unwrap();
    match what.split_once(' ').unwrap_or((&what, "")) {
        ("connect", to) => match std::net::TcpStream::connect(("127.0.0.1", port(to))) {
            Ok(_) => say("connected"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => say("refused"),
            Err(error) => say(&error.to_string()),
        },
        ("serve", at) => {
            let listener = TcpListener::bind(("127.0.0.1", port(at))).unwrap();
            say("serving");
            for stream in listener.incoming() {
                write!(stream.unwrap(), "pid {}", std::process::id()).unwrap();
            }
        }
        ("descriptors", _) => {
            let open: Vec<String> = (0..1024)
                .filter(|fd| std::fs::metadata(format!("/proc/self/fd/{fd}")).is_ok())
                .map(|fd: i32| fd.to_string())
                .collect();
            say(&open.join(" "));
        }
        ("eat", _) => {
            let eaten: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 1 << 20]).collect();
            say(&eaten.len().to_string());
        }
        ("fork", _) => {
            let mut children = Vec::new();
            while let Ok(child) = Command::new("sleep").arg("1000").spawn() {
                children.push(child);
            }
            say(&children.len().to_string());
        }
        ("denied", _) => denied::all(say),
        _ => say("what?"),
    }
}
