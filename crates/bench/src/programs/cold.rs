//! Calls for which something must be started first, or woken.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::rounds::{Load, one_call};
use super::served::{NO_ENGINE, container_manifest};
use super::stage::{IMAGE, PROGRAM, PYTHON_IMPORTS, Stage, Staged, on_system};
use super::table::{Beside, Row, Rows};
use crate::compare::{Limit, median};

/// Short, so that a round does not take long; an instance is stopped when it was idle for so long.
const IDLE: &str = "500ms";
/// A container is paused after half of this (and stopped after all of it).
const IDLE_PAUSED: &str = "8s";
/// What the engine does after its answer should not disturb the next start.
const ENGINE_REST: Duration = Duration::from_millis(300);
const ENGINE_WAIT_MAX: Duration = Duration::from_secs(60);

/// A process for each call.
pub(super) fn stdio(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let staged = stage.node()?;
    let manifest = format!(
        "[function.hello]\nruntime = \"process\"\nsource = \"{PROGRAM}\"\ncontract = \"stdio\"\n\
         scale = {{ min = 1, max = 1 }}\n"
    );
    stage.deploy(&staged, &manifest)?;
    let ours = p50_of_one_client(stage, &staged)?;
    let bare = bare_process(stage)?;
    rows.add(
        Row::measured(
            "`stdio` of a static binary, one call after the other: p50",
            "ms",
            (ours, Beside::Shown(bare)),
            Limit::AtMost(3.0),
        )
        .note(
            "beside it: starting the same program from this one, with pipes and without a sandbox",
        )
        .note(staged.isolation("hello")?),
    )
}

/// A fork for each call, beside the first call of a cold function, which starts Python and imports.
pub(super) fn zygote(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let name = "Python zygote, a fork for each call: p50";
    let Some(plain) = plain_python(stage)? else {
        return rows.skipped(name, "there is no python3 in /usr/local/bin or /usr/bin");
    };
    let staged = stage.node()?;
    let manifest = |scale: &str| {
        format!(
            "[function.hello]\nruntime = \"process\"\nsource = \"python\"\nscale = {{ {scale} }}\n"
        )
    };
    stage.deploy(&staged, &manifest(&format!("idle = \"{IDLE}\"")))?;
    let cold = first_calls(stage, &staged, || staged.wait_for_zero("hello"))?;
    stage.deploy(&staged, &manifest("min = 1, max = 1"))?;
    let ours = p50_of_one_client(stage, &staged)?;
    let ratio = cold / ours;
    rows.add(
        Row::measured(
            name,
            "ms",
            (ours, Beside::Shown(cold)),
            Limit::AtMost(6.0),
        )
        .note(format!(
            "beside it: the first call of the function when it is scaled to zero, {ratio:.0} times a fork"
        ))
        .note(format!(
            "`python3 -c \"{PYTHON_IMPORTS}\"` without a node takes {plain:.1} ms"
        ))
        .note(staged.isolation("hello")?),
    )
}

/// An image as the root of a process: nothing of an engine is needed.
pub(super) fn image(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let staged = stage.node()?;
    let manifest = format!(
        "[function.hello]\nruntime = \"process\"\nimage = \"{IMAGE}\"\ncontract = \"http\"\n\
         scale = {{ idle = \"{IDLE}\" }}\n"
    );
    stage.deploy(&staged, &manifest)?;
    let cold = first_calls(stage, &staged, || staged.wait_for_zero("hello"))?;
    rows.add(
        Row::measured(
            "image without an engine, cold: first byte of a static binary, p50",
            "ms",
            (cold, Beside::Nothing),
            Limit::AtMost(15.0),
        )
        .note(staged.isolation("hello")?),
    )
}

/// The first call of a paused container.
pub(super) fn paused_container(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let name = "paused container: first byte, p50";
    let Some(docker) = stage.docker()? else {
        return rows.skipped(name, NO_ENGINE);
    };
    let staged = stage.node_with(&docker)?;
    stage.deploy(&staged, &container_function(IDLE_PAUSED))?;
    let woken = first_calls(stage, &staged, || {
        staged.wait("hello", "paused", |instances| instances.paused == 1)
    })?;
    let (ours, limit) = ((woken, Beside::Nothing), Limit::AtMost(30.0));
    rows.add(Row::measured(name, "ms", ours, limit))
}

/// The first call of a container that is not there, beside a container that the engine runs by itself.
pub(super) fn container(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    let name = "cold container: first byte, p50";
    let Some(docker) = stage.docker()? else {
        return rows.skipped(name, NO_ENGINE);
    };
    let before = docker.containers()?;
    let staged = stage.node_with(&docker)?;
    stage.deploy(&staged, &container_function(IDLE))?;
    let network = docker.network()?;
    let target = staged.target("hello");
    let gone = || {
        staged.wait_for_zero("hello")?;
        let until = Instant::now() + ENGINE_WAIT_MAX;
        while docker.containers()? > before {
            ensure!(
                Instant::now() < until,
                "a container is still there a minute after its function was scaled to zero"
            );
            thread::sleep(ENGINE_REST);
        }
        thread::sleep(ENGINE_REST);
        Ok(())
    };
    one_call(&target)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..stage.settings.rounds {
        gone()?;
        ours.push(one_call(&target)?);
        gone()?;
        theirs.push(network.run()?);
    }
    rows.add(
        Row::measured(
            name,
            "ms",
            (median(&ours), Beside::Ratio(median(&theirs))),
            Limit::AtMost(1.2),
        )
        .note("beside it: create, start and first byte by the engine's API, in a network that is there already"),
    )
}

fn container_function(idle: &str) -> String {
    format!(
        "[function.hello]\n{}\ncontract = \"http\"\nscale = {{ idle = \"{idle}\", max = 1 }}\n",
        container_manifest()
    )
}

/// The median of first calls, each made after `wait`.
fn first_calls(stage: &Stage, staged: &Staged, wait: impl Fn() -> Result<()>) -> Result<f64> {
    let target = staged.target("hello");
    // Files that were never read are not what a cold function means.
    one_call(&target)?;
    let mut values = Vec::new();
    for _ in 0..stage.settings.rounds {
        wait()?;
        values.push(one_call(&target)?);
    }
    Ok(median(&values))
}

/// The median of the rounds' p50, in milliseconds.
fn p50_of_one_client(stage: &Stage, staged: &Staged) -> Result<f64> {
    staged.wait("hello", "hot", |instances| instances.running == 1)?;
    let load = Load::closed(1, stage.settings.duration);
    let target = staged.target("hello");
    let mut values = Vec::new();
    for _ in 0..stage.settings.rounds {
        values.push(load.whole(&target)?.latency_us.p50 / 1000.0);
    }
    Ok(median(&values))
}

/// The program started for one call, without a node: milliseconds.
fn bare_process(stage: &Stage) -> Result<f64> {
    let values = (0..stage.settings.rounds * 20)
        .map(|_| {
            let start = Instant::now();
            let output = Command::new(&stage.program).stdin(Stdio::null()).output()?;
            ensure!(
                output.status.success(),
                "the program ended with {}",
                output.status
            );
            Ok(start.elapsed().as_secs_f64() * 1000.0)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(median(&values))
}

/// Python with the imports of the handler: milliseconds. `None` when the sandbox would find none either.
fn plain_python(stage: &Stage) -> Result<Option<f64>> {
    let Some(python) = on_system("python3") else {
        return Ok(None);
    };
    let values = (0..=stage.settings.rounds)
        .map(|_| {
            let start = Instant::now();
            let ended = Command::new(&python)
                .args(["-c", PYTHON_IMPORTS])
                .stdin(Stdio::null())
                .status()
                .context("cannot run python3")?;
            ensure!(ended.success(), "python3 ended with {ended}");
            Ok(start.elapsed().as_secs_f64() * 1000.0)
        })
        .collect::<Result<Vec<_>>>()?;
    // The first one reads its files from the disk.
    Ok(Some(median(&values[1..])))
}
