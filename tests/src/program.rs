//! The program: where it is, and running it once.
//!
//! A run is bounded: whatever has not ended after [`RUN_TIMEOUT`] is killed and fails the test.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::eventually::within;

/// Longest run of a command.
pub const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// The program that cargo built beside this test, or the one that `MOTE_BIN` names.
pub fn mote() -> PathBuf {
    if let Some(path) = std::env::var_os("MOTE_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "MOTE_BIN={} is no file", path.display());
        return path;
    }
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>, and for doctests some folder further down.
    let beside = test.ancestors().skip(1).map(|folder| folder.join("mote"));
    let Some(path) = beside.take(3).find(|path| path.is_file()) else {
        panic!(
            "the program `mote` is not beside {}; build it first with `cargo build -p mote -p mote-bench -p mote-dev`, or name one in MOTE_BIN",
            test.display()
        );
    };
    path
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What a run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Checks the exit code, and gives standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Checks that it failed with this code and said each of these on standard error.
    #[track_caller]
    pub fn failed(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in said {
            assert!(
                self.stderr.contains(part),
                "`{part}` was not said: {}",
                self.stderr
            );
        }
    }
}

/// The program with these arguments, and nothing of this environment but `PATH`.
pub fn command<A: AsRef<OsStr>>(arguments: &[A]) -> Command {
    let mut command = Command::new(mote());
    command.args(arguments);
    clean(&mut command);
    command
}

/// Takes this environment away from a command, all but `PATH`.
pub fn clean(command: &mut Command) {
    command.env_clear().env("NO_COLOR", "1");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
}

/// Runs a command to its end with this standard input.
#[track_caller]
pub fn run(command: Command, input: &[u8]) -> Ended {
    run_within(RUN_TIMEOUT, command, input)
}

/// The same with another patience.
#[track_caller]
pub fn run_within(longest: Duration, mut command: Command, input: &[u8]) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program may end without reading its input.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let status = within(longest, || child.try_wait().unwrap());
    if status.is_none() {
        child.kill().unwrap();
    }
    let ended = Ended {
        code: status.and_then(|status| status.code()),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    };
    writer.join().unwrap();
    child.wait().unwrap();
    assert!(
        status.is_some(),
        "{command:?} did not end within {longest:?}: {ended:?}"
    );
    ended
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
