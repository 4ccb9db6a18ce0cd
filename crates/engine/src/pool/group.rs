//! The instances of a function that lives outside of the node: started when calls need them,
//! stopped when nobody calls, replaced when they die.
//!
//! How many there should be is decided by [`crate::scale::decide`], a pure function; this carries it out.
//! A call takes a slot of the least busy instance, or waits for one; the gate before it bounds how
//! many wait. A start that fails fails the calls that wait for it when nothing else could serve
//! them, and is tried again after a pause that grows ([`crate::health`]). Bounded by the scale, by
//! memory, and by a ceiling that the policy finds. Ends with its last reference: instances are then
//! asked to stop, and made to after the grace.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_core::memory::MemoryBudget;
use mote_core::name::FunctionName;
use mote_core::runtime::{Instance, Instances, Prepared};
use mote_core::spec::Scale;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::member::{Member, Seat};
use crate::health::Health;
use crate::invoker::circle;
use crate::plan::FunctionState;
use crate::scale::{Ceiling, Reason, Sample, Trial};
use crate::waits::Hands;

mod adjust;
mod start;

/// How long an instance is idle before it is paused, if its kind can be.
const PAUSE_AFTER: Duration = Duration::from_secs(10);
/// How long an instance may take to stop when asked.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// What callers are told to wait when there is no memory.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The instances of one version of a function.
pub struct Group {
    shared: Arc<Shared>,
}

/// What a group needs beside the function itself.
#[derive(Clone, Debug)]
pub struct GroupParts {
    /// Whose instances they are.
    pub name: FunctionName,
    /// How many there may be.
    pub scale: Scale,
    /// The memory they share with all others.
    pub memory: MemoryBudget,
    /// What outlives a version: what calls took is read there.
    pub state: Arc<FunctionState>,
    /// Told when there is something to look after.
    pub wake: Arc<Notify>,
}

/// A group as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Instances that run and are not paused.
    pub running: u32,
    /// Paused ones.
    pub paused: u32,
    /// Those on their way.
    pub starting: u32,
    /// Instances that died since the deploy.
    pub deaths: u64,
    /// The last decision about their number, with its reason.
    pub decision: String,
    /// Why calls are refused, if they are.
    pub unhealthy: Option<String>,
    /// How many there may be.
    pub scale: Scale,
}

/// One slot of an instance; given back on drop.
pub struct SeatLease {
    shared: Arc<Shared>,
    member: Arc<Member>,
    /// Whether the call had to wait for a start.
    pub cold: bool,
}

struct Shared {
    parts: GroupParts,
    prepared: Arc<dyn Prepared>,
    instances: Instances,
    /// Tells one that waits for each slot that becomes free, and all when something ended.
    changed: Notify,
    state: Mutex<State>,
}

struct State {
    seats: Vec<Seat>,
    next_number: u64,
    turn: u64,
    starting: u32,
    waiting: u32,
    scale: Scale,
    health: Health,
    /// Starts that failed; a waiting call sees by it that one did since it came.
    failures: u64,
    failure: Option<Error>,
    trial: Option<Trial>,
    ceiling: Option<Ceiling>,
    decided: (u32, Reason),
    pressure: f64,
    samples: VecDeque<(Instant, Totals)>,
    closed: bool,
}

/// What the function's calls amount to so far.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    calls: u64,
    seconds: f64,
}

impl Group {
    /// A group with nothing started.
    pub fn new(prepared: Arc<dyn Prepared>, instances: Instances, parts: GroupParts) -> Self {
        let state = State {
            seats: Vec::new(),
            next_number: 1,
            turn: 0,
            starting: 0,
            waiting: 0,
            scale: parts.scale.clone(),
            health: Health::default(),
            failures: 0,
            failure: None,
            trial: None,
            ceiling: None,
            decided: (0, Reason::Enough),
            pressure: 0.0,
            samples: VecDeque::new(),
            closed: false,
        };
        let shared = Shared {
            parts,
            prepared,
            instances,
            changed: Notify::new(),
            state: Mutex::new(state),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A slot of an instance. Waits until there is one; fails when starting one failed and nothing
    /// else could serve the call, when too many died lately, when memory is short, and when waiting
    /// with these hands could last for ever. Cancel-safe.
    pub(crate) async fn lease(&self, hands: &Hands<'_>) -> Result<SeatLease, Error> {
        let shared = &self.shared;
        let mut waiting: Option<Waiting<'_>> = None;
        let mut registered = None;
        loop {
            let mut changed = std::pin::pin!(shared.changed.notified());
            changed.as_mut().enable();
            if let Some(lease) = shared.seat_or_wait(&mut waiting)? {
                match lease.member.wake().await {
                    Ok(()) => return Ok(lease),
                    Err(error) => {
                        lease.distrust(error);
                        continue;
                    }
                }
            }
            if registered.is_none() {
                let slot = hands.wait_for_slot();
                registered = Some(slot.map_err(|_| circle(&shared.parts.name, "instance"))?);
            }
            shared.adjust(Instant::now());
            shared.parts.wake.notify_one();
            changed.await;
        }
    }

    /// Takes in an instance that was started beforehand. It is dropped when there is no memory.
    pub fn adopt(&self, instance: Arc<dyn Instance>) {
        if let Some(memory) = self
            .shared
            .parts
            .memory
            .reserve(self.shared.instances.memory_bytes)
        {
            self.shared.welcome(instance, memory, None);
            self.shared.parts.wake.notify_one();
        }
    }

    /// Changes how many there may be, from now on.
    pub fn rescale(&self, scale: Scale) {
        self.shared.lock().scale = scale;
        self.shared.adjust(Instant::now());
        self.shared.parts.wake.notify_one();
    }

    /// Looks after the group: decides, starts, stops and pauses. `pressure` is the share of time
    /// that something on the system waited for memory, in percent. Returns whether there is
    /// anything to look after.
    pub fn tick(&self, now: Instant, pressure: f64) -> bool {
        self.shared.tick(now, pressure)
    }

    /// Whether calls wait and there is no memory for an instance that could take them.
    pub fn is_starved(&self) -> bool {
        let state = self.shared.lock();
        state.waiting > 0
            && state.starting == 0
            && state.seats.is_empty()
            && self.shared.fitting() == 0
    }

    /// Fails the calls that wait for memory which nobody can give.
    pub fn refuse(&self) {
        let error = self.shared.no_memory();
        self.shared.failed(&mut self.shared.lock(), error);
    }

    /// Since when an instance that nobody needs is idle: beyond the minimum, without a call.
    pub fn spare_since(&self) -> Option<Instant> {
        let state = self.shared.lock();
        if state.seats.len() <= state.scale.min as usize {
            return None;
        }
        let idle = state.seats.iter().filter(|seat| seat.member.in_use() == 0);
        idle.map(|seat| seat.last_used).min()
    }

    /// Stops the instance that was idle for longest, for others that need its memory.
    pub fn give_up_spare(&self) {
        if self.spare_since().is_some() {
            self.shared
                .stop_idle(&mut self.shared.lock(), 1, Instant::now());
        }
    }

    /// The group as people see it.
    pub fn view(&self) -> GroupView {
        let state = self.shared.lock();
        let paused = state.seats.iter().filter(|seat| seat.paused).count();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let unhealthy = state.health.is_unhealthy(Instant::now());
        GroupView {
            running: count(state.seats.len() - paused),
            paused: count(paused),
            starting: state.starting,
            deaths: state.health.total,
            decision: format!("{}: {}", state.decided.0, state.decided.1),
            unhealthy: unhealthy.then(|| {
                state
                    .health
                    .last()
                    .map_or_else(String::new, ToString::to_string)
            }),
            scale: state.scale.clone(),
        }
    }

    /// Stops every instance, and starts no more. Returns when they are gone.
    pub fn close(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.close()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let closing = self.shared.close();
        // Outside of a runtime nothing can be asked to stop; dropping ends it all the same.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(closing);
        }
    }
}

impl SeatLease {
    /// What to call.
    pub fn instance(&self) -> &Arc<dyn Instance> {
        &self.member.instance
    }

    /// The call was served: what dies next is not a row any more.
    pub fn served(&self) {
        self.shared.lock().health.served();
    }

    /// Takes the instance out of the group: it did not take a call that it was offered.
    pub fn distrust(self, error: Error) {
        self.shared.bury(&self.member, Some(error), Instant::now());
    }
}

impl Drop for SeatLease {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let number = self.member.number;
        if let Some(seat) = state.seat(number) {
            seat.last_used = Instant::now();
        }
        self.member.give_back();
        drop(state);
        self.shared.changed.notify_one();
    }
}

/// A call that waits; counted as long as it lives.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    failures: u64,
    cold: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot if one is free; otherwise the call is counted as waiting, if it may wait.
    fn seat_or_wait<'a>(
        self: &'a Arc<Self>,
        waiting: &mut Option<Waiting<'a>>,
    ) -> Result<Option<SeatLease>, Error> {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(member) = state.take_seat(&self.instances, now) {
            return Ok(Some(SeatLease {
                shared: Arc::clone(self),
                member,
                cold: waiting.as_ref().is_some_and(|waiting| waiting.cold),
            }));
        }
        let seen = waiting.as_ref().map(|waiting| waiting.failures);
        state.may_wait(self, seen, now)?;
        if waiting.is_none() {
            state.waiting += 1;
            *waiting = Some(Waiting {
                shared: self,
                failures: state.failures,
                cold: state.seats.is_empty(),
            });
        }
        Ok(None)
    }

    /// How many more instances there is memory for.
    fn fitting(&self) -> u32 {
        let each = self.instances.memory_bytes.max(1);
        u32::try_from(self.parts.memory.free() / each).unwrap_or(u32::MAX)
    }

    fn no_memory(&self) -> Error {
        let memory = &self.parts.memory;
        Error::new(
            ErrorKind::Overloaded,
            format!(
                "there is no memory for an instance of `{}`: it needs {} MiB, and {} of {} MiB are reserved",
                self.parts.name,
                self.instances.memory_bytes >> 20,
                memory.reserved() >> 20,
                memory.limit() >> 20,
            ),
        )
        .with_hint("try again later, lower `memory` or `scale`, or raise the node's `memory_bytes_max`")
        .with_retry_after(RETRY_AFTER)
    }

    /// Notes that a start failed, and tells those that wait.
    fn failed(&self, state: &mut State, error: Error) {
        state.failures += 1;
        state.failure = Some(error);
        self.changed.notify_waiters();
    }

    /// Takes a member out of the group because it ended, or has to.
    fn bury(&self, member: &Arc<Member>, death: Option<Error>, now: Instant) {
        let mut state = self.lock();
        let Some(place) = state
            .seats
            .iter()
            .position(|seat| seat.member.number == member.number)
        else {
            return;
        };
        state.seats.swap_remove(place);
        member.left.cancel();
        if let Some(error) = death {
            tracing::info!(function = %self.parts.name, instance = member.number, %error, "an instance died");
            state.health.died(error, now);
        }
        drop(state);
        // Those that wait may need another one now.
        self.changed.notify_waiters();
        self.parts.wake.notify_one();
    }
}

impl State {
    fn seat(&mut self, number: u64) -> Option<&mut Seat> {
        self.seats
            .iter_mut()
            .find(|seat| seat.member.number == number)
    }

    /// A slot of the least busy instance. While no more run than must, calls go round; otherwise to
    /// those used last, so that the others become idle.
    fn take_seat(&mut self, instances: &Instances, now: Instant) -> Option<Arc<Member>> {
        let go_round = self.seats.len() <= self.scale.min as usize;
        let slots = instances.slots.get();
        let free = self
            .seats
            .iter_mut()
            .filter(|seat| seat.member.in_use() < slots);
        let best = free.min_by(|a, b| {
            let busy = (a.paused, a.member.in_use()).cmp(&(b.paused, b.member.in_use()));
            let turns = if go_round {
                a.turn.cmp(&b.turn)
            } else {
                b.turn.cmp(&a.turn)
            };
            busy.then(turns)
        })?;
        self.turn += 1;
        best.turn = self.turn;
        best.member.take();
        best.last_used = now;
        best.paused = false;
        Some(Arc::clone(&best.member))
    }

    /// Whether a call without an instance may wait for one. `seen` is the number of failures when
    /// it began to wait.
    fn may_wait(&self, shared: &Shared, seen: Option<u64>, now: Instant) -> Result<(), Error> {
        if self.closed {
            return Err(
                Error::new(ErrorKind::Overloaded, "the node is about to stop")
                    .with_retry_after(RETRY_AFTER),
            );
        }
        if !self.seats.is_empty() {
            return Ok(());
        }
        if let Some(failure) = &self.failure
            && seen.is_some_and(|seen| seen != self.failures)
        {
            return Err(failure.clone());
        }
        if self.health.is_unhealthy(now) && now < self.health.not_before(now) {
            let why = self
                .health
                .last()
                .map_or_else(String::new, |error| format!(": {error}"));
            let wait = self.health.not_before(now) - now;
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "function `{}` is unhealthy, {} of its instances died within a minute{why}",
                    shared.parts.name,
                    crate::health::DEATHS_MAX
                ),
            )
            .with_hint(
                "`mote logs` has what it wrote; deploy a version that works, or `mote rollback`",
            )
            .with_retry_after(wait.max(RETRY_AFTER)));
        }
        Ok(())
    }

    /// What calls did lately, at most over [`crate::scale::TRIAL`].
    fn recent(&self, totals: Totals, now: Instant) -> Sample {
        let Some((since, before)) = self.samples.front() else {
            return Sample::default();
        };
        Sample {
            calls: totals.calls.saturating_sub(before.calls),
            over: now.saturating_duration_since(*since),
            seconds: totals.seconds - before.seconds,
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.view()).finish()
    }
}

impl fmt::Debug for SeatLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeatLease")
            .field("member", &self.member.number)
            .field("cold", &self.cold)
            .finish_non_exhaustive()
    }
}

type WeakShared = Weak<Shared>;
