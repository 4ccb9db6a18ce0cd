//! Engines: one for each worker thread, all of the same configuration, and the ticker that drives
//! their epochs.
//!
//! An engine owns a pool of memories, tables and stacks. Threads that share a pool slow each other
//! down in the kernel's address-space lock, so each worker has its own; a call stays on the engine
//! of the thread it began on. See `docs/adr/001-engine-per-worker.md`.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use mote_core::error::{Error, ErrorKind};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::meter::Ticker;

/// How much address space a memory reserves; decides what compiled code looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// A pool with 4 GiB for each memory, so that bounds need no checks.
    Pool,
    /// Memories on demand, with no reservation to speak of: for little address space.
    OnDemand,
}

impl Tier {
    pub(super) const ALL: [Tier; 2] = [Tier::Pool, Tier::OnDemand];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::OnDemand => "on-demand",
        }
    }
}

/// The engines of a node.
#[derive(Debug)]
pub(super) struct Engines {
    shards: Vec<Engine>,
    /// How many stores are kept for later calls on each engine.
    kept: Vec<Arc<AtomicU32>>,
    /// How many extra parts of the pool are taken on each engine.
    extra: Vec<Arc<AtomicU32>>,
    /// How many nested calls run on each engine.
    nested: Vec<Arc<AtomicU32>>,
    nested_max: u32,
    tier: Tier,
    fingerprint: String,
    ticker: Arc<Ticker>,
}

/// Room on an engine; given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    taken: Arc<AtomicU32>,
    count: u32,
}

impl Place {
    fn take(taken: &Arc<AtomicU32>, count: u32, max: u32) -> Option<Self> {
        let more = |taken: u32| taken.checked_add(count).filter(|taken| *taken <= max);
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Self {
            taken: Arc::clone(taken),
            count,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl Engines {
    pub(super) fn new(shards: usize, calls_max: u32, resident_bytes: usize) -> Result<Self, Error> {
        let shards = shards.max(1);
        let mut refusals = Vec::new();
        let pools = NESTED_MAX.map(|nested| (Tier::Pool, nested));
        for (tier, nested_max) in pools.into_iter().chain([(Tier::OnDemand, NESTED_MAX[0])]) {
            let engines: Result<Vec<_>, _> = (0..shards)
                .map(|_| Engine::new(&config(tier, calls_max, nested_max, resident_bytes)))
                .collect();
            match engines {
                Ok(engines) => {
                    if let Some(refusal) = refusals.first().filter(|_| tier == Tier::OnDemand) {
                        tracing::warn!(%refusal, "little address space: memories are made on demand, calls cost more");
                    }
                    let fingerprint = fingerprint(&engines[0]);
                    let ticker = Ticker::start(engines.clone())?;
                    return Ok(Self {
                        kept: engines.iter().map(|_| Arc::default()).collect(),
                        extra: engines.iter().map(|_| Arc::default()).collect(),
                        nested: engines.iter().map(|_| Arc::default()).collect(),
                        nested_max,
                        shards: engines,
                        tier,
                        fingerprint,
                        ticker,
                    });
                }
                Err(error) => refusals.push(format!("{error:#}")),
            }
        }
        let message = format!(
            "the wasm runtime does not start here: {}",
            refusals.join("; ")
        );
        Err(Error::new(ErrorKind::Internal, message)
            .with_hint("raise the limit on address space (ulimit -v)"))
    }

    /// The number of this thread's engine. For threads that run calls; they are numbered as they
    /// first do.
    pub(super) fn current(&self) -> usize {
        thread_number() % self.shards.len()
    }

    /// Every engine, by number.
    pub(super) fn all(&self) -> &[Engine] {
        &self.shards
    }

    /// Room to keep a store on an engine, if there is any.
    pub(super) fn place(&self, shard: usize) -> Option<Place> {
        Place::take(&self.kept[shard], 1, KEPT_MAX)
    }

    /// Room for one more nested call on an engine, if there is any.
    pub(super) fn nested(&self, shard: usize) -> Option<Place> {
        Place::take(&self.nested[shard], 1, self.nested_max)
    }

    /// How many parts of the pool beyond its own a call takes that needs so many memories and
    /// tables. Without a pool there are no parts.
    pub(super) fn extra_parts(&self, memories: u32, tables: u32) -> u32 {
        let parts = memories
            .div_ceil(MEMORIES_OF_CALL)
            .max(tables.div_ceil(TABLES_OF_CALL));
        match self.tier {
            Tier::Pool => parts.saturating_sub(1),
            Tier::OnDemand => 0,
        }
    }

    /// Room for that many, if there is any.
    pub(super) fn extra(&self, shard: usize, parts: u32) -> Option<Place> {
        Place::take(&self.extra[shard], parts, EXTRA_MAX)
    }

    pub(super) fn tier(&self) -> Tier {
        self.tier
    }

    pub(super) fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }

    /// What an image depends on besides its code: engine version and settings, and the processor.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn fingerprint(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// An engine that only compiles, whose output the engines of `tier` accept.
pub(super) fn compiling(tier: Tier) -> wasmtime::Result<Engine> {
    Engine::new(&base(tier))
}

/// Elements of one table; the largest language runtimes need about 20,000.
const TABLE_ELEMENTS: usize = 200_000;
/// Memory that stays with a place for a call where the system does not tell what was written (before Linux 6.7): as
/// much as a small guest has.
const RESIDENT_BLINDLY: usize = 64 << 10;
/// Host stack that a guest may use.
const WASM_STACK: usize = 512 << 10;
/// The stack of a call: the guest's part and the host functions it calls.
const ASYNC_STACK: usize = 1 << 20;

fn base(tier: Tier) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(ASYNC_STACK)
        .wasm_threads(false)
        .concurrency_support(false)
        .memory_init_cow(true);
    if tier == Tier::OnDemand {
        config
            .memory_reservation(0)
            .memory_reservation_for_growth(1 << 20)
            .memory_guard_size(64 << 10)
            .guard_before_linear_memory(false);
    }
    config
}

/// Room beside that for calls: a deploy tries its code out, also on a node with all its calls.
const TRIALS_MAX: u32 = 4;
/// Most stores that are kept for later calls on one engine, of all functions together; they too
/// have room beside that for calls, so that a function that keeps stores takes none from others.
const KEPT_MAX: u32 = 64;
/// Most nested calls at once on one engine, beside the calls from outside that they belong to: as
/// many of these as there is address space for.
const NESTED_MAX: [u32; 3] = [256, 64, 16];
/// Memories and tables that every call can have: its part of the pool.
const MEMORIES_OF_CALL: u32 = 2;
const TABLES_OF_CALL: u32 = 4;
/// Parts of the pool for calls that need more than one, so that they cannot take those of others.
const EXTRA_MAX: u32 = 64;
/// Modules of one component.
const MODULES_MAX: u32 = 32;

fn config(tier: Tier, calls_max: u32, nested_max: u32, resident_bytes: usize) -> Config {
    let mut config = base(tier);
    if tier == Tier::Pool {
        let mut pool = PoolingAllocationConfig::new();
        // A system that does not tell which pages were written has all of them written back.
        let resident_bytes = if PoolingAllocationConfig::is_pagemap_scan_available() {
            resident_bytes
        } else {
            resident_bytes.min(RESIDENT_BLINDLY)
        };
        let stores_max = calls_max.saturating_add(nested_max + TRIALS_MAX + KEPT_MAX);
        let parts_max = stores_max.saturating_add(EXTRA_MAX);
        pool.total_component_instances(stores_max)
            // Only counted: an instance takes nothing before it is there.
            .total_core_instances(stores_max.saturating_mul(MODULES_MAX))
            .total_memories(parts_max.saturating_mul(MEMORIES_OF_CALL))
            .total_tables(parts_max.saturating_mul(TABLES_OF_CALL))
            .total_stacks(stores_max)
            .max_core_instances_per_component(MODULES_MAX)
            .max_memories_per_component(16)
            .max_tables_per_component(32)
            .max_memories_per_module(4)
            .max_tables_per_module(8)
            .max_core_instance_size(16 << 20)
            .max_component_instance_size(16 << 20)
            .table_elements(TABLE_ELEMENTS)
            .max_memory_size(4 << 30)
            .linear_memory_keep_resident(resident_bytes)
            .table_keep_resident(resident_bytes)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Threads are numbered as they first run a call.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.get().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(Some(number));
        number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_calls_have_a_bound_of_their_own() {
        let engines = Engines::new(2, 1, RESIDENT_BLINDLY).unwrap();
        let places: Vec<_> = std::iter::from_fn(|| engines.nested(0)).collect();
        assert!(NESTED_MAX.contains(&u32::try_from(places.len()).unwrap()));
        assert!(engines.nested(1).is_some() && engines.place(0).is_some());
        drop(places);
        assert!(engines.nested(0).is_some());
    }
}
