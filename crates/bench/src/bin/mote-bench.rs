//! The testbed: experiments, load, emulated networks and reports.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use mote_bench::{load, testbed};

/// Measures a node, or any server, and repeats the experiments of papers
#[derive(Debug, Parser)]
#[command(name = "mote-bench", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run an experiment file and write its report
    Run(testbed::Settings),
    /// Put load on an HTTP or CoAP server and report rate, latency and failures
    Load(load::Options),
    /// Write the report of a folder of results again
    Report {
        /// The folder
        folder: std::path::PathBuf,
    },
    #[command(hide = true)]
    Keep(testbed::keep::Settings),
}

fn main() -> ExitCode {
    match act(Arguments::parse().what) {
        Ok(code) => code,
        Err(error) => {
            let _unread = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(what: What) -> Result<ExitCode> {
    match what {
        What::Run(settings) => Ok(exit(testbed::run(&settings)?)),
        What::Load(options) => {
            let report = load::run(&options)?;
            let mut out = std::io::stdout();
            if options.json {
                serde_json::to_writer(&mut out, &report)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{report}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        What::Report { folder } => {
            testbed::write_report(&folder, &[])?;
            Ok(ExitCode::SUCCESS)
        }
        What::Keep(settings) => testbed::keep::run(&settings),
    }
}

fn exit(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
