//! The one instance of a function that lives in the node, started on first use and dropped when it
//! was idle for long.
//!
//! It takes every call that is admitted; the gate before it counts them. Starting is single-flight:
//! callers that come meanwhile wait for the same start, and when the one that starts gives up, the
//! next goes on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use mote_core::error::Error;
use mote_core::host::Host;
use mote_core::runtime::{Instance, Prepared};
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// The instance of one version of a function.
pub struct Single {
    prepared: Arc<dyn Prepared>,
    host: Arc<dyn Host>,
    slot: ArcSwap<OnceCell<Arc<dyn Instance>>>,
    created: Instant,
    used_ms: AtomicU64,
}

/// The right to use the instance for one call.
pub struct SingleLease {
    /// Not a counted reference: calls of all threads would write to the same count.
    slot: Guard<Arc<OnceCell<Arc<dyn Instance>>>>,
    /// Whether this call had to start it.
    pub cold: bool,
}

impl SingleLease {
    /// What to call.
    pub fn instance(&self) -> &Arc<dyn Instance> {
        self.slot.get().expect("a lease is made of a started slot")
    }
}

impl Single {
    /// One that starts from `prepared` when it is first used.
    pub fn new(prepared: Arc<dyn Prepared>, host: Arc<dyn Host>, now: Instant) -> Self {
        Self {
            prepared,
            host,
            slot: ArcSwap::default(),
            created: now,
            used_ms: AtomicU64::new(0),
        }
    }

    /// The instance, started if need be. Fails with what starting fails with. Cancel-safe.
    pub async fn lease(&self, now: Instant) -> Result<SingleLease, Error> {
        let now_ms = self.millis(now);
        // Written once in a millisecond, so that the threads that read this do not wait for it.
        if self.used_ms.load(Ordering::Relaxed) != now_ms {
            self.used_ms.store(now_ms, Ordering::Relaxed);
        }
        let slot = self.slot.load();
        if slot.get().is_some() {
            return Ok(SingleLease { slot, cold: false });
        }
        drop(slot);
        // Boxed, so that calls of a started instance do not carry the room for it along.
        Box::pin(self.start()).await
    }

    async fn start(&self) -> Result<SingleLease, Error> {
        let slot = Guard::from_inner(self.slot.load_full());
        let mut cold = false;
        slot.get_or_try_init(|| {
            cold = true;
            self.prepared.start(Arc::clone(&self.host))
        })
        .await?;
        Ok(SingleLease { slot, cold })
    }

    /// Lets go of the instance; calls that hold a lease finish on it.
    pub fn unload(&self) {
        self.slot.store(Arc::default());
    }

    /// Bytes that the instance holds while idle; `None` when there is none.
    pub fn loaded_bytes(&self) -> Option<u64> {
        self.slot.load().get().map(|instance| instance.idle_bytes())
    }

    /// When it was last leased; creation counts as a use.
    pub fn last_used(&self) -> Instant {
        self.created + std::time::Duration::from_millis(self.used_ms.load(Ordering::Relaxed))
    }

    /// What the instance is started from.
    pub fn prepared(&self) -> &Arc<dyn Prepared> {
        &self.prepared
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.created).as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Single")
            .field("loaded", &self.loaded_bytes().is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SingleLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleLease")
            .field("cold", &self.cold)
            .finish_non_exhaustive()
    }
}
