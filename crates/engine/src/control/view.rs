//! The node and its functions as people see them.

use std::time::Duration;

use mote_core::memory::MemoryBudget;
use mote_core::registry::FunctionRecord;
use mote_core::runtime::Warm;

use crate::plan::Plan;
use crate::pool::group::{Group, GroupView};

/// A function as people see it.
#[derive(Clone, Debug)]
pub struct FunctionView {
    /// Versions and which one is live.
    pub record: FunctionRecord,
    /// What its code turned out to be; `broken` when it could not be brought back after a restart.
    pub shape: &'static str,
    /// Calls that run.
    pub in_flight: u32,
    /// Calls that wait.
    pub waiting: u32,
    /// Whether it is in memory.
    pub loaded: bool,
    /// Its instances outside of the node, if it is of that kind.
    pub group: Option<GroupView>,
    /// What keeps it apart, in one line.
    pub isolation: String,
    /// Calls since the node started.
    pub calls: u64,
    /// Those that did not end with `ok`.
    pub failures: u64,
}

/// The node as people see it.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Whether every function is back and the doors are open.
    pub ready: bool,
    /// Whether the node is about to stop.
    pub draining: bool,
    /// Functions deployed.
    pub functions: usize,
    /// Calls that run.
    pub in_flight: u32,
    /// Calls that wait.
    pub waiting: u32,
    /// Calls since the node started.
    pub calls: u64,
    /// Since the node started.
    pub uptime: Duration,
    /// The mark of this node in call ids.
    pub node: u32,
    /// Bytes that instances may reserve, and have.
    pub memory: MemoryBudget,
    /// Instances that wait for the code of a function.
    pub warm: Warm,
}

/// A function as it is remembered, with what the plan knows of it.
pub(super) fn view(record: FunctionRecord, plan: &Plan) -> FunctionView {
    let Some(entry) = plan.resolve(record.name.full()) else {
        return FunctionView {
            record,
            shape: "broken",
            in_flight: 0,
            waiting: 0,
            loaded: false,
            group: None,
            isolation: String::new(),
            calls: 0,
            failures: 0,
        };
    };
    FunctionView {
        record,
        shape: entry.shape,
        in_flight: entry.gate.in_flight(),
        waiting: entry.gate.waiting(),
        loaded: entry.pool.loaded_bytes().is_some(),
        group: entry.pool.group().map(Group::view),
        isolation: entry.isolation.clone(),
        calls: entry.state.counters.total(),
        failures: entry.state.counters.failures(),
    }
}
