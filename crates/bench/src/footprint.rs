//! What a process and all its descendants cost: processor time and proportional memory, as the kernel counts them.
//!
//! Requests per second say little when client and server share a machine; the server's own processor time per request
//! is what a small board pays. The tree is read afresh at each sample, so helpers that a server starts count as well.
//! A descendant that ended is counted through its parent, which waited for it; one that was adopted by another process is lost.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result};

/// One sample of a process tree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Footprint {
    /// User and system time since the processes started. The kernel counts in ticks, usually of 10 ms.
    pub cpu: Duration,
    /// Proportional set size: private memory plus a fair share of what is shared; `None` when the kernel refuses it.
    pub pss_bytes: Option<u64>,
    /// Processes in the tree.
    pub processes: usize,
}

impl Footprint {
    /// Samples the process `pid` and everything below it.
    pub fn of(pid: u32) -> Result<Self> {
        let table = process_table();
        let root = table.get(&pid).with_context(|| {
            format!("process {pid} is not running, give the id of the server's process")
        })?;
        let mut ticks = root.ticks;
        let mut tree = vec![pid];
        let mut visited = 0;
        while let Some(&parent) = tree.get(visited) {
            visited += 1;
            for (&child, entry) in &table {
                // A pid can be reused between two reads, so a loop in the parent links is possible.
                if entry.parent == parent && !tree.contains(&child) {
                    tree.push(child);
                    ticks += entry.ticks;
                }
            }
        }
        let hertz = rustix::param::clock_ticks_per_second().max(1);
        Ok(Self {
            cpu: Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / hertz)),
            // A kernel that does not count it at all shows nothing for any of them.
            pss_bytes: tree
                .iter()
                .map(|&pid| pss_bytes(pid))
                .sum::<Option<u64>>()
                .filter(|&bytes| bytes > 0),
            processes: tree.len(),
        })
    }
}

/// Memory of one process, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All that is in memory, whoever else has it too.
    pub resident_bytes: u64,
    /// What no file has.
    pub anonymous_bytes: u64,
}

impl Memory {
    /// Of the process `pid`, when the kernel says.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        Some(Self {
            resident_bytes: rollup(&text, "Rss:")?,
            anonymous_bytes: rollup(&text, "Anonymous:")?,
        })
    }
}

struct Entry {
    parent: u32,
    ticks: u64,
}

fn process_table() -> HashMap<u32, Entry> {
    let mut table = HashMap::new();
    let Ok(folder) = fs::read_dir("/proc") else {
        return table;
    };
    for item in folder.flatten() {
        let Some(pid) = item.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between the listing and the read.
        let Ok(stat) = fs::read_to_string(item.path().join("stat")) else {
            continue;
        };
        if let Some(entry) = parse_stat(&stat) {
            table.insert(pid, entry);
        }
    }
    table
}

/// The fields of `/proc/PID/stat` after the command, which is in brackets and may itself hold brackets and spaces (proc_pid_stat(5)).
fn parse_stat(stat: &str) -> Option<Entry> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // Field 3 of the manual is the first here; 14 to 17 are utime, stime, cutime and cstime.
    let ticks = fields
        .get(11..15)?
        .iter()
        .map(|field| field.parse::<u64>().ok())
        .sum::<Option<u64>>()?;
    Some(Entry {
        parent: fields.get(1)?.parse().ok()?,
        ticks,
    })
}

/// `None` when the kernel refuses to say; a process that has ended since it was listed holds nothing.
fn pss_bytes(pid: u32) -> Option<u64> {
    let text = match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        Err(_) => return Some(0),
    };
    if !text.contains("Pss:") {
        return Some(0);
    }
    rollup(&text, "Pss:")
}

/// A line of `smaps_rollup`, in bytes.
fn rollup(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_command_with_brackets_and_spaces() {
        let stat = "42 (a ) b) c) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5 6";
        let entry = parse_stat(stat).unwrap();
        assert_eq!((entry.parent, entry.ticks), (7, 100));
        assert!(parse_stat("42 (short) S 7").is_none());
    }

    #[test]
    fn counts_children_and_refuses_a_missing_process() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let footprint = Footprint::of(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(footprint.processes >= 2);
        assert!(footprint.pss_bytes.unwrap() > 0);
        assert!(Footprint::of(u32::MAX).is_err());
    }
}
