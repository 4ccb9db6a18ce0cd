//! Prints the table of languages; ends with 1 when a promise is broken.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use mote_bench::languages::{self, Settings};

/// Holds functions of every language against those in Rust.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

fn main() -> Result<ExitCode> {
    let settings = Arguments::parse().settings;
    let table = if settings.json {
        let table = languages::run(&settings, &mut std::io::stderr())?;
        serde_json::to_writer_pretty(std::io::stdout(), &table)?;
        writeln!(std::io::stdout())?;
        table
    } else {
        languages::run(&settings, &mut std::io::stdout())?
    };
    let kept = table.promises().iter().all(|(_, kept)| *kept);
    Ok(if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
