//! One run: the load generator on its machine, and what is watched meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Site;
use super::fill;
use super::machine::Program;
use super::network::BOUNDS;
use super::plan::Case;
use super::platform::{Ground, Node, Running};
use crate::link::KeptUp;
use crate::load::Report;
use crate::results::Measured;

/// How often instances are counted.
const LOOK: Duration = Duration::from_millis(250);

/// Makes a run and waits for its end. `folder`: the experiment file's.
pub(super) fn measure(
    case: &Case,
    site: &Site,
    folder: &Path,
    seed: u64,
    stop: &AtomicBool,
) -> Result<Measured> {
    let test = &case.test;
    let platform = match &test.platform {
        Some(name) => Some(site.platforms.get(name).with_context(|| {
            let known: Vec<_> = site.platforms.keys().cloned().collect();
            format!("platform `{name}` is not there, only {}", known.join(", "))
        })?),
        None => None,
    };
    let mut places = site.places.clone();
    // Of the platform that is measured, for short.
    for (door, url) in platform.iter().flat_map(|platform| &platform.words) {
        places.insert(door.clone(), url.clone());
    }
    let ground = site.ground(folder, stop);
    let program = generator(case, site, &ground, &places, (platform, seed))?;
    let observed = test.observe.as_deref();
    let observed = observed
        .map(|function| fill::with_places(function, &places))
        .transpose()?;
    let over = AtomicBool::new(false);
    let (output, (values, unseen)) = thread::scope(|scope| {
        let node = platform.and_then(|platform| platform.node.as_ref());
        let watching = match (&observed, node) {
            (Some(function), Some(node)) => {
                let (ground, over) = (&ground, &over);
                Some(scope.spawn(move || watch(function, node, ground, over)))
            }
            _ => None,
        };
        let output = ground.machines.run(&test.from, &program, stop);
        over.store(true, Ordering::Relaxed);
        let values = match watching {
            Some(watching) => watching
                .join()
                .map_err(|_| anyhow::anyhow!("the watch panicked"))?,
            None => (BTreeMap::new(), None),
        };
        Ok::<_, anyhow::Error>((output?, values))
    })?;
    let report: Report =
        serde_json::from_slice(&output).context("the load generator's report cannot be read")?;
    let mut measured = Measured::from(report);
    measured.values = values;
    measured.warnings.extend(unseen);
    if platform.is_some_and(|platform| platform.has_containers) {
        // They are the engine's processes, and not below the node.
        (measured.server_cpu_us, measured.server_pss_mb) = (None, None);
    }
    Ok(measured)
}

/// The load generator, as a program of the machine that the load comes from.
fn generator(
    case: &Case,
    site: &Site,
    ground: &Ground<'_>,
    places: &BTreeMap<String, String>,
    (platform, seed): (Option<&Running>, u64),
) -> Result<Program> {
    let test = &case.test;
    let machines = ground.machines;
    let body = match test.body(ground.folder)? {
        Some(bytes) => {
            let path = site.scratch.path().join("body");
            let bytes = match String::from_utf8(bytes) {
                Ok(text) if test.body.is_some() => fill::with_places(&text, places)?.into_bytes(),
                Ok(text) => text.into_bytes(),
                Err(error) => error.into_bytes(),
            };
            std::fs::write(&path, bytes)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Some(machines.place(&test.from, &path)?)
        }
        None => None,
    };
    let own = std::env::current_exe().context("cannot find this program")?;
    let mut words = vec![
        machines.place(&test.from, &own)?,
        "load".to_owned(),
        "--json".to_owned(),
    ];
    for word in test.arguments(body.as_deref().map(Path::new), seed) {
        let word = fill::with_places(&word, places)?;
        words.push(machines.seen_from(&test.from, &word)?);
    }
    if let Some(platform) = platform
        && machines.is_here(&platform.on)?
        && machines.is_here(&test.from)?
    {
        words.extend(["--server-pid".to_owned(), platform.id.to_string()]);
    }
    Ok(Program {
        words,
        env: BTreeMap::new(),
        folder: None,
        outside: false,
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53 instances")]
fn count(value: u64) -> f64 {
    value as f64
}

/// What was seen, and why not more.
type Watched = (BTreeMap<String, f64>, Option<String>);

/// Counts the instances of a function until the run is over.
fn watch(function: &str, node: &Node, ground: &Ground<'_>, over: &AtomicBool) -> Watched {
    let mut values = BTreeMap::new();
    let (mut most, mut sum, mut looks) = (0.0_f64, 0.0, 0.0);
    while !over.load(Ordering::Relaxed) {
        let instances = match node.instances(function, ground) {
            Ok(instances) => instances,
            // The end of the run, and no fault of the node's.
            Err(_) if over.load(Ordering::Relaxed) => break,
            Err(error) => {
                let why = format!(
                    "the instances of `{function}` could not be counted to the end: {error:#}"
                );
                return (values, Some(why));
            }
        };
        let there = count(instances.running + instances.paused);
        most = most.max(there);
        sum += there;
        looks += 1.0;
        values.insert("instance_deaths".to_owned(), count(instances.deaths));
        values.insert("instances_max".to_owned(), most);
        values.insert("instances_mean".to_owned(), sum / looks);
        thread::sleep(LOOK);
    }
    (values, None)
}

/// Whether the network was the one that was asked for, from what its link counted before and after.
pub(super) fn network(before: KeptUp, after: KeptUp) -> (Vec<String>, BTreeMap<String, f64>) {
    let arrived = after.arrived - before.arrived;
    let (late, dropped) = (after.late - before.late, after.dropped - before.dropped);
    let turned_away = after.turned_away - before.turned_away;
    let mut warnings = Vec::new();
    if after.ended {
        warnings
            .push("the emulated network ended, and this is not what it was asked to be".to_owned());
    }
    if late * 100 > arrived {
        warnings.push(format!(
            "{late} of {arrived} packets were late, for want of processor time: the network was slower than asked for"
        ));
    }
    if dropped > 0 {
        warnings.push(format!(
            "{dropped} packets found no room in the emulated network: raise its `queue`"
        ));
    }
    if turned_away > 0 {
        warnings.push(format!(
            "{turned_away} clients found no place in the relay that is the network, which has {}",
            BOUNDS.clients
        ));
    }
    let values = [
        ("packets", arrived),
        ("packets_late", late),
        ("packets_dropped", dropped),
    ];
    let values = values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), count(value)));
    (warnings, values.collect())
}

impl From<Report> for Measured {
    fn from(report: Report) -> Self {
        let reasons = [
            ("timeout", report.failed.timeout),
            ("wrong body", report.failed.wrong_body),
            ("transport", report.failed.transport),
            ("not sent", report.failed.unsent),
        ];
        let reasons = reasons
            .into_iter()
            .map(|(why, count)| (why.to_owned(), count));
        let status = report.failed.status.into_iter();
        let all = reasons.chain(status.map(|(status, count)| (format!("status {status}"), count)));
        Self {
            seconds: report.seconds,
            due: report.ok + report.failed.total,
            ok: report.ok,
            failed: all.filter(|(_, count)| *count > 0).collect(),
            per_second: report.requests_per_second,
            latency: report.histogram,
            server_cpu_us: report.server.map(|server| server.cpu_us_per_request),
            server_pss_mb: report.server.and_then(|server| server.pss_mb_after),
            warnings: report.warnings,
            values: BTreeMap::new(),
        }
    }
}
