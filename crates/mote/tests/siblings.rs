//! Functions call each other: through the one path, below each other, and never in a circle.
//!
//! The real engine and the real store over the scripted runtime, with the clock paused: whoever
//! waits for ever is found at once.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{HOPS_MAX, Invocation, Meta, Origin};
use mote_core::memory::MemoryBudget;
use mote_core::runtime::{Instances, Runtime};
use mote_core::spec::{FunctionSpec, Program, RuntimeKind, Scale};
use mote_engine::control::{Control, Parts};
use mote_engine::invoker::{Invoker, NodeLimits};
use mote_engine::outcome::Outcome;
use mote_engine::scaler;
use mote_runtimes::fake::Fake;
use mote_store::artifacts::Artifacts;
use mote_store::data_dir::DataDir;
use mote_store::registry::RedbRegistry;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Node {
    control: Control,
    _folder: TempDir,
    _scaler: DropGuard,
}

impl Node {
    async fn with(calls_max: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let data_dir = DataDir::open(folder.path().join("data")).unwrap();
        let programs = Fake::with_instances(Instances {
            slots: NonZeroU32::MIN,
            memory_bytes: 1 << 20,
            max: u32::MAX,
        });
        let parts = Parts {
            registry: Arc::new(RedbRegistry::open(&data_dir).unwrap()),
            artifacts: Arc::new(Artifacts::open(&data_dir).unwrap()),
            runtimes: HashMap::from([
                (
                    RuntimeKind::Wasm,
                    Arc::new(Fake::default()) as Arc<dyn Runtime>,
                ),
                (RuntimeKind::Process, Arc::new(programs) as _),
            ]),
            memory: MemoryBudget::new(100 << 20),
        };
        let limits = NodeLimits {
            calls_max,
            queue_max: 1000,
        };
        let invoker = Invoker::new(limits, 1, 1);
        let control = Control::new(parts, invoker.clone());
        control.restore().await.unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(scaler::run(invoker, || 0.0, || (), shutdown.clone()));
        Self {
            control,
            _folder: folder,
            _scaler: shutdown.drop_guard(),
        }
    }

    async fn deploy(&self, name: &str, change: impl FnOnce(&mut FunctionSpec)) {
        let code = Bytes::from_static(b"script");
        let digest = self.control.put_artifact(code).await.unwrap();
        let mut spec = FunctionSpec::new(name.parse().unwrap());
        change(&mut spec);
        self.control.deploy(spec, digest).await.unwrap();
    }

    /// A call from outside; its status and text.
    async fn call(&self, name: &str, path: &str) -> Result<(u16, String), Error> {
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
            body: Body::from("from outside"),
            budget: Duration::from_secs(5),
            origin: Origin::Http,
            hops: 0,
        };
        let reply = invoker.invoke(invocation).await?;
        let body = reply.body.collect(1 << 20).await?;
        Ok((reply.status.as_u16(), String::from_utf8_lossy(&body).into()))
    }

    fn counted(&self, name: &str, origin: Origin, outcome: Outcome) -> u64 {
        let entry = self.control.invoker().resolve(name).unwrap();
        entry.state.counters.calls(origin, outcome)
    }

    /// Calls of a function by those of others, whatever their outcome.
    fn nested(&self, name: &str) -> u64 {
        let count = |outcome| self.counted(name, Origin::Function, outcome);
        Outcome::all().map(count).sum()
    }

    /// Nothing is held and nobody waits.
    #[track_caller]
    fn is_at_rest(&self) {
        let status = self.control.status();
        assert_eq!((status.in_flight, status.waiting), (0, 0));
        for entry in self.control.invoker().catalog().entries() {
            let gate = (entry.gate.in_flight(), entry.gate.waiting());
            assert_eq!(gate, (0, 0), "{}", entry.name);
        }
    }
}

fn one_at_once(spec: &mut FunctionSpec) {
    spec.limits.concurrency = 1;
}

/// A program with one instance that takes one call.
fn one_program(spec: &mut FunctionSpec) {
    spec.runtime = RuntimeKind::Process;
    spec.program = Some(Program::default());
    spec.limits.memory_bytes = 1 << 20;
    spec.scale = Scale {
        min: 1,
        max: 1,
        ..Scale::default()
    };
}

#[tokio::test(start_paused = true)]
async fn a_sibling_is_called_and_others_are_not() {
    let node = Node::with(8).await;
    node.deploy("a.home", |_| ()).await;
    node.deploy("b.home", |_| ()).await;
    node.deploy("c", |_| ()).await;
    for b in ["b", "b.home"] {
        let reply = node.call("a.home", &format!("/call/{b}/x")).await.unwrap();
        assert_eq!(reply, (200, "from a sibling".into()));
    }
    // A sibling's own failure is a reply.
    let reply = node.call("a.home", "/call/b/status/503").await.unwrap();
    assert_eq!(reply.0, 503);
    for (called, status, said) in [
        (
            "c.default",
            403,
            "`a.home` of app `home` may not call `c` of app `default`",
        ),
        ("c", 404, "function `c.home` is not deployed"),
        ("B", 400, "function name `B` is not valid"),
        ("b/fail", 502, "the script says so"),
    ] {
        let reply = node
            .call("a.home", &format!("/call/{called}"))
            .await
            .unwrap();
        assert_eq!(reply.0, status, "{called}: {}", reply.1);
        assert!(reply.1.contains(said), "{called}: {}", reply.1);
    }
    let outcome = |outcome| node.counted("b.home", Origin::Function, outcome);
    assert_eq!(outcome(Outcome::Ok), 2);
    assert_eq!(outcome(Outcome::FunctionError), 1);
    assert_eq!(outcome(Outcome::Failed(ErrorKind::FunctionFailed)), 1);
    assert_eq!(node.nested("b.home"), 4);
    let metrics = node.control.metrics();
    for line in [
        r#"mote_calls_total{function="b",app="home",outcome="ok",door="function"} 2"#,
        r#"mote_refused_total{door="function",reason="forbidden"} 1"#,
        r#"mote_refused_total{door="function",reason="not_found"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    node.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_function_that_calls_itself_for_ever_ends() {
    let node = Node::with(1).await;
    node.deploy("a", |_| ()).await;
    let deep = "/call/a".repeat(usize::from(HOPS_MAX));
    assert_eq!(node.call("a", &deep).await.unwrap().0, 200);
    let deeper = "/call/a".repeat(usize::from(HOPS_MAX) + 1);
    let (status, said) = node.call("a", &deeper).await.unwrap();
    assert_eq!(status, 400);
    assert!(
        said.contains("the calls nest too deep: this one came through 17"),
        "{said}"
    );
    node.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_has_what_is_left_of_the_time() {
    let node = Node::with(8).await;
    node.deploy("a", |spec| spec.limits.timeout = Duration::from_secs(2))
        .await;
    node.deploy("b", |spec| spec.limits.timeout = Duration::from_secs(1))
        .await;
    // The sibling's own limit ends the sibling alone.
    let (status, said) = node.call("a", "/call/b/sleep/60000").await.unwrap();
    assert_eq!(status, 504);
    assert!(said.contains("function `b` did not answer in "), "{said}");
    // The caller's ends both; which of them is told first is nobody's business.
    let started = tokio::time::Instant::now();
    match node.call("b", "/call/a/sleep/60000").await {
        Ok((status, said)) => assert_eq!(status, 504, "{said}"),
        Err(late) => assert_eq!(late.kind(), ErrorKind::Timeout),
    }
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(node.nested("a") + node.nested("b"), 2);
    node.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_full_sibling_is_waited_for_by_nested_calls_first() {
    let node = Node::with(8).await;
    node.deploy("a", |_| ()).await;
    node.deploy("b", one_at_once).await;
    let mut running = Box::pin(node.call("b", "/sleep/1000"));
    assert!((&mut running).now_or_never().is_none());
    let mut outside = Box::pin(node.call("b", "/sleep/1000"));
    assert!((&mut outside).now_or_never().is_none());
    let mut nested = Box::pin(node.call("a", "/call/b/sleep/1000"));
    assert!((&mut nested).now_or_never().is_none());
    running.await.unwrap();
    let first = futures_util::future::select(outside, nested).await;
    let futures_util::future::Either::Right((nested, outside)) = first else {
        panic!("the call from outside went first");
    };
    assert_eq!(nested.unwrap().0, 200);
    outside.await.unwrap();
    node.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_ancestor() {
    let node = Node::with(8).await;
    node.deploy("a", one_at_once).await;
    node.deploy("b", |_| ()).await;
    node.deploy("p", one_program).await;
    for path in ["/call/a", "/call/b/call/a"] {
        let (status, said) = node.call("a", path).await.unwrap();
        assert_eq!(status, 503, "{said}");
        assert!(
            said.contains("has no free place for a call, and waiting for one could"),
            "{said}"
        );
    }
    let (status, said) = node.call("p", "/call/b/call/p").await.unwrap();
    assert_eq!(status, 503, "{said}");
    assert!(said.contains("has no free instance, and waiting"), "{said}");
    // One that is not its own ancestor waits for the program, and gets it.
    let calls = (0..5).map(|_| node.call("b", "/call/p/sleep/100"));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(reply.unwrap().0, 200);
    }
    node.is_at_rest();
}

/// Many calls from outside, to functions that call each other in every order, with as little room
/// as there can be: each ends, long before its time is up, and is counted once.
async fn crowd(kind: fn(&mut FunctionSpec), calls_max: u32, paths: &[(&str, &str)], rounds: usize) {
    let node = Node::with(calls_max).await;
    for name in ["a", "b", "c"] {
        node.deploy(name, kind).await;
    }
    let started = tokio::time::Instant::now();
    let calls = (0..rounds)
        .flat_map(|_| paths)
        .map(|(name, path)| node.call(name, path));
    let replies = futures_util::future::join_all(calls).await;
    // A circle would last until the first budget ends.
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let mut answered = 0;
    for reply in replies {
        match reply {
            Ok((200, _)) => answered += 1,
            Ok((503, said)) => assert!(said.contains("could last for ever"), "{said}"),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}"),
        }
    }
    assert!(answered > 0);
    let outcomes: u64 = ["a", "b", "c"]
        .iter()
        .flat_map(|name| Outcome::all().map(|outcome| node.counted(name, Origin::Http, outcome)))
        .sum();
    assert_eq!(outcomes, (rounds * paths.len()) as u64);
    node.is_at_rest();
}

const CIRCLES: &[(&str, &str)] = &[
    ("a", "/call/b/sleep/1"),
    ("b", "/call/a/sleep/1"),
    ("c", "/call/a/call/b/sleep/1"),
    ("b", "/call/c/sleep/1"),
    ("a", "/start/3/c/sleep/1"),
    ("a", "/sleep/1"),
];

#[tokio::test(start_paused = true)]
async fn functions_that_call_each_other_never_wait_in_a_circle() {
    crowd(one_at_once, 100, CIRCLES, 20).await;
}

#[tokio::test(start_paused = true)]
async fn nor_on_a_full_node() {
    crowd(one_at_once, 1, CIRCLES, 20).await;
    crowd(one_at_once, 2, CIRCLES, 20).await;
    crowd(|spec| spec.limits.concurrency = 2, 3, CIRCLES, 20).await;
}

#[tokio::test(start_paused = true)]
async fn nor_do_programs() {
    crowd(one_program, 100, CIRCLES, 10).await;
    crowd(one_program, 2, CIRCLES, 10).await;
}

#[tokio::test(start_paused = true)]
async fn started_calls_run_at_once_and_end_with_their_caller() {
    let node = Node::with(8).await;
    node.deploy("a", |_| ()).await;
    node.deploy("b", |spec| spec.limits.concurrency = 10).await;
    // Ten seconds of work in one: more than the caller has time for, one after the other.
    let reply = node.call("a", "/start/10/b/sleep/1000").await.unwrap();
    assert_eq!(reply, (200, "10".into()));
    let mut dropped = Box::pin(node.call("a", "/start/10/b/sleep/1000"));
    assert!((&mut dropped).now_or_never().is_none());
    tokio::task::yield_now().await;
    assert_eq!(
        node.control
            .invoker()
            .resolve("b")
            .unwrap()
            .gate
            .in_flight(),
        10
    );
    drop(dropped);
    // They are told to end, and do when their thread gets to them.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(node.counted("b", Origin::Function, Outcome::Cancelled), 10);
    node.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_handed_over_is_one_of_its_own() {
    let node = Node::with(8).await;
    node.deploy("a", |spec| spec.limits.timeout = Duration::from_secs(1))
        .await;
    node.deploy("b", |spec| spec.limits.timeout = Duration::from_secs(9))
        .await;
    let (status, id) = node.call("a", "/spawn/b/sleep/8000").await.unwrap();
    assert_eq!((status, id.len()), (200, 24));
    assert_eq!(node.call("a", "/spawn/b/fail").await.unwrap().0, 200);
    assert_eq!(node.call("a", "/spawn/b/status/500").await.unwrap().0, 200);
    assert_eq!(node.call("a", "/spawn/c").await.unwrap().0, 404);
    node.control.invoker().drain_spawned().await;
    let outcome = |outcome| node.counted("b", Origin::Function, outcome);
    assert_eq!(outcome(Outcome::Ok), 1);
    assert_eq!(outcome(Outcome::FunctionError), 1);
    assert_eq!(outcome(Outcome::Failed(ErrorKind::FunctionFailed)), 1);
    let log = node.control.logs(&"b".parse().unwrap()).unwrap();
    let said: Vec<_> = log.lines.iter().map(|line| line.text.as_str()).collect();
    assert!(said.contains(&"the script says so"), "{said:?}");
    assert!(
        said.contains(&"the handed-over call answered 500"),
        "{said:?}"
    );
    assert_eq!(log.lines[0].call.to_string(), id);
    node.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn handed_over_calls_end_with_the_node() {
    let node = Node::with(8).await;
    node.deploy("a", |_| ()).await;
    node.deploy("b", |_| ()).await;
    assert_eq!(node.call("a", "/spawn/b/sleep/9000").await.unwrap().0, 200);
    tokio::task::yield_now().await;
    assert_eq!(node.control.status().in_flight, 1);
    node.control.invoker().end_spawned().await;
    assert_eq!(node.counted("b", Origin::Function, Outcome::Cancelled), 1);
    let (status, said) = node.call("a", "/spawn/b").await.unwrap();
    assert_eq!((status, said.as_str()), (503, "the node is about to stop"));
    // What was refused was no call.
    assert_eq!(node.nested("b"), 1);
    let line = r#"mote_refused_total{door="function",reason="overloaded"} 1"#;
    assert!(node.control.metrics().contains(line));
    node.is_at_rest();
}

/// A chain of handed-over calls has a depth like any other: it cannot go on for ever.
#[tokio::test(start_paused = true)]
async fn handed_over_calls_count_as_hops() {
    let node = Node::with(8).await;
    node.deploy("a", |_| ()).await;
    let deep = "/spawn/a".repeat(usize::from(HOPS_MAX) + 5);
    assert_eq!(node.call("a", &deep).await.unwrap().0, 200);
    node.control.invoker().drain_spawned().await;
    assert_eq!(node.nested("a"), u64::from(HOPS_MAX));
}
