//! Prints the table of what programs and containers cost on a node; ends with 1 when a promise is broken.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use mote_bench::programs::{self, Settings};

/// Holds processes and containers on a node against the same programs without it.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

fn main() -> Result<ExitCode> {
    let settings = Arguments::parse().settings;
    let table = if settings.json {
        let table = programs::run(&settings, &mut std::io::stderr())?;
        serde_json::to_writer_pretty(std::io::stdout(), &table)?;
        writeln!(std::io::stdout())?;
        table
    } else {
        programs::run(&settings, &mut std::io::stdout())?
    };
    Ok(if table.kept() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
