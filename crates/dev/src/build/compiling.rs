//! Running compilers: what they say goes to the person as it is, on standard error.

use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mote_core::error::{Error, ErrorKind};

use crate::keep;

/// Runs a step of a build to its end. Standard output is for our own data.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .map_err(|error| cannot_run(command, &error))?;
    ended(command, status)
}

/// A build that somebody else may end while it runs.
#[derive(Debug, Default)]
pub(crate) struct Compiling(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_over: bool,
    /// Dropping it ends the compiler, and whatever that has started.
    hold: Option<ChildStdin>,
}

impl Compiling {
    /// Runs a step of it to its end.
    pub(crate) fn run(&self, command: &mut Command) -> Result<(), Error> {
        let mut keeper = keep::kept(command, None)?;
        keeper.stdout(Stdio::from(std::io::stderr()));
        let mut child = {
            let mut state = self.state();
            if state.is_over {
                return Err(Error::new(ErrorKind::Conflict, "the build was ended"));
            }
            let mut child = keeper
                .spawn()
                .map_err(|error| cannot_run(command, &error))?;
            state.hold = Some(keep::held(&mut child));
            child
        };
        let status = child.wait().map_err(|error| cannot_run(command, &error))?;
        self.state().hold = None;
        ended(command, status)
    }

    /// Ends the step that runs, and lets no other begin.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        state.hold = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended(command: &Command, status: ExitStatus) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    let how = match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    };
    Err(Error::new(
        ErrorKind::BadRequest,
        format!("`{}` ended with {how}", name(command)),
    )
    .with_hint("what it says above is the reason"))
}

fn cannot_run(command: &Command, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("cannot run `{}`: {error}", name(command)),
    )
}

fn name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
