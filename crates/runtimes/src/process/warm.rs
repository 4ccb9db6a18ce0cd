//! A pool of environments that run already and wait for code, so that the first call of a function
//! does not wait until its language's runtime has started.
//!
//! What waits is a whole sandbox of no app ([`generic`]). It becomes the sandbox of one app when the
//! first instance of one of its functions is started, once; nobody's code ran in it before. So the
//! pool helps apps that have nothing running. A function that cannot use one, or finds none, starts
//! as it does without a pool, and so does one whose warm instance ends before it has its code.
//!
//! Off unless the node's `warm_instances` says how many should wait for each environment that a
//! deployed function uses. Bounded by that and by memory that nobody else needs; what waits is given
//! up when somebody does. How many to start and stop is decided by [`policy`]. A start that fails is
//! tried again after a pause that doubles. Ends with the runtime.

mod generic;
mod policy;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mote_core::memory::{MemoryBudget, Spare};
use mote_core::runtime;
use mote_core::spec::{FunctionSpec, Limits, Program};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) use self::generic::{Generic, Waiting};
use self::policy::{Reason, Room, Step};
use super::{Config, Shared};
use crate::environment::{Environment, Serving};
use crate::sandbox::cgroup;

/// The least memory of a node that may have a pool: on less, what waits costs more than it gives.
const NODE_BYTES_MIN: u64 = 1_000_000_000;
/// How long nothing is started after one was taken: its function starts now, and comes first.
const REFILL_AFTER: Duration = Duration::from_millis(500);
/// How long nothing is started after one was given up for its memory.
const MEMORY_AFTER: Duration = Duration::from_secs(10);
/// The pause after a start that failed, and what it doubles up to.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// Most bytes of a function's variables: all of them are told in one message, escaped.
const ENV_BYTES_MAX: usize = 8 << 10;
/// Variables that languages and libraries read when they start: a function that sets one has its
/// runtime started with it. Names, or how they begin.
const READ_AT_START: [&str; 16] = [
    "GLIBC_", "HOME", "LANG", "LC_", "LD_", "LUA_", "MALLOC_", "NODE_", "OPENSSL_", "PATH", "PERL",
    "PYTHON", "RUBY", "SSL_", "TZ", "UV_",
];

/// What makes those that wait the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    name: String,
    folder: PathBuf,
    serving: Serving,
    command: Vec<String>,
}

/// How a function is served by one that waits.
#[derive(Clone, Debug)]
pub(super) struct Code {
    kind: Kind,
    /// What it is told of the handler.
    pub(super) arguments: Vec<String>,
}

impl Code {
    /// Nothing when the environment cannot wait for its code.
    pub(super) fn of(environment: &Environment, handler: &str) -> Option<Self> {
        let (command, arguments) = environment.command_to_wait(handler);
        environment.warm.then(|| Self {
            kind: Kind {
                name: environment.name.clone(),
                folder: environment.folder.clone(),
                serving: environment.serving,
                command,
            },
            arguments,
        })
    }

    /// Whether this function may have one: everything that it was granted can be had after the
    /// start, and nothing that it sets should have been there before.
    pub(super) fn suits(&self, spec: &FunctionSpec) -> bool {
        let early = |name: &String| READ_AT_START.iter().any(|early| name.starts_with(early));
        let env_bytes: usize = spec.env.iter().map(|(a, b)| a.len() + b.len()).sum();
        // The way out is in the network of the app, of which only a zygote is part.
        let network = !spec.allow.needs_a_network() || self.kind.serving == Serving::Zygote;
        network
            && spec.allow.read.is_empty()
            && !spec.env.iter().any(|(name, _)| early(name))
            && env_bytes <= ENV_BYTES_MAX
    }
}

/// The limits of an instance.
pub(super) fn limits(limits: &Limits, program: &Program) -> cgroup::Limits {
    cgroup::Limits {
        memory_bytes: limits.memory_bytes,
        cpus: program.cpus,
        processes: program.processes,
    }
}

/// The pool.
#[derive(Debug)]
pub(super) struct Pool {
    wanted: u32,
    off: Option<String>,
    memory: MemoryBudget,
    state: Mutex<State>,
    wake: Arc<Notify>,
    numbers: AtomicU64,
    taken: AtomicU64,
    closed: CancellationToken,
    _close: DropGuard,
}

#[derive(Debug, Default)]
struct State {
    kinds: Vec<Held>,
}

/// What there is of one kind.
#[derive(Debug)]
struct Held {
    kind: Kind,
    users: u32,
    ready: Vec<Generic>,
    starting: u32,
    /// Starts that failed since one was taken.
    failures: u32,
    rests_until: Option<Instant>,
}

/// A function that could take one; the pool is filled for it as long as it lives.
#[derive(Debug)]
pub(super) struct Interest {
    shared: Weak<Shared>,
    kind: Kind,
}

impl Pool {
    pub(super) fn new(config: &Config) -> Self {
        let off = too_little(config.warm_instances, config.node_bytes);
        if let Some(why) = &off {
            tracing::warn!("no instance waits for its code: {why}");
        }
        let wake = Arc::new(Notify::new());
        let closed = CancellationToken::new();
        Self {
            wanted: if off.is_some() {
                0
            } else {
                config.warm_instances
            },
            off,
            memory: config.memory.clone(),
            state: Mutex::default(),
            wake,
            numbers: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            _close: closed.clone().drop_guard(),
            closed,
        }
    }

    /// Looks after the pool from now on. Must be called inside of an async runtime.
    pub(super) fn run(shared: &Arc<Shared>) {
        let pool = &shared.warm;
        if pool.wanted == 0 {
            return;
        }
        let wake = Arc::clone(&pool.wake);
        pool.memory.on_change(move || wake.notify_one());
        tokio::spawn(look_after(
            Arc::downgrade(shared),
            Arc::clone(&pool.wake),
            pool.closed.clone(),
        ));
    }

    /// What people see of it.
    pub(super) fn view(&self) -> runtime::Warm {
        let mut warm = runtime::Warm {
            taken: self.taken.load(Ordering::Relaxed),
            off: self.off.clone(),
            ..runtime::Warm::default()
        };
        for held in &self.lock().kinds {
            let ready = u32::try_from(held.ready.len()).unwrap_or(u32::MAX);
            *warm.ready.entry(held.kind.name.clone()).or_default() += ready;
        }
        warm
    }

    /// Ends all that wait, and starts no more.
    pub(super) fn close(&self) {
        self.closed.cancel();
        let mut kinds = self.lock();
        let ready = |held: &mut Held| std::mem::take(&mut held.ready);
        let gone: Vec<_> = kinds.kinds.iter_mut().map(ready).collect();
        drop(kinds);
        drop(gone);
    }

    /// One was given to a function.
    pub(super) fn note_taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interest {
    /// Nothing when there is no pool.
    pub(super) fn new(shared: &Arc<Shared>, code: &Code) -> Option<Self> {
        let pool = &shared.warm;
        if pool.wanted == 0 {
            return None;
        }
        pool.lock().held(&code.kind).users += 1;
        pool.wake.notify_one();
        Some(Self {
            shared: Arc::downgrade(shared),
            kind: code.kind.clone(),
        })
    }

    /// One that waits, if there is one.
    pub(super) fn take(&self) -> Option<Generic> {
        let shared = self.shared.upgrade()?;
        let pool = &shared.warm;
        let mut state = pool.lock();
        let held = state.held(&self.kind);
        let generic = loop {
            let generic = held.ready.pop()?;
            if generic.is_alive() {
                break generic;
            }
        };
        held.failures = 0;
        held.rests_until = Some(Instant::now() + REFILL_AFTER);
        pool.wake.notify_one();
        Some(generic)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let pool = &shared.warm;
            let mut state = pool.lock();
            state.held(&self.kind).users -= 1;
            drop(state);
            pool.wake.notify_one();
        }
    }
}

impl State {
    fn held(&mut self, kind: &Kind) -> &mut Held {
        let place = self.kinds.iter().position(|held| held.kind == *kind);
        let place = place.unwrap_or_else(|| {
            self.kinds.push(Held {
                kind: kind.clone(),
                users: 0,
                ready: Vec::new(),
                starting: 0,
                failures: 0,
                rests_until: None,
            });
            self.kinds.len() - 1
        });
        &mut self.kinds[place]
    }

    fn see(&self, now: Instant) -> Vec<policy::Kind> {
        let see = |held: &Held| policy::Kind {
            users: held.users,
            ready: u32::try_from(held.ready.len()).unwrap_or(u32::MAX),
            starting: held.starting,
            rests: held.rests_until.is_some_and(|until| now < until),
        };
        self.kinds.iter().map(see).collect()
    }
}

impl Held {
    fn is_needed(&self) -> bool {
        self.users > 0 || !self.ready.is_empty() || self.starting > 0
    }

    fn failed(&mut self) {
        let (first, most) = PAUSE;
        let pause = first.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        self.rests_until = Some(Instant::now() + pause.min(most));
    }
}

/// Fills the pool and empties it, whenever something changed.
async fn look_after(shared: Weak<Shared>, wake: Arc<Notify>, closed: CancellationToken) {
    let mut next = None;
    loop {
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = closed.cancelled() => return,
            () = wake.notified() => {}
            () = due => {}
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        next = look(&shared);
    }
}

/// Does what is to be done now; returns when to look again at the latest.
fn look(shared: &Arc<Shared>) -> Option<Instant> {
    let pool = &shared.warm;
    loop {
        let now = Instant::now();
        let mut state = pool.lock();
        state.kinds.retain(Held::is_needed);
        let room = match pool.memory.excess() {
            0 => Room::Free,
            _ => Room::Needed,
        };
        let gone = match policy::next(&state.see(now), pool.wanted, room) {
            Some(Step::Start(place)) => {
                // Who refuses it tells when there is some again.
                let memory = pool.memory.spare(bytes())?;
                state.kinds[place].starting += 1;
                let starting = Starting {
                    shared: Arc::downgrade(shared),
                    kind: state.kinds[place].kind.clone(),
                };
                start(starting, memory);
                None
            }
            Some(Step::Stop(place, reason)) => {
                let held = &mut state.kinds[place];
                tracing::debug!(environment = held.kind.name, %reason, "stopping a warm instance");
                if reason == Reason::Memory {
                    held.rests_until = Some(now + MEMORY_AFTER);
                }
                held.ready.pop()
            }
            None => {
                let rests = state.kinds.iter().filter_map(|held| held.rests_until);
                return rests.filter(|until| now < *until).min();
            }
        };
        // Not under the lock: its end is told to others.
        drop(state);
        drop(gone);
    }
}

/// One start under way; counted as long as it lives, also when it panics.
struct Starting {
    shared: Weak<Shared>,
    kind: Kind,
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.warm.lock();
            state.held(&self.kind).starting -= 1;
            drop(state);
            shared.warm.wake.notify_one();
        }
    }
}

/// Starts one, and hears of its end.
fn start(starting: Starting, memory: Spare) {
    tokio::spawn(async move {
        let weak = Weak::clone(&starting.shared);
        let Some(shared) = weak.upgrade() else {
            return;
        };
        let kind = starting.kind.clone();
        let pool = &shared.warm;
        let number = pool.numbers.fetch_add(1, Ordering::Relaxed);
        let started = Generic::start(&shared, &kind, number, memory);
        let started = pool.closed.run_until_cancelled(started).await;
        let exited = match started {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(environment = kind.name, %error, "a warm instance did not start");
                pool.lock().held(&kind).failed();
                return;
            }
            Some(Ok(generic)) => {
                let exited = generic.waiting.process.exited();
                let mut state = pool.lock();
                // Nobody takes out what comes after the end.
                if pool.closed.is_cancelled() {
                    return;
                }
                state.held(&kind).ready.push(generic);
                exited
            }
        };
        drop(starting);
        // The pool may go while this waits.
        drop(shared);
        exited.await;
        if let Some(shared) = weak.upgrade() {
            bury(&shared, &kind, number);
        }
    });
}

/// One ended: if it waited still, that is a failure.
fn bury(shared: &Shared, kind: &Kind, number: u64) {
    let pool = &shared.warm;
    let mut state = pool.lock();
    let held = state.held(kind);
    let place = held.ready.iter().position(|one| one.number == number);
    let gone = place.map(|place| held.ready.swap_remove(place));
    if gone.is_some() {
        held.failed();
        tracing::warn!(environment = kind.name, "a warm instance died");
    }
    drop(state);
    pool.wake.notify_one();
}

/// What one that waits may use, as most functions may.
fn bytes() -> u64 {
    Limits::default().memory_bytes
}

/// Why there is no pool although one was asked for.
fn too_little(instances: u32, node_bytes: u64) -> Option<String> {
    let mib = node_bytes >> 20;
    let little = instances > 0 && node_bytes < NODE_BYTES_MIN;
    little.then(|| format!("the node has {mib} MiB of memory, less than 1 GB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_node_has_no_pool() {
        assert_eq!(too_little(0, 1 << 20), None);
        assert_eq!(too_little(1, 1 << 30), None);
        let why = too_little(1, 512 << 20).unwrap();
        assert!(why.contains("512 MiB"), "{why}");
    }
}
