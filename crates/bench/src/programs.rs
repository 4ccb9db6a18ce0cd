//! The table of programs: what a process or a container costs on a node, beside the same program without it.
//!
//! Both are measured in turn, in interleaved rounds, and medians are compared, as in [`crate::compare`]. What is
//! compared and how stands in `docs/bench/programs.md`. Each section starts nodes of its own in empty folders and stops
//! them, so that sections can be run alone. What cannot be measured here says why in a visible line; a section that
//! fails does not keep the next one from being measured.

mod table;
mod warm;

mod docker;
mod image;
mod rounds;
mod stage;

mod cold;
mod idle;
mod replicas;
mod served;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::compare::Verdict;
use crate::environment::Environment;

use self::stage::Stage;
use self::table::Rows;

pub use self::table::{Beside, Row};

/// What to measure, and with what.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The `mote` program, a release build [default: beside this program]
    #[arg(long)]
    pub mote: Option<PathBuf>,

    /// The statically linked hello-program [default: beside this program]
    #[arg(long)]
    pub program: Option<PathBuf>,

    /// The socket of a container engine; without it, the rows of containers are left out
    #[arg(long)]
    pub container_socket: Option<PathBuf>,

    /// Interleaved rounds of each measurement; medians are compared
    #[arg(long, default_value_t = 11)]
    pub rounds: usize,

    /// Measured time of each round
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub duration: Duration,

    /// Seconds that a node rests before its memory is read
    #[arg(long, default_value_t = 600)]
    pub idle: u64,

    /// Run only sections whose name contains this
    #[arg(long)]
    pub only: Option<String>,

    /// Print the table as JSON at the end
    #[arg(long)]
    pub json: bool,
}

/// All rows, and where they were measured.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// In the order of the sections.
    pub rows: Vec<Row>,
    /// Where and how to repeat it.
    pub environment: Environment,
}

impl Table {
    /// Whether every promise that was measured is kept, and nothing failed.
    #[must_use]
    pub fn kept(&self) -> bool {
        self.rows
            .iter()
            .all(|row| matches!(row.verdict, Verdict::Ok | Verdict::Skipped(_)))
    }
}

/// Some rows that are measured together.
struct Section {
    name: &'static str,
    measure: fn(&Stage, &mut Rows<'_>) -> Result<()>,
}

/// In the order of the table.
const SECTIONS: &[Section] = &[
    Section {
        name: "process http",
        measure: served::process,
    },
    Section {
        name: "process http socket",
        measure: served::socket,
    },
    Section {
        name: "process http javascript",
        measure: served::javascript,
    },
    Section {
        name: "container http",
        measure: served::container,
    },
    Section {
        name: "stdio",
        measure: cold::stdio,
    },
    Section {
        name: "python zygote",
        measure: cold::zygote,
    },
    Section {
        name: "warm environments",
        measure: warm::first_calls,
    },
    Section {
        name: "image without an engine",
        measure: cold::image,
    },
    Section {
        name: "paused container",
        measure: cold::paused_container,
    },
    Section {
        name: "cold container",
        measure: cold::container,
    },
    Section {
        name: "S1 process fixed",
        measure: replicas::process_fixed,
    },
    Section {
        name: "S1 process autoscaling",
        measure: replicas::process_autoscaling,
    },
    Section {
        name: "S1 container fixed",
        measure: replicas::container_fixed,
    },
    Section {
        name: "S1 container autoscaling",
        measure: replicas::container_autoscaling,
    },
    Section {
        name: "idle functions",
        measure: idle::ten_functions,
    },
];

/// Measures section after section, and writes each row to `progress` as soon as it is known.
pub fn run(settings: &Settings, progress: &mut dyn Write) -> Result<Table> {
    ensure!(
        settings.rounds >= 3,
        "{} rounds make no median, use at least 3",
        settings.rounds
    );
    let chosen: Vec<&Section> = SECTIONS
        .iter()
        .filter(|section| {
            let only = settings.only.as_deref().unwrap_or_default();
            section.name.contains(only)
        })
        .collect();
    ensure!(
        !chosen.is_empty(),
        "no section is called like `{}`; there are {}",
        settings.only.as_deref().unwrap_or_default(),
        SECTIONS
            .iter()
            .map(|section| section.name)
            .collect::<Vec<_>>()
            .join(", ")
    );
    let environment = Environment::read();
    writeln!(progress, "{environment}\n")?;
    let stage = Stage::new(settings)?;
    let mut rows = Rows::begin(progress)?;
    for section in chosen {
        if let Err(error) = (section.measure)(&stage, &mut rows) {
            rows.failed(section.name, &error)?;
        }
    }
    Ok(Table {
        rows: rows.end()?,
        environment,
    })
}
