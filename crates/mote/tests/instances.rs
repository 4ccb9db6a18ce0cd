//! Instances outside of the node come with the load, go without it, and are replaced when they die.
//!
//! The real engine and the real store over the scripted runtime, with the clock paused: what takes
//! minutes on a node takes none here.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{Invocation, Meta, Origin};
use mote_core::memory::MemoryBudget;
use mote_core::reply::Reply;
use mote_core::runtime::{Instances, Runtime};
use mote_core::spec::{FunctionSpec, Program, RuntimeKind, Scale};
use mote_engine::control::{Control, Parts};
use mote_engine::invoker::{Invoker, NodeLimits};
use mote_engine::pool::group::GroupView;
use mote_engine::scaler;
use mote_runtimes::fake::Fake;
use mote_store::artifacts::Artifacts;
use mote_store::data_dir::DataDir;
use mote_store::registry::RedbRegistry;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

const MIB: u64 = 1 << 20;

struct Node {
    control: Control,
    fake: Fake,
    /// How often the node was at rest.
    rests: Arc<AtomicU32>,
    _folder: TempDir,
    _scaler: DropGuard,
}

impl Node {
    /// A node with room for `fitting` instances of one slot.
    async fn with_room_for(fitting: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let data_dir = DataDir::open(folder.path().join("data")).unwrap();
        let fake = Fake::with_instances(Instances {
            slots: NonZeroU32::MIN,
            memory_bytes: MIB,
            max: u32::MAX,
        });
        let parts = Parts {
            registry: Arc::new(RedbRegistry::open(&data_dir).unwrap()),
            artifacts: Arc::new(Artifacts::open(&data_dir).unwrap()),
            runtimes: HashMap::from([(
                RuntimeKind::Process,
                Arc::new(fake.clone()) as Arc<dyn Runtime>,
            )]),
            memory: MemoryBudget::new(fitting * MIB),
        };
        let limits = NodeLimits {
            calls_max: 100,
            queue_max: 100,
        };
        let invoker = Invoker::new(limits, 1, 1);
        let control = Control::new(parts, invoker.clone());
        control.restore().await.unwrap();
        let shutdown = CancellationToken::new();
        let rests = Arc::new(AtomicU32::new(0));
        let rested = Arc::clone(&rests);
        let at_rest = move || {
            rested.fetch_add(1, Ordering::Relaxed);
        };
        tokio::spawn(scaler::run(invoker, || 0.0, at_rest, shutdown.clone()));
        Self {
            control,
            fake,
            rests,
            _folder: folder,
            _scaler: shutdown.drop_guard(),
        }
    }

    async fn deploy(&self, name: &str, scale: Scale) -> Result<(), Error> {
        let digest = self
            .control
            .put_artifact(Bytes::from_static(b"script"))
            .await?;
        let mut spec = FunctionSpec::new(name.parse().unwrap());
        spec.runtime = RuntimeKind::Process;
        spec.program = Some(Program::default());
        spec.scale = scale;
        spec.limits.memory_bytes = MIB;
        self.control.deploy(spec, digest).await.map(drop)
    }

    async fn call(&self, name: &str, path: &str) -> Result<Reply, Error> {
        let invoker = self.control.invoker();
        let target = format!("/{name}{path}");
        let invocation = Invocation {
            id: invoker.next_id(),
            function: invoker.resolve(name).unwrap().id,
            meta: Meta {
                method: Method::POST,
                target: PathAndQuery::try_from(target).unwrap(),
                prefix: u16::try_from(name.len() + 1).unwrap(),
                headers: HeaderMap::new(),
            },
            body: Body::from("body"),
            budget: Duration::from_secs(5),
            origin: Origin::Http,
            hops: 0,
        };
        invoker.invoke(invocation).await
    }

    /// Calls at once; all must be answered. Returns how many instances answered.
    async fn calls(&self, name: &str, path: &str, count: usize) -> usize {
        let calls = (0..count).map(|_| self.call(name, path));
        let replies = futures_util::future::try_join_all(calls).await.unwrap();
        let mut by: Vec<String> = replies
            .iter()
            .map(|reply| reply.headers["instance"].to_str().unwrap().to_owned())
            .collect();
        by.sort();
        by.dedup();
        by.len()
    }

    fn view(&self, name: &str) -> GroupView {
        let name = name.parse().unwrap();
        self.control.function(&name).unwrap().group.unwrap()
    }

    fn count(&self, read: impl Fn(&mote_runtimes::fake::Counts) -> u64) -> u64 {
        read(self.fake.counts())
    }
}

fn scale(min: u32, max: u32) -> Scale {
    Scale {
        min,
        max,
        ..Scale::default()
    }
}

#[tokio::test(start_paused = true)]
async fn from_zero_up_with_the_load_and_back_to_zero() {
    let node = Node::with_room_for(100).await;
    node.deploy("f", scale(0, 4)).await.unwrap();
    assert_eq!(node.view("f").running, 1, "the one that the deploy tried");
    tokio::time::sleep(Duration::from_secs(301)).await;
    let cold = node.view("f");
    assert_eq!((cold.running, cold.paused), (0, 0), "{cold:?}");
    assert_eq!(node.count(|all| all.stops.load(Ordering::Relaxed)), 1);

    node.calls("f", "", 1).await;
    assert_eq!(node.view("f").running, 1);
    for _ in 0..8 {
        node.calls("f", "/sleep/900", 8).await;
    }
    let busy = node.view("f");
    assert_eq!(busy.running, 4, "{busy:?}");
    assert_eq!(busy.scale.max, 4);
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(node.view("f").running + node.view("f").paused, 0);
    assert_eq!(node.control.status().memory.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn idle_ones_are_paused_and_woken_by_a_call() {
    let node = Node::with_room_for(100).await;
    node.deploy("f", scale(1, 4)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let warm = node.view("f");
    assert_eq!((warm.running, warm.paused), (0, 1), "{warm:?}");
    node.calls("f", "", 1).await;
    let hot = node.view("f");
    assert_eq!((hot.running, hot.paused), (1, 0), "{hot:?}");
    assert_eq!(node.count(|all| all.resumes.load(Ordering::Relaxed)), 1);
    // The minimum stays, however long nobody calls.
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(node.view("f").paused, 1);
}

#[tokio::test(start_paused = true)]
async fn calls_go_round_among_those_that_are_always_there() {
    let node = Node::with_room_for(100).await;
    node.deploy("f", scale(4, 4)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(node.view("f").running, 4, "{:?}", node.view("f"));
    let mut by = HashMap::<String, u32>::new();
    for _ in 0..1000 {
        let reply = node.call("f", "").await.unwrap();
        let instance = reply.headers["instance"].to_str().unwrap().to_owned();
        *by.entry(instance).or_default() += 1;
    }
    assert!(
        by.len() == 4 && by.values().all(|count| *count < 400),
        "{by:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_death_fails_its_own_call_and_is_healed() {
    let node = Node::with_room_for(100).await;
    node.deploy("f", scale(2, 2)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (died, other) = tokio::join!(node.call("f", "/die"), node.call("f", "/sleep/50"));
    assert_eq!(died.unwrap_err().kind(), ErrorKind::FunctionFailed);
    other.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let healed = node.view("f");
    assert_eq!((healed.running, healed.deaths), (2, 1), "{healed:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_again_and_again_is_unhealthy_and_comes_back() {
    let node = Node::with_room_for(100).await;
    node.deploy("f", scale(0, 1)).await.unwrap();
    node.fake.counts().broken.store(true, Ordering::Relaxed);
    node.call("f", "/die").await.unwrap_err();
    let mut kinds = Vec::new();
    for _ in 0..8 {
        let error = node.call("f", "").await.unwrap_err();
        kinds.push((error.kind(), error.message().contains("unhealthy")));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(kinds[0], (ErrorKind::FunctionFailed, false), "{kinds:?}");
    assert_eq!(kinds[7], (ErrorKind::Overloaded, true), "{kinds:?}");
    assert!(node.view("f").unhealthy.is_some());
    node.fake.counts().broken.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    node.call("f", "").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn never_more_than_there_is_memory_for() {
    let node = Node::with_room_for(2).await;
    node.deploy("f", scale(0, 50)).await.unwrap();
    node.deploy("g", scale(0, 50)).await.unwrap();
    for _ in 0..3 {
        node.calls("f", "/sleep/500", 8).await;
    }
    assert!(node.control.status().memory.reserved() <= 2 * MIB);
    // One of `f` gives way when `g` has a call and no instance.
    node.calls("g", "", 1).await;
    assert!(node.control.status().memory.reserved() <= 2 * MIB);
    let too_much = node.deploy_with_memory("h", 3 * MIB).await.unwrap_err();
    assert_eq!(too_much.kind(), ErrorKind::BadRequest);
}

#[tokio::test(start_paused = true)]
async fn a_node_rests_once_when_the_last_instance_has_gone() {
    let node = Node::with_room_for(1).await;
    node.deploy("f", scale(0, 1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let rests = node.rests.load(Ordering::Relaxed);
    node.call("f", "").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.rests.load(Ordering::Relaxed), rests);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(node.rests.load(Ordering::Relaxed), rests + 1);
}

impl Node {
    /// What a deploy says whose instances are larger than the node.
    async fn deploy_with_memory(&self, name: &str, bytes: u64) -> Result<(), Error> {
        let fake = Fake::with_instances(Instances {
            slots: NonZeroU32::MIN,
            memory_bytes: bytes,
            max: 1,
        });
        let folder = TempDir::new().unwrap();
        let data_dir = DataDir::open(folder.path().join("data")).unwrap();
        let parts = Parts {
            registry: Arc::new(RedbRegistry::open(&data_dir).unwrap()),
            artifacts: Arc::new(Artifacts::open(&data_dir).unwrap()),
            runtimes: HashMap::from([(RuntimeKind::Process, Arc::new(fake) as Arc<dyn Runtime>)]),
            memory: self.control.status().memory,
        };
        let limits = NodeLimits {
            calls_max: 1,
            queue_max: 1,
        };
        let control = Control::new(parts, Invoker::new(limits, 1, 1));
        let digest = control.put_artifact(Bytes::from_static(b"script")).await?;
        let mut spec = FunctionSpec::new(name.parse()?);
        spec.runtime = RuntimeKind::Process;
        spec.program = Some(Program::default());
        spec.limits.memory_bytes = bytes;
        control.deploy(spec, digest).await.map(drop)
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_refused_when_memory_cannot_be_had() {
    let node = Node::with_room_for(1).await;
    node.deploy("f", scale(1, 1)).await.unwrap();
    node.deploy("g", scale(0, 1)).await.unwrap();
    let error = node.call("g", "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert!(error.message().contains("memory"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_redeploy_loses_no_call_and_ends_the_old_instances() {
    let node = Node::with_room_for(100).await;
    node.deploy("f", scale(0, 2)).await.unwrap();
    let calls = async {
        for _ in 0..50 {
            node.calls("f", "/sleep/20", 2).await;
        }
    };
    let deploys = async {
        for _ in 0..10 {
            node.deploy("f", scale(0, 2)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(70)).await;
        }
    };
    tokio::join!(calls, deploys);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let there = node.view("f").running + node.view("f").paused;
    let starts = node.count(|all| all.starts.load(Ordering::Relaxed));
    let stops = node.count(|all| all.stops.load(Ordering::Relaxed));
    assert_eq!(starts - stops, u64::from(there));
    assert_eq!(
        node.control.status().memory.reserved(),
        u64::from(there) * MIB
    );
}

#[tokio::test(start_paused = true)]
async fn the_bounds_can_be_changed_while_it_runs() {
    let node = Node::with_room_for(100).await;
    node.deploy("f", scale(0, 4)).await.unwrap();
    let name = "f".parse().unwrap();
    node.control.rescale(&name, Some(3), Some(3)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let held = node.view("f");
    assert_eq!(held.running + held.paused, 3, "{held:?}");
    let refused = node.control.rescale(&name, Some(9), None).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::BadRequest);
    node.control.close().await;
    assert_eq!(node.control.status().memory.reserved(), 0);
    let starts = node.count(|all| all.starts.load(Ordering::Relaxed));
    assert_eq!(node.count(|all| all.stops.load(Ordering::Relaxed)), starts);
}
