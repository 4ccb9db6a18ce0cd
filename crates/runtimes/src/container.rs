//! Functions in containers, by an engine that speaks the Docker Engine API: Docker or Podman.
//!
//! An artifact is an image, by reference or as an archive. An instance is one container on the
//! internal network of its app, and everything the node makes in the engine carries the node's
//! label, so that what a killed node left behind is found and removed. The engine may come, go and
//! come back: nothing here is connected before it is needed, and a lost engine fails the starts and
//! instances of its time and no others.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mote_core::error::Error;
use mote_core::runtime::{Artifact, BoxFuture, Prepared, Runtime};
use mote_core::spec::FunctionSpec;

mod archive;
mod code;
mod engine;
mod gateway;
mod image;
mod inside;
mod instance;
mod lines;
mod network;
mod owner;
mod prepared;
mod settings;
#[cfg(test)]
mod tests;

use crate::environment::Environments;
use crate::trees::Trees;

use self::engine::Engine;
use self::image::Images;
use self::network::Networks;
use self::prepared::Function;

/// What an artifact starts with that only names an image.
pub const REFERENCE_PREFIX: &str = "image: ";

/// Longest wait for the engine while leftovers are removed at the start.
const CLEAR_MAX: Duration = Duration::from_secs(60);

/// Longest wait for it at the end.
const CLOSE_MAX: Duration = Duration::from_secs(15);

/// Which engine, and how what this node makes in it is told apart.
#[derive(Clone, Debug)]
pub struct Config {
    /// The engine's socket. `None`: what `$DOCKER_HOST` says, or else the first of the usual places
    /// where one answers.
    pub socket: Option<PathBuf>,
    /// The tag of this node's data folder: lower-case letters and digits, the same at every start.
    pub node: String,
    /// The control group below which the engine puts the containers.
    pub cgroup_parent: Option<String>,
    /// Unpacked artifacts; the runtime of processes sweeps them.
    pub trees: Arc<Trees>,
    /// What serves plain source.
    pub environments: Environments,
}

/// The container runtime.
#[derive(Clone, Debug)]
pub struct Containers(Arc<Shared>);

/// What all functions share.
#[derive(Debug)]
struct Shared {
    config: Config,
    engine: Arc<Engine>,
    images: Images,
    networks: Networks,
    /// Numbers the containers.
    count: std::sync::atomic::AtomicU64,
}

impl Containers {
    /// The runtime. Does nothing with the engine yet.
    pub fn new(config: Config) -> Self {
        let engine = Arc::new(Engine::new(config.socket.clone(), &config.node));
        Self(Arc::new(Shared {
            images: Images::new(&config.node),
            networks: Networks::new(&engine, &config.node),
            engine,
            config,
            count: std::sync::atomic::AtomicU64::new(1),
        }))
    }
}

impl Runtime for Containers {
    fn prepare<'a>(
        &'a self,
        spec: &'a Arc<FunctionSpec>,
        artifact: &'a Artifact,
    ) -> BoxFuture<'a, Result<Arc<dyn Prepared>, Error>> {
        Box::pin(async move {
            let function = Function::prepare(&self.0, spec, artifact).await?;
            Ok(Arc::new(function) as Arc<dyn Prepared>)
        })
    }

    fn sweep(&self, used: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        self.0.images.sweep(&self.0.engine, used);
        Ok(())
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            // Without an engine there is nothing to remove; should one come later, it is cleared
            // before it is first used.
            let cleared = tokio::time::timeout(CLEAR_MAX, self.0.engine.connect()).await;
            match cleared {
                Ok(Ok(connected)) => self.0.images.find(&connected).await,
                Ok(Err(error)) => tracing::debug!(%error, "no containers to clear"),
                Err(_) => tracing::warn!("the container engine took too long to remove leftovers"),
            }
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            match tokio::time::timeout(CLOSE_MAX, self.0.engine.clear()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "could not remove what is left in the engine")
                }
                Err(_) => {
                    tracing::warn!("the container engine took too long to remove what is left")
                }
            }
        })
    }

    fn isolation(&self) -> BoxFuture<'_, String> {
        Box::pin(async {
            match self.0.engine.connect().await {
                Ok(connected) => connected.to_string(),
                Err(error) => format!("none: {error}"),
            }
        })
    }
}
