//! A version of a function whose program is ready to be started on this node.

use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use mote_core::error::Error;
use mote_core::host::Host;
use mote_core::runtime::{BoxFuture, Image, Instance, Instances, Prepared};
use mote_core::spec::{Contract, FunctionSpec};
use tokio::sync::Mutex;

use super::Shared;
use super::plan::Plan;
use super::root::SeatedRoot;
use super::served::Served;
use super::stdio::Stdio;
use super::warm::{self, Generic, Interest};
use crate::environment::Serving;
use crate::trees::Hold;

/// One version of a function.
pub(super) struct ProcessFunction {
    pub(super) shared: Arc<Shared>,
    pub(super) spec: Arc<FunctionSpec>,
    pub(super) plan: Plan,
    image: Image,
    isolation: String,
    root: Mutex<Weak<SeatedRoot>>,
    /// Has something wait for it, if that may serve it.
    warm: Option<Interest>,
    _tree: Arc<Hold>,
}

impl ProcessFunction {
    pub(super) fn new(
        shared: &Arc<Shared>,
        spec: &Arc<FunctionSpec>,
        plan: Plan,
        image: Image,
        tree: Arc<Hold>,
        isolation: String,
    ) -> Self {
        let warm = plan
            .code
            .as_ref()
            .and_then(|code| Interest::new(shared, code));
        Self {
            warm,
            shared: Arc::clone(shared),
            spec: Arc::clone(spec),
            plan,
            image,
            isolation,
            root: Mutex::default(),
            _tree: tree,
        }
    }

    /// Its root in the sandbox of its app, made when there is none.
    async fn seat(&self) -> Result<Arc<SeatedRoot>, Error> {
        let mut root = self.root.lock().await;
        let sandbox = self.shared.apps.join(self.spec.name.app()).await?;
        if let Some(seated) = root.upgrade()
            && Arc::ptr_eq(&seated.sandbox, &sandbox)
        {
            return Ok(seated);
        }
        let seated = Arc::new(SeatedRoot::make(sandbox, self.plan.root.clone()).await?);
        *root = Arc::downgrade(&seated);
        Ok(seated)
    }

    /// An instance that waits, in a sandbox that is the app's from now on, and the function's root in
    /// it. Nothing when none may be had, or the app has a sandbox: then it starts there.
    async fn adopt(&self) -> Option<(Generic, Arc<SeatedRoot>)> {
        let (warm, spec) = (self.warm.as_ref()?, &self.spec);
        let limits = warm::limits(&spec.limits, &spec.program.clone().unwrap_or_default());
        let app = spec.name.app();
        let adopting = async {
            let generic = warm.take()?;
            match generic.adopt(app, self.plan.root.clone(), &limits).await {
                Ok(root) => Some((Arc::clone(&root.sandbox), (generic, root))),
                Err(error) => {
                    tracing::info!(function = %spec.name, %error, "a warm instance could not be used");
                    None
                }
            }
        };
        let adopted = self.shared.apps.adopt(app, adopting).await?;
        *self.root.lock().await = Arc::downgrade(&adopted.1);
        Some(adopted)
    }

    fn has_shared_port(&self) -> bool {
        let port = self.spec.program.as_ref().and_then(|program| program.port);
        port.is_some() && self.spec.allow.needs_a_network()
    }

    pub(super) fn slots(&self) -> NonZeroU32 {
        let concurrency = NonZeroU32::new(self.spec.limits.concurrency).unwrap_or(NonZeroU32::MIN);
        match self.plan.serving {
            Serving::Program(Contract::Lambda) => NonZeroU32::MIN,
            Serving::Zygote => {
                // Its workers are processes, and one is the zygote itself.
                let processes = self.spec.program.as_ref().map_or(1, |all| all.processes);
                let workers = NonZeroU32::new(processes.saturating_sub(1));
                concurrency.min(workers.unwrap_or(NonZeroU32::MIN))
            }
            Serving::Program(Contract::Stdio | Contract::Http) => concurrency,
        }
    }
}

impl Prepared for ProcessFunction {
    fn start(&self, host: Arc<dyn Host>) -> BoxFuture<'_, Result<Arc<dyn Instance>, Error>> {
        Box::pin(async move {
            if let Some((generic, root)) = self.adopt().await {
                return Served::start(self, root, &host, Some(generic)).await;
            }
            let root = self.seat().await?;
            match self.plan.serving {
                Serving::Program(Contract::Stdio) => Ok(Stdio::start(self, root, host).await?),
                _ => Ok(Served::start(self, root, &host, None).await?),
            }
        })
    }

    fn image(&self) -> Option<Image> {
        Some(self.image.clone())
    }

    fn shape(&self) -> &'static str {
        self.plan.shape
    }

    fn streams(&self) -> bool {
        self.plan.serving == Serving::Program(Contract::Http)
    }

    fn instances(&self) -> Option<Instances> {
        // Each process of a call takes its memory when it is made; and one that forks for calls
        // needs no second of its kind.
        let (memory_bytes, max) = match self.plan.serving {
            Serving::Program(Contract::Stdio) => (0, 1),
            Serving::Zygote => (self.spec.limits.memory_bytes, 1),
            // A port of the app's network, which the way out shares, is there once.
            Serving::Program(Contract::Http) if self.has_shared_port() => {
                (self.spec.limits.memory_bytes, 1)
            }
            Serving::Program(_) => (self.spec.limits.memory_bytes, u32::MAX),
        };
        Some(Instances {
            slots: self.slots(),
            memory_bytes,
            max,
        })
    }

    fn isolation(&self) -> String {
        self.isolation.clone()
    }
}
