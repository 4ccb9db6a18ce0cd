//! The load generator as a program of its own, for machines without a node.

use std::io::Write;

use anyhow::Result;
use clap::{Parser, Subcommand};
use mote_bench::load;

/// Puts load on an HTTP or CoAP server and reports what happened.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: load::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a trace like the load of a cloud, to replay with --trace
    Trace(load::Generate),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    if let Some(Command::Trace(generate)) = arguments.command {
        let invocations = generate.write()?;
        writeln!(
            out,
            "{}: {invocations} invocations of {} functions in {} minutes",
            generate.file.display(),
            generate.functions,
            generate.minutes
        )?;
        return Ok(());
    }
    let report = load::run(&arguments.options)?;
    if arguments.options.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(())
}
