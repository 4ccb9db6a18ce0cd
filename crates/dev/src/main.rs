//! The developer's tool: a function in a minute, from an empty folder to an answer.
//!
//! `mote new`, `mote build`, `mote dev` and `mote test` are this program, so that a node carries no compiler's helper.
//! Data goes to standard output, talk to standard error, and the exit code comes from the error table.
//! What is not here: compilers, which a person installs, and anything a node does, which is asked over its admin API.

mod build;
mod component;
mod dev;
mod fit;
mod keep;
mod language;
mod merge;
mod new;
mod node;
mod project;
mod replay;
mod report;
mod sdk;
mod segments;
mod snapshot;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mote_core::error::{Error, ErrorKind};

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
    /// Build, run and try functions, again whenever a file is saved.
    Dev(dev::Options),
    /// Send the recorded requests of a folder and compare the replies.
    Test(replay::Options),
    #[command(name = keep::COMMAND, hide = true)]
    Keep(keep::Options),
}

fn main() -> ExitCode {
    match act(&Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => report::report(&error),
    }
}

fn act(command: &Command) -> Result<ExitCode, Error> {
    match command {
        Command::New(options) => options.run()?,
        Command::Build(options) => return options.run(),
        Command::Dev(options) => wait(options.run())?,
        Command::Test(options) => wait(options.run())?,
        Command::Keep(options) => return options.run(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs what waits on this thread. A compiler that is still running on another is not waited for.
fn wait<T>(command: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Internal, format!("cannot start: {error}")))?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}
