//! What was asked of the key-value data, and what became of it.

use std::sync::atomic::{AtomicU64, Ordering};

use mote_core::error::{Error, ErrorKind};

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Get,
    Set,
    Delete,
    Increment,
    Swap,
    List,
    Clear,
}

const OPERATIONS: [&str; 7] = ["get", "set", "delete", "increment", "swap", "list", "clear"];
/// The answers: good ones, and each kind of error.
const ANSWERS: usize = 1 + ErrorKind::ALL.len();

/// Counts since the node started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    answers: [[AtomicU64; ANSWERS]; OPERATIONS.len()],
    pub(super) over_quota: AtomicU64,
    pub(super) queue_full: AtomicU64,
    pub(super) disk_full: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) lost: AtomicU64,
}

/// What was counted since the node started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Operation, outcome (`ok`, or the label of an error kind) and how often; without those that
    /// never happened.
    pub operations: Vec<(&'static str, &'static str, u64)>,
    /// Refusals by what was full, and how often.
    pub refused: [(&'static str, u64); 3],
    /// Times the file was synced.
    pub syncs: u64,
    /// Writes that were acknowledged and are not synced yet.
    pub unsynced: u64,
    /// Writes that were acknowledged before they were synced, and that the disk then failed.
    pub lost: u64,
}

impl Counters {
    pub(super) fn answered<T>(&self, operation: Operation, answer: &Result<T, Error>) {
        let place = answer.as_ref().err().map_or(0, |error| {
            let kinds = ErrorKind::ALL.iter();
            1 + kinds.take_while(|kind| **kind != error.kind()).count()
        });
        add(&self.answers[operation as usize][place], 1);
    }

    pub(super) fn read(&self, unsynced: u64) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut operations = Vec::new();
        for (operation, answers) in OPERATIONS.iter().zip(&self.answers) {
            for (place, count) in answers.iter().enumerate() {
                let kind = place.checked_sub(1).map(|place| ErrorKind::ALL[place]);
                let outcome = kind.map_or("ok", ErrorKind::label);
                if load(count) > 0 {
                    operations.push((*operation, outcome, load(count)));
                }
            }
        }
        Counts {
            operations,
            refused: [
                ("quota", load(&self.over_quota)),
                ("queue", load(&self.queue_full)),
                ("disk", load(&self.disk_full)),
            ],
            syncs: load(&self.syncs),
            unsynced,
            lost: load(&self.lost),
        }
    }
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
