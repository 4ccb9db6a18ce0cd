//! What was found at each point of the matrix, for programs: `report.json`.
//!
//! Latencies of ours are in microseconds, as the names say; those of a paper are in its unit, milliseconds.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::Material;
use super::points::{self, Point};
use super::sample::{Sample, share};
use super::statistics::median;
use crate::environment::Environment;
use crate::results::{Figure, Metric, Published};

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    title: &'a str,
    about: &'a str,
    source: &'a str,
    seed: u64,
    quick: bool,
    runs: usize,
    runs_missing: usize,
    notes: &'a [String],
    axes: Vec<Axis<'a>>,
    tests: &'a [String],
    environments: Vec<&'a Environment>,
    points: Vec<Summary<'a>>,
    figures: &'a [Figure],
}

#[derive(Serialize)]
struct Axis<'a> {
    name: &'a str,
    values: &'a [String],
}

#[derive(Serialize)]
struct Summary<'a> {
    test: &'a str,
    axes: &'a BTreeMap<String, String>,
    repetitions: usize,
    due: u64,
    ok: u64,
    success_percent: Option<f64>,
    failed: BTreeMap<&'a str, u64>,
    per_second: Spread,
    latency_us: Option<Latency>,
    server_cpu_us: Option<f64>,
    server_pss_mb: Option<f64>,
    values: BTreeMap<&'a str, f64>,
    warnings: Vec<Remark<'a>>,
    not_measured: Vec<Remark<'a>>,
    published: Vec<&'a Published>,
}

/// The median over repetitions, and the ends.
#[derive(Serialize)]
struct Spread {
    median: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
}

/// Of all repetitions together, but `mean`, which is that of the repetition with the median mean.
#[derive(Serialize)]
struct Latency {
    count: u64,
    mean: Option<f64>,
    min: Option<f64>,
    p25: Option<f64>,
    p50: Option<f64>,
    p75: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
    iqr: Option<f64>,
    median_of_each: Vec<f64>,
}

#[derive(Serialize)]
struct Remark<'a> {
    repetition: u32,
    text: &'a str,
}

/// Writes it.
pub(super) fn report(material: &Material, file: &mut dyn Write) -> Result<()> {
    let points = points::all(material);
    let report = Report {
        name: &material.name,
        title: &material.title,
        about: &material.about,
        source: &material.source,
        seed: material.seed,
        quick: material.quick,
        runs: material.runs.len(),
        runs_missing: material.missing,
        notes: &material.notes,
        axes: material
            .axes
            .iter()
            .map(|(name, values)| Axis { name, values })
            .collect(),
        tests: &material.tests,
        environments: points::environments(material),
        points: points
            .iter()
            .map(|point| summary(point, &material.published))
            .collect(),
        figures: &material.figures,
    };
    serde_json::to_writer_pretty(&mut *file, &report)?;
    writeln!(file)?;
    Ok(())
}

fn summary<'a>(point: &Point<'a>, published: &'a [Published]) -> Summary<'a> {
    let sample = &point.sample;
    let (min, max) = sample.spread(Metric::Rate).unzip();
    Summary {
        test: point.test,
        axes: point.axes,
        repetitions: sample.measured.len(),
        due: sample.due(),
        ok: sample.ok(),
        success_percent: share(sample.ok(), sample.due()).map(|share| share * 100.0),
        failed: sample.failed(),
        per_second: Spread {
            median: sample.value(Metric::Rate).map(|rate| rate.value),
            min,
            max,
        },
        latency_us: latency(sample),
        server_cpu_us: sample.value(Metric::ServerCpu).map(|cpu| cpu.value),
        server_pss_mb: sample
            .value(Metric::ServerMemory)
            .map(|memory| memory.value),
        values: values(sample),
        warnings: remarks(sample.warnings()),
        not_measured: remarks(sample.failures()),
        published: published
            .iter()
            .filter(|one| points::is_published_for(one, point.test, point.axes))
            .collect(),
    }
}

fn latency(sample: &Sample<'_>) -> Option<Latency> {
    let at = |quantile| sample.latency.quantile(quantile);
    (sample.latency.total() > 0).then(|| Latency {
        count: sample.latency.total(),
        mean: sample.value(Metric::Mean).map(|mean| mean.value),
        min: at(0.0),
        p25: at(0.25),
        p50: at(0.5),
        p75: at(0.75),
        p90: at(0.9),
        p99: at(0.99),
        max: at(1.0),
        iqr: sample.latency.interquartile_range(),
        median_of_each: sample.of_each(Metric::Median),
    })
}

/// Medians over repetitions of what else was observed.
fn values<'a>(sample: &Sample<'a>) -> BTreeMap<&'a str, f64> {
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in sample.measured.iter().flat_map(|one| &one.values) {
        all.entry(name).or_default().push(*value);
    }
    all.into_iter()
        .filter_map(|(name, values)| Some((name, median(values)?)))
        .collect()
}

fn remarks(remarks: Vec<(u32, &str)>) -> Vec<Remark<'_>> {
    remarks
        .into_iter()
        .map(|(repetition, text)| Remark { repetition, text })
        .collect()
}
