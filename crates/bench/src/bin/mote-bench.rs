//! The testbed: experiments, load, emulated networks and reports.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use mote_bench::report::comparison::compare;
use mote_bench::{environment, link, load, testbed};

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
        folder: PathBuf,
    },
    /// Hold two folders of results against each other: ratios, how sure they are, and what is noise
    Compare {
        /// The results that ratios are over
        a: PathBuf,
        /// The others
        b: PathBuf,
        /// Print it as JSON
        #[arg(long, conflicts_with = "html")]
        json: bool,
        /// Write a page to this file instead
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Make a trace like the load of a cloud, to replay with `load --trace`
    Trace(load::Generate),
    /// Run a command on one host and a server on another, with an emulated network between them
    ///
    /// Hosts are network namespaces of this machine, 10.77.0.1 and 10.77.0.2; nothing of them is left afterwards.
    /// What became of the packets goes to standard error. Needs root, except for `link relay`.
    Link(link::Settings),
    #[command(hide = true)]
    Keep(testbed::keep::Settings),
    #[command(hide = true)]
    Stamp(environment::Settings),
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
            testbed::write_report(&folder)?;
            Ok(ExitCode::SUCCESS)
        }
        What::Compare { a, b, json, html } => {
            let comparison = compare(&testbed::material(&a)?, &testbed::material(&b)?);
            let mut out = std::io::stdout();
            match html {
                Some(file) => fs::write(&file, comparison.to_html())
                    .with_context(|| format!("cannot write {}", file.display()))?,
                None if json => writeln!(out, "{}", comparison.to_json()?)?,
                None => write!(out, "{comparison}")?,
            }
            Ok(ExitCode::SUCCESS)
        }
        What::Trace(generate) => {
            let invocations = generate.write()?;
            writeln!(
                std::io::stdout(),
                "{}: {invocations} invocations of {} functions in {} minutes",
                generate.file.display(),
                generate.functions,
                generate.minutes
            )?;
            Ok(ExitCode::SUCCESS)
        }
        What::Link(settings) => {
            let (code, report) = link::run(&settings)?;
            let mut err = std::io::stderr();
            if settings.json() {
                serde_json::to_writer_pretty(&mut err, &report)?;
                writeln!(err)?;
            } else {
                writeln!(err, "{report}")?;
            }
            Ok(code)
        }
        What::Keep(settings) => testbed::keep::run(&settings),
        What::Stamp(settings) => {
            writeln!(std::io::stdout(), "{}", environment::stamp(&settings)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn exit(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
