//! The files of a report, as other programs read them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they are")]

use std::path::Path;

use mote_bench::report::{self, Material};
use serde_json::Value;

#[path = "report/comparison.rs"]
mod comparison;
#[path = "report/example.rs"]
mod example;
#[path = "report/html.rs"]
mod html;
#[path = "report/instances.rs"]
mod instances;
#[path = "report/stamps.rs"]
mod stamps;

/// The text of the files of the report: runs, latencies, JSON.
fn written(material: &Material) -> (String, String, Value) {
    let folder = tempfile::tempdir().unwrap();
    report::write(material, folder.path()).unwrap();
    let text = |name: &str| read(&folder.path().join(name));
    (
        text("runs.csv"),
        text("latencies.csv"),
        serde_json::from_str(&text("report.json")).unwrap(),
    )
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Rows of a table by name of column; good enough for tables without quotes.
fn rows(table: &str) -> Vec<std::collections::HashMap<&str, &str>> {
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            assert_eq!(cells.len(), header.len(), "{line}");
            header.iter().copied().zip(cells).collect()
        })
        .collect()
}

#[test]
fn the_tables_have_a_row_for_each_run_and_each_latency() {
    let mut material = example::material();
    material.runs.truncate(1);
    let (runs, latencies, _) = written(&material);
    let run = &rows(&runs)[0];
    assert_eq!(
        (run["test"], run["network"], run["system"]),
        ("overhead", "loc", "mote")
    );
    assert_eq!((run["due"], run["ok"], run["failed"]), ("100", "100", "0"));
    assert_eq!(run["clients"], "", "the test has no such axis");
    let median: f64 = run["p50_us"].parse().unwrap();
    assert!((300.0..500.0).contains(&median));
    let counts = rows(&latencies);
    let sum: u64 = counts
        .iter()
        .map(|row| row["count"].parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 100);
}

#[test]
fn hostile_text_stays_in_its_cell() {
    let mut material = example::material();
    material.runs.truncate(1);
    material.axes = vec![("ok".to_owned(), vec!["a\"b,\r\nc".to_owned()])];
    material.runs[0].axes = [("ok".to_owned(), "a\"b,\r\nc".to_owned())].into();
    material.runs[0].environment.command.clear();
    let (runs, _, json) = written(&material);
    assert!(runs.starts_with("test,axis.ok,repetition,"));
    assert!(runs.contains("overhead,\"a\"\"b,\r\nc\",1,"));
    assert_eq!(json["points"][0]["axes"]["ok"], "a\"b,\r\nc");
}

#[test]
fn the_summary_has_each_point_once_with_the_papers_number_beside_it() {
    let (_, _, json) = written(&example::material());
    let points = json["points"].as_array().unwrap();
    let first = &points[0];
    assert_eq!(first["test"], "overhead");
    assert_eq!(first["axes"]["network"], "loc");
    assert_eq!(first["repetitions"], 5);
    assert_eq!(first["due"], 500);
    assert_eq!(first["success_percent"], 100.0);
    let median = first["latency_us"]["p50"].as_f64().unwrap();
    assert!((350.0..450.0).contains(&median));
    let of: Vec<&str> = first["published"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["of"].as_str().unwrap())
        .collect();
    assert_eq!(of, ["rpi.metal", "vm.large"]);
    let failed = points
        .iter()
        .find(|point| {
            point["axes"]["network"] == "etyp" && point["axes"]["system"] == "bare program"
        })
        .unwrap();
    assert_eq!(failed["repetitions"], 0);
    assert!(failed["latency_us"].is_null());
    assert_eq!(failed["not_measured"].as_array().unwrap().len(), 5);
}

#[test]
fn nothing_measured_is_a_report_too() {
    let (runs, latencies, json) = written(&Material::default());
    assert_eq!(runs.lines().count(), 1);
    assert_eq!(latencies.lines().count(), 1);
    assert_eq!(json["points"].as_array().unwrap().len(), 0);
}
