//! How much memory instances may reserve on a node, and who has reserved some.
//!
//! Only a count: what an instance really uses is limited by its runtime. Reserving before starting
//! is what keeps a node from starting more than it has room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory that instances share. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: u64,
    reserved: AtomicU64,
}

/// Some of the memory; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl MemoryBudget {
    /// A budget of this many bytes.
    ///
    /// ```
    /// use mote_core::memory::MemoryBudget;
    /// let budget = MemoryBudget::new(100);
    /// let some = budget.reserve(80).unwrap();
    /// assert!(budget.reserve(30).is_none());
    /// drop(some);
    /// assert_eq!(budget.reserved(), 0);
    /// ```
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Shared {
            limit,
            reserved: AtomicU64::new(0),
        }))
    }

    /// Takes bytes, if there are that many left.
    pub fn reserve(&self, bytes: u64) -> Option<Reservation> {
        let took = |reserved: u64| {
            reserved
                .checked_add(bytes)
                .filter(|sum| *sum <= self.0.limit)
        };
        self.0
            .reserved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, took)
            .ok()?;
        Some(Reservation {
            budget: self.clone(),
            bytes,
        })
    }

    /// All there is.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// What is taken.
    pub fn reserved(&self) -> u64 {
        self.0.reserved.load(Ordering::Relaxed)
    }

    /// What is left.
    pub fn free(&self) -> u64 {
        self.0.limit.saturating_sub(self.reserved())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget
            .0
            .reserved
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
