//! Where a page is run: a shell in a folder, a network and a tree of processes of its own.
//!
//! `/var/lib` is the page's too, so that a node keeps its data where the guide says. However a test
//! ends, the first process of the tree ends with it, and with that one all others.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::shown;
use crate::eventually::within;
use crate::program::{clean, mote, repository};

/// Longest run of one command, and longest wait for a line.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Longest end of everything that a page has started.
const END_MAX: Duration = Duration::from_secs(20);

/// Programs of ours that a page may use.
const PROGRAMS: [&str; 3] = ["mote", "mote-bench", "mote-dev"];
/// What of the repository a page may use that is read in a clone.
const CLONED: [&str; 2] = ["examples", "experiments"];

/// Descriptor 9 is the system's network.
const ENTER: &str = r#"exec 9</proc/self/ns/net
exec unshare --net --mount --pid --fork --kill-child --mount-proc sh -c "$0" sh "$@""#;
const PREPARE: &str =
    r#"ip link set lo up && mount --bind "$1" /var/lib && exec bash --noprofile --norc "$2""#;
/// Runs the files that are named on its standard input, and says how they ended. At the end of its input, all
/// that runs is told to end, nodes first of all, and waited for.
const DRIVER: &str = r#"exec 3<&0 4>&1 </dev/null >/dev/null 2>&1
while IFS= read -r _guide_file <&3; do
    . "$_guide_file" >"$_guide_file.out" 2>&1 3<&- 4>&-
    echo "$?" >&4
done
set +e
kill -TERM -- -1
while set -- /proc/[0-9]* && [ $# -gt 1 ]; do sleep 0.02; done
"#;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Status(i32),
    /// It took the shell with it, as a failing command of a script does.
    Shell,
    /// Not within [`PATIENCE`].
    Late,
}

/// A command that was run.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub end: End,
    /// What it said, on both streams.
    pub output: String,
}

/// A shell that remembers its folder, variables and jobs from one block to the next.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    ended: Receiver<i32>,
    place: TempDir,
    files: usize,
    /// The output of the last other terminal, and how many lines of it the page has shown.
    other: Option<(PathBuf, usize)>,
}

/// Whether pages can be run here, or why not.
pub fn possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("a network of its own for each page needs root".to_owned());
    }
    if !Path::new("/proc/net/if_inet6").exists() {
        return Err("the guide shows a system with IPv6, and this one has none".to_owned());
    }
    let mut trial = Command::new("sh");
    trial.args(["-c", ENTER, PREPARE, "/var/lib", "/dev/null"]);
    let ended = trial.stdin(Stdio::null()).output();
    match ended {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "no network of its own for each page: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("no shell: {error}")),
    }
}

impl Session {
    /// A shell in an empty folder, or in what looks like a clone of the repository.
    pub fn start(clone: bool) -> Result<Self, String> {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for folder in ["run", "home", "bin", "folder", "lib/mote"] {
            std::fs::create_dir_all(path(folder)).unwrap();
        }
        std::fs::write(path("driver"), DRIVER).unwrap();
        // On a terminal curl shows no progress beside the reply; here it would.
        std::fs::write(path("home/.curlrc"), "silent\nshow-error\n").unwrap();
        link_programs(&path("bin"));
        if clone {
            fill_clone(&path("folder"));
        }

        let mut command = Command::new("sh");
        clean(&mut command);
        let mut folders = vec![path("bin")];
        folders.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        command
            .args(["-c", ENTER, PREPARE])
            .args([path("lib"), path("driver")])
            .current_dir(path("folder"))
            .env("PATH", std::env::join_paths(folders).unwrap())
            .env("HOME", path("home"))
            .env("MOTE_DATA_DIR", path("lib/mote"))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(path("run/errors")).unwrap());
        // Toolchains that live in the home of whoever runs the tests.
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        for (name, folder) in [("RUSTUP_HOME", ".rustup"), ("CARGO_HOME", ".cargo")] {
            let place = std::env::var_os(name).unwrap_or_else(|| home.join(folder).into());
            command.env(name, place);
        }
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start a shell: {error}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().unwrap();
        let (say, ended) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for status in lines.filter_map(|line| line.parse().ok()) {
                // Nobody listens any more when the session has ended.
                let _ = say.send(status);
            }
        });
        Ok(Self {
            child,
            stdin,
            ended,
            place,
            files: 0,
            other: None,
        })
    }

    /// Writes a file of the page.
    pub fn write(&mut self, path: &str, text: &str) -> Result<(), String> {
        let path = self.place.path().join("folder").join(path);
        let parent = path.parent().expect("the folder is above it");
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// Runs a command to its end.
    pub fn command(&mut self, text: &str) -> Ended {
        let file = self.file(text);
        self.run(&file)
    }

    /// Runs a script, of which every command must succeed.
    pub fn script(&mut self, text: &str) -> Ended {
        self.command(&format!("set -e\n{text}\nset +e"))
    }

    /// Runs a script with the system's network, in a shell of its own.
    pub fn with_network(&mut self, text: &str) -> Ended {
        let file = self.file(text);
        let file = file.display();
        self.command(&format!("nsenter --net=/proc/self/fd/9 bash -e {file}"))
    }

    /// Starts a command that ends in `&`, and waits until it has said what is shown.
    pub fn background(&mut self, text: &str, shown: &[String], at: &str) -> Result<(), String> {
        let file = self.file(text);
        let ended = self.run(&file);
        if ended.end != End::Status(0) {
            return Err(format!("{at}: $ {text}\ndid not start: {}", ended.output));
        }
        self.await_lines(&output_of(&file), 0, shown, at).map(drop)
    }

    /// Runs commands in another terminal, and waits until they have said what is shown.
    pub fn elsewhere(&mut self, text: &str, shown: &[String], at: &str) -> Result<(), String> {
        let file = self.file(text);
        let output = output_of(&file);
        let home = self.place.path().join("folder");
        let start = format!(
            "( cd {}; . {} ) >{} 2>&1 &",
            home.display(),
            file.display(),
            output.display()
        );
        self.command(&start);
        let passed = self.await_lines(&output, 0, shown, at)?;
        self.other = Some((output, passed));
        Ok(())
    }

    /// Waits until the other terminal has said this next.
    pub fn other_shows(&mut self, shown: &[String], at: &str) -> Result<(), String> {
        let Some((output, passed)) = self.other.clone() else {
            return Err(format!("{at}: there is no other terminal"));
        };
        let passed = self.await_lines(&output, passed, shown, at)?;
        self.other = Some((output, passed));
        Ok(())
    }

    fn file(&mut self, text: &str) -> PathBuf {
        self.files += 1;
        let path = self.place.path().join(format!("run/{}", self.files));
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path
    }

    fn run(&mut self, file: &Path) -> Ended {
        let stdin = self.stdin.as_mut().expect("the session goes on");
        let told = writeln!(stdin, "{}", file.display());
        let end = match told.map(|()| self.ended.recv_timeout(PATIENCE)) {
            Ok(Ok(status)) => End::Status(status),
            Ok(Err(RecvTimeoutError::Timeout)) => End::Late,
            Ok(Err(RecvTimeoutError::Disconnected)) | Err(_) => End::Shell,
        };
        let mut output = self.said(&output_of(file));
        if end == End::Shell {
            output.push_str(&self.said(&self.place.path().join("run/errors")));
        }
        Ended { end, output }
    }

    /// Waits for lines after those that were passed; gives how many are passed then.
    fn await_lines(
        &self,
        output: &Path,
        passed: usize,
        shown: &[String],
        at: &str,
    ) -> Result<usize, String> {
        let come = || {
            let said = self.said(output);
            let lines: Vec<&str> = said.lines().skip(passed).collect();
            shown::in_order(shown, &lines)
        };
        let found = within(PATIENCE, come).map(|more| passed + more);
        found.ok_or_else(|| {
            format!(
                "{at}: within {PATIENCE:?} it did not say\n{}\nbut\n{}",
                shown.join("\n"),
                self.said(output)
            )
        })
    }

    /// What was written to a file, with the folder of the node's data by the name that it has for a reader.
    fn said(&self, output: &Path) -> String {
        let bytes = std::fs::read(output).unwrap_or_default();
        let own = self.place.path().join("lib");
        String::from_utf8_lossy(&bytes).replace(&*own.to_string_lossy(), "/var/lib")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The end of its input ends the shell, and that one all that it has started.
        drop(self.stdin.take());
        within(END_MAX, || self.child.try_wait().ok().flatten());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".out");
    PathBuf::from(name)
}

/// Our programs, where a shell finds them.
fn link_programs(folder: &Path) {
    let built = mote();
    for name in PROGRAMS {
        let program = match name {
            "mote" => built.clone(),
            other => built.with_file_name(other),
        };
        assert!(
            program.is_file(),
            "{} is not there; build it with `cargo build -p mote -p mote-bench -p mote-dev`",
            program.display()
        );
        std::os::unix::fs::symlink(program.canonicalize().unwrap(), folder.join(name)).unwrap();
    }
}

/// What a reader has after `make build` in a clone.
fn fill_clone(folder: &Path) {
    let release = folder.join("target/release");
    std::fs::create_dir_all(&release).unwrap();
    link_programs(&release);
    for name in CLONED {
        let copied = Command::new("cp")
            .arg("-R")
            .arg(repository().join(name))
            .arg(folder)
            .status();
        assert!(copied.unwrap().success(), "cannot copy {name}");
    }
}
