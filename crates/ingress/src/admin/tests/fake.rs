//! A node without disk or guests: registry, artifacts and runtime in memory.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::Invocation;
use mote_core::log::Level;
use mote_core::name::FunctionName;
use mote_core::registry::{ArtifactStore, FunctionRecord, Registry};
use mote_core::reply::Reply;
use mote_core::runtime::{
    Artifact, BoxFuture, CallContext, Image, Instance, Prepared, Runtime, take,
};
use mote_core::spec::{FunctionSpec, RuntimeKind};
use mote_engine::control::{Control, Parts};
use mote_engine::invoker::{Invoker, NodeLimits};

/// A digest that depends on every byte, made without a hash: good enough to tell bodies apart.
pub(super) fn digest(bytes: &[u8]) -> Digest {
    let mut digest = [0u8; 32];
    for (place, byte) in bytes.iter().enumerate() {
        let cell = &mut digest[place % 32];
        *cell = cell.wrapping_mul(31).wrapping_add(*byte).wrapping_add(1);
    }
    Digest::from_bytes(digest)
}

/// A node that is ready, and the way into its functions.
pub(super) fn node() -> (Control, Invoker) {
    let invoker = Invoker::new(
        NodeLimits {
            calls_max: 8,
            queue_max: 8,
        },
        7,
        1,
    );
    let runtime: Arc<dyn Runtime> = Arc::new(Echo);
    let parts = Parts {
        registry: Arc::new(Memory::default()),
        artifacts: Arc::new(Memory::default()),
        runtimes: HashMap::from([(RuntimeKind::Wasm, runtime)]),
        memory: mote_core::memory::MemoryBudget::new(0),
    };
    let control = Control::new(parts, invoker.clone());
    control.set_ready();
    (control, invoker)
}

#[derive(Default)]
struct Memory {
    records: Mutex<BTreeMap<FunctionName, FunctionRecord>>,
    artifacts: Mutex<Vec<Digest>>,
}

impl Registry for Memory {
    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionRecord>, Error>> {
        let records = self.records.lock().unwrap().values().cloned().collect();
        Box::pin(async { Ok(records) })
    }

    fn save(&self, record: FunctionRecord) -> BoxFuture<'_, Result<(), Error>> {
        self.records
            .lock()
            .unwrap()
            .insert(record.name.clone(), record);
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, name: FunctionName) -> BoxFuture<'_, Result<(), Error>> {
        self.records.lock().unwrap().remove(&name);
        Box::pin(async { Ok(()) })
    }
}

impl ArtifactStore for Memory {
    fn put(&self, bytes: Bytes) -> BoxFuture<'_, Result<Digest, Error>> {
        let digest = digest(&bytes);
        self.artifacts.lock().unwrap().push(digest);
        Box::pin(async move { Ok(digest) })
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        let kept = self.artifacts.lock().unwrap().contains(digest);
        kept.then(|| PathBuf::from(digest.to_string()))
    }

    fn sweep<'a>(
        &'a self,
        _used: &'a (dyn Fn(&Digest) -> bool + Sync),
    ) -> BoxFuture<'a, Result<usize, Error>> {
        Box::pin(async { Ok(0) })
    }
}

/// Runs every artifact as a function that logs its request's body. Refuses the artifact `bad`.
struct Echo;

impl Runtime for Echo {
    fn prepare<'a>(
        &'a self,
        _spec: &'a Arc<FunctionSpec>,
        artifact: &'a Artifact,
    ) -> BoxFuture<'a, Result<Arc<dyn Prepared>, Error>> {
        let bad = artifact.digest == digest(b"bad");
        Box::pin(async move {
            if bad {
                return Err(Error::new(ErrorKind::BadRequest, "this is no component"));
            }
            Ok(Arc::new(Echo) as Arc<dyn Prepared>)
        })
    }

    fn sweep(&self, _used: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        Ok(())
    }

    fn isolation(&self) -> BoxFuture<'_, String> {
        Box::pin(async { "none".to_owned() })
    }
}

impl Prepared for Echo {
    fn start(&self) -> BoxFuture<'_, Result<Arc<dyn Instance>, Error>> {
        Box::pin(async { Ok(Arc::new(Echo) as Arc<dyn Instance>) })
    }

    fn image(&self) -> Option<Image> {
        None
    }

    fn shape(&self) -> &'static str {
        "fake"
    }

    fn streams(&self) -> bool {
        false
    }

    fn isolation(&self) -> String {
        "none".to_owned()
    }
}

impl Instance for Echo {
    fn call<'a>(
        &'a self,
        offered: &'a mut Option<Invocation>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(async move {
            let invocation = take(offered)?;
            let body = invocation.body.collect(1 << 20).await?;
            let (level, text) = match std::str::from_utf8(&body).unwrap().split_once(' ') {
                Some(("warn", text)) => (Level::Warn, text),
                Some((_, text)) => (Level::Info, text),
                None => (Level::Info, ""),
            };
            context.host.line(invocation.id, level, text);
            Ok(Reply::ok(body))
        })
    }

    fn idle_bytes(&self) -> u64 {
        0
    }
}
