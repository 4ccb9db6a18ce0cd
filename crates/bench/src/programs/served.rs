//! A program that stays and serves many calls: what the node adds to a call of it.

use anyhow::Result;

use super::docker;
use super::rounds::{Load, doubts, in_turn, middle};
use super::stage::{PROGRAM, Stage, Staged};
use super::table::{Beside, Row, Rows};
use crate::compare::Limit;
use crate::load::Report;

const CLIENTS: usize = 16;
const ADDED_US_MAX: f64 = 150.0;
const THROUGHPUT_MIN: f64 = 0.6;

/// The least program there is: a call of it costs a few microseconds.
pub(super) fn process(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let what = format!("runtime = \"process\"\nsource = \"{PROGRAM}\"");
    let (_bare, direct) = stage.bare(0)?;
    let names = ("process", "hello");
    against_direct(names, &what, stage, &stage.node()?, &direct, rows)
}

/// The same over the socket that a program may listen on instead of a port.
pub(super) fn socket(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let what =
        format!("runtime = \"process\"\nsource = \"{PROGRAM}\"\nenv = {{ LISTEN = \"unix\" }}");
    let (_bare, direct) = stage.bare(0)?;
    let names = ("process", "hello over a Unix socket");
    against_direct(names, &what, stage, &stage.node()?, &direct, rows)
}

/// A program as people write it.
pub(super) fn javascript(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let Some((_bare, direct)) = stage.bare_javascript()? else {
        let why = "there is no node in /usr/local/bin or /usr/bin";
        return rows.skipped("process `http` hello in JavaScript", why);
    };
    let what = "runtime = \"process\"\nsource = \"javascript\"\nmemory = \"256MiB\"\n\
                command = [\"node\", \"/app/server.js\"]";
    let names = ("process", "hello in JavaScript");
    against_direct(names, what, stage, &stage.node()?, &direct, rows)
}

/// The least program, in a container.
pub(super) fn container(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let Some(docker) = stage.docker()? else {
        return rows.skipped("container `http` hello", NO_ENGINE);
    };
    let (_bare, direct) = stage.bare(0)?;
    let (names, staged) = (("container", "hello"), stage.node_with(&docker)?);
    against_direct(names, &container_manifest(), stage, &staged, &direct, rows)
}

/// Why rows of containers are left out.
pub(super) const NO_ENGINE: &str = "give --container-socket PATH";

/// The image that the engine has.
pub(super) fn container_manifest() -> String {
    format!("runtime = \"container\"\nimage = \"{}\"", docker::IMAGE)
}

fn against_direct(
    (kind, program): (&str, &str),
    what: &str,
    stage: &Stage,
    staged: &Staged,
    direct: &str,
    rows: &mut Rows<'_>,
) -> Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let manifest = format!(
        "[function.hello]\n{what}\ncontract = \"http\"\ncpus = {processors}.0\nprocesses = 256\n\
         scale = {{ min = 1, max = 1 }}\n"
    );
    stage.deploy(staged, &manifest)?;
    staged.wait("hello", "hot", |instances| instances.running == 1)?;
    let ours = staged.target("hello");
    let isolation = staged.isolation("hello")?;
    let measured = |load| in_turn(stage.settings.rounds, load, [&ours, direct]);
    let name = format!("{kind} `http` {program}, {CLIENTS} clients");
    let full = Load::closed(CLIENTS, stage.settings.duration);

    let reports = measured(full)?;
    let [rate, direct_rate] = reports
        .each_ref()
        .map(|reports| middle(reports, |report| report.requests_per_second));
    let doubts = reports.iter().filter_map(|reports| doubts(reports));
    let doubts: Vec<String> = doubts.collect();
    let row = added(format!("{name}, as fast as it goes: p50"), &reports);
    rows.add(row.note(isolation).notes(doubts.clone()))?;
    let rates = (rate, Beside::Ratio(direct_rate));
    let least = Limit::AtLeast(THROUGHPUT_MIN);
    let row = Row::measured(format!("{name}: throughput"), "req/s", rates, least);
    rows.add(row.notes(doubts))?;

    let half = Load {
        rate: Some(rate / 2.0),
        ..full
    };
    let row = added(
        format!("{name}, at half of that rate: p50"),
        &measured(half)?,
    );
    rows.add(row.note(format!("both at {:.0} requests per second", rate / 2.0)))
}

/// The row for what the node's p50 is above the other's.
fn added(name: String, reports: &[Vec<Report>; 2]) -> Row {
    let [ours, direct] = reports
        .each_ref()
        .map(|reports| middle(reports, |report| report.latency_us.p50));
    let values = (ours, Beside::Difference(direct));
    Row::measured(name, "µs", values, Limit::AtMost(ADDED_US_MAX))
}
