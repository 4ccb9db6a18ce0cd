//! The table of languages: how long a function takes from nothing to its first answer, and what its calls cost.
//!
//! For each language a project is begun with `mote new` and built with `mote build`, with the compilers of this
//! machine, whose own time is told apart. Every function is called on a node of its own, and all of them in turn on
//! one node, in interleaved rounds, so that what is compared is of the same minute. The method stands in
//! `docs/bench/languages.md`. A language whose toolchain is not here says so in a visible line.

mod project;
mod table;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tempfile::TempDir;

use crate::compare::median;
use crate::environment::Environment;
use crate::footprint::Footprint;
use crate::load::{self, Options};
use crate::process::{Node, deploy};

use self::project::Project;

pub use self::table::{Row, Table};

/// Connections of the comparison.
const CLIENTS: usize = 64;
const WARMUP: Duration = Duration::from_millis(500);
/// Calls of one connection, of which the median is the cost of a warm call.
const WARM_CALLS: u64 = 300;
/// How many calls a store serves in the rows that keep it.
const REUSE: u32 = 1000;
/// A first call may load and start an image of tens of megabytes.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The languages, and their limits: seconds to the first answer, and requests per second as a ratio to Rust with a
/// fresh store and with one that is kept.
const LANGUAGES: &[(&str, f64, Option<f64>, Option<f64>)] = &[
    ("rust", 60.0, None, None),
    ("c", 5.0, Some(0.95), None),
    ("go", 20.0, Some(0.3), None),
    ("javascript", 30.0, Some(0.2), Some(0.5)),
    ("typescript", 30.0, Some(0.2), Some(0.5)),
    ("python", 30.0, Some(0.05), None),
];

/// What to measure, and with what.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The `mote` program, a release build, with `mote-dev` beside it
    #[arg(long)]
    pub mote: PathBuf,

    /// Interleaved rounds; medians are compared
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,

    /// Measured time of each round
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub duration: Duration,

    /// Only this language, beside Rust; may be given more than once
    #[arg(long)]
    pub only: Vec<String>,

    /// Print the table as JSON at the end
    #[arg(long)]
    pub json: bool,
}

/// Measures all of it; what is found appears in `out` as it comes.
pub fn run(settings: &Settings, out: &mut dyn Write) -> Result<Table> {
    ensure!(settings.rounds > 0, "--rounds must be at least 1");
    // It is run in other folders than this one.
    let mote = fs::canonicalize(&settings.mote)
        .with_context(|| format!("cannot find {}", settings.mote.display()))?;
    let settings = &Settings {
        mote,
        ..settings.clone()
    };
    let environment = Environment::read();
    let folder = TempDir::new()?;
    let mut rows = Vec::new();
    let mut projects = Vec::new();
    for (language, seconds_max, fresh_min, reuse_min) in LANGUAGES {
        let wanted = *language == "rust"
            || settings.only.is_empty()
            || settings.only.iter().any(|only| only == language);
        if !wanted {
            continue;
        }
        let begun = Project::begin(&settings.mote, folder.path(), language);
        let (project, mut row) =
            match begun.and_then(|project| Ok((first(settings, &project)?, project))) {
                Ok((row, project)) => (project, row),
                Err(error) => {
                    writeln!(out, "{language}: not measured: {error:#}")?;
                    continue;
                }
            };
        (row.seconds_max, row.fresh_min, row.reuse_min) =
            (Some(*seconds_max), *fresh_min, *reuse_min);
        writeln!(
            out,
            "{language}: first answer after {:.1} s, of which the compiler {:.1} s",
            row.seconds, row.compiler_seconds
        )?;
        rows.push(row);
        projects.push(project);
    }
    beside_each_other(settings, &projects, &mut rows, None)?;
    beside_each_other(settings, &projects, &mut rows, Some(REUSE))?;
    let table = Table { rows, environment };
    write!(out, "{table}")?;
    Ok(table)
}

/// One language on a node of its own: to the first answer, the first call after a restart, a warm call, memory.
fn first(settings: &Settings, project: &Project) -> Result<Row> {
    let data = TempDir::new()?;
    let node = Node::up(&settings.mote, data.path(), &[])?;
    let empty = pss(&node)?;
    let built = project.build(&settings.mote)?;
    let (deployed, ()) = project::timed(|| deploy(&settings.mote, data.path(), &project.folder))?;
    let (answered, _) = project::timed(|| calls(&node, project, 1))?;
    let seconds = (project.begun + built.total + deployed + answered).as_secs_f64();
    let image_bytes = project::bytes_below(&data.path().join("images"))?;
    drop(node);

    let node = Node::up(&settings.mote, data.path(), &[])?;
    let first = calls(&node, project, 1)?;
    let warm = calls(&node, project, WARM_CALLS)?;
    Ok(Row {
        language: project.language.clone(),
        seconds,
        compiler_seconds: built.compiler.as_secs_f64(),
        component_bytes: built.bytes,
        image_bytes,
        deploy_seconds: deployed.as_secs_f64(),
        first_call_ms: first.latency_us.max / 1000.0,
        warm_call_us: warm.latency_us.p50,
        pss_mb: pss(&node)? - empty,
        ..Row::default()
    })
}

/// Requests per second of every language in turn, on one node.
fn beside_each_other(
    settings: &Settings,
    projects: &[Project],
    rows: &mut [Row],
    reuse: Option<u32>,
) -> Result<()> {
    let data = TempDir::new()?;
    let node = Node::up(&settings.mote, data.path(), &[])?;
    for project in projects {
        project.keep_stores(reuse)?;
        deploy(&settings.mote, data.path(), &project.folder)?;
    }
    let mut rates = vec![Vec::new(); projects.len()];
    let mut costs = vec![Vec::new(); projects.len()];
    for _ in 0..settings.rounds {
        for (place, project) in projects.iter().enumerate() {
            let mut options = options(&node, project);
            options.clients = CLIENTS;
            options.duration = Some(settings.duration);
            options.warmup = Some(WARMUP);
            let report = answered(load::run(&options)?)?;
            let server = report.server.context("the load was given a process")?;
            rates[place].push(report.requests_per_second);
            costs[place].push(server.cpu_us_per_request);
        }
    }
    for ((row, rates), costs) in rows.iter_mut().zip(&rates).zip(&costs) {
        let found = (median(rates), median(costs));
        match reuse {
            None => (row.fresh_per_second, row.fresh_cpu_us) = found,
            Some(_) => (row.reuse_per_second, row.reuse_cpu_us) = found,
        }
    }
    Ok(())
}

/// So many calls, one after the other.
fn calls(node: &Node, project: &Project, count: u64) -> Result<load::Report> {
    let mut options = options(node, project);
    options.clients = 1;
    options.requests = Some(count);
    answered(load::run(&options)?)
}

fn options(node: &Node, project: &Project) -> Options {
    let mut options = Options::new(format!("{}/{}", node.http, project.name));
    options.server_pid = Some(node.server.pid());
    options.timeout = CALL_TIMEOUT;
    options.duration = None;
    options
}

fn answered(report: load::Report) -> Result<load::Report> {
    ensure!(
        report.failed.total == 0,
        "{} of the calls failed: {:?}",
        report.failed.total,
        report.failed
    );
    Ok(report)
}

fn pss(node: &Node) -> Result<f64> {
    let bytes = Footprint::of(node.server.pid())?.pss_bytes;
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
    Ok(bytes.context("the kernel shows no proportional memory of the node")? as f64 / 1e6)
}
