//! Projects: folders that `mote new` makes, and commands run on them with the compilers of this machine.
//!
//! What compilers keep is below the target folder, so a library that is built once is built for all tests.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::eventually::{eventually, within};
use crate::program::{Ended, command, mote, repository, run_within};
use crate::source::skipped;

/// Longest run of a command that compiles: the first one builds a standard library.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(600);
/// What compilers and their managers read besides `PATH`.
const VARIABLES: [&str; 3] = ["HOME", "CARGO_HOME", "RUSTUP_HOME"];

/// A folder with the source of a function.
#[derive(Debug)]
pub struct Project {
    folder: TempDir,
    name: String,
}

impl Project {
    /// What `mote new` makes.
    #[track_caller]
    pub fn new(language: &str, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Self {
            folder,
            name: name.to_owned(),
        };
        let path = project.path();
        project
            .mote(&["new", "--lang", language, path.to_str().unwrap()])
            .ok();
        project
    }

    /// A copy of a folder, so that a build leaves nothing beside what is checked in.
    #[track_caller]
    pub fn copy_of(folder: &Path) -> Self {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let project = Self {
            folder: tempfile::tempdir().unwrap(),
            name,
        };
        copy(folder, &project.path());
        project
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// The text of one of its files.
    #[track_caller]
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap()
    }

    /// Replaces a file.
    #[track_caller]
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path().join(file), text).unwrap();
    }

    /// Changes a file, in which `from` must be.
    #[track_caller]
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "no `{from}` in {text}");
        self.write(file, text.replace(from, to));
    }

    /// Runs the program in its folder; in the one above when there is none yet.
    #[track_caller]
    pub fn mote<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ended {
        run_within(COMPILE_TIMEOUT, self.command(arguments), &[])
    }

    /// The program, set up with the compilers of this machine.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = command(arguments);
        let path = self.path();
        command.current_dir(if path.is_dir() {
            path
        } else {
            self.folder.path().to_owned()
        });
        command.env("PATH", search_path());
        command.env("XDG_CACHE_HOME", cache());
        for name in VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// A folder with links to these programs, as far as they are here: a `PATH` without the others.
    #[track_caller]
    pub fn with_only(&self, programs: &[&str]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = search_path();
        for program in programs {
            let mut found = std::env::split_paths(&path).map(|path| path.join(program));
            if let Some(path) = found.find(|path| path.is_file()) {
                std::os::unix::fs::symlink(path, folder.path().join(program)).unwrap();
            }
        }
        folder
    }

    /// Starts `mote dev` on ports that the system picks.
    #[track_caller]
    pub fn develop(&self) -> Session {
        let any = "127.0.0.1:0";
        let mut command = self.command(&["dev", "--http", any, "--coap", any]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = keep(child.stderr.take().unwrap());
        let logged = keep(child.stdout.take().unwrap());
        Session {
            child,
            said,
            logged,
        }
    }
}

/// A `mote dev` that runs; ends with the value.
#[derive(Debug)]
pub struct Session {
    child: Child,
    said: Arc<Mutex<String>>,
    logged: Arc<Mutex<String>>,
}

impl Session {
    /// What it has said so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said something.
    #[track_caller]
    pub fn says(&self, text: &str) {
        eventually(&format!("`{text}` in {}", self.said()), || {
            self.said().contains(text)
        });
    }

    /// Waits until functions have logged something.
    #[track_caller]
    pub fn logs(&self, text: &str) {
        eventually(text, || self.logged.lock().unwrap().contains(text));
    }

    /// What follows a word of what it said, up to the end of the line.
    #[track_caller]
    pub fn after(&self, word: &str) -> String {
        self.says(word);
        let said = self.said();
        let rest = said.split_once(word).unwrap().1;
        rest.lines().next().unwrap().trim().to_owned()
    }

    /// Sends it a signal and waits for its end.
    #[track_caller]
    pub fn end(&mut self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
        let ended = within(COMPILE_TIMEOUT, || self.child.try_wait().unwrap());
        assert!(ended.is_some(), "it goes on: {}", self.said());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Collects lines while they come.
fn keep(from: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&text);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut kept = kept.lock().unwrap();
            kept.push_str(&line);
            kept.push('\n');
        }
    });
    text
}

/// Whether the compilers of a language are here; otherwise says so. With `MOTE_REQUIRE_GUESTS=1` they must be.
#[track_caller]
pub fn has_toolchain(language: &str) -> bool {
    let has = |program: &str| {
        std::env::split_paths(&search_path()).any(|folder| folder.join(program).is_file())
    };
    let has = match language {
        "rust" => {
            let target = Command::new("rustc")
                .args([
                    "--print",
                    "target-libdir",
                    "--target",
                    "wasm32-unknown-unknown",
                ])
                .output();
            let target =
                target.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
            let debian = Path::new("/usr/lib/rustlib/src/rust/library/Cargo.lock");
            target.is_ok_and(|folder| {
                folder.join("self-contained").is_dir()
                    || folder
                        .read_dir()
                        .is_ok_and(|mut files| files.next().is_some())
            }) || debian.is_file()
        }
        "c" | "zig" => has("zig") || has("python-zig"),
        "assemblyscript" => has("node") && has("asc"),
        "go" => has("go"),
        "javascript" | "typescript" => has("node") && has("componentize-qjs") && has("esbuild"),
        "python" => has("componentize-py"),
        "wasm-opt" => has(language),
        other => panic!("no toolchain is known for {other}"),
    };
    if !has {
        let why = format!(
            "the compilers of `{language}` are not here: run scripts/install-tools.sh test"
        );
        assert!(std::env::var_os("MOTE_REQUIRE_GUESTS").is_none(), "{why}");
        skipped(&why);
    }
    has
}

/// `PATH`, with what the tests installed before it.
fn search_path() -> std::ffi::OsString {
    let tools = repository().join("target/tools");
    let own = [
        "venv/bin",
        "wasm/node_modules/.bin",
        "javascript/node_modules/.bin",
    ];
    let own = own.map(|folder| tools.join(folder));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = own.into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap()
}

/// Kept between runs, beside the program that is tested.
fn cache() -> PathBuf {
    let programs = mote();
    programs.parent().unwrap().join("mote-dev-cache")
}
