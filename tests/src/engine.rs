//! A container engine for the tests that need one, in `target/tools/container-engine`.
//!
//! `scripts/container-engine.sh` starts it; a shell of its own process group stays beside it, and
//! stops it when the standard input that this process holds ends. That happens however the test
//! ends, a kill included. The shell holds a lock meanwhile, so that one engine runs at a time, and
//! first clears away what a power cut left. Images stay in the folder, so a second run is quick.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::program::{Ended, repository, run};
use crate::source::skipped;

/// Longest start: it may have to be installed, and another test's engine to end.
const START: Duration = Duration::from_secs(300);

/// `$0` is the script, `$1` the folder. Nothing but this shell keeps the lock open.
const KEEPER: &str = r#"
trap '' INT TERM HUP
exec 9>"$1/lock"
flock 9
[ ! -e "$1/started" ] || "$0" stop "$1" 9>&- </dev/null >&2
if "$0" start "$1" 9>&- </dev/null >&2 && "$0" images "$1" 9>&- </dev/null >&2; then
    echo ready
    cat >/dev/null
fi
[ ! -e "$1/started" ] || "$0" stop "$1" 9>&- </dev/null >&2
"#;

/// An engine that runs, with the images `mote-test/static`, `python` and `python-node`; ends with the value.
#[derive(Debug)]
pub struct Engine {
    keeper: Child,
    folder: PathBuf,
}

impl Engine {
    /// Starts it. `None` where none can run: the reason is on a line that shows.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let folder = folder();
        let log = folder.join("keeper.log");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .args([&script(), &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let stdout = keeper.stdout.take().unwrap();
        let (says, said) = mpsc::channel();
        thread::spawn(move || {
            let first = BufReader::new(stdout).lines().next();
            // Nobody waits any more when this took too long.
            let _ = says.send(first.is_some());
        });
        // Whatever comes of it is ended with this.
        let engine = Self { keeper, folder };
        match said.recv_timeout(START) {
            Ok(true) => return Some(engine),
            Ok(false) => skipped(std::fs::read_to_string(&log).unwrap().trim()),
            Err(_) => skipped(&format!("no container engine was there within {START:?}")),
        }
        None
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("engine.sock")
    }

    /// What its own client says.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok()
    }

    /// The same, of what may fail.
    #[track_caller]
    pub fn try_docker(&self, arguments: &[&str]) -> String {
        self.run(arguments).stdout
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ended {
        let mut docker = Command::new("docker");
        let socket = self.socket();
        docker.arg("-H").arg(format!("unix://{}", socket.display()));
        docker.args(arguments);
        run(docker, &[])
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let stopped = self.keeper.wait();
        let well = stopped.is_ok_and(|status| status.success());
        assert!(well || thread::panicking(), "the engine did not stop well");
    }
}

/// An image as `docker save` writes it, of the same root as `mote-test/NAME`; needs no engine.
/// `None` where it cannot be made: the reason is on a line that shows.
#[track_caller]
pub fn archive(name: &str) -> Option<PathBuf> {
    let folder = folder();
    let mut command = Command::new(script());
    command.arg("archives").arg(&folder);
    let ended = run(command, &[]);
    if ended.code == Some(3) {
        skipped(ended.stderr.trim());
        return None;
    }
    ended.ok();
    Some(folder.join(format!("{name}.tar")))
}

fn script() -> PathBuf {
    repository().join("scripts/container-engine.sh")
}

/// The folder without links and `..`, since the path of a socket must be short.
#[track_caller]
fn folder() -> PathBuf {
    let folder = repository().join(Path::new("target/tools/container-engine"));
    std::fs::create_dir_all(&folder).unwrap();
    folder.canonicalize().unwrap()
}
