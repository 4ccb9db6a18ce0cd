//! The load generator as a program of its own, for machines without a node.

use std::io::Write;

use anyhow::Result;
use clap::Parser;
use mote_bench::load;

/// Puts load on an HTTP or CoAP server and reports what happened.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: load::Options,
}

fn main() -> Result<()> {
    let options = Arguments::parse().options;
    let report = load::run(&options)?;
    let mut out = std::io::stdout();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(())
}
