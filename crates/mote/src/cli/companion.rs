//! `mote bench`, `mote new`, `mote build`, `mote dev` and `mote test`: programs of their own.
//!
//! A node on a small board needs no testbed and no compiler, so `mote-bench` and `mote-dev` are beside `mote` or on
//! the path, or not there. `mote` becomes them: exit code, signals and terminal are theirs.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind as Io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;
use mote_core::error::{Error, ErrorKind};

/// A program that is not part of `mote`.
#[derive(Debug)]
struct Companion {
    program: &'static str,
    /// What it is, for whoever does not have it.
    what: &'static str,
}

const BENCH: Companion = Companion {
    program: "mote-bench",
    what: "the testbed",
};
const DEV: Companion = Companion {
    program: "mote-dev",
    what: "the developer's tool",
};

/// Measure.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct Bench {
    /// What `mote-bench` is told; `--help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Write a function.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct Dev {
    /// What `mote-dev` is told; `--help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Bench {
    /// Becomes `mote-bench`.
    pub(super) fn run(&self) -> Result<(), Error> {
        BENCH.become_it(self.arguments.iter().map(OsString::as_os_str))
    }
}

impl Dev {
    /// Becomes `mote-dev` with this command of it.
    pub(super) fn run(&self, command: &'static str) -> Result<(), Error> {
        let rest = self.arguments.iter().map(OsString::as_os_str);
        DEV.become_it(std::iter::once(OsStr::new(command)).chain(rest))
    }
}

impl Companion {
    /// Replaces this process; only a failure comes back.
    fn become_it<'a>(&self, arguments: impl Iterator<Item = &'a OsStr>) -> Result<(), Error> {
        let program = self.program;
        let beside = std::env::current_exe().map(|own| own.with_file_name(program));
        let beside = beside.ok().filter(|path| path.is_file());
        let mut command = Command::new(beside.unwrap_or_else(|| program.into()));
        let error = command.args(arguments).exec();
        let message = format!("cannot run `{program}`: {error}");
        let hint = match error.kind() {
            Io::NotFound => format!(
                "{} is a program of its own: put it beside `mote`, or build it with `cargo build --release -p {program}`",
                self.what
            ),
            _ => "look at the file beside `mote`".to_owned(),
        };
        Err(Error::new(ErrorKind::NotFound, message).with_hint(hint))
    }
}
