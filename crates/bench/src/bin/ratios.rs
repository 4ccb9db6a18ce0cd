//! Prints the table of promised ratios; ends with 1 when one is broken.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use mote_bench::compare::{self, Settings};

/// Holds a node against its promises.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

fn main() -> Result<ExitCode> {
    let settings = Arguments::parse().settings;
    let table = if settings.json {
        let table = compare::run(&settings, &mut std::io::stderr())?;
        serde_json::to_writer_pretty(std::io::stdout(), &table)?;
        writeln!(std::io::stdout())?;
        table
    } else {
        compare::run(&settings, &mut std::io::stdout())?
    };
    Ok(if table.kept() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
