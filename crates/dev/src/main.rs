//! The developer's tool: a function in a minute, from an empty folder to an answer.
//!
//! `mote new`, `mote build`, `mote dev` and `mote test` are this program, so that a node carries no compiler's helper.
//! Data goes to standard output, talk to standard error, and the exit code comes from the error table.
//! What is not here: compilers, which a person installs, and anything a node does, which is asked over its admin API.

mod build;
mod component;
mod language;
mod new;
mod project;
mod report;
mod sdk;
mod segments;
mod snapshot;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mote_core::error::Error;

/// Write, build and try functions.
#[derive(Debug, Parser)]
#[command(
    name = "mote",
    bin_name = "mote",
    version,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a function: a folder with its source, ready to build.
    New(new::Options),
    /// Build the functions of a folder.
    Build(build::Options),
}

fn main() -> ExitCode {
    match act(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::report(&error),
    }
}

fn act(command: &Command) -> Result<(), Error> {
    match command {
        Command::New(options) => options.run(),
        Command::Build(options) => options.run(),
    }
}
