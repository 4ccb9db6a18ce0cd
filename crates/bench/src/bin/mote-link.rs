//! Runs a command across an emulated network.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use mote_bench::link;

/// Runs a command on one host and a server on another, with an emulated network between them
///
/// Hosts are network namespaces of this machine, 10.77.0.1 and 10.77.0.2; nothing of them is left afterwards.
/// What became of the packets goes to standard error. Needs root.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    settings: link::Settings,
}

fn main() -> Result<ExitCode> {
    let settings = Arguments::parse().settings;
    let (status, report) = link::across(&settings)?;
    let mut err = std::io::stderr();
    if settings.json {
        serde_json::to_writer_pretty(&mut err, &report)?;
        writeln!(err)?;
    } else {
        writeln!(err, "{report}")?;
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
