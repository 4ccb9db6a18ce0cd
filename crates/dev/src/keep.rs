//! Runs a program for as long as the one that asked for it lives.
//!
//! It stands in between, with a pipe as its standard input: when that ends, however its other end went, the program is
//! asked to end, and made to, with everything it started; then the folder it worked in is removed. So nothing is left
//! of a developer's tool that was killed: no process, no port, no folder.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Args;
use mote_core::error::{Error, ErrorKind};
use rustix::process::{Pid, Signal, kill_process_group};

/// The command by which this program starts itself again for this.
pub(crate) const COMMAND: &str = "keep";
/// How long a program may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// A program to run until standard input ends.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A folder to remove afterwards.
    #[arg(long, value_name = "FOLDER")]
    remove: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<std::ffi::OsString>,
}

/// A command, kept: it ends when what [`held`] gives for it is dropped. Output and environment are those of `command`.
pub(crate) fn kept(command: &Command, remove: Option<&Path>) -> Result<Command, Error> {
    let own = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut keeper = Command::new(own);
    keeper.arg(COMMAND);
    if let Some(folder) = remove {
        keeper.arg("--remove").arg(folder);
    }
    keeper
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => keeper.env(name, value),
            None => keeper.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        keeper.current_dir(folder);
    }
    // Ctrl-C is for whoever holds the pipe.
    keeper.process_group(0).stdin(Stdio::piped());
    Ok(keeper)
}

/// The end of the pipe that keeps a kept command running.
pub(crate) fn held(child: &mut Child) -> ChildStdin {
    child.stdin.take().expect("its input was set to a pipe")
}

impl Options {
    /// Runs the program; the exit code is its own.
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let (program, arguments) = self.command.split_first().expect("clap asks for one");
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn();
        let code = child.map(|child| self.wait(child));
        if let Some(folder) = &self.remove {
            // Somebody may have removed it already.
            let _ = fs::remove_dir_all(folder);
        }
        code.map_err(|error| {
            let name = Path::new(program).file_name().unwrap_or(program);
            Error::new(
                ErrorKind::NotFound,
                format!("cannot run `{}`: {error}", name.display()),
            )
        })
    }

    fn wait(&self, mut child: Child) -> ExitCode {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // Empty as soon as the group may be somebody else's.
        let group = Arc::new(Mutex::new(pid));
        let (over, is_over) = mpsc::channel::<()>();
        let watched = Arc::clone(&group);
        thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            tell(&watched, Signal::TERM);
            if is_over.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                tell(&watched, Signal::KILL);
            }
        });
        let status = child.wait();
        drop(over);
        // What it has left behind in its group goes too.
        tell(&group, Signal::KILL);
        *group.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let code = status.ok().and_then(|status| {
            let code = status
                .code()
                .or_else(|| status.signal().map(|signal| 128 + signal));
            u8::try_from(code?).ok()
        });
        ExitCode::from(code.unwrap_or(1))
    }
}

/// A group that is empty has nobody to hear it.
fn tell(group: &Mutex<Option<Pid>>, signal: Signal) {
    let group = group.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(group) = *group {
        let _ = kill_process_group(group, signal);
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("cannot find this program again: {error}"),
    )
}
