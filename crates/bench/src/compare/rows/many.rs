//! What many functions cost that nobody calls: each of them memory, and the one that is called time.

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Bench, Found, Node, hello, median, resting_pss_mb};
use crate::footprint::Memory;

/// How many are a thousand, and ten.
const IDLE_FUNCTIONS: usize = 1000;
/// With the one that is called.
const MANY_FUNCTIONS: usize = 9_999;
/// So many functions in a manifest that none is longer than a person would write.
const FUNCTIONS_OF_AN_APP: usize = 100;

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// All that is in memory.
    Resident,
    /// What no file has, and the kernel cannot take back.
    Anonymous,
}

impl Bench {
    pub(super) fn memory_of_idle_functions(&self) -> Result<Found> {
        let (data, node) = self.node_with_hello(&[])?;
        hello(&node.server, &node.http, "hello").once()?;
        let before = resting_pss_mb(node.server.pid())?;
        self.deploy_idle(&data, IDLE_FUNCTIONS)?;
        let after = resting_pss_mb(node.server.pid())?;
        Ok(Found::Value(after - before, Vec::new()))
    }

    pub(super) fn memory_of_one_among_many(&self, kind: Kind) -> Result<Found> {
        let (data, node) = self.node_with_hello(&[])?;
        hello(&node.server, &node.http, "hello").once()?;
        let before = memory(&node, kind)?;
        self.deploy_idle(&data, MANY_FUNCTIONS)?;
        let after = memory(&node, kind)?;
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
        let each = (after as f64 - before as f64) / MANY_FUNCTIONS as f64 / 1e3;
        Ok(Found::Value(each, Vec::new()))
    }

    /// Both at half of the rate that the one alone can have.
    pub(super) fn p99_among_many(&self) -> Result<Found> {
        let (_alone_data, alone) = self.node_with_hello(&[])?;
        let (data, among) = self.node_with_hello(&[])?;
        self.deploy_idle(&data, MANY_FUNCTIONS)?;
        let sides = [&among, &alone].map(|node| hello(&node.server, &node.http, "hello"));
        let highest = sides[1].full(self.settings.duration)?.requests_per_second;
        let (mut values, mut notes) = ([Vec::new(), Vec::new()], Vec::new());
        for _ in 0..self.settings.rounds {
            for (side, values) in sides.iter().zip(&mut values) {
                let report = side.at_rate(self.settings.duration, highest / 2.0)?;
                values.push(report.latency_us.p99 / 1000.0);
                notes.extend(report.warnings);
            }
        }
        Ok(Found::Ratio(median(&values[0]), median(&values[1]), notes))
    }

    fn deploy_idle(&self, data: &TempDir, functions: usize) -> Result<()> {
        for app in 0..functions.div_ceil(FUNCTIONS_OF_AN_APP) {
            let left = functions - app * FUNCTIONS_OF_AN_APP;
            let names: Vec<String> = (0..left.min(FUNCTIONS_OF_AN_APP))
                .map(|number| format!("idle{number}"))
                .collect();
            let folder = self.functions(&format!("idle{app}"), &names, None, &self.hello_wasm())?;
            self.deploy(data, folder.path())?;
        }
        Ok(())
    }
}

/// Of a node at rest.
fn memory(node: &Node, kind: Kind) -> Result<u64> {
    let pid = node.server.pid();
    resting_pss_mb(pid)?;
    let memory = Memory::of(pid).context("the kernel shows no memory of the node")?;
    Ok(match kind {
        Kind::Resident => memory.resident_bytes,
        Kind::Anonymous => memory.anonymous_bytes,
    })
}
