//! One line for each language.

use std::fmt;

use serde::Serialize;

use crate::environment::Environment;

/// What was found of one language.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Its name.
    pub language: String,
    /// From `mote new` to the first answer, everything installed.
    pub seconds: f64,
    /// The compiler's own part of that.
    pub compiler_seconds: f64,
    /// The component.
    pub component_bytes: u64,
    /// What the node compiles of it and keeps on its disk.
    pub image_bytes: u64,
    /// Sending and compiling it.
    pub deploy_seconds: f64,
    /// The first call after the node was started again.
    pub first_call_ms: f64,
    /// Median of calls one after the other.
    pub warm_call_us: f64,
    /// Memory of the node beyond an empty one, proportional, after these calls.
    pub pss_mb: f64,
    /// Requests per second of 64 connections, with a fresh store for each call.
    pub fresh_per_second: f64,
    /// Processor time of the node for each of them.
    pub fresh_cpu_us: f64,
    /// The same with stores that are kept for many calls.
    pub reuse_per_second: f64,
    /// Processor time of the node for each of them.
    pub reuse_cpu_us: f64,
    /// Limit of `seconds`.
    pub seconds_max: Option<f64>,
    /// Limit of the rate with fresh stores, as a ratio to Rust's.
    pub fresh_min: Option<f64>,
    /// Limit of the rate with kept stores, as a ratio to Rust's with kept ones.
    pub reuse_min: Option<f64>,
}

/// All languages, and where they were measured.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// Rust first.
    pub rows: Vec<Row>,
    /// Where and how to repeat it.
    pub environment: Environment,
}

impl Table {
    /// Each promise, in words, and whether it is kept.
    #[must_use]
    pub fn promises(&self) -> Vec<(String, bool)> {
        let Some(rust) = self.rows.first() else {
            return Vec::new();
        };
        let mut promises = Vec::new();
        for row in &self.rows {
            if let Some(max) = row.seconds_max {
                let text = format!(
                    "{}: first answer after {:.1} s, at most {max} s",
                    row.language, row.seconds
                );
                promises.push((text, row.seconds <= max));
            }
            let rates = [
                (
                    "fresh",
                    row.fresh_min,
                    row.fresh_per_second / rust.fresh_per_second,
                ),
                (
                    "reuse",
                    row.reuse_min,
                    row.reuse_per_second / rust.reuse_per_second,
                ),
            ];
            for (what, min, ratio) in rates {
                if let Some(min) = min {
                    let text = format!(
                        "{} {what}: {ratio:.2} of Rust's rate, at least {min}",
                        row.language
                    );
                    promises.push((text, ratio >= min));
                }
            }
        }
        promises
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| language | first answer (compiler) | component | image | deploy | first call | warm call | memory | fresh | CPU | reuse | CPU |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for row in &self.rows {
            #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
            let kb = |bytes: u64| bytes as f64 / 1e3;
            writeln!(
                f,
                "| {} | {:.1} s ({:.1}) | {:.0} KB | {:.0} KB | {:.2} s | {:.2} ms | {:.0} µs | {:.1} MB | {:.0}/s | {:.0} µs | {:.0}/s | {:.0} µs |",
                row.language,
                row.seconds,
                row.compiler_seconds,
                kb(row.component_bytes),
                kb(row.image_bytes),
                row.deploy_seconds,
                row.first_call_ms,
                row.warm_call_us,
                row.pss_mb,
                row.fresh_per_second,
                row.fresh_cpu_us,
                row.reuse_per_second,
                row.reuse_cpu_us
            )?;
        }
        for (text, kept) in self.promises() {
            writeln!(f, "{} {text}", if kept { "ok    " } else { "BROKEN" })?;
        }
        writeln!(f, "{}", self.environment)
    }
}
