//! How far an experiment is, for whoever waits for it: one line for each run, with the time that is left.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::plan::{Case, Plan, Setup};
use crate::results::Measured;

/// What a run takes besides its load, before anything is known.
const AROUND: Duration = Duration::from_secs(1);
/// Of an error that is told.
const ERROR_CHARS_MAX: usize = 400;
/// Of a test about which nothing is known.
const UNKNOWN: Duration = Duration::from_secs(10);

/// Counts runs, and learns how long they take.
#[derive(Debug)]
pub(super) struct Progress {
    runs: usize,
    done: usize,
    failed: usize,
    began: Option<Instant>,
    /// Of each test: runs that are left, seconds so far, and in how many runs.
    tests: BTreeMap<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    left: u32,
    expected: Duration,
    took: Duration,
    runs: u32,
}

impl Progress {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut tests: BTreeMap<String, Seen> = BTreeMap::new();
        for case in plan.groups.iter().flat_map(|group| &group.cases) {
            let seen = tests.entry(case.test.name.clone()).or_default();
            seen.left = seen.left.saturating_add(plan.repetitions);
            let expected = case
                .test
                .expected()
                .map_or(UNKNOWN, |time| time.saturating_add(AROUND));
            seen.expected = seen
                .expected
                .saturating_add(expected.saturating_mul(plan.repetitions));
        }
        for seen in tests.values_mut() {
            seen.expected /= seen.left.max(1);
        }
        Self {
            runs: plan.outline.runs,
            done: 0,
            failed: 0,
            began: None,
            tests,
        }
    }

    /// Everything that would be run.
    pub(super) fn outline(&self, plan: &Plan) {
        for group in &plan.groups {
            let platforms: Vec<_> = group.setup.platforms.keys().cloned().collect();
            say(&format!("set-up with platforms {}", platforms.join(", ")));
            for case in &group.cases {
                say(&format!("  {}", name(case)));
            }
        }
        say(&format!("{} runs, about {}", self.runs, human(self.left())));
    }

    /// `kind`: of its network.
    pub(super) fn setting_up(&self, setup: &Setup, kind: Option<&str>) {
        let platforms: Vec<_> = setup.platforms.keys().cloned().collect();
        let links = setup.links.values().map(|link| {
            let preset = link
                .preset
                .or(link.there)
                .map(|preset| format!("{preset:?}").to_lowercase());
            format!(
                "{} across {}",
                link.between.join("-"),
                preset.unwrap_or_else(|| "a link".to_owned())
            )
        });
        let links: Vec<_> = links.collect();
        let kind = kind.map_or_else(String::new, |kind| format!(" ({kind})"));
        say(&format!(
            "set-up: {} {}{kind}",
            platforms.join(", "),
            links.join(", ")
        ));
    }

    /// A run that was made before.
    pub(super) fn known(&mut self, case: &Case) {
        self.done += 1;
        if let Some(seen) = self.tests.get_mut(&case.test.name) {
            seen.left = seen.left.saturating_sub(1);
        }
    }

    pub(super) fn begin(&mut self, case: &Case, repetition: u32) {
        self.began = Some(Instant::now());
        say(&format!(
            "{}/{} {} repetition {repetition}, {} left",
            self.done + 1,
            self.runs,
            name(case),
            human(self.left())
        ));
    }

    pub(super) fn measured(&mut self, case: &Case, measured: &Measured) {
        self.ended(case);
        let failed: u64 = measured.failed.values().sum();
        let counts: u64 = measured.latency.iter().map(|(_, count)| count).sum();
        let mut below = 0;
        let median = measured.latency.iter().find(|(_, count)| {
            below += count;
            below * 2 >= counts
        });
        let median = median.map_or(0.0, |(micros, _)| micros / 1000.0);
        let reasons: Vec<_> = measured
            .failed
            .iter()
            .map(|(why, count)| format!("{count} {why}"))
            .collect();
        let reasons = if failed == 0 {
            String::new()
        } else {
            format!(", failed: {}", reasons.join(", "))
        };
        say(&format!(
            "    median {median:.2} ms, {:.0}/s, {} ok{reasons}",
            measured.per_second, measured.ok
        ));
        for warning in &measured.warnings {
            say(&format!("    note: {warning}"));
        }
    }

    pub(super) fn not_set_up(&self, error: &anyhow::Error) {
        say(&format!("    not set up: {}", short(error)));
    }

    pub(super) fn not_measured(&self, error: &anyhow::Error) {
        say(&format!("    not measured: {}", short(error)));
    }

    pub(super) fn failed(&mut self, case: &Case) {
        self.failed += 1;
        self.ended(case);
    }

    pub(super) fn stopped(&self, folder: &Path) {
        say(&format!(
            "stopped after {} of {} runs; they are in {}, and the same command goes on from there",
            self.done,
            self.runs,
            folder.display()
        ));
    }

    pub(super) fn end(&self, folder: &Path) {
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} of them not measured"),
        };
        say(&format!("{} of {} runs{failed}", self.done, self.runs));
        say(&format!("report: {}", folder.join("report.html").display()));
    }

    fn ended(&mut self, case: &Case) {
        self.done += 1;
        let took = self.began.take().map(|began| began.elapsed());
        if let Some(seen) = self.tests.get_mut(&case.test.name) {
            seen.left = seen.left.saturating_sub(1);
            if let Some(took) = took {
                seen.took += took;
                seen.runs += 1;
            }
        }
    }

    /// From what runs of the same test took so far.
    fn left(&self) -> Duration {
        let each = |seen: &Seen| match seen.runs {
            0 => seen.expected,
            runs => seen.took / runs,
        };
        let left = self
            .tests
            .values()
            .map(|seen| each(seen).saturating_mul(seen.left));
        left.fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// What went wrong, on a line; the results have all of it.
fn short(error: &anyhow::Error) -> String {
    let whole = format!("{error:#}");
    match whole.char_indices().nth(ERROR_CHARS_MAX) {
        Some((end, _)) => format!("{} …", &whole[..end]),
        None => whole,
    }
}

/// A test and its point.
fn name(case: &Case) -> String {
    let axes: Vec<_> = case
        .point
        .iter()
        .map(|(axis, value)| format!("{axis}={value}"))
        .collect();
    format!("{} {}", case.test.name, axes.join(" "))
}

fn human(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// To standard error: standard output is for results. When nobody reads it, there is nobody to tell.
fn say(line: &str) {
    let _unread = writeln!(std::io::stderr(), "{line}");
}
