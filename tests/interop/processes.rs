//! What runs below a node: its children, theirs, and so on, in whatever namespaces they are.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::fs;

use mote_tests::node::Node;
use mote_tests::source::skipped;

/// A process: its number, which comes back, and the time at which it began, which does not.
pub(crate) type Process = (u32, String);

/// Every process below this one, and its command line.
pub(crate) fn below(pid: u32) -> BTreeMap<Process, String> {
    let mut all = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let Ok(child) = child.parse() else { continue };
            if let Some(began) = began(child) {
                let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                all.insert((child, began), line);
            }
            all.extend(below(child));
        }
    }
    all
}

/// Whether a process is still there, also as one that has ended and was not waited for.
pub(crate) fn is_there((pid, began): &Process) -> bool {
    self::began(*pid).as_ref() == Some(began)
}

/// When a process began, in ticks of the kernel (proc_pid_stat(5), field 22).
fn began(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19).map(str::to_owned)
}

/// Whether programs see their code at `/app`, and end together with the first of them; otherwise says
/// that they do not, for tests that depend on it.
#[track_caller]
pub(crate) fn sandboxed(node: &Node) -> bool {
    let tier = node.status_field("isolation")["process"].to_string();
    let layers = ["private root", "pid namespace"];
    let missing = layers.iter().find(|layer| tier.contains(**layer));
    if let Some(layer) = missing {
        skipped(&format!("programs have no {layer} here: {tier}"));
    }
    missing.is_none()
}
