//! Runs put together: what is known about one point, one curve or one cell.
//!
//! Latencies of all runs are pooled; rates, processor time, memory and instances are the median over the runs; success is the
//! share of all operations. The mean is that of the run whose mean is the median one, as the tinyFaaS thesis does it.

use std::collections::BTreeMap;

use super::statistics::{Histogram, count, median, median_index, range};
use crate::results::{Measured, Metric, Run};

/// Some runs, and what they measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample<'a> {
    /// All of them, those that failed too.
    pub(super) runs: Vec<&'a Run>,
    /// Those that measured something.
    pub(super) measured: Vec<&'a Measured>,
    /// Latencies of all of these, in microseconds.
    pub(super) latency: Histogram,
}

/// A number of a sample, in the unit of the stored runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Value {
    pub(super) value: f64,
    /// The interquartile range, of the metric that has it.
    pub(super) iqr: Option<f64>,
}

impl<'a> Sample<'a> {
    pub(super) fn new(runs: Vec<&'a Run>) -> Self {
        let measured: Vec<&Measured> = runs
            .iter()
            .filter_map(|run| run.measured.as_ref())
            .collect();
        let latency = Histogram::merged(measured.iter().map(|one| one.latency.as_slice()));
        Self {
            runs,
            measured,
            latency,
        }
    }

    /// The number of a metric, or nothing when it was not measured.
    pub(super) fn value(&self, metric: Metric) -> Option<Value> {
        let value = match metric {
            Metric::MedianIqr | Metric::Median => self.latency.quantile(0.5),
            Metric::P99 => self.latency.quantile(0.99),
            Metric::Mean => {
                let means = self.of_each(Metric::Mean);
                median_index(&means).map(|index| means[index])
            }
            Metric::Success => share(self.ok(), self.due()).map(|share| share * 100.0),
            Metric::Rate
            | Metric::ServerCpu
            | Metric::ServerMemory
            | Metric::InstancesMax
            | Metric::InstancesMean => median(self.of_each(metric)),
        }?;
        let iqr = match metric {
            Metric::MedianIqr => self.latency.interquartile_range(),
            _ => None,
        };
        value.is_finite().then_some(Value { value, iqr })
    }

    /// The number of each run that has it.
    pub(super) fn of_each(&self, metric: Metric) -> Vec<f64> {
        let number = |one: &Measured| match metric {
            Metric::MedianIqr | Metric::Median => Histogram::new(&one.latency).quantile(0.5),
            Metric::P99 => Histogram::new(&one.latency).quantile(0.99),
            Metric::Mean => Histogram::new(&one.latency).mean(),
            Metric::Rate => Some(one.per_second),
            Metric::Success => share(one.ok, one.due).map(|share| share * 100.0),
            Metric::ServerCpu => one.server_cpu_us,
            Metric::ServerMemory => one.server_pss_mb,
            Metric::InstancesMax => one.values.get("instances_max").copied(),
            Metric::InstancesMean => one.values.get("instances_mean").copied(),
        };
        self.measured
            .iter()
            .filter_map(|one| number(one))
            .filter(|number| number.is_finite())
            .collect()
    }

    /// The smallest and the largest number of a run, when there are several.
    pub(super) fn spread(&self, metric: Metric) -> Option<(f64, f64)> {
        let each = self.of_each(metric);
        (each.len() > 1).then(|| range(each)).flatten()
    }

    pub(super) fn ok(&self) -> u64 {
        self.measured.iter().map(|one| one.ok).sum()
    }

    pub(super) fn due(&self) -> u64 {
        self.measured.iter().map(|one| one.due).sum()
    }

    /// Failed operations by reason.
    pub(super) fn failed(&self) -> BTreeMap<&'a str, u64> {
        let mut failed = BTreeMap::new();
        for (reason, times) in self.measured.iter().flat_map(|one| &one.failed) {
            *failed.entry(reason.as_str()).or_insert(0) += times;
        }
        failed
    }

    /// Warnings of the runs, with the repetition that has them.
    pub(super) fn warnings(&self) -> Vec<(u32, &'a str)> {
        let mut warnings = Vec::new();
        for run in &self.runs {
            for warning in run.measured.iter().flat_map(|one| &one.warnings) {
                warnings.push((run.repetition, warning.as_str()));
            }
        }
        warnings
    }

    /// Whether any run has a warning.
    pub(super) fn is_doubtful(&self) -> bool {
        self.measured.iter().any(|one| !one.warnings.is_empty())
    }

    /// Runs that measured nothing: the repetition, and why.
    pub(super) fn failures(&self) -> Vec<(u32, &'a str)> {
        self.runs
            .iter()
            .filter(|run| run.measured.is_none())
            .map(|run| {
                let why = run.failure.as_deref().unwrap_or("no reason was given");
                (run.repetition, why)
            })
            .collect()
    }
}

/// The part of a whole that is there.
pub(super) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| count(part) / count(whole))
}
