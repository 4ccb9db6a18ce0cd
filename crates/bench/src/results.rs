//! What an experiment found, as it is kept: one folder, readable by any program, that the report is made of.
//!
//! `experiment.toml` is the file that was run, `runs.jsonl` has one line for each run, written as soon as the run has
//! ended, so that an experiment that was broken off has all results so far and can go on. Everything else in the
//! folder can be made again from these two.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::environment::Environment;

/// One repetition of one test at one point of the matrix.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// The test of the experiment file.
    pub test: String,
    /// Where in the matrix, such as `system = "mote"`, `clients = "16"`.
    pub axes: BTreeMap<String, String>,
    /// From 1.
    pub repetition: u32,
    /// What was measured, or nothing when it could not be.
    pub measured: Option<Measured>,
    /// Why nothing was measured.
    pub failure: Option<String>,
    /// Where and when, and the command that repeats it.
    pub environment: Environment,
}

/// What one run measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Length of the measured window.
    pub seconds: f64,
    /// Operations that were due; an operation is one request, or a chain of them.
    pub due: u64,
    /// Operations that were answered well and in time.
    pub ok: u64,
    /// The others by reason, such as `timeout`, `status 503`.
    pub failed: BTreeMap<String, u64>,
    /// Good operations per second.
    pub per_second: f64,
    /// Latency in microseconds and how many operations had it, ascending; resolution three digits. Good answers, and
    /// those that came too late with the time that was waited for them.
    pub latency: Vec<(f64, u64)>,
    /// Processor time of the system under test for each request, where it could be seen.
    pub server_cpu_us: Option<f64>,
    /// Its proportional memory at the end.
    pub server_pss_mb: Option<f64>,
    /// Why not to trust this run, one sentence each: the load generator fell behind, the machine was busy.
    pub warnings: Vec<String>,
    /// What else the test observed, such as `instances_max`.
    pub values: BTreeMap<String, f64>,
}

/// One figure or table of the report.
///
/// Runs of `test` within `only` are taken; there is one panel for each value of the axis `each`, and in a panel one
/// curve or group for each value of the axis `series`. Runs that differ in other axes, and repetitions, are put
/// together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// How it is drawn.
    pub kind: Kind,
    /// Heading.
    pub title: String,
    /// What to see in it, in a sentence.
    #[serde(default)]
    pub caption: String,
    /// The tests whose runs it shows, all when empty.
    #[serde(default)]
    pub tests: Vec<String>,
    /// Only runs at these values of axes.
    #[serde(default, deserialize_with = "texts")]
    pub only: BTreeMap<String, String>,
    /// Axis with a panel for each value.
    pub each: Option<String>,
    /// Axis with a curve, group or, in a table, column for each value.
    pub series: Option<String>,
    /// Axis along the bottom; of a table, axes of its rows. `test` is an axis too.
    #[serde(default)]
    pub x: Vec<String>,
    /// What is drawn upwards, or stands in a cell.
    #[serde(default)]
    pub y: Metric,
    /// Whether the latency axis is logarithmic.
    #[serde(default)]
    pub log: bool,
}

/// How a figure is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Share of operations that were faster, over latency.
    Cdf,
    /// One number of each point, over the axis `x`.
    Lines,
    /// Median, quartiles, whiskers of latency for each value of `x`.
    Box,
    /// Every operation as a dot, for each value of `x`.
    Strip,
    /// Numbers, with the paper's beside them where it has some.
    Table,
}

/// A number of a point of the matrix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Median and interquartile range of latency.
    #[default]
    MedianIqr,
    /// Mean latency, of the repetition with the median mean.
    Mean,
    /// Median latency.
    Median,
    /// 99th percentile of latency.
    P99,
    /// Good operations per second.
    Rate,
    /// Percent of operations that were answered well and in time.
    Success,
    /// Processor time of the system under test per request.
    ServerCpu,
    /// Proportional memory of the system under test.
    ServerMemory,
    /// Most instances of the function that the test observes.
    InstancesMax,
    /// Instances of it on average, over looks at them.
    InstancesMean,
}

/// A number that a paper has for a point of the matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The test of the experiment file.
    pub test: String,
    /// The point: every axis named here has this value, others may have any.
    #[serde(default, deserialize_with = "texts")]
    pub only: BTreeMap<String, String>,
    /// What was measured. Latencies are in milliseconds.
    pub metric: Metric,
    /// The number.
    pub value: f64,
    /// The second number of a metric that has two.
    pub iqr: Option<f64>,
    /// Whose, such as `rpi.metal` or `native, thesis`.
    #[serde(default)]
    pub of: String,
}

/// Values of axes as people write them, numbers among them.
pub(crate) fn texts<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Boolean(bool),
        Integer(i64),
        Float(f64),
        Text(String),
    }
    let values: BTreeMap<String, Value> = Deserialize::deserialize(from)?;
    let text = |value| match value {
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(value) => value,
    };
    Ok(values
        .into_iter()
        .map(|(axis, value)| (axis, text(value)))
        .collect())
}
