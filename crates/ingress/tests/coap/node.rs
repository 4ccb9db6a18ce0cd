//! A node in this process: engine, scripted functions, and the door.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use mote_core::digest::Digest;
use mote_core::error::Error;
use mote_core::host::Host;
use mote_core::invocation::Invocation;
use mote_core::name::FunctionName;
use mote_core::registry::{ArtifactStore, FunctionRecord, Registry};
use mote_core::reply::Reply;
use mote_core::runtime::{
    Artifact, BoxFuture, CallContext, Image, Instance, Prepared, Runtime, take,
};
use mote_core::spec::{FunctionSpec, RuntimeKind};
use mote_engine::control::{Control, Parts};
use mote_engine::invoker::{Invoker, NodeLimits};
use mote_ingress::coap::counters::Counters;
use mote_ingress::coap::{Config, Door};
use mote_ingress::workers::Workers;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A door with functions behind it.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    control: Control,
    counters: Arc<Counters>,
    script: Script,
    shutdown: CancellationToken,
    door: JoinHandle<Result<(), Error>>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let limits = NodeLimits {
            calls_max: 1000,
            queue_max: 1000,
        };
        let invoker = Invoker::new(limits, 1, 0);
        let script = Script::default();
        let runtime: Arc<dyn Runtime> = Arc::new(script.clone());
        let parts = Parts {
            registry: Arc::new(Nowhere),
            artifacts: Arc::new(Nowhere),
            runtimes: HashMap::from([(RuntimeKind::Wasm, runtime)]),
            memory: mote_core::memory::MemoryBudget::new(0),
        };
        let control = Control::new(parts, invoker.clone());
        control.restore().await.unwrap();
        for name in ["echo", "small", "slow", "light"] {
            let mut spec = FunctionSpec::new(name.parse().unwrap());
            spec.limits.body_bytes = if name == "small" { 512 } else { 2 << 20 };
            spec.observable = name == "light";
            control
                .deploy(spec, Digest::from_bytes([0; 32]))
                .await
                .unwrap();
        }
        let mut config = Config::new("127.0.0.1:0".parse().unwrap());
        change(&mut config);
        let door = Door::bind(&config).unwrap();
        let shutdown = CancellationToken::new();
        Self {
            address: door.local_addr(),
            control,
            counters: door.counters(),
            script,
            door: tokio::spawn(door.run(invoker, Workers::current(), shutdown.clone())),
            shutdown,
        }
    }

    /// Calls that reached a function.
    pub(crate) fn calls(&self) -> usize {
        self.script.calls.load(Ordering::Relaxed)
    }

    /// Waits until so many calls are in their function.
    pub(crate) async fn until_running(&self, count: usize) {
        let mut running = self.script.running.subscribe();
        running.wait_for(|running| *running >= count).await.unwrap();
    }

    /// One of the door's counters.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let all = self.counters.read();
        all.iter().find(|(known, ..)| *known == name).unwrap().2
    }

    pub(crate) async fn remove(&self, name: &str) {
        self.control.remove(&name.parse().unwrap()).await.unwrap();
    }

    /// Ends the door and waits for it.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.door.await.unwrap().unwrap();
    }
}

/// Functions by name: `light` publishes what it is sent, `slow/MS` takes its time, others echo.
#[derive(Clone)]
struct Script {
    calls: Arc<AtomicUsize>,
    running: Arc<watch::Sender<usize>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            calls: Arc::default(),
            running: Arc::new(watch::Sender::new(0)),
        }
    }
}

struct Function {
    name: FunctionName,
    script: Script,
}

impl Runtime for Script {
    fn prepare<'a>(
        &'a self,
        spec: &'a Arc<FunctionSpec>,
        _artifact: &'a Artifact,
    ) -> BoxFuture<'a, Result<Arc<dyn Prepared>, Error>> {
        let prepared = Arc::new(Function {
            name: spec.name.clone(),
            script: self.clone(),
        });
        Box::pin(async move { Ok(prepared as Arc<dyn Prepared>) })
    }

    fn sweep(&self, _used: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        Ok(())
    }

    fn isolation(&self) -> BoxFuture<'_, String> {
        Box::pin(async { "none".to_owned() })
    }
}

impl Prepared for Function {
    fn start(&self, _host: Arc<dyn Host>) -> BoxFuture<'_, Result<Arc<dyn Instance>, Error>> {
        let instance = Arc::new(Function {
            name: self.name.clone(),
            script: self.script.clone(),
        });
        Box::pin(async move { Ok(instance as Arc<dyn Instance>) })
    }

    fn image(&self) -> Option<Image> {
        None
    }

    fn shape(&self) -> &'static str {
        "script"
    }

    fn streams(&self) -> bool {
        false
    }

    fn isolation(&self) -> String {
        "none".to_owned()
    }
}

impl Instance for Function {
    fn call<'a>(
        &'a self,
        offered: &'a mut Option<Invocation>,
        _context: CallContext,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(async move {
            let invocation = take(offered)?;
            self.script.calls.fetch_add(1, Ordering::Relaxed);
            self.script.running.send_modify(|running| *running += 1);
            let reads = invocation.meta.method == Method::GET;
            let reply = match self.name.function() {
                "light" if reads => Reply::ok("dark"),
                "light" => Reply {
                    publish: true,
                    ..Reply::ok(invocation.body)
                },
                "slow" => {
                    let millis = invocation.meta.path().trim_start_matches('/').parse();
                    tokio::time::sleep(Duration::from_millis(millis.unwrap())).await;
                    Reply::ok("late")
                }
                _ => Reply::ok(invocation.body),
            };
            self.script.running.send_modify(|running| *running -= 1);
            let mut reply = reply;
            let text = HeaderValue::from_static("text/plain");
            reply.headers.insert(header::CONTENT_TYPE, text);
            Ok(reply)
        })
    }

    fn idle_bytes(&self) -> u64 {
        0
    }
}

/// A store that forgets.
struct Nowhere;

impl Registry for Nowhere {
    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionRecord>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn save(&self, _record: FunctionRecord) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, _name: FunctionName) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

impl ArtifactStore for Nowhere {
    fn put(&self, _bytes: Bytes) -> BoxFuture<'_, Result<Digest, Error>> {
        Box::pin(async { Ok(Digest::from_bytes([0; 32])) })
    }

    fn path(&self, _digest: &Digest) -> Option<PathBuf> {
        Some(PathBuf::from("/nowhere"))
    }

    fn sweep<'a>(
        &'a self,
        _used: &'a (dyn Fn(&Digest) -> bool + Sync),
    ) -> BoxFuture<'a, Result<usize, Error>> {
        Box::pin(async { Ok(0) })
    }
}
