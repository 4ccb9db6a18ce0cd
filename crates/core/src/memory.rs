//! How much memory instances may reserve on a node, and who has reserved some.
//!
//! Only a count: what an instance really uses is limited by its runtime. Reserving before starting
//! is what keeps a node from starting more than it has room for.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Memory that instances share. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Shared>);

struct Shared {
    limit: u64,
    reserved: AtomicU64,
    /// What is taken as long as nobody needs it.
    spare: AtomicU64,
    /// Whether somebody was refused some of that lately.
    refused: AtomicBool,
    changed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Some of the memory; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

/// Some of the memory that nobody needed when it was taken. It keeps nobody from reserving: whoever
/// holds it gives it back when [`MemoryBudget::excess`] says so. Given back on drop.
#[derive(Debug)]
pub struct Spare {
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
            spare: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            changed: OnceLock::new(),
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
        if self.excess() > 0 {
            self.tell();
        }
        Some(Reservation {
            budget: self.clone(),
            bytes,
        })
    }

    /// Takes bytes that nobody needs, if there are that many left.
    ///
    /// ```
    /// use mote_core::memory::MemoryBudget;
    /// let budget = MemoryBudget::new(100);
    /// let spare = budget.spare(60).unwrap();
    /// assert!(budget.spare(60).is_none());
    /// let some = budget.reserve(80).unwrap();
    /// assert_eq!(budget.excess(), 40);
    /// drop(spare);
    /// assert_eq!(budget.excess(), 0);
    /// ```
    pub fn spare(&self, bytes: u64) -> Option<Spare> {
        self.0.spare.fetch_add(bytes, Ordering::Relaxed);
        let spare = Spare {
            budget: self.clone(),
            bytes,
        };
        if self.excess() > 0 {
            self.0.refused.store(true, Ordering::Relaxed);
            return None;
        }
        Some(spare)
    }

    /// How much of the spare memory has to be given back.
    pub fn excess(&self) -> u64 {
        let all = self.reserved() + self.0.spare.load(Ordering::Relaxed);
        all.saturating_sub(self.0.limit)
    }

    /// Who is told when spare memory has to be given back, and when there is some again after it was
    /// refused. The first that asks is told, and no other.
    pub fn on_change(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.changed.set(Box::new(tell));
    }

    fn tell(&self) {
        if let Some(tell) = self.0.changed.get() {
            tell();
        }
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
        if self.budget.0.refused.swap(false, Ordering::Relaxed) {
            self.budget.tell();
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let spare = &self.budget.0.spare;
        spare.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("limit", &self.limit)
            .field("reserved", &self.reserved)
            .field("spare", &self.spare)
            .finish_non_exhaustive()
    }
}
