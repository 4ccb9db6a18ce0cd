//! Every call ends in exactly one counted outcome, and gives back what it held, however it ends.
//!
//! The real engine and the real store, over the scripted runtime.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{HOPS_MAX, Invocation, Meta, Origin};
use mote_core::memory::MemoryBudget;
use mote_core::reply::Reply;
use mote_core::runtime::Runtime;
use mote_core::spec::{FunctionSpec, RuntimeKind};
use mote_engine::control::{Control, Parts};
use mote_engine::invoker::{Invoker, NodeLimits};
use mote_engine::outcome::Outcome;
use mote_runtimes::fake::Fake;
use mote_store::artifacts::Artifacts;
use mote_store::data_dir::DataDir;
use mote_store::registry::RedbRegistry;
use tempfile::TempDir;

struct Node {
    control: Control,
    _folder: TempDir,
}

impl Node {
    /// A node with the function `f`, its spec changed by `change`.
    async fn with(change: impl FnOnce(&mut FunctionSpec)) -> Self {
        let folder = TempDir::new().unwrap();
        let data_dir = DataDir::open(folder.path().join("data")).unwrap();
        let fake = Arc::new(Fake::default()) as Arc<dyn Runtime>;
        let parts = Parts {
            registry: Arc::new(RedbRegistry::open(&data_dir).unwrap()),
            artifacts: Arc::new(Artifacts::open(&data_dir).unwrap()),
            runtimes: HashMap::from([(RuntimeKind::Wasm, fake)]),
            memory: MemoryBudget::new(0),
        };
        let limits = NodeLimits {
            calls_max: 8,
            queue_max: 8,
        };
        let control = Control::new(parts, Invoker::new(limits, 1, 1));
        control.restore().await.unwrap();
        let digest = control.put_artifact(Bytes::from_static(b"script")).await;
        let mut spec = FunctionSpec::new("f".parse().unwrap());
        change(&mut spec);
        control.deploy(spec, digest.unwrap()).await.unwrap();
        Self {
            control,
            _folder: folder,
        }
    }

    fn invocation(&self, target: &'static str) -> Invocation {
        let invoker = self.control.invoker();
        Invocation {
            id: invoker.next_id(),
            function: invoker.resolve("f").unwrap().id,
            meta: Meta {
                method: Method::POST,
                target: PathAndQuery::from_static(target),
                prefix: 2,
                headers: HeaderMap::new(),
            },
            body: Body::from("body"),
            budget: Duration::from_secs(5),
            origin: Origin::Http,
            hops: 0,
        }
    }

    async fn call(&self, target: &'static str) -> Result<Reply, Error> {
        self.control.invoker().invoke(self.invocation(target)).await
    }

    /// Checks that exactly these outcomes were counted, and that nothing is held any more.
    #[track_caller]
    fn counted(&self, expected: &[(Outcome, u64)]) {
        let entry = self.control.invoker().resolve("f").unwrap();
        for outcome in Outcome::all() {
            let count = expected.iter().find(|(kind, _)| *kind == outcome);
            let count = count.map_or(0, |(_, count)| *count);
            let counted = entry.state.counters.calls(Origin::Http, outcome);
            assert_eq!(counted, count, "{outcome:?}");
        }
        let status = self.control.status();
        assert_eq!((status.in_flight, status.waiting), (0, 0));
        assert_eq!((entry.gate.in_flight(), entry.gate.waiting()), (0, 0));
    }
}

#[tokio::test]
async fn replies_and_failures() {
    let node = Node::with(|_| {}).await;
    assert_eq!(node.call("/f").await.unwrap().status, StatusCode::OK);
    assert_eq!(node.call("/f/status/404").await.unwrap().status, 404);
    assert_eq!(node.call("/f/status/503").await.unwrap().status, 503);
    let failed = node.call("/f/fail").await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::FunctionFailed);
    let panicked = node.call("/f/panic").await.unwrap_err();
    assert_eq!(panicked.kind(), ErrorKind::Internal);
    let mut deep = node.invocation("/f");
    deep.hops = HOPS_MAX + 1;
    let refused = node.control.invoker().invoke(deep).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BadRequest);
    node.counted(&[
        (Outcome::Ok, 2),
        (Outcome::FunctionError, 1),
        (Outcome::Failed(ErrorKind::FunctionFailed), 1),
        (Outcome::Failed(ErrorKind::Internal), 1),
        (Outcome::Failed(ErrorKind::BadRequest), 1),
    ]);
}

#[tokio::test]
async fn a_budget_that_ends() {
    let node = Node::with(|spec| spec.limits.timeout = Duration::from_millis(20)).await;
    let late = node.call("/f/sleep/60000").await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    node.counted(&[(Outcome::Failed(ErrorKind::Timeout), 1)]);
}

#[tokio::test]
async fn a_caller_that_goes_away_running_or_waiting() {
    let node = Node::with(|spec| spec.limits.concurrency = 1).await;
    let mut running = Box::pin(node.call("/f/sleep/60000"));
    assert!((&mut running).now_or_never().is_none());
    let mut waiting = Box::pin(node.call("/f"));
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(node.control.functions()[0].waiting, 1);
    drop(waiting);
    drop(running);
    node.counted(&[(Outcome::Cancelled, 2)]);
    node.call("/f").await.unwrap();
}

#[tokio::test]
async fn a_full_queue() {
    let node = Node::with(|spec| {
        spec.limits.concurrency = 1;
        spec.limits.queue = 0;
    })
    .await;
    let mut running = Box::pin(node.call("/f/sleep/60000"));
    assert!((&mut running).now_or_never().is_none());
    let refused = node.call("/f").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Throttled);
    assert!(refused.retry_after().is_some());
    drop(running);
    let throttled = Outcome::Failed(ErrorKind::Throttled);
    node.counted(&[(throttled, 1), (Outcome::Cancelled, 1)]);
}

#[tokio::test]
async fn a_published_value_answers_in_place_of_the_function() {
    let node = Node::with(|spec| spec.observable = true).await;
    node.call("/f/publish").await.unwrap();
    let mut get = node.invocation("/f/publish");
    get.meta.method = Method::GET;
    get.body = Body::empty();
    let reply = node.control.invoker().invoke(get).await.unwrap();
    assert_eq!(&reply.body.collect(100).await.unwrap()[..], b"body");
    node.counted(&[(Outcome::Ok, 2)]);
}
