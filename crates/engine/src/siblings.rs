//! What a function of this node may reach: its siblings, the data and secrets of its app.
//!
//! Calls of siblings are checked here and then go the one path of every call ([`Invoker`]), nested
//! below the call that makes them: they run under its permit of the node, have at most what is left
//! of its time, and one hop more. A handed-over call is one from outside in all but its origin.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::host::{Ancestors, Bucket, Caller, Host, SiblingReply, SiblingRequest};
use mote_core::invocation::{FunctionId, HOPS_MAX, Invocation, InvocationId, Origin};
use mote_core::key_value::KeyValue;
use mote_core::log::{Level, LogSink};
use mote_core::name::AppName;
use mote_core::runtime::BoxFuture;
use mote_core::secrets::Secrets;
use mote_core::spec::FunctionSpec;
use tokio::task::JoinHandle;

use crate::invoker::{Invoker, Shared, stopping, too_deep};
use crate::logs::FunctionLog;
use crate::plan::Entry;
use crate::spawned::Kept;

mod request;

use self::request::{check, meta};

/// What functions keep, all apps together.
#[derive(Clone)]
pub struct Data {
    /// Key-value data.
    pub key_value: Arc<dyn KeyValue>,
    /// Secrets.
    pub secrets: Arc<dyn Secrets>,
}

/// What one version of a function may reach.
pub(crate) struct FunctionHost {
    id: FunctionId,
    spec: Arc<FunctionSpec>,
    app: AppName,
    log: Arc<FunctionLog>,
    node: Weak<Shared>,
}

impl FunctionHost {
    pub(crate) fn new(
        id: FunctionId,
        spec: &Arc<FunctionSpec>,
        log: &Arc<FunctionLog>,
        invoker: &Invoker,
    ) -> Self {
        Self {
            id,
            spec: Arc::clone(spec),
            app: AppName::from(&spec.name),
            log: Arc::clone(log),
            node: invoker.downgrade(),
        }
    }

    fn node(&self) -> Result<Invoker, Error> {
        let node = self.node.upgrade().map(Invoker::from_shared);
        node.ok_or_else(stopping)
    }

    /// The call of a sibling that is asked for, checked. What is refused here is no call yet, and
    /// is counted beside the requests that doors refuse.
    fn checked(&self, hops: u8, request: SiblingRequest) -> Result<Checked, Error> {
        let node = self.node()?;
        let checked = self.check(&node, hops, request);
        checked
            .map(|(entry, invocation)| Checked {
                node: node.clone(),
                unbegun: Unbegun(Some(Arc::clone(&entry))),
                entry,
                invocation,
            })
            .inspect_err(|error| node.refused(Origin::Function, error.kind()))
    }

    fn check(
        &self,
        node: &Invoker,
        hops: u8,
        request: SiblingRequest,
    ) -> Result<(Arc<Entry>, Invocation), Error> {
        if hops > HOPS_MAX {
            return Err(too_deep(hops));
        }
        let name = self.spec.name.sibling(&request.function)?;
        let entry = node.resolve(name.full()).ok_or_else(|| {
            let message = format!("function `{name}` is not deployed on this node");
            Error::new(ErrorKind::NotFound, message)
        })?;
        check(&request, &entry.spec)?;
        let invocation = Invocation {
            id: node.next_id(),
            function: entry.id,
            meta: meta(&name, request.method, &request.target, request.headers)?,
            body: Body::Bytes(request.body),
            budget: entry.spec.limits.timeout,
            origin: Origin::Function,
            hops,
        };
        Ok((entry, invocation))
    }

    /// A call that is nested in that of `caller`.
    fn nested(&self, caller: &Caller, request: SiblingRequest) -> Result<Nested, Error> {
        let mut call = self.checked(caller.hops.saturating_add(1), request)?;
        let now = call.node.shared().started.elapsed();
        call.invocation.budget = caller.deadline.saturating_sub(now);
        let ancestors = Ancestors {
            function: self.id,
            before: caller.ancestors.clone(),
        };
        Ok(Nested {
            call,
            ancestors: Arc::new(ancestors),
        })
    }
}

impl LogSink for FunctionHost {
    fn line(&self, call: InvocationId, level: Level, text: &str) {
        self.log.line(call, level, text);
    }
}

impl Host for FunctionHost {
    fn call(
        &self,
        caller: &Caller,
        request: SiblingRequest,
    ) -> BoxFuture<'static, Result<SiblingReply, Error>> {
        match self.nested(caller, request) {
            Ok(nested) => Box::pin(nested.run()),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn start(
        &self,
        caller: &Caller,
        request: SiblingRequest,
    ) -> BoxFuture<'static, Result<SiblingReply, Error>> {
        let started = self.nested(caller, request).and_then(Started::new);
        match started {
            Ok(started) => Box::pin(started),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn spawn(&self, caller: &Caller, request: SiblingRequest) -> Result<InvocationId, Error> {
        let bytes = request.body.len();
        let call = self.checked(caller.hops.saturating_add(1), request)?;
        let (id, node) = (call.invocation.id, call.node.clone());
        let shared = node.shared();
        let room = match shared.spawned.room(bytes) {
            Ok(room) => room,
            Err(error) => return Err(call.refuse(error)),
        };
        shared.spawned.run(room, &shared.runner(), call.run_alone());
        Ok(id)
    }

    fn bucket(&self, name: &str) -> Result<Bucket, Error> {
        if !self.spec.allow.keyvalue {
            let message = format!("function `{}` may not use key-value data", self.spec.name);
            return Err(Error::new(ErrorKind::Forbidden, message)
                .with_hint("to grant it write: allow.keyvalue = true"));
        }
        let node = self.node()?;
        let data = node.shared().data.get().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "this node keeps no key-value data")
        })?;
        Bucket::new(Arc::clone(&data.key_value), self.app.clone(), name)
    }

    fn setting(&self, key: &str) -> Option<Arc<str>> {
        self.secret(key)
            .or_else(|| self.spec.env.get(key).map(|value| value.as_str().into()))
    }

    fn settings(&self) -> Vec<(String, Arc<str>)> {
        let variables = self.spec.env.iter();
        let mut settings: BTreeMap<String, Arc<str>> = variables
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect();
        for name in &self.spec.allow.secrets {
            if let Some(value) = self.secret(name) {
                settings.insert(name.clone(), value);
            }
        }
        settings.into_iter().collect()
    }
}

impl FunctionHost {
    /// A secret, if it was granted and there is one.
    fn secret(&self, name: &str) -> Option<Arc<str>> {
        let granted = self
            .spec
            .allow
            .secrets
            .iter()
            .any(|granted| granted == name);
        let node = self.node.upgrade().filter(|_| granted)?;
        node.data.get()?.secrets.get(&self.app, name)
    }
}

/// A call that may be made.
struct Checked {
    node: Invoker,
    entry: Arc<Entry>,
    unbegun: Unbegun,
    invocation: Invocation,
}

/// A call that may end before it begins: a started one is a task that its caller drops at any time.
/// It is counted all the same.
struct Unbegun(Option<Arc<Entry>>);

impl Unbegun {
    /// From here on the call counts itself.
    fn begin(mut self) {
        self.0 = None;
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        if let Some(entry) = &self.0 {
            entry.state.counters.dropped(Origin::Function);
        }
    }
}

impl Checked {
    /// Counts it as refused instead of as a call.
    fn refuse(self, error: Error) -> Error {
        self.unbegun.begin();
        self.node.refused(Origin::Function, error.kind());
        error
    }

    /// Runs it as a call of its own, for whose reply nobody waits.
    async fn run_alone(self) {
        self.unbegun.begin();
        let id = self.invocation.id;
        let log = |level, text: String| self.entry.state.log.line(id, level, &text);
        let reply = self.node.invoke(self.invocation).await;
        let failed = match reply {
            Ok(reply) if reply.status.is_server_error() => {
                let status = reply.status.as_u16();
                log(
                    Level::Warn,
                    format!("the handed-over call answered {status}"),
                );
                pass_over(reply.body).await.err()
            }
            Ok(reply) => pass_over(reply.body).await.err(),
            // A refusal is nowhere else, as nobody waits for it.
            Err(error) => Some(error),
        };
        // What the function itself did wrong is in its log already.
        let known = [
            ErrorKind::FunctionFailed,
            ErrorKind::Timeout,
            ErrorKind::Internal,
        ];
        if let Some(error) = failed.filter(|error| !known.contains(&error.kind())) {
            log(
                Level::Error,
                format!("the handed-over call was refused: {error}"),
            );
        }
    }
}

/// Reads a body to its end and keeps nothing.
async fn pass_over(body: Body) -> Result<(), Error> {
    let Body::Stream(mut stream) = body else {
        return Ok(());
    };
    while let Some(frame) = std::future::poll_fn(|cx| stream.as_mut().poll_frame(cx)).await {
        frame?;
    }
    Ok(())
}

/// A call that is part of another one.
struct Nested {
    call: Checked,
    ancestors: Arc<Ancestors>,
}

impl Nested {
    async fn run(self) -> Result<SiblingReply, Error> {
        let Checked {
            node,
            entry,
            unbegun,
            invocation,
        } = self.call;
        unbegun.begin();
        let reply = node.carry(invocation, Some(self.ancestors)).await?;
        let body: Bytes = reply.body.collect(entry.spec.limits.body_bytes).await?;
        Ok(SiblingReply {
            status: reply.status,
            headers: reply.headers,
            body,
        })
    }
}

/// A nested call that runs whether or not it is polled; dropping this ends it.
struct Started {
    task: JoinHandle<Result<(SiblingReply, Kept), Error>>,
}

impl Started {
    /// Begins it. Fails with `Overloaded` when the node keeps too many bytes of such calls: one
    /// buffer of a guest may be the body of many.
    fn new(nested: Nested) -> Result<Self, Error> {
        let node = nested.call.node.clone();
        let length = nested.call.invocation.body.length().unwrap_or(0);
        let request = match node.shared().spawned.keep(length) {
            Ok(request) => request,
            Err(error) => return Err(nested.call.refuse(error)),
        };
        let runner = node.shared().runner();
        let task = runner.spawn(async move {
            let reply = nested.run().await?;
            drop(request);
            // Nobody may read it for long.
            let kept = node.shared().spawned.keep(reply.body.len() as u64)?;
            Ok((reply, kept))
        });
        Ok(Self { task })
    }
}

impl Future for Started {
    type Output = Result<SiblingReply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = ready!(Pin::new(&mut self.task).poll(cx));
        Poll::Ready(match joined {
            Ok(done) => done.map(|(reply, _kept)| reply),
            Err(error) if error.is_panic() => {
                let message = "the node failed in a call between functions";
                Err(Error::new(ErrorKind::Internal, message))
            }
            // The thread it ran on has ended.
            Err(_) => Err(stopping()),
        })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for FunctionHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionHost")
            .field("function", &self.spec.name)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data").finish_non_exhaustive()
    }
}
