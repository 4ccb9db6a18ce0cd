//! Two reports held against each other: what became faster, what slower, and what is noise.
//!
//! Points are matched by test and axes. For each that both have, the ratio B/A has a 95 % interval of the bootstrap
//! (see [`super::statistics::bootstrap`]); a difference is one only when the interval leaves out 1. Of twenty intervals
//! one is wrong by chance alone, which the table says.

mod page;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Material;
use super::points::{self, Point};
use super::statistics::bootstrap::{Basis, Interval, ratio_of_medians, ratio_of_quantiles};
use super::statistics::{Histogram, median};
use crate::environment::Environment;
use crate::results::Metric;

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The first report, which ratios are over.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// What is not the same about how they were made; numbers may differ for that reason.
    pub differences: Vec<Difference>,
    /// Points that both measured, in the order of A.
    pub points: Vec<Compared>,
    /// Points that only A measured, in words.
    pub only_a: Vec<String>,
    /// Points that only B measured.
    pub only_b: Vec<String>,
}

/// One of the reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Of the experiment.
    pub name: String,
    /// When its first run was, in UTC; empty without runs.
    pub time: String,
    /// Its runs.
    pub runs: usize,
}

/// Something about the reports that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Such as `kernel`.
    pub what: String,
    /// In A.
    pub a: String,
    /// In B.
    pub b: String,
}

/// A point that both reports have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The test.
    pub test: String,
    /// Where in the matrix.
    pub axes: BTreeMap<String, String>,
    /// Median latency in microseconds.
    pub median: Contrast,
    /// 99th percentile of latency in microseconds.
    pub p99: Contrast,
    /// Good operations per second.
    pub rate: Contrast,
}

/// A number of both, medians over repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Contrast {
    /// In A.
    pub a: Option<f64>,
    /// In B.
    pub b: Option<f64>,
    /// B/A, when there is enough to say.
    pub interval: Option<Interval>,
    /// What it means.
    pub verdict: Verdict,
}

/// What an interval says about B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval is on the good side of 1.
    Faster,
    /// The whole interval is on the other side.
    Slower,
    /// The interval holds 1.
    Noise,
    /// There are fewer than three repetitions, and too few operations in them to go by.
    TooFewRuns,
}

/// Compares B with A. The seed of A decides what is drawn.
#[must_use]
pub fn compare(a: &Material, b: &Material) -> Comparison {
    let (a_points, b_points) = (measured(a), measured(b));
    let same =
        |one: &Point<'_>, other: &Point<'_>| (one.test, one.axes) == (other.test, other.axes);
    let without = |points: &[Point<'_>], others: &[Point<'_>]| -> Vec<String> {
        points
            .iter()
            .filter(|point| !others.iter().any(|other| same(point, other)))
            .map(|point| points::name(point.test, point.axes))
            .collect()
    };
    let compared = a_points.iter().filter_map(|point| {
        let other = b_points.iter().find(|other| same(point, other))?;
        Some(contrasts(point, other, a.seed))
    });
    Comparison {
        a: Side::new(a),
        b: Side::new(b),
        differences: differences(a, b),
        points: compared.collect(),
        only_a: without(&a_points, &b_points),
        only_b: without(&b_points, &a_points),
    }
}

fn measured(material: &Material) -> Vec<Point<'_>> {
    let mut points = points::all(material);
    points.retain(|point| !point.sample.measured.is_empty());
    points
}

fn contrasts(a: &Point<'_>, b: &Point<'_>, seed: u64) -> Compared {
    let latencies = |point: &Point<'_>| -> Vec<Histogram> {
        let measured = point.sample.measured.iter();
        measured.map(|one| Histogram::new(&one.latency)).collect()
    };
    let (a_latency, b_latency) = (latencies(a), latencies(b));
    let quantile = |quantile: f64| {
        let each =
            |side: &[Histogram]| median(side.iter().filter_map(|one| one.quantile(quantile)));
        let interval = ratio_of_quantiles(&a_latency, &b_latency, quantile, seed);
        Contrast {
            a: each(&a_latency),
            b: each(&b_latency),
            interval,
            verdict: verdict(interval, false),
        }
    };
    let (a_rates, b_rates) = (
        a.sample.of_each(Metric::Rate),
        b.sample.of_each(Metric::Rate),
    );
    let of_rates = ratio_of_medians(&a_rates, &b_rates, seed);
    Compared {
        test: a.test.to_owned(),
        axes: a.axes.clone(),
        median: quantile(0.5),
        p99: quantile(0.99),
        rate: Contrast {
            a: median(a_rates),
            b: median(b_rates),
            interval: of_rates,
            verdict: verdict(of_rates, true),
        },
    }
}

fn verdict(interval: Option<Interval>, more_is_better: bool) -> Verdict {
    let Some(interval) = interval else {
        return Verdict::TooFewRuns;
    };
    if interval.low <= 1.0 && interval.high >= 1.0 {
        return Verdict::Noise;
    }
    if (interval.low > 1.0) == more_is_better {
        Verdict::Faster
    } else {
        Verdict::Slower
    }
}

fn differences(a: &Material, b: &Material) -> Vec<Difference> {
    let of_stamps = |material: &Material, part: fn(&Environment) -> String| {
        let stamps = material.runs.iter().map(|run| part(&run.environment));
        let distinct: BTreeSet<String> = stamps.collect();
        distinct.into_iter().collect::<Vec<_>>().join(" and ")
    };
    let whole = |material: &Material| match (material.quick, material.missing) {
        (false, 0) => "all runs".to_owned(),
        (true, 0) => "quick".to_owned(),
        (quick, missing) => format!(
            "{missing} runs missing{}",
            if quick { ", quick" } else { "" }
        ),
    };
    let network = |stamp: &Environment| stamp.network.clone().unwrap_or_else(|| "none".to_owned());
    let elsewhere = |stamp: &Environment| {
        let system = stamp.platform.as_ref().and_then(|one| one.system.as_ref());
        system.map_or_else(
            || "the controller's".to_owned(),
            |system| format!("{}, Linux {}", system.cpu, system.kernel),
        )
    };
    let programs = |material: &Material| {
        let each = points::programs(material).into_iter();
        let each = each.map(|(platform, digest)| format!("{platform} {digest}"));
        each.collect::<Vec<_>>().join(" and ")
    };
    let sides = |part: &dyn Fn(&Material) -> String| (part(a), part(b));
    let all = [
        ("experiment", sides(&|one| one.name.clone())),
        (
            "cpu",
            sides(&|one| of_stamps(one, |stamp| stamp.system.cpu.clone())),
        ),
        (
            "cores",
            sides(&|one| of_stamps(one, |stamp| stamp.system.cores.to_string())),
        ),
        (
            "kernel",
            sides(&|one| of_stamps(one, |stamp| stamp.system.kernel.clone())),
        ),
        (
            "testbed",
            sides(&|one| of_stamps(one, |stamp| stamp.version.clone())),
        ),
        ("network", sides(&|one| of_stamps(one, network))),
        (
            "machine of the platform",
            sides(&|one| of_stamps(one, elsewhere)),
        ),
        ("programs", sides(&programs)),
        ("seed", sides(&|one| one.seed.to_string())),
        ("complete", sides(&whole)),
    ];
    all.into_iter()
        .filter(|(_, (a, b))| a != b)
        .map(|(what, (a, b))| Difference {
            what: what.to_owned(),
            a,
            b,
        })
        .collect()
}

impl Side {
    fn new(material: &Material) -> Self {
        let first = material
            .runs
            .iter()
            .map(|run| run.environment.unix_seconds)
            .min();
        Self {
            name: material.name.clone(),
            time: first.map(points::minute).unwrap_or_default(),
            runs: material.runs.len(),
        }
    }
}

impl Comparison {
    /// For programs.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// A page that stands alone, as that of a report does.
    #[must_use]
    pub fn to_html(&self) -> String {
        page::html(self)
    }

    /// How many contrasts there are, and how many of them have a verdict of a difference.
    fn counts(&self) -> (usize, usize) {
        let all = || self.points.iter().flat_map(Compared::contrasts);
        let decided = all().filter(|one| one.interval.is_some()).count();
        let different = all()
            .filter(|one| matches!(one.verdict, Verdict::Faster | Verdict::Slower))
            .count();
        (decided, different)
    }

    /// Whether any interval says nothing about other runs.
    fn is_of_operations(&self) -> bool {
        self.points
            .iter()
            .flat_map(Compared::contrasts)
            .any(|one| one.is_of_operations())
    }

    /// What a reader must know to read the table right.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let (decided, different) = self.counts();
        if decided > 0 {
            remarks.push(format!(
                "{different} of {decided} ratios differ from 1; of intervals of 95 %, {:.0} would by chance alone.",
                (super::statistics::count(decided as u64) / 20.0).max(1.0)
            ));
        }
        if self.is_of_operations() {
            remarks.push(format!(
                "{OPERATIONS} drawn from the operations of fewer than three runs: how much runs differ from each other is not in it."
            ));
        }
        remarks
    }
}

/// Beside an interval that was not drawn from repetitions.
const OPERATIONS: &str = "*";

impl Compared {
    fn contrasts(&self) -> [&Contrast; 3] {
        [&self.median, &self.p99, &self.rate]
    }
}

impl Contrast {
    fn is_of_operations(&self) -> bool {
        self.interval
            .is_some_and(|interval| interval.basis == Basis::Operations)
    }

    /// Ratio and interval, such as `0.93 [0.91, 0.96]`.
    fn ratio(&self) -> String {
        let Some(interval) = self.interval else {
            return "–".to_owned();
        };
        let mark = if self.is_of_operations() {
            OPERATIONS
        } else {
            ""
        };
        format!(
            "{:.3} [{:.3}, {:.3}]{mark}",
            interval.ratio, interval.low, interval.high
        )
    }
}

impl Verdict {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Noise => "noise",
            Self::TooFewRuns => "too few runs",
        }
    }
}
