//! The table of promised ratios: what a node costs, beside the least that any server on the same libraries costs.
//!
//! A time in microseconds belongs to one machine; a ratio of two servers that were measured in turn on the same machine
//! travels better. So every promise is a ratio, or a size, with a limit. Ours and theirs are measured in interleaved
//! rounds, and the medians are compared. Each row starts its own node in an empty data directory and stops it, so rows
//! do not disturb each other and can be run alone. A row that cannot be measured says why in a visible line.

mod table;

mod rows;

mod measure;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::environment::Environment;

pub use self::table::{Limit, Row, Verdict};
pub(crate) use self::table::{Short, median};

/// What to compare, and with what.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The `mote` program
    #[arg(long)]
    pub mote: PathBuf,

    /// Folder with the examples; hello/, echo/, sieve/ and light/ are deployed
    #[arg(long, default_value = "examples")]
    pub examples: PathBuf,

    /// Folder with the programs baseline-http and baseline-coap [default: beside this program]
    #[arg(long)]
    pub baselines: Option<PathBuf>,

    /// Interleaved rounds of each measurement; medians are compared. Many short rounds find the same
    /// ratio again on a machine whose speed changes, a few long ones do not
    #[arg(long, default_value_t = 11)]
    pub rounds: usize,

    /// Measured time of each round
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub duration: Duration,

    /// Run only rows whose name contains this
    #[arg(long)]
    pub only: Option<String>,

    /// Folder in which `npm install coap` was run
    #[arg(long)]
    pub node_coap: Option<PathBuf>,

    /// The `wasmtime` program; needs --wasi-http
    #[arg(long, requires = "wasi_http")]
    pub wasmtime: Option<PathBuf>,

    /// The `workerd` program
    #[arg(long)]
    pub workerd: Option<PathBuf>,

    /// A component that exports wasi:http/incoming-handler, for both `wasmtime serve` and the node
    #[arg(long)]
    pub wasi_http: Option<PathBuf>,

    /// Print the table as JSON at the end
    #[arg(long)]
    pub json: bool,
}

/// All rows, and where they were measured.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// One for each promise.
    pub rows: Vec<Row>,
    /// Where and how to repeat it.
    pub environment: Environment,
}

impl Table {
    /// Whether every row that was measured keeps its promise, and none failed.
    #[must_use]
    pub fn kept(&self) -> bool {
        self.rows
            .iter()
            .all(|row| matches!(row.verdict, Verdict::Ok | Verdict::Skipped(_)))
    }
}

/// Measures row after row, and writes each to `progress` as soon as it is known.
pub fn run(settings: &Settings, progress: &mut dyn Write) -> Result<Table> {
    ensure!(
        settings.rounds >= 3,
        "{} rounds make no median, use at least 3",
        settings.rounds
    );
    ensure!(
        settings.mote.is_file(),
        "no program at {}, build it with `cargo build --release` or give --mote",
        settings.mote.display()
    );
    let environment = Environment::read();
    writeln!(progress, "{environment}")?;
    let bench = rows::Bench::new(settings)?;
    let mut rows = Vec::new();
    for promise in rows::PROMISES {
        if settings
            .only
            .as_ref()
            .is_some_and(|only| !promise.name.contains(only.as_str()))
        {
            continue;
        }
        let row = promise.row((promise.measure)(&bench));
        writeln!(progress, "{row}").context("cannot write a row")?;
        rows.push(row);
    }
    ensure!(
        !rows.is_empty(),
        "no row is called like `{}`, leave out --only to see the names",
        settings.only.as_deref().unwrap_or_default()
    );
    Ok(Table { rows, environment })
}
