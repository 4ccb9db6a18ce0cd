//! One shard: moves batches between its socket, the state machine and the engine.
//!
//! A call is polled once in place; most are done by then (a guest yields at least every
//! millisecond, which bounds this), and their replies leave in the same batch. Others become tasks
//! that the shard owns. It ends when it was told to and its calls are done.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use foldhash::fast::RandomState;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hashbrown::HashMap;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{InvocationId, Origin};
use mote_engine::invoker::Invoker;
use mote_engine::plan::Plan;
use mote_engine::published::{Published, Resource, Watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Time;
use super::counters::Counters;
use super::endpoint::{Answer, Call, Endpoint, Output};
use super::functions::{Function, Functions, Link};
use super::udp::{Batch, Socket};

/// Batches that are taken before the thread's other tasks have their turn: calls that were not done
/// at once, the HTTP door, the admin API. Some milliseconds of small calls.
const BATCHES_IN_A_ROW: usize = 4;
/// How long the last responses of a shard that ends wait for their acknowledgements: one
/// retransmission (RFC 7252 §4.8).
const LAST_ACKNOWLEDGEMENTS_MS: Time = 3000;

/// Pause after the system failed to give us datagrams.
const RECEIVE_AGAIN: Duration = Duration::from_millis(10);

type Done = (u64, Result<Answer, Error>);

/// What a shard owns.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) socket: Socket,
    pub(super) endpoint: Endpoint,
    pub(super) invoker: Invoker,
    pub(super) counters: Arc<Counters>,
    /// When the door was bound.
    pub(super) started: Instant,
}

/// Serves until it is told to end and its calls are done.
pub(super) async fn run(shard: Shard, shutdown: CancellationToken) {
    let Shard {
        socket,
        endpoint,
        invoker,
        counters,
        started,
    } = shard;
    let engine = Engine {
        plan: Arc::default(),
        nothing: Arc::default(),
        invoker,
        followed: HashMap::default(),
        changes: FuturesUnordered::new(),
    };
    let mut running = Running {
        endpoint,
        engine,
        out: Output::default(),
        tasks: JoinSet::new(),
        keys: HashMap::default(),
        started,
        counters,
    };
    let mut batch = Batch::new();
    let mut timer = Timer::new(started);
    let mut ending: Option<Time> = None;
    loop {
        let due = running.endpoint.due();
        timer.set(match ending {
            Some(since) => Some(due.map_or(last_chance(since), |due| due.min(last_chance(since)))),
            None => due,
        });
        tokio::select! {
            biased;
            () = shutdown.cancelled(), if ending.is_none() => {
                ending = Some(running.now());
                running.endpoint.close(&mut running.engine, &mut running.out);
            }
            Some(done) = running.tasks.join_next_with_id(), if !running.tasks.is_empty() => {
                running.joined(done);
                while let Some(done) = running.tasks.try_join_next_with_id() {
                    running.joined(done);
                }
            }
            Some(change) = running.engine.changes.next(), if !running.engine.changes.is_empty() => {
                if let Ok(change) = change {
                    running.changed(change);
                }
            }
            received = socket.receive(&mut batch) => {
                if received.is_err() {
                    // The system has no memory for it, or worse; trying at once would not help.
                    tokio::time::sleep(RECEIVE_AGAIN).await;
                }
                running.received(received, &batch);
                running.send(&socket);
                let mut more = true;
                for _ in 1..BATCHES_IN_A_ROW {
                    match socket.try_receive(&mut batch) {
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            more = false;
                            break;
                        }
                        received => running.received(received, &batch),
                    }
                    running.send(&socket);
                }
                if more {
                    // A crowd that sends as fast as it is answered never empties the socket, and
                    // would keep the thread until tokio's own budget ends: thousands of calls.
                    task::yield_now().await;
                }
            }
            () = timer.sleep.as_mut(), if timer.armed.is_some() => {}
            _ = socket.writable(), if !running.out.sends.is_empty() => {}
        }
        let now = running.now();
        if running.endpoint.due().is_some_and(|due| due <= now) {
            running
                .endpoint
                .tick(now, &mut running.engine, &mut running.out);
        }
        running.send(&socket);
        if let Some(since) = &mut ending {
            if running.endpoint.calls_under_way() > 0 {
                *since = now;
            } else if running.endpoint.exchanges_under_way() == 0 || last_chance(*since) <= now {
                return;
            }
        }
    }
}

/// When a shard that ends waits no more.
fn last_chance(since: Time) -> Time {
    since + LAST_ACKNOWLEDGEMENTS_MS
}

/// The moving parts of a shard, without what is waited for.
struct Running {
    endpoint: Endpoint,
    engine: Engine,
    out: Output,
    tasks: JoinSet<Done>,
    keys: HashMap<task::Id, u64, RandomState>,
    started: Instant,
    counters: Arc<Counters>,
}

impl Running {
    fn now(&self) -> Time {
        Time::try_from(self.started.elapsed().as_millis()).unwrap_or(Time::MAX)
    }

    fn received(&mut self, received: std::io::Result<u32>, batch: &Batch) {
        let drops = match received {
            Ok(drops) => drops,
            Err(error) => {
                tracing::warn!(%error, "no datagram could be received");
                return;
            }
        };
        self.counters.dropped_in.add(drops.into());
        self.engine.plan = self.engine.invoker.catalog();
        let now = self.now();
        for (peer, bytes, truncated) in batch.iter() {
            if truncated {
                self.endpoint.oversized(peer, bytes, &mut self.out);
                continue;
            }
            self.endpoint
                .datagram(now, peer, bytes, &mut self.engine, &mut self.out);
            while let Some(call) = self.out.calls.pop() {
                self.start(now, call);
            }
        }
        // A plan that is kept keeps instances and files of what was removed or replaced.
        self.engine.plan = Arc::clone(&self.engine.nothing);
    }

    /// Polls a call once; what is not done becomes a task.
    fn start(&mut self, now: Time, call: Call) {
        let key = call.key;
        let mut future = Box::pin(run_call(self.engine.invoker.clone(), call));
        match poll_once(future.as_mut()) {
            Poll::Ready((_, result)) => self.answered(now, key, result),
            Poll::Pending => {
                self.endpoint.still_running(now, key);
                let id = self.tasks.spawn(future).id();
                self.keys.insert(id, key);
            }
        }
    }

    fn joined(&mut self, done: Result<(task::Id, Done), JoinError>) {
        let id = match &done {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        let result = match done {
            Ok((_, (_, result))) => result,
            Err(_) => Err(panicked()),
        };
        let now = self.now();
        self.answered(now, key, result);
    }

    fn answered(&mut self, now: Time, key: u64, result: Result<Answer, Error>) {
        self.endpoint
            .answered(now, key, result, &mut self.engine, &mut self.out);
    }

    fn changed(&mut self, (resource, value, watch): Change) {
        let now = self.now();
        if value.is_some() {
            self.engine.follow(resource.clone(), watch);
        } else {
            self.engine.followed.remove(&resource);
        }
        self.endpoint
            .published(now, &resource, value, &mut self.engine, &mut self.out);
    }

    fn send(&mut self, socket: &Socket) {
        if self.out.sends.is_empty() {
            return;
        }
        let (sent, failed) = socket.send(&mut self.out.sends);
        self.counters.datagrams_out.add(sent);
        if failed > 0 {
            self.counters.dropped_out.add(failed);
        }
    }
}

async fn run_call(invoker: Invoker, call: Call) -> Done {
    let Call {
        key,
        invocation,
        body_bytes,
    } = call;
    let result = async {
        let reply = invoker.invoke(invocation).await?;
        Ok(Answer {
            status: reply.status,
            headers: reply.headers,
            body: reply.body.collect(body_bytes).await?,
        })
    };
    (key, result.await)
}

/// Polls a future without a task. Whatever woke it is lost, which is no loss: it is done, or polled
/// anew by its task. The runtime's budget of steps for a task must not be used up by a whole batch
/// of calls, so they do not count against it.
fn poll_once<F: Future<Output = Done> + Send>(future: Pin<&mut F>) -> Poll<Done> {
    let mut unconstrained = std::pin::pin!(task::unconstrained(future));
    let mut context = Context::from_waker(Waker::noop());
    // A panic here would end the shard for everyone; the engine is to let none through.
    catch_unwind(AssertUnwindSafe(|| {
        unconstrained.as_mut().poll(&mut context)
    }))
    .unwrap_or_else(|_| Poll::Ready((0, Err(panicked()))))
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "the call ended in a bug of this node")
}

/// The timer, set anew only when its time changes.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: Option<Time>,
    started: Instant,
}

impl Timer {
    fn new(started: Instant) -> Self {
        Self {
            sleep: Box::pin(sleep_until(started)),
            armed: None,
            started,
        }
    }

    fn set(&mut self, due: Option<Time>) {
        if self.armed == due {
            return;
        }
        self.armed = due;
        if let Some(due) = due {
            self.sleep
                .as_mut()
                .reset(self.started + Duration::from_millis(due));
        }
    }
}

type Change = (Resource, Option<Arc<Published>>, Watch);
type Next = Abortable<Pin<Box<dyn Future<Output = Change> + Send>>>;

/// The engine as the state machine sees it.
struct Engine {
    invoker: Invoker,
    /// The plan of this batch; between batches [`Engine::nothing`].
    plan: Arc<Plan>,
    /// A plan without functions.
    nothing: Arc<Plan>,
    /// What is followed: one watch for each observed resource, bounded by the observers.
    followed: HashMap<Resource, AbortHandle, RandomState>,
    changes: FuturesUnordered<Next>,
}

impl Engine {
    fn follow(&mut self, resource: Resource, mut watch: Watch) {
        let (handle, registration) = AbortHandle::new_pair();
        self.followed.insert(resource.clone(), handle);
        let next = async move {
            let value = watch.changed().await;
            (resource, value, watch)
        };
        self.changes
            .push(Abortable::new(Box::pin(next), registration));
    }
}

impl Functions for Engine {
    fn resolve(&self, name: &str) -> Option<Function> {
        let entry = self.plan.resolve(name)?;
        Some(Function {
            id: entry.id,
            body_bytes: entry.spec.limits.body_bytes,
            timeout: entry.spec.limits.timeout,
            observable: entry.spec.observable,
        })
    }

    fn links(&self, visit: &mut dyn FnMut(Link<'_>)) {
        for entry in self.plan.entries() {
            visit(Link {
                name: &entry.name,
                observable: entry.spec.observable,
            });
        }
    }

    fn next_id(&self) -> InvocationId {
        self.invoker.next_id()
    }

    fn refused(&self, kind: ErrorKind) {
        self.invoker.refused(Origin::Coap, kind);
    }

    fn watch(&mut self, resource: &Resource) -> Result<Option<Arc<Published>>, Error> {
        let watch = self.invoker.watch(resource)?;
        let current = watch.current();
        if !self.followed.contains_key(resource) {
            self.follow(resource.clone(), watch);
        }
        Ok(current)
    }

    fn unwatch(&mut self, resource: &Resource) {
        if let Some(handle) = self.followed.remove(resource) {
            handle.abort();
        }
    }
}
