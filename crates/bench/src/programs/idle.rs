//! What functions cost that nobody calls: the memory of a node with ten of them, scaled to zero, beside an empty one.

use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::rounds::one_call;
use super::stage::{IMAGE, PROGRAM, Stage, Staged};
use super::table::{Beside, Row, Rows};
use crate::compare::Limit;
use crate::footprint::Footprint;

const FUNCTIONS: usize = 10;
const MORE_MAX: f64 = 1.05;

pub(super) fn ten_functions(stage: &Stage, rows: &mut Rows<'_>) -> Result<()> {
    // Each node runs a copy of its own: what two processes share counts half for each of them.
    let folder = TempDir::new()?;
    let copies = ["empty", "full"].map(|name| folder.path().join(name));
    for copy in &copies {
        fs::copy(&stage.mote, copy)?;
    }
    let [empty, full] = &copies;
    let empty = Staged::up(empty, empty, &[])?;
    let full = Staged::up(full, full, &[])?;
    let names: Vec<String> = (0..FUNCTIONS)
        .map(|number| format!("idle{number}"))
        .collect();
    for (number, name) in names.iter().enumerate() {
        stage.deploy(&full, &manifest(number, name))?;
    }
    for (number, name) in names.iter().enumerate() {
        let function = format!("{name}.app{number}");
        one_call(&full.target(&function)).with_context(|| format!("calling {function}"))?;
    }
    for (number, name) in names.iter().enumerate() {
        let function = format!("{name}.app{number}");
        full.wait(&function, "cold", super::stage::Instances::is_zero)?;
    }
    thread::sleep(Duration::from_secs(stage.settings.idle));

    let (ours, beside) = (Memory::of(&full)?, Memory::of(&empty)?);
    rows.add(
        Row::measured(
            format!(
                "{FUNCTIONS} functions of {FUNCTIONS} apps, scaled to zero and idle for {} s",
                stage.settings.idle
            ),
            "PSS MB",
            (ours.total, Beside::Ratio(beside.total)),
            Limit::AtMost(MORE_MAX),
        )
        .note(format!("the node's memory is {ours}, the empty one's {beside}"))
        .note("four of the functions are `http`, three `stdio` of a static binary, two Python, one an image; each was called once"),
    )
}

/// A function in an app of its own, so that each has a sandbox of its own.
fn manifest(number: usize, name: &str) -> String {
    let what = match number {
        0..=3 => format!("source = \"{PROGRAM}\"\ncontract = \"http\""),
        4..=6 => format!("source = \"{PROGRAM}\"\ncontract = \"stdio\""),
        7 | 8 => "source = \"python\"".to_owned(),
        _ => format!("image = \"{IMAGE}\"\ncontract = \"http\""),
    };
    let mut manifest = format!("app = \"app{number}\"\n[function.{name}]\nruntime = \"process\"\n");
    // Writing to a string cannot fail.
    let _written = writeln!(manifest, "{what}\nscale = {{ idle = \"1s\" }}");
    manifest
}

/// Proportional memory of a node and all that it started.
struct Memory {
    total: f64,
    processes: usize,
    /// Of the node itself, what is not a file's.
    anonymous: f64,
}

impl Memory {
    fn of(staged: &Staged) -> Result<Self> {
        let footprint = Footprint::of(staged.pid())?;
        let bytes = footprint
            .pss_bytes
            .context("the kernel shows no proportional memory of the node")?;
        let smaps = fs::read_to_string(format!("/proc/{}/smaps_rollup", staged.pid()))?;
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        Ok(Self {
            total: megabytes(bytes),
            processes: footprint.processes,
            anonymous: kib(&smaps, "Pss_Anon:").map_or(f64::NAN, |kib| megabytes(kib * 1024)),
        })
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.processes == 1 { "" } else { "es" };
        write!(
            f,
            "{:.2} MB in {} process{plural}, of which {:.2} MB are no file's",
            self.total, self.processes, self.anonymous
        )
    }
}

/// A value of `smaps_rollup`.
fn kib(smaps: &str, key: &str) -> Option<u64> {
    let line = smaps.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_no_files() {
        let smaps = "Rss: 9 kB\nPss:  8 kB\nPss_Anon:     7 kB\n";
        assert_eq!(kib(smaps, "Pss_Anon:"), Some(7));
        assert_eq!(kib(smaps, "Pss_Shmem:"), None);
    }

    #[test]
    fn every_function_has_its_app() {
        let apps: std::collections::BTreeSet<String> = (0..FUNCTIONS)
            .map(|number| manifest(number, "x").lines().take(1).collect())
            .collect();
        assert_eq!(apps.len(), FUNCTIONS);
    }
}
