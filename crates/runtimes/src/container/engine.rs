//! The connection to the container engine: found when it is needed, and again after it was lost.
//!
//! The engine is asked over its Unix socket, one connection for each request, so that a restarted
//! engine is simply there again. Bounded is the time that it may take to answer.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as EngineError;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
};
use mote_core::error::{Error, ErrorKind};
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

/// The label of everything a node makes; its value is the node's tag.
pub(super) const NODE_LABEL: &str = "mote.node";

/// Longest time to the first answer of an engine.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Longest time to the answer of one request; engines on slow boards take seconds for a start.
const ANSWER_SECONDS_MAX: u64 = 120;

/// The engine of this node, whether it is there or not.
#[derive(Debug)]
pub(super) struct Engine {
    sockets: Vec<PathBuf>,
    node: String,
    connected: Mutex<Option<Connected>>,
    cleared: OnceCell<()>,
}

/// An engine that answered.
#[derive(Clone, Debug)]
pub(super) struct Connected {
    /// Asks it.
    pub(super) docker: Docker,
    /// The architecture of its machine, in the words of images: `amd64`.
    pub(super) architecture: String,
    /// What it cannot do to keep containers apart.
    pub(super) missing: Vec<&'static str>,
    title: String,
    socket: PathBuf,
}

impl fmt::Display for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "container engine: {} at {}",
            self.title,
            self.socket.display()
        )?;
        if !self.missing.is_empty() {
            write!(f, ", without {}", self.missing.join(", "))?;
        }
        Ok(())
    }
}

impl Engine {
    pub(super) fn new(socket: Option<PathBuf>, node: &str) -> Self {
        let sockets =
            socket.map_or_else(|| usual_sockets(|key| std::env::var(key).ok()), |s| vec![s]);
        Self {
            sockets,
            node: node.to_owned(),
            connected: Mutex::default(),
            cleared: OnceCell::new(),
        }
    }

    /// The engine, connected to if it is not yet, with this node's leftovers removed. Fails with
    /// `Unsupported`, naming what was tried. Cancel-safe.
    pub(super) async fn connect(&self) -> Result<Connected, Error> {
        let connected = self.lock().clone();
        if let Some(connected) = connected {
            return Ok(connected);
        }
        let mut tried = Vec::new();
        let mut denied = false;
        for socket in &self.sockets {
            match Connected::to(socket).await {
                Ok(connected) => {
                    // Before anything of this run exists: by one task, while others wait.
                    self.cleared
                        .get_or_try_init(|| clear(&connected.docker, &self.node))
                        .await?;
                    *self.lock() = Some(connected.clone());
                    return Ok(connected);
                }
                Err(error) => {
                    denied |= error.kind() == io::ErrorKind::PermissionDenied;
                    tried.push(format!("{}: {error}", socket.display()));
                }
            }
        }
        let message = format!("no container engine answers ({})", tried.join("; "));
        let hint = if denied {
            "add the node's user to the group that owns the socket, or write runtime = \"process\", whose images need no engine"
        } else {
            "start Docker or Podman, or write runtime = \"process\", whose images need no engine"
        };
        Err(Error::new(ErrorKind::Unsupported, message).with_hint(hint))
    }

    /// Removes everything of this node from the engine it was connected to, if it was.
    pub(super) async fn clear(&self) -> Result<(), Error> {
        let connected = self.lock().clone();
        match connected {
            Some(connected) => clear(&connected.docker, &self.node).await,
            None => Ok(()),
        }
    }

    /// Looks for the engine anew the next time: what went wrong may be that it was restarted.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    /// What an answer of the engine, or the lack of one, means.
    pub(super) fn failed(&self, doing: &str, error: &EngineError) -> Error {
        if is_lost(error) {
            self.forget();
        }
        failed(doing, error)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connected>> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    async fn to(socket: &Path) -> io::Result<Self> {
        let asked = tokio::time::timeout(CONNECT_MAX, Self::ask(socket)).await;
        asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn ask(socket: &Path) -> io::Result<Self> {
        // For its exact error: a missing socket, one without a listener, or one that is not ours.
        drop(UnixStream::connect(socket).await?);
        let path = socket
            .to_str()
            .ok_or_else(|| io::Error::other("the path is not valid UTF-8"))?;
        let docker =
            Docker::connect_with_unix(path, ANSWER_SECONDS_MAX, bollard::API_DEFAULT_VERSION)
                .map_err(io::Error::other)?;
        let docker = docker.negotiate_version().await.map_err(io::Error::other)?;
        let version = docker.version().await.map_err(io::Error::other)?;
        let info = docker.info().await.map_err(io::Error::other)?;
        let podman = version
            .components
            .iter()
            .flatten()
            .any(|part| part.name.to_lowercase().contains("podman"));
        let seccomp = info
            .security_options
            .iter()
            .flatten()
            .any(|option| option.contains("seccomp"));
        let layers = [
            ("memory limits", info.memory_limit.unwrap_or(true)),
            ("CPU limits", info.cpu_cfs_quota.unwrap_or(true)),
            ("process limits", info.pids_limit.unwrap_or(true)),
            ("seccomp", seccomp || podman),
        ];
        Ok(Self {
            docker,
            architecture: version.arch.unwrap_or_default(),
            missing: layers
                .into_iter()
                .filter_map(|(layer, there)| (!there).then_some(layer))
                .collect(),
            title: format!(
                "{} {}",
                if podman { "Podman" } else { "Docker" },
                version.version.unwrap_or_default()
            ),
            socket: socket.to_owned(),
        })
    }
}

/// Removes every container and network of a node. What cannot be removed is said and left.
async fn clear(docker: &Docker, node: &str) -> Result<(), Error> {
    let filters = HashMap::from([("label", vec![format!("{NODE_LABEL}={node}")])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    let containers = docker.list_containers(Some(options)).await;
    let containers = containers.map_err(|error| failed("list leftover containers", &error))?;
    for id in containers.into_iter().filter_map(|container| container.id) {
        match remove(docker, &id).await {
            Ok(()) => tracing::info!(container = id, "removed a leftover container"),
            Err(error) => tracing::warn!(container = id, %error, "could not remove a leftover"),
        }
    }
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let networks = docker.list_networks(Some(options)).await;
    let networks = networks.map_err(|error| failed("list leftover networks", &error))?;
    for id in networks.into_iter().filter_map(|network| network.id) {
        match docker.remove_network(&id).await {
            Ok(()) => tracing::info!(network = id, "removed a leftover network"),
            Err(error) => tracing::warn!(network = id, %error, "could not remove a leftover"),
        }
    }
    Ok(())
}

/// Ends and removes a container, with its volumes. One that is gone is removed.
pub(super) async fn remove(docker: &Docker, container: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(true)
        .build();
    match docker.remove_container(container, Some(options)).await {
        Err(error) if status(&error) != Some(404) => Err(error),
        _ => Ok(()),
    }
}

/// The status that the engine answered with, if it answered.
pub(super) fn status(error: &EngineError) -> Option<u16> {
    match error {
        EngineError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Whether the engine was not there to answer.
fn is_lost(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::HyperLegacyError { .. }
            | EngineError::HyperResponseError { .. }
            | EngineError::IOError { .. }
            | EngineError::RequestTimeoutError
            | EngineError::SocketNotFoundError(_)
    )
}

fn failed(doing: &str, error: &EngineError) -> Error {
    if is_lost(error) {
        let message = format!("could not {doing}: the container engine does not answer ({error})");
        return Error::new(ErrorKind::Overloaded, message).with_retry_after(Duration::from_secs(1));
    }
    let (code, text) = match error {
        EngineError::DockerResponseServerError {
            status_code,
            message,
        } => (*status_code, message.trim().to_owned()),
        other => (0, other.to_string()),
    };
    let text = text.trim_end_matches('.');
    let kind = match code {
        _ if text.contains("no space left") => ErrorKind::StorageFull,
        400 => ErrorKind::BadRequest,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("could not {doing}: {text}"))
}

/// Where engines listen. A socket that the environment names is the only one.
fn usual_sockets(env: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    if let Some(path) =
        env("DOCKER_HOST").and_then(|host| Some(host.strip_prefix("unix://")?.into()))
    {
        return vec![path];
    }
    let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
    if let Some(folder) = env("XDG_RUNTIME_DIR") {
        sockets.push(Path::new(&folder).join("podman/podman.sock"));
    }
    sockets.push(PathBuf::from("/run/podman/podman.sock"));
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_socket() {
        let named = |key: &str| (key == "DOCKER_HOST").then(|| "unix:///a/b.sock".to_owned());
        assert_eq!(usual_sockets(named), [PathBuf::from("/a/b.sock")]);
        let remote = |key: &str| (key == "DOCKER_HOST").then(|| "tcp://10.0.0.1:1".to_owned());
        assert_eq!(usual_sockets(remote).len(), 2);
        let runtime = |key: &str| (key == "XDG_RUNTIME_DIR").then(|| "/run/user/7".to_owned());
        assert_eq!(
            usual_sockets(runtime)[1],
            PathBuf::from("/run/user/7/podman/podman.sock")
        );
    }

    #[tokio::test]
    async fn a_missing_engine_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("none.sock");
        let engine = Engine::new(Some(socket.clone()), "test");
        let error = engine.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.message().contains(socket.to_str().unwrap()),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("runtime = \"process\""));
    }

    #[tokio::test]
    async fn a_socket_on_which_nobody_listens_is_no_engine() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let error = Engine::new(Some(socket), "test")
            .connect()
            .await
            .unwrap_err();
        assert!(error.message().contains("refused"), "{error}");
    }
}
