//! The one path of every call: admit, lease, call, count.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use http_body::{Frame, SizeHint};
use mote_core::body::{Body, BodyStream, too_large};
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{HOPS_MAX, Invocation, InvocationId, Origin};
use mote_core::log::{Level, LogSink};
use mote_core::reply::Reply;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::admission::Gate;
use crate::bounded::{Stopped, bounded};
use crate::outcome::{Outcome, Record};
use crate::plan::{Entry, HeldEntry, Plan};
use crate::pool::{Kept, Lease};
use crate::published::{Resource, VALUE_BYTES_MAX, Watch};

mod offer;

use self::offer::{context, offer};

/// What callers are told to wait when there is no room; long enough for a queue of short calls.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
    pub async fn invoke(&self, invocation: Invocation) -> Result<Reply, Error> {
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
            let run = pin!(self.run(call.record.entry(), invocation, started));
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

    /// The part of a call that its deadline bounds.
    async fn run(
        &self,
        entry: &Arc<Entry>,
        invocation: Invocation,
        started: Instant,
    ) -> Result<(Reply, Option<Held>), Error> {
        if invocation.hops > HOPS_MAX {
            let message = format!(
                "the call came through {} others, the limit is {HOPS_MAX}",
                invocation.hops
            );
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
        if let Some(reply) = published_reply(entry, &invocation) {
            return Ok((reply, None));
        }
        let function = entry.gate.enter().await.map_err(|_| throttled(entry))?;
        let node = self.shared.gate.enter().await.map_err(|_| overloaded())?;
        let waited = function.waited || node.waited;
        let mut admitted = started;
        if waited {
            admitted = Instant::now();
            let waited = admitted - started;
            entry.state.counters.queue_wait.observe(waited);
        }

        let publication = entry.spec.observable.then(|| Publication::of(&invocation));
        let id = invocation.id;
        let mut offered = Some(invocation);
        let mut lease = entry.pool.lease(admitted).await?;
        if lease.is_cold() {
            entry.state.counters.cold_start.observe(admitted.elapsed());
        }
        let mut reply = match &lease {
            Lease::Single(single) => {
                let call = single.instance().call(&mut offered, context(entry));
                call.await?
            }
            Lease::Seat(_) => {
                let (reply, last) = Box::pin(offer(entry, offered, lease, started)).await?;
                lease = last;
                reply
            }
        };
        if reply.publish {
            reply = Box::pin(publish(entry, id, publication, reply)).await?;
        }
        // A reply that is all there holds nothing any more.
        let held = matches!(reply.body, Body::Stream(_)).then(|| {
            function.keep();
            node.keep();
            Held {
                _instance: lease.keep(),
                entry: Arc::clone(entry),
                node: Arc::clone(&self.shared),
            }
        });
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
    pub(crate) fn refused(&self, origin: Origin, kind: ErrorKind) -> u64 {
        self.refused[origin as usize][kind as usize].load(Ordering::Relaxed)
    }
}

/// A call that was accepted and has no outcome yet.
struct Call {
    id: InvocationId,
    deadline: Instant,
    record: Record,
}

/// What a call with a streamed reply holds until that has been read or dropped: its instance, and a
/// permit of its function and of the node.
struct Held {
    _instance: Kept,
    entry: Arc<Entry>,
    node: Arc<Shared>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.node.gate.release();
        self.entry.gate.release();
    }
}

impl Call {
    /// Counts a call that failed, and tells its function's log.
    fn fail(self, error: &Error) {
        log_failure(self.record.entry(), self.id, error);
        self.record.finish(Outcome::Failed(error.kind()));
    }

    /// Counts a reply that is all there; sends everything that the call holds along with one that
    /// is not.
    fn reply(mut self, mut reply: Reply, held: Option<Held>) -> Reply {
        let outcome = if reply.status.is_server_error() {
            Outcome::FunctionError
        } else {
            Outcome::Ok
        };
        reply.body = match reply.body {
            Body::Bytes(bytes) => {
                self.record.finish(outcome);
                Body::Bytes(bytes)
            }
            Body::Stream(stream) => {
                self.record.keep_for_long();
                let left = self.record.entry().spec.limits.body_bytes;
                let streaming = Streaming {
                    stream,
                    left,
                    outcome,
                    call: self,
                    reader: None,
                    _held: held,
                };
                Body::Stream(Box::pin(ReplyStream::new(streaming)))
            }
        };
        reply
    }
}

/// A reply's body that ends its call when it ends, is dropped, or is late. The deadline holds even
/// when nobody reads: a client that opens no window would otherwise keep its call for ever.
struct ReplyStream {
    streaming: Arc<Mutex<Option<Streaming>>>,
    deadline: AbortHandle,
    ended: bool,
}

/// A call whose reply is on its way.
struct Streaming {
    stream: BodyStream,
    left: u64,
    outcome: Outcome,
    call: Call,
    /// Who waits for the next frame.
    reader: Option<Waker>,
    _held: Option<Held>,
}

type PolledFrame = Poll<Option<Result<Frame<Bytes>, Error>>>;

impl ReplyStream {
    fn new(streaming: Streaming) -> Self {
        let deadline = streaming.call.deadline;
        let streaming = Arc::new(Mutex::new(Some(streaming)));
        let late = Arc::downgrade(&streaming);
        let task = tokio::spawn(async move {
            sleep_until(deadline).await;
            let Some(streaming) = late.upgrade() else {
                return;
            };
            let taken = lock(&streaming).take();
            if let Some(mut streaming) = taken {
                let (error, reader) = (streaming.late(), streaming.reader.take());
                streaming.call.fail(&error);
                reader.inspect(Waker::wake_by_ref);
            }
        });
        Self {
            streaming,
            deadline: task.abort_handle(),
            ended: false,
        }
    }

    fn fail(&mut self, error: Error) -> PolledFrame {
        self.ended = true;
        if let Some(streaming) = lock(&self.streaming).take() {
            streaming.call.fail(&error);
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        self.deadline.abort();
    }
}

impl Streaming {
    fn late(&self) -> Error {
        let record = &self.call.record;
        late(record.entry(), record.elapsed())
    }

    /// The next frame, within the function's limit.
    fn poll(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let frame = match self.stream.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Pending => {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            end => return end,
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = self.left.checked_sub(length) else {
            let limit = self.call.record.entry().spec.limits.body_bytes;
            return Poll::Ready(Some(Err(too_large(limit))));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }
}

fn lock(streaming: &Mutex<Option<Streaming>>) -> MutexGuard<'_, Option<Streaming>> {
    // A guest that panics is caught before it gets here; what it left is dropped like any other.
    streaming.lock().unwrap_or_else(PoisonError::into_inner)
}

impl http_body::Body for ReplyStream {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = lock(&self.streaming)
            .as_mut()
            .map(|streaming| streaming.poll(cx));
        match polled {
            // The deadline took it.
            None => {
                self.ended = true;
                let message = "the function did not end its reply in time";
                Poll::Ready(Some(Err(Error::new(ErrorKind::Timeout, message))))
            }
            Some(Poll::Ready(None)) => {
                self.ended = true;
                if let Some(Streaming { call, outcome, .. }) = lock(&self.streaming).take() {
                    call.record.finish(outcome);
                }
                Poll::Ready(None)
            }
            Some(Poll::Ready(Some(Err(error)))) => self.fail(error),
            Some(other) => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        // The last frame must be polled for, so that the outcome is counted before hyper lets go.
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        let streaming = lock(&self.streaming);
        streaming
            .as_ref()
            .map_or_else(SizeHint::default, |all| all.stream.size_hint())
    }
}

/// Which value a reply becomes if the guest publishes it. Kept beside the invocation, which the
/// runtime consumes.
struct Publication {
    path: String,
    query: Option<String>,
}

impl Publication {
    fn of(invocation: &Invocation) -> Self {
        Self {
            path: invocation.meta.path().to_owned(),
            query: invocation.meta.query().map(str::to_owned),
        }
    }
}

/// A GET of an observable function that has a published value is answered with it (RFC 7641 §4.1:
/// what observers see and what a plain GET returns is the same resource).
fn published_reply(entry: &Entry, invocation: &Invocation) -> Option<Reply> {
    if !entry.spec.observable || !matches!(invocation.meta.method, Method::GET | Method::HEAD) {
        return None;
    }
    let value = entry
        .state
        .published
        .get(invocation.meta.path(), invocation.meta.query())?;
    let mut headers = HeaderMap::new();
    if let Some(content_type) = &value.content_type {
        headers.insert(header::CONTENT_TYPE, content_type.clone());
    }
    let etag = format!("\"{:016x}\"", value.etag);
    headers.insert(
        header::ETAG,
        etag.try_into()
            .expect("quoted hexadecimal digits are a valid header"),
    );
    Some(Reply {
        headers,
        ..Reply::ok(value.body.clone())
    })
}

async fn publish(
    entry: &Entry,
    id: InvocationId,
    publication: Option<Publication>,
    reply: Reply,
) -> Result<Reply, Error> {
    let Some(Publication { path, query }) = publication else {
        entry.state.log.line(
            id,
            Level::Warn,
            "published nothing: the function is not `observable = true`",
        );
        return Ok(reply);
    };
    if !reply.status.is_success() {
        entry.state.log.line(
            id,
            Level::Warn,
            "published nothing: only a 2xx reply can be published",
        );
        return Ok(reply);
    }
    let body = reply.body.collect(VALUE_BYTES_MAX).await?;
    let content_type = reply.headers.get(header::CONTENT_TYPE).cloned();
    let counters = &entry.state.counters;
    match entry
        .state
        .published
        .publish(&path, query.as_deref(), body.clone(), content_type)
    {
        Ok(true) => _ = counters.published.fetch_add(1, Ordering::Relaxed),
        Ok(false) => {}
        Err(error) => {
            counters.publish_refused.fetch_add(1, Ordering::Relaxed);
            entry
                .state
                .log
                .line(id, Level::Warn, &format!("published nothing: {error}"));
        }
    }
    Ok(Reply {
        body: Body::Bytes(body),
        ..reply
    })
}

/// Puts what the node found wrong with a call into the function's own log. Refusals are not there:
/// they say nothing about the function, and come in crowds.
fn log_failure(entry: &Entry, id: InvocationId, error: &Error) {
    if matches!(
        error.kind(),
        ErrorKind::FunctionFailed | ErrorKind::Timeout | ErrorKind::Internal
    ) {
        let hint = error
            .hint()
            .map(|hint| format!("; {hint}"))
            .unwrap_or_default();
        entry
            .state
            .log
            .line(id, Level::Error, &format!("{error}{hint}"));
    }
}

fn stopped_error(stopped: &Stopped, entry: &Entry, started: Instant) -> Error {
    match stopped {
        Stopped::Late => late(entry, started.elapsed()),
        Stopped::Panicked => {
            tracing::error!(function = %entry.name, "a call panicked; please report this");
            Error::new(
                ErrorKind::Internal,
                format!("the node failed while running `{}`", entry.name),
            )
        }
    }
}

fn late(entry: &Entry, took: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!(
            "function `{}` did not answer in {} ms",
            entry.name,
            took.as_millis()
        ),
    )
    .with_hint("raise `timeout` in its manifest if it needs longer")
}

fn throttled(entry: &Entry) -> Error {
    let message = format!(
        "function `{}` has {} calls running and its queue is full",
        entry.name, entry.spec.limits.concurrency
    );
    Error::new(ErrorKind::Throttled, message)
        .with_hint("try again later, or raise `concurrency` or `queue` in its manifest")
        .with_retry_after(RETRY_AFTER)
}

fn overloaded() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "this node has no room for another call",
    )
    .with_retry_after(RETRY_AFTER)
}
