//! The program: a node, and the command line that talks to nodes.
//!
//! Data goes to standard output, talk to standard error, and the exit code comes from the error
//! table. What is not here: anything a node does. `serve` wires the parts, `cli` has one file for
//! each command.

mod cli;
mod config;
mod listening;
mod logging;
mod memory;
mod report;
mod serve;
mod stored;

use std::process::ExitCode;

use clap::Parser as _;
use mote_runtimes::sandbox;
use mote_runtimes::wasm::compile;

fn main() -> ExitCode {
    // The node starts itself again to compile and to make sandboxes; those are no commands for people.
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == compile::CHILD_ARGUMENT {
        let rest: Vec<_> = arguments.collect();
        return ExitCode::from(compile::child(&rest));
    }
    if first == sandbox::CHILD_ARGUMENT {
        let rest: Vec<_> = arguments.collect();
        return ExitCode::from(sandbox::child(&rest));
    }
    let cli = cli::Cli::parse();
    match cli.run() {
        Ok(code) => code,
        Err(error) => report::report(&error),
    }
}
