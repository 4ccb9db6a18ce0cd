//! The runs as tables for any program: RFC 4180, one header line, numbers with a point.
//!
//! A number that was not measured is an empty cell. Names of units stand at the end of the names of columns.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;

use super::Material;
use super::sample::share;
use super::statistics::Histogram;
use crate::environment::{Platform, System};
use crate::results::Run;

/// Columns of the latencies of a run, and their quantiles.
const QUANTILES: [(&str, f64); 7] = [
    ("min_us", 0.0),
    ("p25_us", 0.25),
    ("p50_us", 0.5),
    ("p75_us", 0.75),
    ("p90_us", 0.9),
    ("p99_us", 0.99),
    ("max_us", 1.0),
];

/// One row for each run.
pub(super) fn runs(material: &Material, file: &mut dyn Write) -> Result<()> {
    let axes = material.axis_names();
    let values: BTreeSet<&str> = material
        .runs
        .iter()
        .filter_map(|run| run.measured.as_ref())
        .flat_map(|measured| measured.values.keys().map(String::as_str))
        .collect();
    let mut header = point_header(&axes);
    header.extend(
        [
            "seconds",
            "due",
            "ok",
            "failed",
            "success_percent",
            "per_second",
            "mean_us",
        ]
        .map(str::to_owned),
    );
    header.extend(QUANTILES.map(|(name, _)| name.to_owned()));
    header.extend(["iqr_us", "server_cpu_us", "server_pss_mb"].map(str::to_owned));
    header.extend(values.iter().map(|name| format!("value.{name}")));
    header.extend(
        [
            "failed_by",
            "warnings",
            "failure",
            "kernel",
            "cpu",
            "cores",
            "load_average",
            "version",
            "unix_seconds",
            "command",
            "network_kind",
            "platform_name",
            "program_blake3",
            "platform_kernel",
            "platform_cpu",
            "platform_cores",
            "platform_load_average",
        ]
        .map(str::to_owned),
    );
    line(file, &header)?;
    for run in &material.runs {
        let mut row = point(run, &axes);
        row.extend(numbers(run, &values));
        row.extend(words(run));
        debug_assert_eq!(row.len(), header.len(), "each column has its cell");
        line(file, &row)?;
    }
    Ok(())
}

/// One row for each latency of each run, with how many operations had it.
pub(super) fn latencies(material: &Material, file: &mut dyn Write) -> Result<()> {
    let axes = material.axis_names();
    let mut header = point_header(&axes);
    header.extend(["latency_us", "count"].map(str::to_owned));
    line(file, &header)?;
    for run in &material.runs {
        let start = point(run, &axes);
        for (latency, count) in run.measured.iter().flat_map(|measured| &measured.latency) {
            let mut row = start.clone();
            row.extend([latency.to_string(), count.to_string()]);
            line(file, &row)?;
        }
    }
    Ok(())
}

/// An axis that is called as a column of ours is gets a mark, so that no two columns have one name.
fn point_header(axes: &[&str]) -> Vec<String> {
    const OURS: [&str; 37] = [
        "test",
        "repetition",
        "latency_us",
        "count",
        "seconds",
        "due",
        "ok",
        "failed",
        "success_percent",
        "per_second",
        "mean_us",
        "min_us",
        "p25_us",
        "p50_us",
        "p75_us",
        "p90_us",
        "p99_us",
        "max_us",
        "iqr_us",
        "server_cpu_us",
        "server_pss_mb",
        "failed_by",
        "warnings",
        "failure",
        "kernel",
        "cpu",
        "cores",
        "load_average",
        "version",
        "command",
        "network_kind",
        "platform_name",
        "program_blake3",
        "platform_kernel",
        "platform_cpu",
        "platform_cores",
        "platform_load_average",
    ];
    let mut header = vec!["test".to_owned()];
    for axis in axes {
        let ours = OURS.contains(axis) || axis.starts_with("value.");
        header.push(if ours {
            format!("axis.{axis}")
        } else {
            (*axis).to_owned()
        });
    }
    header.push("repetition".to_owned());
    header
}

fn point(run: &Run, axes: &[&str]) -> Vec<String> {
    let mut row = vec![run.test.clone()];
    row.extend(
        axes.iter()
            .map(|axis| run.axes.get(*axis).cloned().unwrap_or_default()),
    );
    row.push(run.repetition.to_string());
    row
}

fn numbers(run: &Run, values: &BTreeSet<&str>) -> Vec<String> {
    let Some(measured) = &run.measured else {
        return vec![String::new(); 10 + QUANTILES.len() + values.len()];
    };
    let latency = Histogram::new(&measured.latency);
    let failed: u64 = measured.failed.values().sum();
    let success = share(measured.ok, measured.due).map(|share| share * 100.0);
    let mut row = vec![
        measured.seconds.to_string(),
        measured.due.to_string(),
        measured.ok.to_string(),
        failed.to_string(),
        cell(success),
        measured.per_second.to_string(),
        cell(latency.mean()),
    ];
    row.extend(QUANTILES.map(|(_, quantile)| cell(latency.quantile(quantile))));
    row.push(cell(latency.interquartile_range()));
    row.push(cell(measured.server_cpu_us));
    row.push(cell(measured.server_pss_mb));
    row.extend(
        values
            .iter()
            .map(|name| cell(measured.values.get(*name).copied())),
    );
    row
}

fn words(run: &Run) -> [String; 17] {
    let measured = run.measured.as_ref();
    let failed_by: Vec<String> = measured
        .iter()
        .flat_map(|measured| &measured.failed)
        .map(|(reason, count)| format!("{reason}: {count}"))
        .collect();
    let warnings: &[String] = measured.map_or(&[], |measured| &measured.warnings);
    let environment = &run.environment;
    let platform = environment.platform.as_ref();
    let of_platform =
        |part: fn(&Platform) -> Option<String>| platform.and_then(part).unwrap_or_default();
    let system = platform.and_then(|platform| platform.system.as_ref());
    let of_system = |part: fn(&System) -> String| system.map(part).unwrap_or_default();
    [
        failed_by.join("; "),
        warnings.join("; "),
        run.failure.clone().unwrap_or_default(),
        environment.system.kernel.clone(),
        environment.system.cpu.clone(),
        environment.system.cores.to_string(),
        environment.system.load_average.to_string(),
        environment.version.clone(),
        environment.unix_seconds.to_string(),
        environment.command.clone(),
        environment.network.clone().unwrap_or_default(),
        of_platform(|platform| Some(platform.name.clone())),
        of_platform(|platform| platform.program.clone()),
        of_system(|system| system.kernel.clone()),
        of_system(|system| system.cpu.clone()),
        of_system(|system| system.cores.to_string()),
        of_system(|system| system.load_average.to_string()),
    ]
}

fn cell(number: Option<f64>) -> String {
    number.map_or(String::new(), |number| number.to_string())
}

fn line(file: &mut dyn Write, cells: &[String]) -> Result<()> {
    let quoted: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
    write!(file, "{}\r\n", quoted.join(","))?;
    Ok(())
}

/// RFC 4180 §2, rules 6 and 7.
fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}
