//! Containers in a real engine: the one whose socket is in `MOTE_TEST_ENGINE`, with the images of
//! `scripts/container-engine.sh images`. Without it these tests say that they are skipped.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use mote_core::body::Body;
use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::host::{Alone, Caller, Host};
use mote_core::invocation::{FunctionId, Invocation, InvocationId, Meta, Origin};
use mote_core::log::{Level, LogSink};
use mote_core::runtime::{Artifact, CallContext, Instance, Prepared, Runtime as _};
use mote_core::spec::{Contract, DirectoryGrant, FunctionSpec, Program, RuntimeKind};
use tokio::time::timeout;

use super::{Config, Containers};
use crate::environment::Environments;
use crate::trees::Trees;

mod artifact;
mod contract;
mod isolation;
mod life;

const STATIC: &str = "image: mote-test/static";

/// A node of its own in the engine, so that tests can run side by side.
struct Node {
    containers: Containers,
    tag: String,
    socket: PathBuf,
    folder: tempfile::TempDir,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl LogSink for Log {
    fn line(&self, _: InvocationId, level: Level, text: &str) {
        self.0.lock().unwrap().push(format!("{level} {text}"));
    }
}

impl Node {
    fn new(tag: &str) -> Option<Self> {
        let Some(socket) = std::env::var_os("MOTE_TEST_ENGINE") else {
            eprintln!(
                "skipped: no container engine; start one with scripts/container-engine.sh and set MOTE_TEST_ENGINE to its socket"
            );
            return None;
        };
        let tag = format!("{tag}{}", std::process::id());
        let socket = PathBuf::from(socket);
        let folder = tempfile::tempdir().unwrap();
        let places = ["trees", "environments"].map(|name| folder.path().join(name));
        for place in &places {
            std::fs::create_dir(place).unwrap();
        }
        let [trees, environments] = places;
        let config = Config {
            trees: Arc::new(Trees::new(trees)),
            environments: Environments::open(&environments).unwrap(),
            socket: Some(socket.clone()),
            node: tag.clone(),
            cgroup_parent: None,
        };
        Some(Self {
            containers: Containers::new(config),
            tag,
            socket,
            folder,
            log: Arc::default(),
        })
    }

    async fn prepare(
        &self,
        artifact: &[u8],
        change: impl FnOnce(&mut FunctionSpec),
    ) -> Result<Arc<dyn Prepared>, Error> {
        let path = self.folder.path().join("artifact");
        std::fs::write(&path, artifact).unwrap();
        let mut spec = FunctionSpec::new("light.home".parse().unwrap());
        spec.runtime = RuntimeKind::Container;
        spec.program = Some(Program::default());
        change(&mut spec);
        spec.check().unwrap();
        let digest = Digest::from_bytes(*blake3::hash(artifact).as_bytes());
        let artifact = Artifact {
            digest,
            path,
            image: None,
        };
        self.containers.prepare(&Arc::new(spec), &artifact).await
    }

    async fn start(&self, change: impl FnOnce(&mut FunctionSpec)) -> Arc<dyn Instance> {
        let prepared = self.prepare(STATIC.as_bytes(), change).await.unwrap();
        prepared.start(self.host()).await.unwrap()
    }

    fn host(&self) -> Arc<dyn Host> {
        Arc::new(Alone::new(Arc::clone(&self.log) as _))
    }

    async fn call(&self, instance: &dyn Instance, target: &str) -> Result<String, Error> {
        self.send(instance, target, None).await
    }

    async fn send(
        &self,
        instance: &dyn Instance,
        target: &str,
        body: Option<Vec<u8>>,
    ) -> Result<String, Error> {
        let method = if body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut offered = Some(Invocation {
            id: InvocationId {
                sequence: 1,
                node: 1,
            },
            function: FunctionId(0),
            meta: Meta {
                method,
                target: PathAndQuery::try_from(target).unwrap(),
                prefix: 0,
                headers: HeaderMap::new(),
            },
            body: body.map_or_else(Body::empty, |body| Body::Bytes(body.into())),
            budget: Duration::from_secs(10),
            origin: Origin::Http,
            hops: 0,
        });
        let context = CallContext {
            host: self.host(),
            caller: Caller::root(Duration::from_secs(10)),
        };
        let reply = instance.call(&mut offered, context);
        let reply = timeout(Duration::from_secs(20), reply)
            .await
            .expect("an answer in time")?;
        let bytes = reply.body.collect(1 << 20).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What the engine has of this node: containers and networks.
    async fn left(&self) -> (usize, usize) {
        let docker = self.containers.0.engine.connect().await.unwrap().docker;
        let filters = HashMap::from([("label", vec![format!("mote.node={}", self.tag)])]);
        let containers = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let networks = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let containers = docker.list_containers(Some(containers)).await.unwrap();
        (
            containers.len(),
            docker.list_networks(Some(networks)).await.unwrap().len(),
        )
    }

    /// Waits until the engine has no container of this node; the network of the one app may rest, as
    /// long as it has functions.
    async fn gone(&self) {
        let gone = async {
            while !matches!(self.left().await, (0, 0 | 1)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = timeout(Duration::from_secs(30), gone).await;
        assert!(
            waited.is_ok(),
            "left in the engine: {:?}",
            self.left().await
        );
    }

    fn docker(&self, words: &[&str]) -> String {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        let output = command.args(words).output().unwrap();
        assert!(
            output.status.success(),
            "docker {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The names of this node's containers.
    fn names(&self) -> Vec<String> {
        let filter = format!("label=mote.node={}", self.tag);
        let names = self.docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        names.lines().map(str::to_owned).collect()
    }
}
