//! The report of an experiment: tables for programs and one page for people, made of the runs that were stored.
//!
//! [`write()`] leaves four files in the folder of the results. `runs.csv` has a row for each run, `latencies.csv` every
//! latency with its count, `report.json` what was found at each point of the matrix, and `report.html` is the page: it
//! needs no script and nothing from outside, so it can be mailed, archived and printed.
//! [`comparison`] holds two reports against each other and says of each point whether a difference is more than noise.
//!
//! Everything here is a function of the runs and the seed: the same results give the same files, byte for byte.
//! How large the page may grow is bounded, whatever the experiment; what was left out is said on it.

mod files;

mod csv;
mod json;
mod page;

mod chart;
mod figure;
mod matrix;
mod papers;
mod units;

pub mod comparison;

mod points;
mod sample;
pub mod statistics;

use std::path::Path;

use anyhow::Result;

use crate::results::{Figure, Published, Run};

/// All that a report is made of.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// Short name of the experiment, such as `benchfaas`.
    pub name: String,
    /// Heading of the page.
    pub title: String,
    /// What was measured and why, in a few sentences; an empty line begins a new paragraph.
    pub about: String,
    /// The paper whose experiment this is, empty if none.
    pub source: String,
    /// Of everything that was drawn by chance.
    pub seed: u64,
    /// Whether the runs were cut short to try the experiment out.
    pub quick: bool,
    /// The axes of the matrix and their values, in the order of the file.
    pub axes: Vec<(String, Vec<String>)>,
    /// The tests, in the order of the file.
    pub tests: Vec<String>,
    /// What to draw, in this order.
    pub figures: Vec<Figure>,
    /// What the paper found.
    pub published: Vec<Published>,
    /// What was measured.
    pub runs: Vec<Run>,
    /// Runs that were not done yet.
    pub missing: usize,
    /// What else a reader must know, one sentence each.
    pub notes: Vec<String>,
}

/// Writes the files of the report into `folder`, which exists.
///
/// All are written before the first replaces an earlier one, so a full disk leaves those that were there.
pub fn write(material: &Material, folder: &Path) -> Result<()> {
    let staged = [
        files::stage(folder, "runs.csv", |file| csv::runs(material, file))?,
        files::stage(folder, "latencies.csv", |file| {
            csv::latencies(material, file)
        })?,
        files::stage(folder, "report.json", |file| json::report(material, file))?,
        files::stage(folder, "report.html", |file| {
            Ok(file.write_all(page::html(material).as_bytes())?)
        })?,
    ];
    for file in staged {
        file.publish()?;
    }
    Ok(())
}

impl Material {
    /// Names of all axes: those of the file in its order, then others that runs have.
    fn axis_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.axes.iter().map(|(name, _)| name.as_str()).collect();
        let others: std::collections::BTreeSet<&str> = self
            .runs
            .iter()
            .flat_map(|run| run.axes.keys().map(String::as_str))
            .collect();
        let others: Vec<&str> = others
            .into_iter()
            .filter(|name| !names.contains(name))
            .collect();
        names.extend(others);
        names
    }
}
