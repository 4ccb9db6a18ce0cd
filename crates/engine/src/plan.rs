//! The plan: the immutable snapshot that the data path reads.
//!
//! It says what exists and under which limits. Live counts are never in it; an [`Entry`] only holds
//! the way to them. A new plan replaces the old one whole; calls that began under the old one end
//! under it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::Guard;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use mote_core::invocation::FunctionId;
use mote_core::name::FunctionName;
use mote_core::spec::FunctionSpec;

use crate::admission::Gate;
use crate::logs::FunctionLog;
use crate::outcome::Counters;
use crate::pool::Pool;
use crate::published::PublishedSet;
use crate::siblings::FunctionHost;

/// What exists on this node, and how to reach it.
#[derive(Debug, Default)]
pub struct Plan {
    by_id: HashMap<FunctionId, usize, RandomState>,
    by_name: HashMap<Box<str>, usize, RandomState>,
    ordered: Vec<Arc<Entry>>,
}

impl Plan {
    /// Builds a snapshot of these functions.
    pub fn new(mut entries: Vec<Arc<Entry>>) -> Self {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut plan = Self::default();
        for (place, entry) in entries.iter().enumerate() {
            plan.by_id.insert(entry.id, place);
            plan.by_name.insert(entry.name.full().into(), place);
            plan.by_name.insert(entry.name.short().into(), place);
        }
        plan.ordered = entries;
        plan
    }

    /// The function of this name: `light`, `light.default` or `light.home`.
    pub fn resolve(&self, name: &str) -> Option<&Arc<Entry>> {
        self.ordered.get(*self.by_name.get(name)?)
    }

    /// The function with this handle.
    pub fn get(&self, id: FunctionId) -> Option<&Arc<Entry>> {
        self.ordered.get(*self.by_id.get(&id)?)
    }

    /// Every function, by name.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Arc<Entry>> {
        self.ordered.iter()
    }
}

/// An entry of the plan, held for the length of a call. It keeps the snapshot instead of counting
/// one more reference to the entry, which calls of all threads would write to.
pub struct HeldEntry {
    plan: Guard<Arc<Plan>>,
    place: usize,
}

impl HeldEntry {
    /// The entry of this function, if the plan has it.
    pub fn find(plan: Guard<Arc<Plan>>, id: FunctionId) -> Option<Self> {
        let place = *plan.by_id.get(&id)?;
        Some(Self { plan, place })
    }

    /// Counts a reference after all, for a call that goes on for long: the cheap way has few places.
    pub fn keep_for_long(&mut self) {
        self.plan = Guard::from_inner(Arc::clone(&self.plan));
    }
}

impl Deref for HeldEntry {
    type Target = Arc<Entry>;

    fn deref(&self) -> &Arc<Entry> {
        &self.plan.ordered[self.place]
    }
}

impl fmt::Debug for HeldEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// One live version of one function.
#[derive(Debug)]
pub struct Entry {
    /// The handle: the same over redeploys.
    pub id: FunctionId,
    /// Full name.
    pub name: FunctionName,
    /// Limits and grants of this version.
    pub spec: Arc<FunctionSpec>,
    /// The version's number.
    pub version: u32,
    /// Whether it reads its request as a stream; doors collect bodies for all others.
    pub streams: bool,
    /// What its code turned out to be.
    pub shape: &'static str,
    /// What keeps it apart, in one line.
    pub isolation: String,
    /// How many calls may run and wait.
    pub gate: Gate,
    /// Its instances.
    pub pool: Pool,
    /// What outlives a version.
    pub state: Arc<FunctionState>,
    /// What its calls may reach.
    pub(crate) host: Arc<FunctionHost>,
}

/// What belongs to a function over all of its versions.
#[derive(Debug, Default)]
pub struct FunctionState {
    /// Outcomes and durations.
    pub counters: Counters,
    /// Its log.
    pub log: Arc<FunctionLog>,
    /// Its published values.
    pub published: PublishedSet,
}
