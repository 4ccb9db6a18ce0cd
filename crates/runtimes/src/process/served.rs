//! A program that stays and serves many calls: contracts `http` and `lambda`, and the zygote that
//! forks for each call.
//!
//! A call that is late, or whose caller has gone, must not leave a hanging program behind: one that
//! takes one call at a time is killed when the call's time is over, one that takes several when it
//! does not answer a new connection any more either. Ends when it is dropped, with everything that
//! it started.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::Invocation;
use mote_core::log::Level;
use mote_core::reply::Reply;
use mote_core::runtime::{BoxFuture, CallContext, Exit, Instance};
use mote_core::spec::{Contract, FunctionSpec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connect::{Program, SOCKET};
use super::function::ProcessFunction;
use super::output::Output;
use super::root::SeatedRoot;
use super::stdio::Pipes;
use super::warm::{Generic, Waiting};
use crate::contract::http::HttpClient;
use crate::contract::lambda::LambdaApi;
use crate::contract::zygote::{CallLimits, Zygote};
use crate::contract::{egress, http, lambda, zygote};
use crate::environment::Serving;
use crate::sandbox::cgroup::Cgroup;
use crate::sandbox::process::{self, Network, Process, Spawn};

/// Most descriptors of a program.
pub(super) const FILES_MAX: u64 = 4096;
/// Shortest time that a program has to become ready, however short its calls must be.
const START_MIN: Duration = Duration::from_secs(30);
/// How long a program may take to answer a new connection when one of its calls was late.
const PROBE: Duration = Duration::from_secs(2);
/// The ports of programs that share the network of their app.
const PORTS: (u16, u16) = (20_000, 60_000);
/// Connections kept to one program.
const CONNECTIONS_KEPT_MAX: usize = 64;

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A running program.
pub(super) struct Served {
    spec: Arc<FunctionSpec>,
    contract: Running,
    ready: Option<String>,
    process: Arc<Process>,
    output: Arc<Output>,
    cgroup: Cgroup,
    /// Whether the node killed it because of a call.
    killed: AtomicBool,
    one_at_a_time: bool,
    /// Processes of it that were killed for their memory, when a call last failed.
    oom_kills: AtomicU64,
    _root: Arc<SeatedRoot>,
    _servers: DropGuard,
}

enum Running {
    Http(HttpClient),
    Lambda(Arc<LambdaApi>),
    Zygote(Zygote),
}

impl Served {
    /// Starts the program, or has one serve that waits, and waits until it is ready.
    pub(super) async fn start(
        function: &ProcessFunction,
        root: Arc<SeatedRoot>,
        slots: NonZeroU32,
        generic: Option<Generic>,
    ) -> Result<Arc<dyn Instance>, Error> {
        let spec = &function.spec;
        let output = Output::new(spec.limits.log_bytes);
        let servers = CancellationToken::new();
        let guard = servers.clone().drop_guard();
        let (cgroup, waiting) = match generic {
            Some(generic) => (generic.cgroup, Some(generic.waiting)),
            None => (function.shared.cgroup(spec)?, None),
        };
        let mut start = Start {
            function,
            root: &root,
            output: &output,
            servers: &servers,
            env: function.plan.env.clone(),
            waiting,
        };
        start.open_way_out().await?;
        let (process, contract) = match function.plan.serving {
            Serving::Program(Contract::Lambda) => start.lambda(&cgroup).await?,
            Serving::Zygote => start.zygote(&cgroup, slots).await?,
            Serving::Program(_) => start.http(&cgroup).await?,
        };
        let served = Arc::new(Self {
            spec: Arc::clone(spec),
            contract,
            ready: function.plan.ready.clone(),
            process,
            output,
            cgroup,
            killed: AtomicBool::new(false),
            one_at_a_time: slots == NonZeroU32::MIN,
            oom_kills: AtomicU64::new(0),
            _root: root,
            _servers: guard,
        });
        served.until_ready().await?;
        Ok(Arc::new(Watch(served)))
    }

    async fn until_ready(&self) -> Result<(), Error> {
        let within = self.spec.limits.timeout.max(START_MIN);
        let ready = async {
            match &self.contract {
                Running::Http(client) => client.ready(self.ready.as_deref(), within).await,
                Running::Lambda(api) => api.initialized(within).await,
                Running::Zygote(zygote) => zygote.ready(within).await,
            }
        };
        let why = tokio::select! {
            biased;
            result = ready => match result {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            exit = self.process.exited() => {
                // What it wrote last is in its pipes still.
                tokio::task::yield_now().await;
                Error::new(ErrorKind::FunctionFailed, format!("the program {}", self.how(exit)))
                    .with_hint("`mote logs` has what it wrote")
            }
        };
        let last = self.output.last_error();
        if last.is_empty() || why.message().contains(&last) {
            return Err(why);
        }
        let message = format!("{}: {last}", why.message());
        let error = Error::new(why.kind(), message);
        Err(match why.hint() {
            Some(hint) => error.with_hint(hint.to_owned()),
            None => error,
        })
    }

    fn how(&self, exit: process::Exit) -> String {
        if self.cgroup.oom_kills() > 0 {
            return format!("{exit} because it used more memory than it may (raise `memory`)");
        }
        exit.to_string()
    }

    /// Kills it because of a call that it does not end.
    fn give_up(&self, why: &str) {
        if self.process.exit().is_none() {
            self.killed.store(true, Ordering::Relaxed);
            self.output.say(Level::Error, why);
            self.process.kill();
        }
    }

    /// Whether a call that was given up may be under way in it still.
    fn holds_a_call(&self) -> bool {
        match &self.contract {
            Running::Http(_) => true,
            Running::Lambda(api) => api.busy(),
            // Its worker was killed together with the call.
            Running::Zygote(_) => false,
        }
    }

    /// What becomes of a program whose call was given up, when the call's time is over.
    async fn judge(self: Arc<Self>, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
        match &self.contract {
            _ if !self.holds_a_call() => {}
            Running::Http(client) if !self.one_at_a_time => {
                if client.ready(self.ready.as_deref(), PROBE).await.is_err() {
                    self.give_up("the program hangs and was killed");
                }
            }
            _ => {
                self.give_up("the program did not end a call in time and was killed");
            }
        }
    }
}

/// Something that watches over a call: dropped before the end, it has the program looked at.
struct Watched {
    served: Weak<Served>,
    deadline: Instant,
    ended: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let Some(served) = self.served.upgrade() else {
            return;
        };
        // Before the slot is free: the next call must not be given to what is about to be killed.
        if served.one_at_a_time && Instant::now() >= self.deadline && served.holds_a_call() {
            served.give_up("the program did not end a call in time and was killed");
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(served.judge(self.deadline));
        }
    }
}

/// An instance whose calls can be watched: it needs a reference to itself.
struct Watch(Arc<Served>);

impl Instance for Watch {
    fn call<'a>(
        &'a self,
        offered: &'a mut Option<Invocation>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(async move {
            let served = &self.0;
            if served.killed.load(Ordering::Relaxed) {
                // The call is not taken, and another instance may have it.
                let exit = served.process.exited().await;
                let message = format!("the program {}", served.how(exit));
                return Err(Error::new(ErrorKind::FunctionFailed, message));
            }
            let oom_kills = served.oom_kills.load(Ordering::Relaxed);
            if let Some(invocation) = &offered {
                served.output.attach(&context.log(), invocation.id);
            }
            let budget = offered.as_ref().map_or(Duration::ZERO, |call| call.budget);
            let mut watched = Watched {
                served: Arc::downgrade(served),
                deadline: Instant::now() + budget,
                ended: false,
            };
            let limit = served.spec.limits.body_bytes;
            let called = match &served.contract {
                Running::Http(client) => client.call(offered, limit).await,
                Running::Lambda(api) => api.call(offered, limit, &context.log()).await,
                Running::Zygote(zygote) => {
                    let limits = CallLimits {
                        body_bytes: limit,
                        log_bytes: served.spec.limits.log_bytes,
                    };
                    zygote.call(offered, &context.log(), limits).await
                }
            };
            watched.ended = true;
            match called {
                // A program that died broke off all its connections; how it died says more.
                Err(error) if error.kind() == ErrorKind::FunctionFailed => {
                    Err(served.explained(error, oom_kills).await)
                }
                other => other,
            }
        })
    }

    fn idle_bytes(&self) -> u64 {
        self.0.cgroup.memory_bytes().unwrap_or(0)
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        let served = &self.0;
        Box::pin(async move {
            let exit = served.process.exited().await;
            if let Running::Lambda(api) = &served.contract {
                api.gone();
            }
            Exit {
                how: served.how(exit),
                on_purpose: served.killed.load(Ordering::Relaxed),
            }
        })
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, ()> {
        let served = &self.0;
        Box::pin(async move {
            // One that only waits for a call has nothing to end, and as the first process of its
            // namespace it does not even hear the signal.
            if matches!(&served.contract, Running::Lambda(api) if !api.busy()) {
                served.process.kill();
            }
            served.process.signal(Signal::TERM);
            if timeout(grace, served.process.exited()).await.is_err() {
                served.process.kill();
                // Bounded, since what is killed ends.
                let _ = timeout(grace, served.process.exited()).await;
            }
        })
    }
}

impl Served {
    async fn explained(&self, error: Error, oom_kills: u64) -> Error {
        let now = self.cgroup.oom_kills();
        self.oom_kills.store(now, Ordering::Relaxed);
        if now > oom_kills && matches!(self.contract, Running::Zygote(_)) {
            let message = format!("{}: it used more memory than it may", error.message());
            return Error::new(ErrorKind::FunctionFailed, message)
                .with_hint("raise `memory` in the function's manifest");
        }
        let short = Duration::from_millis(50);
        match timeout(short, self.process.exited()).await {
            Ok(exit) if !error.message().contains("exited") => {
                let message = format!("the program {} ({})", self.how(exit), error.message());
                Error::new(ErrorKind::FunctionFailed, message)
            }
            _ => error,
        }
    }
}

/// A program on its way.
struct Start<'a> {
    function: &'a ProcessFunction,
    root: &'a Arc<SeatedRoot>,
    output: &'a Arc<Output>,
    servers: &'a CancellationToken,
    env: Vec<(String, String)>,
    waiting: Option<Waiting>,
}

impl Start<'_> {
    /// Serves the proxy through which it reaches granted origins, if there are any.
    async fn open_way_out(&mut self) -> Result<(), Error> {
        let grants = self.function.spec.allow.http.clone();
        if grants.is_empty() {
            return Ok(());
        }
        let (listener, port) = self.listen().await?;
        let output = Arc::clone(self.output);
        let log: egress::Log = Arc::new(move |line: &str| output.say(Level::Error, line));
        tokio::spawn(egress::serve(listener, grants, log, self.servers.clone()));
        let proxy = format!("http://127.0.0.1:{port}");
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            self.set(name, &proxy);
        }
        // Its own loopback is reached without the proxy, unless the node's was granted.
        let own = ["127.0.0.1", "localhost", "[::1]"];
        let grants = &self.function.spec.allow.http;
        if !grants
            .iter()
            .any(|grant| own.iter().any(|host| grant.contains(host)))
        {
            for name in ["NO_PROXY", "no_proxy"] {
                self.set(name, "127.0.0.1,localhost,::1");
            }
        }
        Ok(())
    }

    async fn http(mut self, cgroup: &Cgroup) -> Result<(Arc<Process>, Running), Error> {
        let spec = &self.function.spec;
        let fixed = spec.program.as_ref().and_then(|program| program.port);
        // The proxy is in the network of the app; without it, nothing has to be shared.
        let own_network = spec.allow.http.is_empty();
        let port = match (fixed, own_network) {
            (Some(port), _) => port,
            (None, true) => 8080,
            (None, false) => shared_port(),
        };
        self.set("PORT", &port.to_string());
        self.set("MOTE_SOCKET", SOCKET);
        let sandbox = Arc::clone(&self.root.sandbox);
        let settings = http::Settings {
            function: spec.name.clone(),
            connections: CONNECTIONS_KEPT_MAX,
        };
        let process = match self.serve().await {
            Some((process, _)) => process,
            None => self.spawn(cgroup, own_network, Vec::new()).await?,
        };
        let network = process.network();
        let program = Program::new(sandbox, Arc::clone(&process), network, port);
        let client = HttpClient::new(Arc::new(program), &settings);
        Ok((process, Running::Http(client)))
    }

    async fn lambda(mut self, cgroup: &Cgroup) -> Result<(Arc<Process>, Running), Error> {
        let spec = Arc::clone(&self.function.spec);
        let (listener, port) = self.listen().await?;
        let output = Arc::clone(self.output);
        let api = LambdaApi::new(lambda::Settings {
            function: spec.name.clone(),
            connections: 8,
            log: Arc::new(move |line: &str| output.say(Level::Warn, line)),
        });
        let serving = Arc::clone(&api).serve(listener, self.servers.clone());
        tokio::spawn(serving);
        self.set("AWS_LAMBDA_RUNTIME_API", &format!("127.0.0.1:{port}"));
        let memory = (spec.limits.memory_bytes >> 20).to_string();
        for (name, value) in [
            ("AWS_LAMBDA_FUNCTION_NAME", spec.name.function()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &memory),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "mote"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "mote"),
            ("AWS_REGION", "local"),
            ("LAMBDA_TASK_ROOT", "/app"),
            ("LAMBDA_RUNTIME_DIR", "/app"),
        ] {
            self.set_default(name, value);
        }
        let process = self.spawn(cgroup, false, Vec::new()).await?;
        Ok((process, Running::Lambda(api)))
    }

    async fn zygote(
        mut self,
        cgroup: &Cgroup,
        slots: NonZeroU32,
    ) -> Result<(Arc<Process>, Running), Error> {
        let spec = Arc::clone(&self.function.spec);
        let (process, ours) = match self.serve().await {
            Some(serving) => serving,
            None => {
                let kind = SocketType::SEQPACKET;
                let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
                let (ours, theirs) = pair.map_err(|error| no_descriptors(&error.into()))?;
                (self.spawn(cgroup, false, vec![theirs]).await?, ours)
            }
        };
        let settings = zygote::Settings {
            calls_per_worker: NonZeroU32::new(spec.reuse).unwrap_or(NonZeroU32::MIN),
            spares: 1,
            workers_max: slots,
            cgroups: Vec::new(),
        };
        let zygote = Zygote::new(ours, settings).map_err(|error| no_descriptors(&error))?;
        Ok((process, Running::Zygote(zygote)))
    }

    /// Has the process serve that waits, if there is one that does: its end of the control socket.
    async fn serve(&mut self) -> Option<(Arc<Process>, OwnedFd)> {
        let waiting = self.waiting.take()?;
        let arguments = &self.function.plan.code.as_ref()?.arguments;
        if let Err(error) = waiting.serve(arguments, &self.env).await {
            // It ended just now, and another is started in its place.
            tracing::debug!(%error, "a warm instance did not take its code");
            return None;
        }
        let control = waiting.control.into_std().ok()?;
        self.read(waiting.pipes);
        self.function.shared.warm.note_taken();
        // Removing a root makes the sandbox wait, so not now.
        let ended = waiting.process.exited();
        tokio::spawn(async move {
            ended.await;
            drop(waiting.root);
        });
        Some((waiting.process, control.into()))
    }

    /// Starts a process.
    async fn spawn(
        self,
        cgroup: &Cgroup,
        own_network: bool,
        extra: Vec<OwnedFd>,
    ) -> Result<Arc<Process>, Error> {
        let pipes = Pipes::new().map_err(|error| no_descriptors(&error))?;
        let ([stdin, stdout, stderr], ours) = pipes;
        self.read(ours);
        let plan = &self.function.plan;
        let spawn = Spawn {
            root: self.root.id,
            command: plan.command.clone(),
            env: self.env,
            directory: plan.directory.clone(),
            stdin,
            stdout,
            stderr,
            extra,
            cgroup: Some(cgroup),
            own_network,
            cpu_seconds: None,
            files_max: FILES_MAX,
        };
        Ok(Arc::new(self.root.sandbox.spawn(spawn).await?))
    }

    /// Takes what a process writes into the log. It has no input.
    fn read(&self, pipes: Pipes) {
        for (pipe, level) in [(pipes.stdout, Level::Info), (pipes.stderr, Level::Warn)] {
            let output = Arc::clone(self.output);
            // It ends with the program, which holds the other end.
            tokio::spawn(async move {
                if let Err(error) = output.read(pipe, level).await {
                    tracing::debug!(%error, "a program's output cannot be read");
                }
            });
        }
    }

    /// A listener in the network of the app.
    async fn listen(&self) -> Result<(TcpListener, u16), Error> {
        let listening = async {
            let listener = self.root.sandbox.listen(Network::APP).await?;
            let listener = TcpListener::from_std(listener)?;
            let port = listener.local_addr()?.port();
            io::Result::Ok((listener, port))
        };
        listening.await.map_err(|error| no_descriptors(&error))
    }

    fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    fn set_default(&mut self, name: &str, value: &str) {
        if !self.env.iter().any(|(known, _)| known == name) {
            self.set(name, value);
        }
    }
}

/// A port that no other program of this node was given lately.
fn shared_port() -> u16 {
    let (first, last) = PORTS;
    first + NEXT_PORT.fetch_add(1, Ordering::Relaxed) % (last - first)
}

fn no_descriptors(error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Overloaded,
        format!("no socket or pipe for a program: {error}"),
    )
    .with_hint("raise the node's limit of open files (`ulimit -n`)")
}
