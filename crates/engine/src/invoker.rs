//! The one path of every call: admit, lease, call, count.
//!
//! A call from outside and a nested one differ in how they are admitted (`admit`), and in nothing
//! else.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::host::{Ancestors, Caller};
use mote_core::invocation::{HOPS_MAX, Invocation, InvocationId, Origin};
use mote_core::reply::Reply;
use mote_core::runtime::CallContext;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admission::Gate;
use crate::bounded::bounded;
use crate::outcome::Record;
use crate::plan::{Entry, HeldEntry, Plan};
use crate::pool::Lease;
use crate::published::{Resource, Watch};
use crate::siblings::Data;
use crate::spawned::Spawned;
use crate::waits::{Hands, Waits};

mod admit;
mod call;
mod offer;
mod publish;
mod refusal;
mod stream;

use self::call::{Call, Held};
use self::offer::offer;
use self::publish::{Publication, publish, published_reply};
use self::refusal::stopped_error;
pub(crate) use self::refusal::{circle, stopping, too_deep};

/// The handle that doors, triggers and guests hold. Cheap to clone.
#[derive(Clone)]
pub struct Invoker {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) plan: ArcSwap<Plan>,
    pub(crate) gate: Gate,
    pub(crate) node: u32,
    pub(crate) started: Instant,
    /// Told when a group of instances wants to be looked after.
    pub(crate) wake: Arc<Notify>,
    /// Calls that wait while they hold something.
    pub(crate) waits: Waits,
    /// Calls that functions handed over.
    pub(crate) spawned: Spawned,
    /// Where calls run that were started beside the one that made them.
    runners: OnceLock<Box<[Handle]>>,
    next_runner: AtomicU64,
    /// What functions keep.
    pub(crate) data: OnceLock<Data>,
    sequence: Sequence,
    /// Requests that ended at a door because they named nothing that can be called.
    refused: [[AtomicU64; ErrorKind::ALL.len()]; Origin::ALL.len()],
}

/// The number of the next call; every call writes it, so it has a cache line for itself.
#[repr(align(128))]
struct Sequence(AtomicU64);

/// How many calls the node takes.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// Calls at once.
    pub calls_max: u32,
    /// Calls that wait for one of those.
    pub queue_max: u32,
}

impl Invoker {
    /// An invoker with an empty plan. `node` marks this node's calls; `unix_ms` is the start time,
    /// from which call ids count up.
    pub fn new(limits: NodeLimits, node: u32, unix_ms: u64) -> Self {
        let shared = Shared {
            plan: ArcSwap::default(),
            gate: Gate::new(limits.calls_max, limits.queue_max),
            node,
            started: Instant::now(),
            wake: Arc::default(),
            waits: Waits::default(),
            spawned: Spawned::default(),
            runners: OnceLock::new(),
            next_runner: AtomicU64::new(0),
            data: OnceLock::new(),
            sequence: Sequence(AtomicU64::new(unix_ms << 20)),
            refused: Default::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The plan as it is now.
    pub fn catalog(&self) -> Arc<Plan> {
        self.shared.plan.load_full()
    }

    /// The function of this name: `light`, `light.default` or `light.home`.
    pub fn resolve(&self, name: &str) -> Option<Arc<Entry>> {
        self.shared.plan.load().resolve(name).cloned()
    }

    /// Looks at the plan as it is now, without holding on to it.
    pub fn look<T>(&self, look: impl FnOnce(&Plan) -> T) -> T {
        look(&self.shared.plan.load())
    }

    /// A fresh id for a call.
    pub fn next_id(&self) -> InvocationId {
        InvocationId {
            sequence: self.shared.sequence.0.fetch_add(1, Ordering::Relaxed),
            node: self.shared.node,
        }
    }

    /// Counts a request that a door refused before it was a call.
    pub fn refused(&self, origin: Origin, kind: ErrorKind) {
        self.shared.refused[origin as usize][kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Runs a call to its outcome. Every failure is an [`Error`] with its kind: nothing panics and
    /// nothing runs past the budget. Cancel-safe: dropping it, or the reply's stream, ends the call.
    pub fn invoke(
        &self,
        invocation: Invocation,
    ) -> impl Future<Output = Result<Reply, Error>> + Send {
        self.carry(invocation, None)
    }

    /// The same for a call that others wait for.
    pub(crate) async fn carry(
        &self,
        invocation: Invocation,
        ancestors: Option<Arc<Ancestors>>,
    ) -> Result<Reply, Error> {
        let started = Instant::now();
        let entry = HeldEntry::find(self.shared.plan.load(), invocation.function);
        let Some(entry) = entry else {
            self.refused(invocation.origin, ErrorKind::NotFound);
            return Err(Error::new(ErrorKind::NotFound, "the function was removed"));
        };
        let call = Call {
            id: invocation.id,
            deadline: started + invocation.budget.min(entry.spec.limits.timeout),
            record: Record::new(entry, invocation.origin, started),
        };
        // The block ends the borrow: what the call holds goes on with its reply.
        let result = {
            let caller = Caller {
                deadline: call.deadline - self.shared.started,
                hops: invocation.hops,
                ancestors,
            };
            let run = pin!(self.run(call.record.entry(), invocation, caller, started));
            bounded(call.deadline, run).await
        };
        let result = result
            .unwrap_or_else(|stopped| Err(stopped_error(&stopped, call.record.entry(), started)));
        match result {
            Ok((reply, held)) => Ok(call.reply(reply, held)),
            Err(error) => {
                call.fail(&error);
                Err(error)
            }
        }
    }

    /// Follows the published value of a path and query. Fails with `NotFound` when the function is
    /// gone, `MethodNotAllowed` when it is not observable, and `Overloaded` over the limit.
    pub fn watch(&self, resource: &Resource) -> Result<Watch, Error> {
        let plan = self.shared.plan.load();
        let Some(entry) = plan.get(resource.function) else {
            return Err(Error::new(ErrorKind::NotFound, "the function was removed"));
        };
        if !entry.spec.observable {
            let message = format!("function `{}` is not observable", entry.name);
            return Err(Error::new(ErrorKind::MethodNotAllowed, message)
                .with_hint("write `observable = true` in its manifest and deploy it again"));
        }
        entry
            .state
            .published
            .watch(&resource.path, resource.query.as_deref())
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Gives functions the data and secrets of their apps. The first call counts.
    pub fn set_data(&self, data: Data) {
        // A node has one store; who sets another one has made a mistake that does no harm.
        let _ = self.shared.data.set(data);
    }

    /// Says on which threads calls run that were started beside the one that made them: round and
    /// round, so that a function keeps more than one processor busy. Without it they run where
    /// that call does. The first call counts.
    pub fn set_runners(&self, runners: impl IntoIterator<Item = Handle>) {
        let _ = self.shared.runners.set(runners.into_iter().collect());
    }

    /// Waits until every call that functions handed over has ended.
    pub async fn drain_spawned(&self) {
        self.shared.spawned.drain().await;
    }

    /// Ends the calls that functions handed over, and takes no more.
    pub async fn end_spawned(&self) {
        self.shared.spawned.end().await;
    }

    pub(crate) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.shared)
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The part of a call that its deadline bounds.
    async fn run(
        &self,
        entry: &Arc<Entry>,
        invocation: Invocation,
        caller: Caller,
        started: Instant,
    ) -> Result<(Reply, Option<Held>), Error> {
        if invocation.hops > HOPS_MAX {
            return Err(too_deep(invocation.hops));
        }
        if let Some(reply) = published_reply(entry, &invocation) {
            return Ok((reply, None));
        }
        // Held by a nested call until its end, while the call itself goes to the instance.
        let ancestors = caller.ancestors.clone();
        let admitted = match &ancestors {
            None => self.shared.admit(entry).await?,
            // Boxed, so that calls from outside do not carry the room for it along.
            Some(ancestors) => Box::pin(self.shared.admit_nested(entry, ancestors)).await?,
        };
        let mut since = started;
        if admitted.waited() {
            since = Instant::now();
            entry.state.counters.queue_wait.observe(since - started);
        }
        let hands = Hands {
            waits: &self.shared.waits,
            ancestors: ancestors.as_deref(),
            permit: Some(entry.id),
            node: true,
        };

        let publication = entry.spec.observable.then(|| Publication::of(&invocation));
        let id = invocation.id;
        let context = CallContext {
            host: Arc::clone(&entry.host) as _,
            caller,
        };
        let mut offered = Some(invocation);
        let mut lease = entry.pool.lease(since, &hands).await?;
        if lease.is_cold() {
            entry.state.counters.cold_start.observe(since.elapsed());
        }
        let mut reply = match &lease {
            Lease::Single(single) => single.instance().call(&mut offered, context).await?,
            Lease::Seat(_) => {
                let offering = offer(entry, offered, context, lease, hands, started);
                let (reply, last) = Box::pin(offering).await?;
                lease = last;
                reply
            }
        };
        if reply.publish {
            reply = Box::pin(publish(entry, id, publication, reply)).await?;
        }
        // A reply that is all there holds nothing any more.
        let held = matches!(reply.body, Body::Stream(_))
            .then(|| admitted.keep(entry, &self.shared, lease.keep()));
        Ok((reply, held))
    }
}

impl fmt::Debug for Invoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invoker")
            .field("functions", &self.shared.plan.load().entries().len())
            .finish()
    }
}

impl Shared {
    /// Where the next call runs that is started beside another.
    pub(crate) fn runner(&self) -> Handle {
        let Some(runners) = self.runners.get().filter(|runners| !runners.is_empty()) else {
            return Handle::current();
        };
        let number = self.next_runner.fetch_add(1, Ordering::Relaxed);
        let place = number % runners.len() as u64;
        runners[usize::try_from(place).unwrap_or(0)].clone()
    }

    pub(crate) fn refused(&self, origin: Origin, kind: ErrorKind) -> u64 {
        self.refused[origin as usize][kind as usize].load(Ordering::Relaxed)
    }
}
