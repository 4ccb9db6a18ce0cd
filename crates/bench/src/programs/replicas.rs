//! The experiments of the survey (S1 §6): fixed numbers of replicas under more and more clients, and autoscaling under
//! a load that crashed a small board.
//!
//! The program computes for a fixed number of steps in each call, so that a call costs the same whoever runs it. The
//! bare program is one process that uses every processor: no number of replicas could make it faster.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::rounds::{Length, Load, middle};
use super::served::{NO_ENGINE, container_manifest};
use super::stage::{Instances, PROGRAM, Stage, Staged};
use super::table::{Beside, Row, Rows};
use crate::cgroup::{Cgroup, Limits};
use crate::compare::Limit;
use crate::load::Report;

const REPLICAS: [u32; 3] = [1, 5, 7];
const CLIENTS: [usize; 6] = [1, 5, 10, 20, 50, 100];
const REQUESTS: u64 = 1000;
/// As often as the survey repeated them.
const REPEATS_MAX: usize = 5;
const LATENCY_MAX: f64 = 1.3;

const SCALED_MAX: u32 = 20;
const SCALED_REQUESTS: u64 = 2000;
const SCALED_CLIENTS: usize = 40;
/// Long enough for the load to last some seconds, in which the number of replicas can change.
const SCALED_WORK_MS: u64 = 10;
const SCALED_TARGET: u32 = 2;
const SCALED_MEMORY_BYTES: u64 = 1 << 30;
const LOOK: Duration = Duration::from_millis(250);

pub(super) fn process_fixed(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    fixed("process", &process(), stage, &stage.node()?, rows)
}

pub(super) fn container_fixed(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let Some(docker) = stage.docker()? else {
        return rows.skipped("S1, container, fixed replicas", NO_ENGINE);
    };
    let staged = stage.node_with(&docker)?;
    fixed("container", &container_manifest(), stage, &staged, rows)
}

pub(super) fn process_autoscaling(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let name = "S1, process, autoscaling";
    let Some(cgroup) = board(name, rows)? else {
        return Ok(());
    };
    let staged = stage.node_in(&cgroup, &[])?;
    autoscaling("process", &process(), stage, (staged, cgroup), rows)
}

pub(super) fn container_autoscaling(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let name = "S1, container, autoscaling";
    let Some(docker) = stage.docker()? else {
        return rows.skipped(name, NO_ENGINE);
    };
    let Some(cgroup) = board(name, rows)? else {
        return Ok(());
    };
    let (socket, parent) = (docker.socket.to_string_lossy(), cgroup.name());
    let flags = [
        "--container-socket",
        &socket,
        "--container-cgroup-parent",
        &parent,
    ];
    let staged = stage.node_in(&cgroup, &flags)?;
    let what = container_manifest();
    autoscaling("container", &what, stage, (staged, cgroup), rows)
}

fn process() -> String {
    format!("runtime = \"process\"\nsource = \"{PROGRAM}\"")
}

/// The memory of a small board, or a visible line that there is none.
fn board(name: &str, rows: &mut Rows<'_>) -> Result<Option<Cgroup>> {
    match Cgroup::new(
        "programs",
        Limits {
            memory_bytes: Some(SCALED_MEMORY_BYTES),
            cpus: None,
        },
    ) {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(error) => {
            rows.skipped(name, &format!("{error:#}"))?;
            Ok(None)
        }
    }
}

fn function(what: &str, name: &str, rounds: u64, scale: &str) -> String {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    format!(
        "[function.{name}]\n{what}\ncontract = \"http\"\ncpus = {processors}.0\nprocesses = 256\n\
         concurrency = 128\ntimeout = \"30s\"\nenv = {{ WORK_ROUNDS = \"{rounds}\" }}\n\
         scale = {{ {scale} }}\n"
    )
}

fn fixed(
    kind: &str,
    what: &str,
    stage: &Stage,
    staged: &Staged,
    rows: &mut Rows<'_>,
) -> Result<()> {
    let rounds = stage.rounds_per_ms()?;
    let (_bare, direct) = stage.bare(rounds)?;
    let (mut ok, mut sent) = (0, 0);
    for replicas in REPLICAS {
        let scale = format!("min = {replicas}, max = {replicas}");
        stage.deploy(staged, &function(what, "job", rounds, &scale))?;
        staged.wait("job", "all there", |instances| {
            instances.running == u64::from(replicas) && instances.starting == 0
        })?;
        for clients in CLIENTS {
            let load = Load {
                clients,
                length: Length::Requests(REQUESTS),
                rate: None,
            };
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..stage.settings.rounds.min(REPEATS_MAX) {
                ours.push(load.on(&staged.target("job"))?);
                theirs.push(load.whole(&direct)?);
            }
            let answered = |of: fn(&Report) -> u64| ours.iter().map(of).sum::<u64>();
            ok += answered(|report| report.ok);
            sent += answered(|report| report.sent);
            rows.add(Row::measured(
                format!("S1, {kind}, replicas {replicas}, clients {clients}: mean latency"),
                "ms",
                (mean_ms(&ours), Beside::Ratio(mean_ms(&theirs))),
                Limit::AtMost(LATENCY_MAX),
            ))?;
        }
    }
    let name = format!("S1, {kind}, fixed replicas: success");
    rows.add(success(name, ok, sent))
}

fn autoscaling(
    kind: &str,
    what: &str,
    stage: &Stage,
    (mut staged, cgroup): (Staged, Cgroup),
    rows: &mut Rows<'_>,
) -> Result<()> {
    let rounds = stage.rounds_per_ms()? * SCALED_WORK_MS;
    let (_bare, direct) = stage.bare(rounds)?;
    let load = Load {
        clients: SCALED_CLIENTS,
        length: Length::Requests(SCALED_REQUESTS),
        rate: None,
    };
    let scale = format!("min = 1, max = {SCALED_MAX}, target = {SCALED_TARGET}, idle = \"1s\"");
    stage.deploy(&staged, &function(what, "job", rounds, &scale))?;
    let (mut ours, mut theirs, mut stories) = (Vec::new(), Vec::new(), Vec::new());
    let mut deaths = 0;
    for _ in 0..stage.settings.rounds.min(REPEATS_MAX) {
        theirs.push(load.whole(&direct)?);
        staged.wait("job", "one again", |instances| {
            instances.there() == 1 && instances.starting == 0
        })?;
        let (report, seen) = watched(load, &staged, &cgroup)?;
        ours.push(report);
        deaths = seen.last().map_or(deaths, |last| last.deaths);
        stories.push(story(&seen));
    }
    let (ok, sent) = ours.iter().fold((0, 0), |(ok, sent), report| {
        (ok + report.ok, sent + report.sent)
    });
    let name = format!("S1, {kind}, autoscaling 1 to {SCALED_MAX} in 1 GiB");
    let peak = cgroup.peak_mb()?;
    let (killed, crashed) = (cgroup.killed(), !staged.node.server.is_running()?);
    rows.add(
        success(format!("{name}: success"), ok, sent)
            .note(format!(
                "replicas and why, run by run: {}",
                stories.join(" / ")
            ))
            .note(format!(
                "most memory of node and instances, caches included: {peak:.0} MB of 1074"
            ))
            .note(staged.isolation("job")?),
    )?;
    rows.add(Row::measured(
        format!("{name}: mean latency"),
        "ms",
        (mean_ms(&ours), Beside::Ratio(mean_ms(&theirs))),
        Limit::AtMost(LATENCY_MAX),
    ))?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let lost = (killed + deaths + u64::from(crashed)) as f64;
    rows.add(Row::measured(
        format!("{name}: crashes, deaths of instances and processes killed for memory"),
        "in all",
        (lost, Beside::Nothing),
        Limit::AtMost(0.0),
    ))?;
    staged.node.server.stop()?;
    drop(staged);
    drop(cgroup);
    Ok(())
}

/// The load, and how many instances there were meanwhile.
fn watched(load: Load, staged: &Staged, cgroup: &Cgroup) -> Result<(Report, Vec<Instances>)> {
    let target = staged.target("job");
    thread::scope(|scope| {
        let running = scope.spawn(|| load.on(&target));
        let mut seen = Vec::new();
        while !running.is_finished() {
            let shown = staged.show("job").context("looking at the replicas")?;
            seen.push(Instances::of(&shown)?);
            thread::sleep(LOOK);
        }
        let report = running.join();
        let report = report.map_err(|_| anyhow!("the load thread panicked"))??;
        let last = Instances::of(&staged.show("job")?)?;
        // Without this, instances that are somewhere else would be a success.
        let (inside, least) = (cgroup.processes(), last.there() + 1);
        ensure!(
            inside as u64 >= least,
            "only {inside} processes are in the cgroup, of a node with {} instances",
            last.there()
        );
        seen.push(last);
        Ok((report, seen))
    })
}

/// How many there were, each number and each reason once, in the order they came.
fn story(seen: &[Instances]) -> String {
    let mut steps: Vec<String> = Vec::new();
    for instances in seen {
        let step = format!("{} ({})", instances.there(), reason(&instances.decision));
        if steps.last() != Some(&step) {
            steps.push(step);
        }
    }
    steps.join(", ")
}

/// The words after the number in a decision such as `3: calls need more`.
fn reason(decision: &str) -> &str {
    decision.split_once(": ").map_or(decision, |(_, why)| why)
}

fn success(name: String, ok: u64, sent: u64) -> Row {
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
    let share = ok as f64 / sent as f64 * 100.0;
    let all = (share, Beside::Nothing);
    Row::measured(name, "%", all, Limit::AtLeast(100.0)).note(format!("{ok} of {sent} requests"))
}

fn mean_ms(reports: &[Report]) -> f64 {
    middle(reports, |report| report.latency_us.mean) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_the_same_share_of_the_requests() {
        for clients in CLIENTS {
            assert_eq!(REQUESTS % clients as u64, 0, "{clients}");
        }
        assert_eq!(SCALED_REQUESTS % SCALED_CLIENTS as u64, 0);
    }

    #[test]
    fn a_story_has_no_repetitions() {
        let at = |running, decision: &str| Instances {
            running,
            decision: decision.to_owned(),
            ..Instances::default()
        };
        let seen = [
            at(1, "2: load"),
            at(1, "2: load"),
            at(2, "2: enough"),
            at(1, "x"),
        ];
        assert_eq!(story(&seen), "1 (load), 2 (enough), 1 (x)");
    }

    #[test]
    fn a_single_failure_breaks_the_promise() {
        use crate::compare::Verdict;
        assert_eq!(success(String::new(), 2000, 2000).verdict, Verdict::Ok);
        assert_eq!(success(String::new(), 1999, 2000).verdict, Verdict::Broken);
    }
}
