//! What an administrator may do: deploy, roll back, remove, list, read logs. Doors do not hold it.
//!
//! A deploy builds the new version beside the live one, checks it, writes it down, and only then
//! swaps the plan; calls that began on the old version end on it. When any step fails nothing has
//! changed. Changes of the record are made one at a time; preparing code, which is slow, is not
//! among them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::host::Host;
use mote_core::memory::MemoryBudget;
use mote_core::name::FunctionName;
use mote_core::registry::{ArtifactStore, FunctionRecord, Registry, VERSIONS_KEPT, Version};
use mote_core::runtime::{Instance, Prepared, Runtime};
use mote_core::spec::{FunctionSpec, RuntimeKind};
use tokio::time::Instant;

use crate::admission::Gate;
use crate::invoker::Invoker;
use crate::logs::{LogTail, unix_ms};
use crate::metrics::{Family, Probe, page};
use crate::plan::{Entry, Plan};
use crate::pool::Pool;
use crate::pool::group::{Group, GroupParts};

mod identity;
mod prepare;
mod view;

use self::identity::Identity;
use self::view::view;
pub use self::view::{FunctionView, NodeStatus};

/// Most functions of a node.
pub const FUNCTIONS_MAX: usize = 10_000;

/// The handle of the admin API. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

/// What a node is made of.
pub struct Parts {
    /// Where functions are remembered.
    pub registry: Arc<dyn Registry>,
    /// Where code is kept.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// How code runs.
    pub runtimes: HashMap<RuntimeKind, Arc<dyn Runtime>>,
    /// What instances outside of the node share.
    pub memory: MemoryBudget,
}

struct Shared {
    parts: Parts,
    invoker: Invoker,
    /// A copy of the registry. Written only while `changing` is held.
    records: RwLock<BTreeMap<FunctionName, FunctionRecord>>,
    /// Held by the one who changes records and plan. An asynchronous lock, because a change waits
    /// for the disk; the data path never takes it.
    changing: tokio::sync::Mutex<()>,
    next_id: AtomicU32,
    ready: AtomicBool,
    draining: AtomicBool,
    probes: RwLock<Vec<Probe>>,
    families: RwLock<Vec<Family>>,
}

impl Control {
    /// A control over these parts, with nothing in the plan until [`Control::restore`].
    pub fn new(parts: Parts, invoker: Invoker) -> Self {
        let shared = Shared {
            parts,
            invoker,
            records: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            next_id: AtomicU32::new(1),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            probes: RwLock::default(),
            families: RwLock::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The handle for calls.
    pub fn invoker(&self) -> &Invoker {
        &self.shared.invoker
    }

    /// Brings every remembered function back. One that fails is logged and stays `broken`, the
    /// others are not held up by it.
    pub async fn restore(&self) -> Result<(), Error> {
        let _changing = self.shared.changing.lock().await;
        for (kind, runtime) in &self.shared.parts.runtimes {
            if let Err(error) = runtime.clear().await {
                tracing::warn!(runtime = kind.label(), %error, "could not remove what an earlier run left");
            }
        }
        let mut records = self.shared.parts.registry.functions().await?;
        let mut entries = Vec::new();
        for record in &mut records {
            if let Err(error) = self.bring_back(record, &mut entries).await {
                tracing::error!(function = %record.name, %error, "could not bring a function back");
            }
        }
        self.publish(entries);
        self.shared.invoker.shared().wake.notify_one();
        *self.write_records() = records
            .into_iter()
            .map(|record| (record.name.clone(), record))
            .collect();
        self.sweep().await;
        Ok(())
    }

    async fn bring_back(
        &self,
        record: &mut FunctionRecord,
        entries: &mut Vec<Arc<Entry>>,
    ) -> Result<(), Error> {
        let live = record.live;
        let Some(version) = record
            .versions
            .iter_mut()
            .find(|version| version.number == live)
        else {
            return Ok(());
        };
        let image = version.image.clone();
        let prepared = self.prepare(&version.spec, version.artifact, image).await?;
        let own = self.identity(&record.name);
        entries.push(self.entry(version, &prepared, &own));
        // Another engine than the last time has another image; what is not written down is swept.
        if version.image != prepared.image() {
            version.image = prepared.image();
            self.shared.parts.registry.save(record.clone()).await?;
        }
        Ok(())
    }

    /// Keeps code for a later deploy. `StorageFull` when the disk is.
    pub async fn put_artifact(&self, bytes: Bytes) -> Result<Digest, Error> {
        self.shared.parts.artifacts.put(bytes).await
    }

    /// Whether code is here already.
    pub fn has_artifact(&self, digest: &Digest) -> bool {
        self.shared.parts.artifacts.path(digest).is_some()
    }

    /// Makes a new version of a function live: all or nothing. `BadRequest` names what is wrong
    /// with spec or code; `NotFound` means that the code was not uploaded.
    pub async fn deploy(
        &self,
        spec: FunctionSpec,
        artifact: Digest,
    ) -> Result<FunctionView, Error> {
        spec.check()?;
        let prepared = self.prepare(&spec, artifact, None).await?;
        let own = self.identity(&spec.name);
        let first = self.check(&spec, &prepared, &own).await?;

        let _changing = self.shared.changing.lock().await;
        let name = spec.name.clone();
        let mut record = self.record(&name).unwrap_or(FunctionRecord {
            name,
            live: 0,
            versions: Vec::new(),
        });
        if record.versions.is_empty() && self.read_records().len() >= FUNCTIONS_MAX {
            let message = format!("the node has {FUNCTIONS_MAX} functions, which is the limit");
            return Err(
                Error::new(ErrorKind::StorageFull, message).with_hint("remove one with `mote rm`")
            );
        }
        let number = record
            .versions
            .last()
            .map_or(1, |version| version.number + 1);
        let image = prepared.image();
        record.live = number;
        record.versions.push(Version {
            number,
            spec,
            artifact,
            image,
            deployed_ms: unix_ms(),
        });
        let excess = record.versions.len().saturating_sub(VERSIONS_KEPT);
        record.versions.drain(..excess);
        self.commit(record, &prepared, (own, first)).await
    }

    /// Makes an older version live again: `to`, or the one before the live one.
    pub async fn rollback(
        &self,
        name: &FunctionName,
        to: Option<u32>,
    ) -> Result<FunctionView, Error> {
        let record = self.record(name).ok_or_else(|| not_deployed(name))?;
        let target = match to {
            Some(number) => record
                .versions
                .iter()
                .find(|version| version.number == number),
            None => record
                .versions
                .iter()
                .rev()
                .find(|version| version.number < record.live),
        };
        let Some(target) = target.cloned() else {
            let kept: Vec<_> = record
                .versions
                .iter()
                .map(|version| version.number.to_string())
                .collect();
            let wanted = to.map_or_else(
                || format!("before {}", record.live),
                |number| number.to_string(),
            );
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("function `{name}` has no version {wanted}"),
            )
            .with_hint(format!("kept versions: {}", kept.join(", "))));
        };
        let prepared = self
            .prepare(&target.spec, target.artifact, target.image.clone())
            .await?;
        let own = self.identity(name);
        let first = self.check(&target.spec, &prepared, &own).await?;

        let _changing = self.shared.changing.lock().await;
        let mut record = self.record(name).ok_or_else(|| not_deployed(name))?;
        // Removed and deployed anew meanwhile, the number may stand for other code.
        let Some(version) = record
            .versions
            .iter_mut()
            .find(|version| **version == target)
        else {
            let message = format!(
                "version {} of `{name}` was dropped meanwhile",
                target.number
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        };
        version.image = prepared.image();
        record.live = target.number;
        self.commit(record, &prepared, (own, first)).await
    }

    /// Changes how many instances the live version may have, from now on and over restarts. Parts
    /// that are `None` stay as they are.
    pub async fn rescale(
        &self,
        name: &FunctionName,
        min: Option<u32>,
        max: Option<u32>,
    ) -> Result<FunctionView, Error> {
        let _changing = self.shared.changing.lock().await;
        let mut record = self.record(name).ok_or_else(|| not_deployed(name))?;
        let live = record.live;
        let version = record
            .versions
            .iter_mut()
            .find(|version| version.number == live)
            .ok_or_else(|| not_deployed(name))?;
        if version.spec.runtime == RuntimeKind::Wasm {
            let message =
                format!("function `{name}` is WebAssembly, whose one instance takes all calls");
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_hint("`concurrency` in its manifest says how many it takes at once"));
        }
        let scale = &mut version.spec.scale;
        scale.min = min.unwrap_or(scale.min);
        scale.max = max.unwrap_or(scale.max);
        version.spec.check()?;
        let scale = version.spec.scale.clone();
        self.shared.parts.registry.save(record.clone()).await?;
        self.write_records().insert(name.clone(), record.clone());
        let plan = self.shared.invoker.catalog();
        if let Some(group) = plan
            .resolve(name.full())
            .and_then(|entry| entry.pool.group())
        {
            group.rescale(scale);
        }
        Ok(view(record, &plan))
    }

    /// Stops every instance outside of the node. Called last, when no call runs any more.
    pub async fn close(&self) {
        let plan = self.shared.invoker.catalog();
        let groups = plan.entries().filter_map(|entry| entry.pool.group());
        futures_util::future::join_all(groups.map(Group::close)).await;
        for runtime in self.shared.parts.runtimes.values() {
            runtime.close().await;
        }
    }

    /// What keeps functions apart, by runtime, in one line each.
    pub async fn isolation(&self) -> BTreeMap<RuntimeKind, String> {
        let mut lines = BTreeMap::new();
        for (kind, runtime) in &self.shared.parts.runtimes {
            lines.insert(*kind, runtime.isolation().await);
        }
        lines
    }

    /// Removes a function with all its versions. Calls that run end; observers are told.
    pub async fn remove(&self, name: &FunctionName) -> Result<(), Error> {
        let _changing = self.shared.changing.lock().await;
        if self.record(name).is_none() {
            return Err(not_deployed(name));
        }
        self.forget(name).await?;
        self.sweep().await;
        Ok(())
    }

    /// Removes every function; returns how many there were.
    pub async fn wipe(&self) -> Result<usize, Error> {
        let _changing = self.shared.changing.lock().await;
        let names: Vec<_> = self.read_records().keys().cloned().collect();
        for name in &names {
            self.forget(name).await?;
        }
        self.sweep().await;
        Ok(names.len())
    }

    /// Every function, by name.
    pub fn functions(&self) -> Vec<FunctionView> {
        let plan = self.shared.invoker.catalog();
        self.read_records()
            .values()
            .map(|record| view(record.clone(), &plan))
            .collect()
    }

    /// One function.
    pub fn function(&self, name: &FunctionName) -> Result<FunctionView, Error> {
        let record = self.record(name).ok_or_else(|| not_deployed(name))?;
        Ok(view(record, &self.shared.invoker.catalog()))
    }

    /// The log of a function.
    pub fn logs(&self, name: &FunctionName) -> Result<LogTail, Error> {
        let entry = self
            .shared
            .invoker
            .resolve(name.full())
            .ok_or_else(|| not_deployed(name))?;
        Ok(entry.state.log.tail())
    }

    /// The node's own state.
    pub fn status(&self) -> NodeStatus {
        let plan = self.shared.invoker.catalog();
        let node = self.shared.invoker.shared();
        NodeStatus {
            ready: self.shared.ready.load(Ordering::Relaxed),
            draining: self.shared.draining.load(Ordering::Relaxed),
            functions: self.read_records().len(),
            in_flight: node.gate.in_flight(),
            waiting: node.gate.waiting(),
            calls: plan
                .entries()
                .map(|entry| entry.state.counters.total())
                .sum(),
            uptime: node.started.elapsed(),
            node: node.node,
            memory: self.shared.parts.memory.clone(),
            warm: self
                .shared
                .parts
                .runtimes
                .get(&RuntimeKind::Process)
                .map(|runtime| runtime.warm())
                .unwrap_or_default(),
        }
    }

    /// The metrics page, OpenMetrics text.
    pub fn metrics(&self) -> String {
        let probes = self.shared.probes.read();
        let families = self.shared.families.read();
        page(
            &self.shared.invoker,
            &probes.unwrap_or_else(PoisonError::into_inner),
            &families.unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Adds values of other parts to the metrics page.
    pub fn add_probes(&self, probes: Vec<Probe>) {
        self.shared
            .probes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(probes);
    }

    /// Adds values with labels to the metrics page.
    pub fn add_families(&self, families: Vec<Family>) {
        self.shared
            .families
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(families);
    }

    /// Says that the doors are open.
    pub fn set_ready(&self) {
        self.shared.ready.store(true, Ordering::Relaxed);
    }

    /// Says that the node is about to stop.
    pub fn set_draining(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }

    /// Writes a record down, then makes its live version what calls see.
    async fn commit(
        &self,
        record: FunctionRecord,
        prepared: &Arc<dyn Prepared>,
        (checked, first): (Identity, Arc<dyn Instance>),
    ) -> Result<FunctionView, Error> {
        self.shared.parts.registry.save(record.clone()).await?;
        let plan = self.shared.invoker.catalog();
        let own = match plan.resolve(record.name.full()) {
            Some(old) => Identity::of(old),
            None => checked.clone(),
        };
        let version = record
            .live()
            .expect("a record that is committed has a live version");
        let entry = self.entry(version, prepared, &own);
        // Removed or deployed for the first time meanwhile, the function is another than the one
        // that the instance was started for, and it would write into that one's log.
        if let Some(group) = entry.pool.group()
            && own.id == checked.id
        {
            group.adopt(first);
        }
        let mut entries: Vec<_> = plan
            .entries()
            .filter(|other| other.id != entry.id)
            .cloned()
            .collect();
        entries.push(entry);
        self.publish(entries);
        self.write_records()
            .insert(record.name.clone(), record.clone());
        self.sweep().await;
        Ok(view(record, &self.shared.invoker.catalog()))
    }

    async fn forget(&self, name: &FunctionName) -> Result<(), Error> {
        self.shared.parts.registry.remove(name.clone()).await?;
        let plan = self.shared.invoker.catalog();
        self.publish(
            plan.entries()
                .filter(|entry| entry.name != *name)
                .cloned()
                .collect(),
        );
        if let Some(entry) = plan.resolve(name.full()) {
            entry.state.published.clear();
        }
        self.write_records().remove(name);
        Ok(())
    }

    fn entry(&self, version: &Version, prepared: &Arc<dyn Prepared>, own: &Identity) -> Arc<Entry> {
        let limits = &version.spec.limits;
        let spec = Arc::new(version.spec.clone());
        let host = Arc::new(self.host(own, &spec));
        let parts = GroupParts {
            name: version.spec.name.clone(),
            scale: version.spec.scale.clone(),
            memory: self.shared.parts.memory.clone(),
            state: Arc::clone(&own.state),
            host: Arc::clone(&host) as Arc<dyn Host>,
            wake: Arc::clone(&self.shared.invoker.shared().wake),
        };
        Arc::new(Entry {
            id: own.id,
            name: version.spec.name.clone(),
            version: version.number,
            streams: prepared.streams(),
            shape: prepared.shape(),
            isolation: prepared.isolation(),
            gate: Gate::new(limits.concurrency, limits.queue),
            pool: Pool::new(Arc::clone(prepared), parts, Instant::now()),
            state: Arc::clone(&own.state),
            spec,
            host,
        })
    }

    fn publish(&self, entries: Vec<Arc<Entry>>) {
        self.shared
            .invoker
            .shared()
            .plan
            .store(Arc::new(Plan::new(entries)));
    }

    /// Deletes code and images that no kept version uses. A failure costs disk space, not calls.
    async fn sweep(&self) {
        let (artifacts, images) = self.used();
        let mut results = vec![
            self.shared
                .parts
                .artifacts
                .sweep(&|digest| artifacts.contains(digest))
                .await
                .map(drop),
        ];
        for runtime in self.shared.parts.runtimes.values() {
            results.push(runtime.sweep(&|file| images.contains(file)));
        }
        for error in results.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "could not delete files that are no longer used");
        }
    }

    fn used(&self) -> (HashSet<Digest>, HashSet<String>) {
        let records = self.read_records();
        let versions = || records.values().flat_map(|record| &record.versions);
        let artifacts = versions().map(|version| version.artifact).collect();
        let images = versions()
            .filter_map(|version| Some(version.image.as_ref()?.file.clone()))
            .collect();
        (artifacts, images)
    }

    fn record(&self, name: &FunctionName) -> Option<FunctionRecord> {
        self.read_records().get(name).cloned()
    }

    fn read_records(
        &self,
    ) -> std::sync::RwLockReadGuard<'_, BTreeMap<FunctionName, FunctionRecord>> {
        self.shared
            .records
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write_records(
        &self,
    ) -> std::sync::RwLockWriteGuard<'_, BTreeMap<FunctionName, FunctionRecord>> {
        self.shared
            .records
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("functions", &self.read_records().len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("runtimes", &self.runtimes.keys())
            .finish_non_exhaustive()
    }
}

fn not_deployed(name: &FunctionName) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("function `{name}` is not deployed on this node"),
    )
    .with_hint("`mote ls` lists the functions, `mote deploy` adds one")
}
