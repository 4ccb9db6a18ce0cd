//! A function whose image is in the engine, ready to start containers.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_core::host::Host;
use mote_core::runtime::{Artifact, BoxFuture, Exit, Image, Instance, Instances, Prepared};
use mote_core::spec::{Contract, FunctionSpec, INSTANCES_MAX, Isolation, Program};
use tokio::sync::{mpsc, oneshot, watch};

use super::Shared;
use super::code::Code;
use super::engine::Connected;
use super::gateway::Gateway;
use super::image::Ready;
use super::instance::{Address, Container, Talk, ended, not_ready};
use super::lines::Lines;
use super::network::Held;
use super::owner::{Owner, Place};
use super::settings::{PORT, Wanted};
use crate::contract::http::{HttpClient, Settings};

/// Shortest time that a program has to become ready, however short its calls are.
const READY_MIN: Duration = Duration::from_secs(10);
/// Longest wait for word of the end of a container that ended as soon as it was started.
const END_MAX: Duration = Duration::from_secs(5);

/// A function with its image.
#[derive(Debug)]
pub(super) struct Function {
    shared: Arc<Shared>,
    spec: Arc<FunctionSpec>,
    program: Program,
    contract: Contract,
    version: String,
    ready: Ready,
    /// Of plain source.
    code: Option<Code>,
    missing: Vec<&'static str>,
    _network: Held,
}

impl Function {
    pub(super) async fn prepare(
        shared: &Arc<Shared>,
        spec: &Arc<FunctionSpec>,
        artifact: &Artifact,
    ) -> Result<Self, Error> {
        let program = spec.program.clone().unwrap_or_default();
        let connected = shared.engine.connect().await?;
        check_isolation(&connected, &program)?;
        check_grants(spec)?;
        let ready = shared
            .images
            .ready(&shared.engine, &connected, artifact, &program)
            .await?;
        let code = match &program.image {
            Some(_) => Some(Code::of(&shared.config, &program, artifact).await?),
            None => None,
        };
        let config = ready.inspect.config.as_ref();
        let starts = |words: Option<&Vec<String>>| words.is_some_and(|words| !words.is_empty());
        let image_starts = config.is_some_and(|config| {
            starts(config.cmd.as_ref()) || starts(config.entrypoint.as_ref())
        });
        if code.is_none() && program.command.is_empty() && !image_starts {
            return Err(
                Error::new(ErrorKind::BadRequest, "the image says no command to start")
                    .with_hint("write command = [\"/program\", \"argument\"]"),
            );
        }
        Ok(Self {
            shared: Arc::clone(shared),
            spec: Arc::clone(spec),
            contract: match &code {
                Some(code) => code.contract,
                None => program.contract.unwrap_or(Contract::Http),
            },
            code,
            program,
            version: artifact.digest.short(),
            ready,
            missing: connected.missing,
            _network: shared.networks.hold(spec.name.app()),
        })
    }

    async fn start_container(&self, host: Arc<dyn Host>) -> Result<Container, Error> {
        let shared = &self.shared;
        // The function is deployed and was possible here: an engine that is away is for now.
        let docker = shared.engine.connect().await.map_err(for_now)?.docker;
        let member = shared
            .networks
            .join(self.spec.name.app())
            .await
            .map_err(for_now)?;
        let number = shared.count.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "mote-{}-{}-{}-{number}",
            shared.config.node,
            self.spec.name.function(),
            self.spec.name.app()
        );
        let lines = Arc::new(Lines::new(self.spec.limits.log_bytes));
        let mut gateway = Gateway::new();
        gateway.egress(&member, &self.spec, &lines)?;
        let inward = gateway.inward(&member, &self.spec, host)?;
        let (mut port, mut lambda) = (None, None);
        if self.contract == Contract::Lambda {
            lambda = Some(gateway.lambda(&member, &self.spec, &lines)?);
        } else {
            let listens = self.program.port.unwrap_or(PORT);
            gateway.env.push(("PORT", listens.to_string()));
            if self.code.is_some() {
                // Not only on loopback, as its loader does in a sandbox.
                gateway.env.push(("HOST", "0.0.0.0".to_owned()));
            }
            port = Some(listens);
        }
        let empty = bollard::models::ImageConfig::default();
        let wanted = Wanted {
            spec: &self.spec,
            version: &self.version,
            image: &self.ready.id,
            config: self.ready.inspect.config.as_ref().unwrap_or(&empty),
            node: &shared.config.node,
            network: &member.network,
            cgroup_parent: shared.config.cgroup_parent.as_deref(),
            env: &gateway.env,
            code: self.code.as_ref(),
        };
        let body = wanted.body();
        let (exit, exited) = watch::channel(None);
        let (stops, stopped) = mpsc::channel(1);
        let (started, place) = oneshot::channel();
        let owner = Owner {
            engine: Arc::clone(&shared.engine),
            docker: docker.clone(),
            name: name.clone(),
            body,
            lines: Arc::clone(&lines),
            exit,
            member,
            gateway,
            port,
            lambda: lambda.clone(),
        };
        tokio::spawn(owner.own(started, stopped));
        let Place { address, inside } = place
            .await
            .map_err(|_| Error::new(ErrorKind::Overloaded, "the node is stopping"))??;
        let talk = match (lambda, address, port) {
            (Some(api), _, _) => Talk::Lambda(api),
            (None, Some(address), Some(port)) => {
                let socket = SocketAddr::new(address, port);
                let inside = inside.clone();
                Talk::Http(self.client(Address { socket, inside }))
            }
            _ => return Err(without_address(exited, &lines).await),
        };
        Ok(Container {
            engine: Arc::clone(&shared.engine),
            docker,
            name,
            spec: Arc::clone(&self.spec),
            lines,
            exit: exited,
            stops,
            ready: self
                .program
                .ready
                .clone()
                .or_else(|| self.code.as_ref()?.ready.clone()),
            talk,
            inward,
            inside,
        })
    }

    fn client(&self, address: Address) -> HttpClient {
        let settings = Settings {
            function: self.spec.name.clone(),
            connections: self.slots().get() as usize,
        };
        HttpClient::new(Arc::new(address), &settings)
    }

    fn slots(&self) -> NonZeroU32 {
        match self.contract {
            Contract::Http => {
                NonZeroU32::new(self.spec.limits.concurrency).unwrap_or(NonZeroU32::MIN)
            }
            Contract::Lambda | Contract::Stdio => NonZeroU32::MIN,
        }
    }
}

impl Prepared for Function {
    fn start(&self, host: Arc<dyn Host>) -> BoxFuture<'_, Result<Arc<dyn Instance>, Error>> {
        Box::pin(async move {
            let container = self.start_container(host).await?;
            container
                .ready(self.spec.limits.timeout.max(READY_MIN))
                .await?;
            Ok(Arc::new(container) as Arc<dyn Instance>)
        })
    }

    fn image(&self) -> Option<Image> {
        Some(self.ready.image.clone())
    }

    fn shape(&self) -> &'static str {
        match self.contract {
            Contract::Lambda => "lambda container",
            Contract::Http | Contract::Stdio => "http container",
        }
    }

    fn streams(&self) -> bool {
        self.contract == Contract::Http
    }

    fn instances(&self) -> Option<Instances> {
        Some(Instances {
            slots: self.slots(),
            memory_bytes: self.spec.limits.memory_bytes,
            max: INSTANCES_MAX,
        })
    }

    fn isolation(&self) -> String {
        let mut text = "container: own namespaces and limits, read-only root, no capabilities, a network of its app only".to_owned();
        if !self.missing.is_empty() {
            text.push_str(", but without ");
            text.push_str(&self.missing.join(", "));
        }
        text
    }
}

fn check_isolation(connected: &Connected, program: &Program) -> Result<(), Error> {
    if program.isolation == Isolation::BestEffort || connected.missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "isolation is required, and the container engine has no {}",
        connected.missing.join(", ")
    );
    Err(Error::new(ErrorKind::Unsupported, message)
        .with_hint("use an engine that runs as root, or write isolation = \"best-effort\""))
}

fn check_grants(spec: &FunctionSpec) -> Result<(), Error> {
    for grant in &spec.allow.read {
        if grant.host.to_str().is_none() {
            let message = format!("allow.read `{}` is not valid UTF-8", grant.host.display());
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
        if !grant.host.is_dir() {
            let message = format!(
                "allow.read `{}` is not a folder of this node",
                grant.host.display()
            );
            return Err(Error::new(ErrorKind::BadRequest, message)
                .with_hint("make it, or take it out of the manifest"));
        }
    }
    Ok(())
}

/// Why a container that was started has no address: it has ended, or the engine keeps it apart.
async fn without_address(mut exited: watch::Receiver<Option<Exit>>, lines: &Lines) -> Error {
    let exit = tokio::time::timeout(END_MAX, exited.wait_for(Option::is_some)).await;
    match exit.ok().and_then(|exit| exit.ok()?.clone()) {
        Some(exit) => not_ready(&ended(&exit).context("not ready"), lines),
        None => Error::new(
            ErrorKind::Unsupported,
            "the container engine gives its containers no address that this node reaches",
        )
        .with_hint("use an engine that runs as root, or write runtime = \"process\""),
    }
}

/// An engine that is away while a deployed function starts is a matter of time.
fn for_now(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unsupported => Error::new(ErrorKind::Overloaded, error.message().to_owned())
            .with_retry_after(Duration::from_secs(1)),
        _ => error,
    }
}
