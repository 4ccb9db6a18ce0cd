//! `mote bench`: the testbed, which is a program of its own.
//!
//! A node on a small board needs no testbed, so `mote-bench` is beside `mote` or on the path, or not there.

use std::ffi::OsString;
use std::io::ErrorKind as Io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;
use mote_core::error::{Error, ErrorKind};

const PROGRAM: &str = "mote-bench";

/// Measure.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct Bench {
    /// What `mote-bench` is told; `--help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Bench {
    /// Becomes that program.
    pub(super) fn run(self) -> Result<(), Error> {
        let beside = std::env::current_exe().map(|own| own.with_file_name(PROGRAM));
        let beside = beside.ok().filter(|path| path.is_file());
        let mut command = Command::new(beside.unwrap_or_else(|| PROGRAM.into()));
        let error = command.args(self.arguments).exec();
        let message = format!("cannot run `{PROGRAM}`: {error}");
        let hint = match error.kind() {
            Io::NotFound => {
                "the testbed is a program of its own: put it beside `mote`, or build it with `cargo build --release -p mote-bench`"
            }
            _ => "look at the file beside `mote`",
        };
        Err(Error::new(ErrorKind::NotFound, message).with_hint(hint))
    }
}
