//! The points of the matrix in the order of the experiment file, and what is the same about their runs.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::Material;
use super::sample::Sample;
use crate::environment::{Environment, Platform, System};
use crate::results::{Published, Run};

/// Enough of a digest to tell programs apart.
const DIGEST_CHARS: usize = 12;

/// All repetitions of one test at one point.
#[derive(Debug, Clone)]
pub(super) struct Point<'a> {
    pub(super) test: &'a str,
    pub(super) axes: &'a BTreeMap<String, String>,
    pub(super) sample: Sample<'a>,
}

/// Every point that has a run.
pub(super) fn all(material: &Material) -> Vec<Point<'_>> {
    let mut groups: BTreeMap<(&str, &BTreeMap<String, String>), Vec<&Run>> = BTreeMap::new();
    for run in &material.runs {
        groups.entry((&run.test, &run.axes)).or_default().push(run);
    }
    let mut points: Vec<Point<'_>> = groups
        .into_iter()
        .map(|((test, axes), mut runs)| {
            runs.sort_by_key(|run| run.repetition);
            Point {
                test,
                axes,
                sample: Sample::new(runs),
            }
        })
        .collect();
    let names = material.axis_names();
    points.sort_by(|a, b| {
        let mut order = self::order(material, "test", a.test, b.test);
        for name in &names {
            let [a, b] = [a, b].map(|point| point.axes.get(*name).map_or("", String::as_str));
            order = order.then_with(|| self::order(material, name, a, b));
        }
        order
    });
    points
}

/// Which value of an axis comes first: the order of the file, then numbers by size, then names.
pub(super) fn order(material: &Material, axis: &str, a: &str, b: &str) -> Ordering {
    let listed: &[String] = if axis == "test" {
        &material.tests
    } else {
        let found = material.axes.iter().find(|(name, _)| name == axis);
        found.map_or(&[], |(_, values)| values)
    };
    let place = |value: &str| {
        listed
            .iter()
            .position(|listed| listed == value)
            .unwrap_or(usize::MAX)
    };
    let by_size = match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        _ => Ordering::Equal,
    };
    place(a).cmp(&place(b)).then(by_size).then_with(|| a.cmp(b))
}

/// Whether a paper's number stands for this point.
pub(super) fn is_published_for(
    published: &Published,
    test: &str,
    axes: &BTreeMap<String, String>,
) -> bool {
    published.test == test
        && published
            .only
            .iter()
            .all(|(axis, value)| axes.get(axis) == Some(value))
}

/// The machines and versions that runs were taken with: the first stamp of each, by time.
pub(super) fn environments(material: &Material) -> Vec<&Environment> {
    let mut stamps: Vec<&Environment> = material.runs.iter().map(|run| &run.environment).collect();
    stamps.sort_by_key(|stamp| stamp.unix_seconds);
    let mut distinct: Vec<&Environment> = Vec::new();
    for stamp in stamps {
        if !distinct.iter().any(|known| is_same_place(known, stamp)) {
            distinct.push(stamp);
        }
    }
    distinct
}

/// Platforms and the beginning of their programs' digests, in the order of their names.
pub(super) fn programs(material: &Material) -> BTreeSet<(&str, &str)> {
    let stamps = material.runs.iter().map(|run| &run.environment);
    let platforms = stamps.filter_map(|stamp| stamp.platform.as_ref());
    platforms.filter_map(program).collect()
}

fn program(platform: &Platform) -> Option<(&str, &str)> {
    let digest = platform.program.as_deref()?;
    let begin = digest.get(..DIGEST_CHARS).unwrap_or(digest);
    Some((&platform.name, begin))
}

/// Whether two numbers with these stamps may be held against each other.
pub(super) fn is_same_place(a: &Environment, b: &Environment) -> bool {
    let of_system = |system: &System| (system.kernel.clone(), system.cpu.clone(), system.cores);
    let key = |stamp: &Environment| {
        let elsewhere = stamp.platform.as_ref().and_then(|one| one.system.as_ref());
        (
            of_system(&stamp.system),
            stamp.version.clone(),
            stamp.network.clone(),
            elsewhere.map(of_system),
        )
    };
    key(a) == key(b)
}

/// A point in words, such as `overhead, system mote, clients 16`.
pub(super) fn name(test: &str, axes: &BTreeMap<String, String>) -> String {
    let mut name = test.to_owned();
    for (axis, value) in axes {
        name.push_str(&format!(", {axis} {value}"));
    }
    name
}

/// Date and time, in UTC. One that is far off, in a file that somebody changed, must not end the program.
pub(super) fn minute(unix_seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(
        unix_seconds.min(253_402_300_799),
    ));
    time.map_or_else(String::new, |time| {
        let text = humantime::format_rfc3339_seconds(time).to_string();
        format!("{} {}", &text[..10], &text[11..16])
    })
}
