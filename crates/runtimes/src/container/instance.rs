//! A running container as an instance: calls go to its program, everything else to its owner.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::Invocation;
use mote_core::reply::Reply;
use mote_core::runtime::{BoxFuture, CallContext, Exit, Instance};
use mote_core::spec::FunctionSpec;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::engine::Engine;
use super::inside::Inside;
use super::lines::Lines;
use super::owner::Stop;
use crate::contract::http::{Connect, HttpClient, Stream};
use crate::contract::lambda::LambdaApi;

/// How long the end of a container is waited for after a call failed, and a call's answer after the
/// container's end.
const REASON_MAX: Duration = Duration::from_millis(250);

/// A running container. Dropping it removes the container.
pub(super) struct Container {
    pub(super) engine: Arc<Engine>,
    pub(super) docker: Docker,
    pub(super) name: String,
    pub(super) spec: Arc<FunctionSpec>,
    pub(super) lines: Arc<Lines>,
    pub(super) exit: watch::Receiver<Option<Exit>>,
    pub(super) stops: mpsc::Sender<Stop>,
    /// The path that answers when it is ready.
    pub(super) ready: Option<String>,
    pub(super) talk: Talk,
    /// On this system, if it is.
    pub(super) inside: Option<Arc<Inside>>,
}

/// How its program is talked to.
pub(super) enum Talk {
    /// It listens.
    Http(HttpClient),
    /// It asks for calls.
    Lambda(Arc<LambdaApi>),
}

/// Connects to a container's program.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) socket: SocketAddr,
    pub(super) inside: Option<Arc<Inside>>,
}

impl Connect for Address {
    fn connect(&self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async {
            let stream = match &self.inside {
                Some(inside) => inside.connect(self.socket).await,
                None => TcpStream::connect(self.socket).await,
            };
            Ok(Stream::Tcp(stream?))
        })
    }
}

impl Container {
    /// Waits until the program takes calls. Fails with how it ended when it ended before.
    pub(super) async fn ready(&self, within: Duration) -> Result<(), Error> {
        let path = self.ready.as_deref();
        let ready = async {
            match &self.talk {
                Talk::Http(client) => client.ready(path, within).await,
                Talk::Lambda(api) => api.initialized(within).await,
            }
        };
        let ready = tokio::select! {
            ready = ready => ready,
            exit = self.exited() => Err(ended(&exit).context("not ready")),
        };
        ready.map_err(|error| not_ready(&error, &self.lines))?;
        if let Some(inside) = self.inside.clone() {
            // Calls need not wait for it.
            tokio::task::spawn_blocking(move || inside.wait_for_the_node());
        }
        Ok(())
    }

    /// What is wrong, with how the container ended if it did.
    async fn explain(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::FunctionFailed {
            return error;
        }
        let wait = match &self.talk {
            Talk::Http(_) => REASON_MAX,
            // A program says itself when a call failed; when it ends, that is known before its calls fail.
            Talk::Lambda(_) => Duration::ZERO,
        };
        match tokio::time::timeout(wait, self.exited()).await {
            Ok(exit) => error.context(ended(&exit)),
            Err(_) => error,
        }
    }
}

impl Instance for Container {
    fn call<'a>(
        &'a self,
        offered: &'a mut Option<Invocation>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(async move {
            if let Some(invocation) = offered.as_ref() {
                self.lines.belong(invocation.id, &context.log());
            }
            let limit = self.spec.limits.body_bytes;
            let call = async {
                match &self.talk {
                    Talk::Http(client) => client.call(offered, limit).await,
                    Talk::Lambda(api) => api.call(offered, limit, &context.log()).await,
                }
            };
            let mut call = std::pin::pin!(call);
            let reply = tokio::select! {
                biased;
                reply = &mut call => reply,
                // What it answered last may be under way; more does not come, and where its network
                // went with it, no connection says so.
                exit = self.exited() => match tokio::time::timeout(REASON_MAX, call).await {
                    Ok(reply) => reply,
                    Err(_) => return Err(ended(&exit).context("no answer")),
                },
            };
            match reply {
                Ok(reply) => Ok(reply),
                Err(error) => Err(self.explain(error).await),
            }
        })
    }

    fn idle_bytes(&self) -> u64 {
        self.spec.limits.memory_bytes
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        let mut exit = self.exit.clone();
        Box::pin(async move {
            let known = exit.wait_for(Option::is_some).await;
            let known = known.ok().and_then(|exit| exit.clone());
            known.unwrap_or_else(|| Exit {
                how: "was removed".to_owned(),
                on_purpose: true,
            })
        })
    }

    fn pause(&self) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async {
            let mut paused = self.docker.pause_container(&self.name).await;
            if paused.is_err() {
                // Engines refuse a pause now and then under load. What was frozen goes on before the
                // second try, which is the last.
                let _ = self.docker.unpause_container(&self.name).await;
                paused = self.docker.pause_container(&self.name).await;
            }
            paused.map_err(|error| self.engine.failed("pause the container", &error))?;
            Ok(true)
        })
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let resumed = self.docker.unpause_container(&self.name).await;
            resumed.map_err(|error| self.engine.failed("resume the container", &error))
        })
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (removed, done) = oneshot::channel();
            // Without an owner the container is removed already.
            if self.stops.send(Stop { grace, removed }).await.is_ok() {
                let _ = done.await;
            }
        })
    }
}

/// Why it is not ready, with what it wrote last.
pub(super) fn not_ready(error: &Error, lines: &Lines) -> Error {
    let said = Error::new(error.kind(), format!("{}{}", error.message(), lines.last()));
    match error.hint() {
        Some(hint) => said.with_hint(hint.to_owned()),
        None => said,
    }
}

/// The end of a container as the failure of what needed it.
pub(super) fn ended(exit: &Exit) -> Error {
    let message = format!("the container ended ({})", exit.how);
    Error::new(ErrorKind::FunctionFailed, message)
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
