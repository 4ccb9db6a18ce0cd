//! The wiring: the one place that knows every part of a node.
//!
//! Order of a start: log, data folder, databases, runtime, doors bound, functions brought back, addresses said,
//! served. Order of a stop: not ready, doors closed, calls under way finished within the grace,
//! key-value data synced.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mote_core::error::{Error, ErrorKind};
use mote_core::memory::MemoryBudget;
use mote_core::runtime::{Runtime, Warm};
use mote_core::spec::RuntimeKind;
use mote_engine::control::{Control, Parts};
use mote_engine::invoker::{Invoker, NodeLimits};
use mote_engine::metrics::Probe;
use mote_engine::{eviction, scaler, siblings};
use mote_ingress::admin::{self, AdminConfig, Data};
use mote_ingress::workers::Workers;
use mote_ingress::{coap, http};
use mote_runtimes::container::{self, Containers};
use mote_runtimes::environment::Environments;
use mote_runtimes::process::{self, Process};
use mote_runtimes::trees::Trees;
use mote_runtimes::wasm::{self, CompileLimits, Wasm};
use mote_store::artifacts::Artifacts;
use mote_store::data_dir::DataDir;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::config::value::CoapEcho;
use crate::listening::{Listening, bind_error};
use crate::memory;
use crate::stored::Stored;

/// Runs a node until it is told to stop.
pub(crate) async fn run(config: Config) -> Result<(), Error> {
    let stop = stop_signal()?;
    let data_dir = DataDir::open(&config.data_dir)?;
    let token = data_dir.token()?;
    let stored = Stored::open(&config, &data_dir).await?;
    let control = control(&config, &data_dir, &stored)?;

    let doors = Doors::bind(&config).await?;
    let listening = doors.listening(token.path)?;
    control.add_probes(doors.probes());
    // Functions may have to be compiled again, which takes long; a stop does not wait for it.
    let mut stop = std::pin::pin!(stop);
    tokio::select! {
        () = &mut stop => return Ok(()),
        restored = control.restore() => restored?,
    }

    let mut admin = AdminConfig::new(token.value);
    admin.doors = listening.doors();
    admin.artifact_bytes_max = config.artifact_bytes_max;
    admin.header_timeout = config.header_timeout;
    admin.body_timeout = config.body_timeout;
    admin.grace = config.drain;

    let workers = Workers::start(config.workers)
        .map_err(|error| internal("cannot start the threads that serve calls", &error))?;
    let shutdown = CancellationToken::new();
    let mut parts = doors.run(&config, admin, &control, stored.data(), &workers, &shutdown);
    let limits = eviction::Limits {
        bytes_max: config.images_bytes_max,
        idle_max: config.image_idle,
    };
    let invoker = control.invoker().clone();
    invoker.set_runners(workers.handles());
    parts.spawn(run_eviction(limits, invoker.clone(), shutdown.clone()));
    parts.spawn(run_scaler(invoker, shutdown.clone()));

    control.set_ready();
    let announced = listening.announce(&config.data_dir)?;
    tell_systemd(&[sd_notify::NotifyState::Ready]);
    let result = tokio::select! {
        () = &mut stop => Ok(()),
        Some(ended) = parts.join_next() => part_ended(ended),
    };
    control.set_draining();
    tell_systemd(&[sd_notify::NotifyState::Stopping]);
    drop(announced);
    shutdown.cancel();
    drain(parts, control.invoker(), config.drain).await;
    control.invoker().end_spawned().await;
    control.close().await;
    stored.close().await;
    result
}

fn control(config: &Config, data_dir: &DataDir, stored: &Stored) -> Result<Control, Error> {
    let wasm = Wasm::new(wasm::Config {
        images: data_dir.images(),
        shards: config.workers.get(),
        calls_max: config.calls_max,
        resident_bytes: memory::kept_for_a_call(
            memory::of_node_with(config.memory_bytes_max),
            config.calls_max,
        ),
        compile: CompileLimits {
            memory_bytes: config.compile_memory_bytes,
            cpu: config.compile_cpu,
            timeout: config.compile_timeout,
        },
    })?;
    let memory = MemoryBudget::new(config.memory_bytes_max);
    let tag = node_tag(data_dir);
    let trees = Arc::new(Trees::new(data_dir.trees()));
    let environments = Environments::open(&data_dir.environments())?;
    let process = Process::new(process::Config {
        trees: Arc::clone(&trees),
        environments: environments.clone(),
        program: std::env::current_exe()
            .map_err(|error| internal("cannot tell where this program is", &error))?,
        tag: tag.clone(),
        memory: memory.clone(),
        warm_instances: config.warm_instances.into(),
        node_bytes: memory::of_node_with(config.memory_bytes_max),
    })?;
    let containers = Containers::new(container::Config {
        socket: config.container_socket.clone(),
        node: tag,
        cgroup_parent: config.container_cgroup_parent.clone(),
        trees,
        environments,
    });
    let probes = warm_probes(&process);
    let runtimes = HashMap::from([
        (RuntimeKind::Wasm, Arc::new(wasm) as Arc<dyn Runtime>),
        (RuntimeKind::Process, Arc::new(process) as Arc<dyn Runtime>),
        (
            RuntimeKind::Container,
            Arc::new(containers) as Arc<dyn Runtime>,
        ),
    ]);
    let parts = Parts {
        registry: stored.registry.clone(),
        artifacts: Arc::new(Artifacts::open(data_dir)?),
        runtimes,
        memory,
    };
    let limits = NodeLimits {
        calls_max: config.calls_max,
        queue_max: config.queue_max,
    };
    let node = getrandom::u32().map_err(|error| internal("no random numbers", &error))?;
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let unix_ms = u64::try_from(since.as_millis()).unwrap_or_default();
    let invoker = Invoker::new(limits, node, unix_ms);
    invoker.set_data(siblings::Data {
        key_value: stored.key_value.clone(),
        secrets: stored.secrets.clone(),
    });
    let control = Control::new(parts, invoker);
    control.add_probes(probes.into());
    control.add_probes(stored.probes());
    control.add_families(stored.families());
    Ok(control)
}

/// What tells this node's things from those of others on the same system: the same at every start.
fn node_tag(data_dir: &DataDir) -> String {
    let path = data_dir.path().as_os_str().as_encoded_bytes();
    blake3::hash(path).to_hex()[..12].to_owned()
}

/// The doors, bound and not yet open.
struct Doors {
    http: Option<(TcpListener, Arc<http::Counters>)>,
    coap: Option<coap::Door>,
    admin: Option<TcpListener>,
}

impl Doors {
    async fn bind(config: &Config) -> Result<Self, Error> {
        let http = match config.http {
            Some(address) => Some((bind("http", address).await?, Arc::default())),
            None => None,
        };
        let admin = match config.admin {
            Some(address) => Some(bind("admin", address).await?),
            None => None,
        };
        let coap = match config.coap {
            Some(address) => Some(coap::Door::bind(&coap_config(config, address))?),
            None => None,
        };
        Ok(Self { http, coap, admin })
    }

    fn listening(&self, token: std::path::PathBuf) -> Result<Listening, Error> {
        let address = |listener: &TcpListener| {
            listener
                .local_addr()
                .map_err(|error| internal("cannot tell where it listens", &error))
        };
        Ok(Listening {
            http: self
                .http
                .as_ref()
                .map(|(listener, _)| address(listener))
                .transpose()?,
            coap: self.coap.as_ref().map(coap::Door::local_addr),
            admin: self.admin.as_ref().map(address).transpose()?,
            token,
        })
    }

    /// What the doors count, for the metrics page.
    fn probes(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        if let Some((_, counters)) = &self.http {
            probes.extend(http_probes(counters));
        }
        if let Some(door) = &self.coap {
            probes.extend(coap_probes(door));
        }
        probes
    }

    /// Opens them.
    fn run(
        self,
        config: &Config,
        admin: AdminConfig,
        control: &Control,
        data: Data,
        workers: &Workers,
        shutdown: &CancellationToken,
    ) -> JoinSet<Result<(), Error>> {
        let mut parts = JoinSet::new();
        let invoker = control.invoker();
        if let Some((listener, counters)) = self.http {
            let limits = http::Config {
                connections_max: config.connections_max,
                header_timeout: config.header_timeout,
                idle_timeout: config.idle_timeout,
                body_timeout: config.body_timeout,
                collecting_bytes_max: COLLECTING_BYTES_MAX,
            };
            parts.spawn(http::run(
                listener,
                limits,
                counters,
                invoker.clone(),
                workers.clone(),
                shutdown.clone(),
            ));
        }
        if let Some(door) = self.coap {
            parts.spawn(door.run(invoker.clone(), workers.clone(), shutdown.clone()));
        }
        if let Some(listener) = self.admin {
            parts.spawn(admin::run(
                listener,
                control.clone(),
                data,
                admin,
                shutdown.clone(),
            ));
        }
        parts
    }
}

/// Bytes of HTTP request bodies that are on their way in at once.
const COLLECTING_BYTES_MAX: u32 = 256 << 20;

async fn bind(door: &str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|error| bind_error(door, address, &error))
}

fn coap_config(config: &Config, address: SocketAddr) -> coap::Config {
    let mut coap = coap::Config::new(address);
    coap.shards = config.workers;
    coap.block_size = config.coap_block_size;
    coap.echo = match config.coap_echo {
        CoapEcho::PrivateExempt => coap::EchoMode::PrivateExempt,
        CoapEcho::Always => coap::EchoMode::Always,
        CoapEcho::Never => coap::EchoMode::Never,
    };
    coap
}

fn http_probes(counters: &Arc<http::Counters>) -> Vec<Probe> {
    use std::sync::atomic::Ordering::Relaxed;
    let probe = |name, help, counter, read: fn(&http::Counters) -> u64| {
        let counters = Arc::clone(counters);
        Probe {
            name,
            help,
            counter,
            read: Box::new(move || read(&counters)),
        }
    };
    vec![
        probe(
            "http_connections",
            "Connections that the HTTP door accepted",
            true,
            |all| all.accepted.load(Relaxed),
        ),
        probe(
            "http_connections_refused",
            "Connections closed because there were too many",
            true,
            |all| all.refused.load(Relaxed),
        ),
        probe(
            "http_connections_open",
            "Connections open now",
            false,
            |all| all.open.load(Relaxed),
        ),
    ]
}

/// What is kept warm, for the metrics page.
fn warm_probes(process: &Process) -> [Probe; 2] {
    let probe = |name, help, counter, read: fn(Warm) -> u64| {
        let process = process.clone();
        Probe {
            name,
            help,
            counter,
            read: Box::new(move || read(process.warm())),
        }
    };
    [
        probe(
            "warm_instances",
            "Instances that wait for the code of a function",
            false,
            |warm| warm.ready.values().copied().map(u64::from).sum(),
        ),
        probe(
            "warm_taken",
            "Instances that waited and were given to a function",
            true,
            |warm| warm.taken,
        ),
    ]
}

fn coap_probes(door: &coap::Door) -> Vec<Probe> {
    let counters = door.counters();
    let names = counters.read().into_iter().enumerate();
    names
        .map(|(index, (name, help, _))| {
            let counters = Arc::clone(&counters);
            Probe {
                name: format!("coap_{}", name.trim_end_matches("_now")).leak(),
                help: help.trim().trim_end_matches('.').to_owned().leak(),
                counter: !name.ends_with("_now"),
                read: Box::new(move || counters.read()[index].2),
            }
        })
        .collect()
}

async fn run_eviction(
    limits: eviction::Limits,
    invoker: Invoker,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    eviction::run(limits, invoker, shutdown).await;
    Ok(())
}

async fn run_scaler(invoker: Invoker, shutdown: CancellationToken) -> Result<(), Error> {
    let at_rest = || drop(tokio::task::spawn_blocking(mote_runtimes::heap::give_back));
    scaler::run(invoker, memory::pressure, at_rest, shutdown).await;
    Ok(())
}

/// A part that ends before it was told to takes the node with it: a node without a door is no node.
fn part_ended(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    match ended {
        Ok(Ok(())) => Err(Error::new(
            ErrorKind::Internal,
            "a part of the node ended by itself",
        )),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(internal("a part of the node failed", &error)),
    }
}

async fn drain(mut parts: JoinSet<Result<(), Error>>, invoker: &Invoker, grace: Duration) {
    let all = async {
        while parts.join_next().await.is_some() {}
        invoker.drain_spawned().await;
    };
    if tokio::time::timeout(grace, all).await.is_err() {
        tracing::warn!(
            ?grace,
            "calls that did not end within the grace are cut off"
        );
    }
}

/// Resolves when the node is told to stop: SIGTERM, or SIGINT from a terminal.
fn stop_signal() -> Result<impl Future<Output = ()>, Error> {
    let failed = |error| internal("cannot listen for signals", &error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn tell_systemd(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "could not tell systemd");
    }
}

fn internal(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("{what}: {error}"))
}
