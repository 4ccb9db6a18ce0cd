//! `mote completions`: completions for a shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use mote_core::error::Error;

use super::Cli;
use super::output::bytes;

/// Print completions for a shell.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Error> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "mote", &mut text);
        bytes(&text)
    }
}
