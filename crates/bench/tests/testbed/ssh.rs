//! Machines that are other systems, over a real ssh server of this one.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::{Place, SMALL, eventually, processes_with, said};

/// An ssh server of this system, for one user and one key.
struct Sshd {
    folder: TempDir,
    child: Child,
    port: u16,
}

impl Sshd {
    /// `None` with the reason on a line where there is none.
    fn start() -> Option<Self> {
        let program = "/usr/sbin/sshd";
        let can = Path::new(program).exists() && rustix::process::geteuid().is_root();
        let required = std::env::var_os("MOTE_REQUIRE_TOOLS").is_some();
        assert!(
            can || !required,
            "another system over ssh needs {program} and root"
        );
        if !can {
            eprintln!("skipped: another system over ssh needs {program} and root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        for key in ["key", "host"] {
            let status = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(place(key))
                .status();
            assert!(status.unwrap().success());
        }
        fs::create_dir_all("/run/sshd").unwrap();
        // Free a moment ago; somebody else would have to be quick.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let settings = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPidFile none\n\
             UsePAM no\nPasswordAuthentication no\n",
            place("host").display(),
            place("key.pub").display()
        );
        fs::write(place("settings"), settings).unwrap();
        let child = Command::new(program)
            .arg("-D")
            .arg("-f")
            .arg(place("settings"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sshd = Self {
            folder,
            child,
            port,
        };
        eventually("sshd listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(sshd)
    }

    fn machine(&self) -> String {
        format!(
            "kind = \"ssh\"\nhost = \"root@127.0.0.1\"\noptions = [\"-p\", \"{}\", \"-i\", \"{}\", \
             \"-o\", \"StrictHostKeyChecking=no\", \"-o\", \"UserKnownHostsFile=/dev/null\", \"-o\", \"LogLevel=ERROR\"]",
            self.port,
            self.folder.path().join("key").display()
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn another_system_is_a_machine_too() {
    let Some(sshd) = Sshd::start() else {
        return;
    };
    // Load from it, and a platform on it.
    let text = SMALL
        .replace("kind = \"process\"", &sshd.machine())
        .replace("127.0.0.1:0", "127.0.0.32:0");
    let place = Place::with(&text);
    let output = place.run(&["--quick"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        place.runs().iter().all(|run| run["measured"]["ok"] == 5),
        "{:?}",
        place.runs()
    );
    for run in place.runs() {
        // What the other system says about itself, which is this one, and of the program there.
        let (environment, platform) = (&run["environment"], &run["environment"]["platform"]);
        assert_eq!(platform["system"]["kernel"], environment["kernel"]);
        assert!(platform["system"]["load_average"].is_number());
        assert_eq!(platform["program"].as_str().unwrap().len(), 64, "{run}");
    }
    assert_eq!(processes_with("127.0.0.32:0"), 0);
    let left = fs::read_dir("/tmp")
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap());
    let left: Vec<_> = left
        .filter(|name| name.starts_with("mote-bench-") && name.ends_with("-board"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let unreachable = text.replace("root@127.0.0.1", "nobody@127.0.0.1");
    let place = Place::with(&unreachable);
    assert_eq!(place.run(&["--quick"]).status.code(), Some(1));
    let failure = place.runs()[0]["failure"].to_string();
    assert!(
        failure.contains("machine `board`") && failure.contains("nobody@127.0.0.1"),
        "{failure}"
    );
}
