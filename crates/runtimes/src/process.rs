//! Programs of this system, in a sandbox of their app.
//!
//! An artifact is unpacked once, at deploy, into a tree on disk ([`crate::tree`]); an image among
//! them is the root that its program sees, other code appears at `/app` below the system's own
//! programs (`plan`). All functions of an app run in one [`crate::sandbox`], which other apps
//! cannot see into, and which ends when none of them runs (`apps`). A program that makes a process
//! for each call is `stdio`, one that stays is `served`. What runs already when its code comes is `warm`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mote_core::error::{Error, ErrorKind};
use mote_core::memory::MemoryBudget;
use mote_core::runtime::{Artifact, BoxFuture, Image, Prepared, Runtime, Warm};
use mote_core::spec::{FunctionSpec, Isolation};

use self::apps::Apps;
use self::function::ProcessFunction;
use self::plan::Plan;
use crate::environment::Environments;
use crate::sandbox::cgroup::{self, Cgroup, Cgroups};
use crate::trees::Trees;

mod apps;
mod connect;
mod function;
mod output;
mod plan;
mod root;
mod served;
mod stdio;
mod warm;

/// How the runtime is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Unpacked artifacts. This runtime sweeps them for all.
    pub trees: Arc<Trees>,
    /// What serves plain source.
    pub environments: Environments,
    /// The node's own program, which is started again for each sandbox.
    pub program: PathBuf,
    /// What tells this node's cgroups from those of others on the same machine.
    pub tag: String,
    /// What instances share; processes that are made for each call take from it too.
    pub memory: MemoryBudget,
    /// How many instances of each environment in use wait for their code; 0 is none.
    pub warm_instances: u32,
    /// All memory of the node, of which little means that none wait.
    pub node_bytes: u64,
}

/// The runtime.
#[derive(Clone, Debug)]
pub struct Process {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    cgroups: Cgroups,
    apps: Apps,
    warm: warm::Pool,
    /// Numbers the cgroups.
    cgroups_made: AtomicU64,
}

impl Process {
    /// Removes the cgroups of an earlier node with this tag that was killed, and finds out which
    /// cgroups there are. Blocking, inside of an async runtime.
    pub fn new(config: Config) -> Result<Self, Error> {
        if let Err(error) = Cgroups::clear(&config.tag) {
            tracing::warn!(%error, "could not remove what an earlier run left");
        }
        let cgroups = Cgroups::open(&config.tag)?;
        let apps = Apps::new(config.program.clone());
        let warm = warm::Pool::new(&config);
        let shared = Arc::new(Shared {
            config,
            cgroups,
            apps,
            warm,
            cgroups_made: AtomicU64::new(0),
        });
        warm::Pool::run(&shared);
        Ok(Self { shared })
    }
}

impl Shared {
    /// A cgroup with the limits of one instance of this function.
    fn cgroup(&self, spec: &FunctionSpec) -> Result<Cgroup, Error> {
        let program = spec.program.clone().unwrap_or_default();
        let limits = warm::limits(&spec.limits, &program);
        self.cgroup_with(spec.name.full(), &limits)
    }

    /// A new cgroup, whose name begins with this.
    fn cgroup_with(&self, name: &str, limits: &cgroup::Limits) -> Result<Cgroup, Error> {
        let number = self.cgroups_made.fetch_add(1, Ordering::Relaxed);
        self.cgroups.create(&format!("{name}-{number}"), limits)
    }

    /// What keeps a function of this app apart here. Fails when that is not enough for it.
    async fn isolation(&self, spec: &FunctionSpec) -> Result<String, Error> {
        let sandbox = self.apps.join(spec.name.app()).await?;
        let tier = sandbox.tier().and(self.cgroups.tier());
        let required = spec
            .program
            .as_ref()
            .is_some_and(|program| program.isolation == Isolation::Required);
        if required && !tier.is_full() {
            let message = format!("isolation = \"required\", and this node's is {tier}");
            return Err(Error::new(ErrorKind::Unsupported, message).with_hint(
                "run the node as root on a kernel with these features, or write isolation = \"best-effort\"",
            ));
        }
        Ok(tier.to_string())
    }
}

impl Runtime for Process {
    fn prepare<'a>(
        &'a self,
        spec: &'a Arc<FunctionSpec>,
        artifact: &'a Artifact,
    ) -> BoxFuture<'a, Result<Arc<dyn Prepared>, Error>> {
        Box::pin(async move {
            let shared = &self.shared;
            let hold = shared.config.trees.hold(artifact);
            let (folder, tree) = shared.config.trees.unpacked(artifact, &hold).await?;
            let plan = Plan::new(spec, &folder, &tree, &shared.config.environments)?;
            let isolation = shared.isolation(spec).await?;
            let image = Image {
                file: hold.name.clone(),
                digest: artifact.digest,
                bytes: tree.bytes,
            };
            let function = ProcessFunction::new(shared, spec, plan, image, hold, isolation);
            Ok(Arc::new(function) as Arc<dyn Prepared>)
        })
    }

    fn sweep(&self, used: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        self.shared.config.trees.sweep(used)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.shared.warm.close();
        let tag = self.shared.config.tag.clone();
        Box::pin(async move {
            let cleared = tokio::task::spawn_blocking(move || Cgroups::clear(&tag)).await;
            if let Ok(Err(error)) = cleared {
                tracing::warn!(%error, "could not remove the node's cgroups");
            }
        })
    }

    fn isolation(&self) -> BoxFuture<'_, String> {
        Box::pin(async move { self.shared.apps.tier(self.shared.cgroups.tier()).await })
    }

    fn warm(&self) -> Warm {
        self.shared.warm.view()
    }
}
