//! What a call costs inside the process: the runtime alone, without doors and engine, on one thread.
//!
//! `cargo run --release -p mote-runtimes --example fresh_store -- examples/hello/hello.wasm [SECONDS]`
//! prints the mean time of a call with a fresh store and with a reused one.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mote_core::body::Body;
use mote_core::digest::Digest;
use mote_core::host::{Alone, Caller, Host};
use mote_core::invocation::{FunctionId, Invocation, InvocationId, Meta, Origin};
use mote_core::log::{Level, LogSink};
use mote_core::runtime::{Artifact, CallContext, Instance, Runtime};
use mote_core::spec::FunctionSpec;
use mote_runtimes::wasm::{CompileLimits, Config, Wasm, compile};

#[expect(clippy::print_stdout, reason = "it is a program")]
fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == compile::CHILD_ARGUMENT)
    {
        return ExitCode::from(compile::child(&arguments[1..]));
    }
    let path = arguments
        .first()
        .expect("a .wasm file is the first argument");
    let seconds = arguments
        .get(1)
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(2);
    let code = std::fs::read(path).expect("the file can be read");
    let images = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let compile = CompileLimits {
            memory_bytes: 4 << 30,
            cpu: Duration::from_secs(60),
            timeout: Duration::from_secs(60),
        };
        let config = Config {
            images: images.path().to_owned(),
            shards: 1,
            calls_max: 512,
            resident_bytes: 512 << 10,
            compile,
        };
        let wasm = Wasm::new(config).expect("the runtime starts");
        let digest = Digest::from_bytes(*blake3::hash(&code).as_bytes());
        let artifact = Artifact {
            digest,
            path: path.into(),
            image: None,
        };
        for reuse in [1, 1_000_000] {
            let mut spec = FunctionSpec::new("hello".parse().expect("a valid name"));
            spec.reuse = reuse;
            let prepared = wasm
                .prepare(&Arc::new(spec), &artifact)
                .await
                .expect("valid code");
            let host: Arc<dyn Host> = Arc::new(Alone::new(Arc::new(Nowhere)));
            let instance = prepared
                .start(Arc::clone(&host))
                .await
                .expect("the code starts");
            let per_call = measure(&*instance, &host, Duration::from_secs(seconds)).await;
            let what = if reuse == 1 { "fresh" } else { "reused" };
            println!("{what:6} store: {per_call:>8.2?} per call");
        }
    });
    ExitCode::SUCCESS
}

/// The mean time of a call.
async fn measure(instance: &dyn Instance, host: &Arc<dyn Host>, time: Duration) -> Duration {
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < time {
        for _ in 0..1000 {
            let context = CallContext {
                host: Arc::clone(host),
                caller: Caller::root(Duration::from_secs(10)),
            };
            instance
                .call(&mut Some(invocation()), context)
                .await
                .expect("the call succeeds");
            calls += 1;
        }
    }
    start.elapsed() / calls
}

fn invocation() -> Invocation {
    Invocation {
        id: InvocationId {
            sequence: 1,
            node: 1,
        },
        function: FunctionId(1),
        meta: Meta {
            method: http::Method::GET,
            target: http::uri::PathAndQuery::from_static("/hello"),
            prefix: 6,
            headers: http::HeaderMap::new(),
        },
        body: Body::empty(),
        budget: Duration::from_secs(10),
        origin: Origin::Http,
        hops: 0,
    }
}

struct Nowhere;

impl LogSink for Nowhere {
    fn line(&self, _: InvocationId, _: Level, _: &str) {}
}
