//! The owner of one container: a task that makes it, waits for its end, and removes it.
//!
//! Only this task makes and removes the container, so none is left behind when whoever asked for it
//! goes away: not while the engine is still making it, not when a node drops an instance, and not
//! when the engine is away at that moment. A container of a node that was killed is removed at the
//! node's next start, by its label.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error as EngineError;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    StartContainerOptions, StopContainerOptionsBuilder, WaitContainerOptions,
};
use futures_util::{FutureExt as _, StreamExt as _};
use mote_core::error::{Error, ErrorKind};
use mote_core::log::Level;
use mote_core::runtime::Exit;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::engine::{Engine, remove, status};
use super::gateway::Gateway;
use super::inside::Inside;
use super::lines::{Cutter, Lines};
use super::network::Member;
use crate::contract::lambda::LambdaApi;

/// How long an engine that went away may take to come back before its containers count as lost.
const LOST_MAX: Duration = Duration::from_secs(10);
/// How long removing a container is tried.
const REMOVE_MAX: Duration = Duration::from_secs(600);
/// Time between tries: twice as long each time, from here…
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// … to here.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A container to be made and owned.
pub(super) struct Owner {
    pub(super) engine: Arc<Engine>,
    pub(super) docker: Docker,
    pub(super) name: String,
    pub(super) body: ContainerCreateBody,
    pub(super) lines: Arc<Lines>,
    pub(super) exit: watch::Sender<Option<Exit>>,
    /// Its place in the network of its app.
    pub(super) member: Member,
    /// What the node serves to it.
    pub(super) gateway: Gateway,
    /// Of contract `http`: where it listens.
    pub(super) port: Option<u16>,
    /// Of contract `lambda`: where it asks.
    pub(super) lambda: Option<Arc<LambdaApi>>,
}

/// Asks for the end of a container, and for word when it is removed.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) grace: Duration,
    pub(super) removed: oneshot::Sender<()>,
}

/// Where a container is.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// In the network of its app.
    pub(super) address: Option<IpAddr>,
    /// On this system, if it is.
    pub(super) inside: Option<Arc<Inside>>,
}

impl Owner {
    /// Makes the container and says where it is; then keeps it until it ends, is stopped, or
    /// `stops` is dropped. Removes it in every case.
    pub(super) async fn own(
        self,
        started: oneshot::Sender<Result<Place, Error>>,
        mut stops: mpsc::Receiver<Stop>,
    ) {
        // Not cancelled when nobody waits any more: the engine would go on making it.
        let mut made = match self.make(&started).await {
            Ok(made) => made,
            Err(error) => {
                self.remove().await;
                let _ = started.send(Err(error));
                return;
            }
        };
        let mut stop = None;
        if started.send(Ok(made.place.clone())).is_ok() {
            let ended = tokio::select! {
                exit = self.ended(&made) => Some(exit),
                order = stops.recv() => { stop = order; None }
            };
            if let Some(exit) = ended {
                // What it wrote last is read before its end is told.
                let _ = tokio::time::timeout(Duration::from_secs(1), &mut made.reading).await;
                self.exit.send_replace(Some(exit));
            }
        }
        if let Some(stop) = &stop {
            self.ask_to_end(stop.grace).await;
        }
        let last = Exit {
            how: "was removed".to_owned(),
            on_purpose: true,
        };
        self.exit
            .send_if_modified(|exit| exit.is_none() && exit.replace(last).is_none());
        if let Some(lambda) = &self.lambda {
            lambda.gone();
        }
        self.gateway.end();
        self.remove().await;
        made.reading.abort();
        if let Some(stop) = stop {
            let _ = stop.removed.send(());
        }
        while let Ok(stop) = stops.try_recv() {
            let _ = stop.removed.send(());
        }
    }

    async fn make<T>(&self, waiter: &oneshot::Sender<T>) -> Result<Made, Error> {
        self.create().await?;
        if waiter.is_closed() {
            return Err(Error::new(
                ErrorKind::Timeout,
                "nobody waits for the container",
            ));
        }
        let reading = self.attach().await?;
        // From here on it ends when this function fails.
        let made = Made {
            reading,
            place: Place::default(),
        };
        self.start().await?;
        let inspect = self.inspect().await;
        let inspect =
            inspect.map_err(|error| self.engine.failed("look at the container", &error))?;
        let process = inspect.state.and_then(|state| state.pid);
        let inside = inspect
            .id
            .zip(process)
            .and_then(|(id, process)| Inside::of(&id, process))
            .map(Arc::new);
        let networks = inspect
            .network_settings
            .and_then(|settings| settings.networks);
        let address = networks.as_ref().and_then(|networks| {
            networks
                .get(&self.member.network)?
                .ip_address
                .as_deref()?
                .parse()
                .ok()
        });
        Ok(Made {
            place: Place { address, inside },
            ..made
        })
    }

    async fn create(&self) -> Result<(), Error> {
        let options = || {
            Some(
                CreateContainerOptionsBuilder::new()
                    .name(&self.name)
                    .build(),
            )
        };
        let mut created = self
            .docker
            .create_container(options(), self.body.clone())
            .await;
        if created
            .as_ref()
            .is_err_and(|error| status(error) == Some(409))
        {
            // The name is this node's: a leftover that could not be removed before.
            let _ = remove(&self.docker, &self.name).await;
            created = self
                .docker
                .create_container(options(), self.body.clone())
                .await;
        }
        created.map(drop).map_err(|error| {
            let failed = self.engine.failed("make the container", &error);
            if failed.message().contains("container-init binary not found") {
                return failed.with_hint("install catatonit, the init process of Podman");
            }
            failed
        })
    }

    /// Reads what it writes, from its first byte on.
    async fn attach(&self) -> Result<Reading, Error> {
        let options = AttachContainerOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .stream(true)
            .build();
        let attached = self
            .docker
            .attach_container(&self.name, Some(options))
            .await;
        let mut output = attached.map_err(|error| self.not_started(&error))?.output;
        let lines = Arc::clone(&self.lines);
        Ok(Reading(tokio::spawn(async move {
            let (mut out, mut err) = (Cutter::new(Level::Info), Cutter::new(Level::Warn));
            while let Some(Ok(piece)) = output.next().await {
                match piece {
                    LogOutput::StdErr { message } => err.push(&message, &lines),
                    other => out.push(&other.into_bytes(), &lines),
                }
            }
            out.finish(&lines);
            err.finish(&lines);
        })))
    }

    async fn start(&self) -> Result<(), Error> {
        let started = self
            .docker
            .start_container(&self.name, None::<StartContainerOptions>)
            .await;
        started.map_err(|error| self.not_started(&error))
    }

    /// Why it did not start. Podman prepares a container as soon as its output is read, and fails
    /// then already.
    fn not_started(&self, error: &EngineError) -> Error {
        let failed = self.engine.failed("start the container", error);
        match failed.kind() {
            // What the engine says here is about the program: not found, not executable.
            ErrorKind::Internal
            | ErrorKind::BadRequest
            | ErrorKind::NotFound
            | ErrorKind::Conflict => {
                Error::new(ErrorKind::FunctionFailed, failed.message().to_owned())
                    .with_hint("check `command`, and what the image starts")
            }
            _ => failed,
        }
    }

    async fn inspect(&self) -> Result<ContainerInspectResponse, EngineError> {
        self.docker
            .inspect_container(&self.name, None::<InspectContainerOptions>)
            .await
    }

    /// Waits for the end of the container, also over a restart of the engine that it survives.
    async fn ended(&self, made: &Made) -> Exit {
        let mut lost: Option<Instant> = None;
        let mut pause = PAUSE_MIN;
        loop {
            let mut wait = std::pin::pin!(
                self.docker
                    .wait_container(&self.name, None::<WaitContainerOptions>)
            );
            match wait.next().await {
                Some(Ok(end)) => return self.exit(end.status_code).await,
                Some(Err(EngineError::DockerContainerWaitError { code, .. })) => {
                    return self.exit(code).await;
                }
                Some(Err(error)) if status(&error) == Some(404) => {
                    return ended("was removed from outside");
                }
                Some(Err(error)) => {
                    tracing::debug!(container = self.name, %error, "lost the engine")
                }
                None => tracing::debug!(container = self.name, "lost the engine"),
            }
            self.engine.forget();
            // A wait that held for longer than that was a new loss.
            let since = *lost.get_or_insert_with(Instant::now);
            if since.elapsed() >= LOST_MAX || !self.is_there(made).await {
                return ended("was lost with the container engine");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            if self.inspect().await.is_ok() {
                (lost, pause) = (None, PAUSE_MIN);
            }
        }
    }

    /// Whether its program still takes connections; known only of one that listens.
    async fn is_there(&self, made: &Made) -> bool {
        let Some((address, port)) = made.place.address.zip(self.port) else {
            return true;
        };
        let connected = TcpStream::connect(SocketAddr::new(address, port));
        matches!(
            tokio::time::timeout(Duration::from_secs(1), connected).await,
            Ok(Ok(_))
        )
    }

    async fn exit(&self, code: i64) -> Exit {
        let state = self.inspect().await.ok().and_then(|inspect| inspect.state);
        let memory = state.and_then(|state| state.oom_killed).unwrap_or(false);
        ended(how(code, memory))
    }

    async fn ask_to_end(&self, grace: Duration) {
        if grace.is_zero() {
            return;
        }
        // One that is paused would not hear it; one that is not paused says so, which is fine.
        let _ = self.docker.unpause_container(&self.name).await;
        let seconds = i32::try_from(grace.as_secs() + 1).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let stopped = self.docker.stop_container(&self.name, Some(options));
        let _ = tokio::time::timeout(grace, stopped).await;
    }

    /// Removes the container, again and again while the engine is away.
    async fn remove(&self) {
        let since = Instant::now();
        let mut pause = PAUSE_MIN;
        while let Err(error) = remove(&self.docker, &self.name).await {
            if since.elapsed() >= REMOVE_MAX {
                tracing::warn!(container = self.name, %error, "could not remove a container; the node's next start does");
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// A container that was started.
#[derive(Debug)]
struct Made {
    reading: Reading,
    place: Place,
}

/// The task that reads its output; ends with this.
#[derive(Debug)]
struct Reading(tokio::task::JoinHandle<()>);

impl Reading {
    fn abort(&self) {
        AbortHandle::abort(&self.0.abort_handle());
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.abort();
    }
}

impl std::future::Future for Reading {
    type Output = ();

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<()> {
        self.0.poll_unpin(cx).map(drop)
    }
}

fn ended(how: impl Into<String>) -> Exit {
    Exit {
        how: how.into(),
        on_purpose: false,
    }
}

/// For people: a code above 128 is 128 and the signal that ended the program.
fn how(code: i64, out_of_memory: bool) -> String {
    let memory = if out_of_memory {
        " (out of memory)"
    } else {
        ""
    };
    match code {
        129..=192 => format!("killed by signal {}{memory}", code - 128),
        _ => format!("exited with status {code}{memory}"),
    }
}

#[cfg(test)]
mod tests {
    use super::how;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(how(3, false), "exited with status 3");
        assert_eq!(how(137, true), "killed by signal 9 (out of memory)");
        assert_eq!(how(255, false), "exited with status 255");
    }
}
