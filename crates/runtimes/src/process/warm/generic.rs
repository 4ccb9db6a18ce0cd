//! An environment that runs in a sandbox of no app, and waits for code.
//!
//! It is started like any program, with all limits, filters and rules, in a root that has the
//! system, the environment and an empty `/app`. Descriptor 3 is a socket on which it says
//! `{"kind":"waiting"}` and is told `{"kind":"serve","arguments":[…],"env":{…}}`, once. Before that
//! the sandbox becomes the app's: then `/app` has the code, the limits are the function's, and the
//! host has the app's name. Ends when it is dropped.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_core::memory::Spare;
use mote_core::spec::{Contract, Limits as FunctionLimits, Program};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::Serialize;
use tokio::net::UnixDatagram;

use super::Kind;
use crate::environment::{APP, ENVIRONMENT, Serving};
use crate::process::Shared;
use crate::process::plan::{bind, variables};
use crate::process::root::SeatedRoot;
use crate::process::served::FILES_MAX;
use crate::process::stdio::Pipes;
use crate::sandbox::cgroup::{Cgroup, Limits};
use crate::sandbox::process::{Process, Spawn};
use crate::sandbox::root::{Base, Root};
use crate::sandbox::tier::Layer;

/// What the sandbox is called until it is an app's.
const NAME: &str = "warm";
/// How long it may take until it waits.
const START_MAX: Duration = Duration::from_secs(30);
/// How long its end may take when it has closed its socket.
const END_MAX: Duration = Duration::from_secs(1);
/// Longest message of one that waits.
const WORD_BYTES_MAX: usize = 1024;

/// An environment that waits.
#[derive(Debug)]
pub(in crate::process) struct Generic {
    /// Tells it from others of the pool.
    pub(super) number: u64,
    pub(in crate::process) cgroup: Cgroup,
    pub(in crate::process) waiting: Waiting,
    _memory: Spare,
}

/// Its process.
#[derive(Debug)]
pub(in crate::process) struct Waiting {
    pub(in crate::process) process: Arc<Process>,
    /// What it said that it waits on, and goes on using if it is a zygote.
    pub(in crate::process) control: UnixDatagram,
    /// What it writes, which nobody has read yet.
    pub(in crate::process) pipes: Pipes,
    /// What it runs in.
    pub(in crate::process) root: SeatedRoot,
}

/// What one is told.
#[derive(Serialize)]
struct Serve<'a> {
    kind: &'static str,
    arguments: &'a [String],
    env: BTreeMap<&'a str, &'a str>,
}

impl Generic {
    /// Starts one, and waits until it waits.
    pub(super) async fn start(
        shared: &Shared,
        kind: &Kind,
        number: u64,
        memory: Spare,
    ) -> Result<Self, Error> {
        let sandbox = shared.apps.start(NAME).await?;
        if !sandbox.tier().has(Layer::PrivateRoot) {
            let message = "without private roots no instance can wait for its code";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let program = Program::default();
        let root = Root {
            base: Base::System,
            binds: vec![bind(kind.folder.clone(), ENVIRONMENT)],
            tmp_bytes: program.tmp_bytes,
        };
        let root = SeatedRoot::make(Arc::clone(&sandbox), root).await?;
        let cgroup =
            shared.cgroup_with(NAME, &super::limits(&FunctionLimits::default(), &program))?;
        let (control, theirs) = control().map_err(|error| failed(&error))?;
        let ([stdin, stdout, stderr], pipes) = Pipes::new().map_err(|error| failed(&error))?;
        let spawn = Spawn {
            root: root.id,
            command: kind.command.clone(),
            env: variables(&[], APP),
            // Not in `/app`, which would then be the empty one.
            directory: "/".to_owned(),
            stdin,
            stdout,
            stderr,
            extra: vec![theirs],
            cgroup: Some(&cgroup),
            own_network: kind.serving == Serving::Program(Contract::Http),
            cpu_seconds: None,
            files_max: FILES_MAX,
        };
        let process = Arc::new(sandbox.spawn(spawn).await?);
        if let Err(error) = waits(&control).await {
            // Its end closes the socket, and says more than that.
            let ended = tokio::time::timeout(END_MAX, process.exited()).await;
            return Err(match ended {
                Ok(exit) => failed(&io::Error::other(format!(
                    "it {exit}: {}",
                    last_word(&pipes.stderr)
                ))),
                Err(_) => failed(&error),
            });
        }
        let waiting = Waiting {
            process,
            control,
            pipes,
            root,
        };
        Ok(Self {
            number,
            cgroup,
            waiting,
            _memory: memory,
        })
    }

    /// Makes its sandbox that of an app, with the root and the limits of a function. Returns that
    /// root. After a failure it is of no use any more.
    pub(in crate::process) async fn adopt(
        &self,
        app: &str,
        root: Root,
        limits: &Limits,
    ) -> Result<Arc<SeatedRoot>, Error> {
        self.cgroup.relimit(limits)?;
        let sandbox = Arc::clone(&self.waiting.root.sandbox);
        let id = sandbox.adopt(&self.waiting.process, app, root).await?;
        Ok(Arc::new(SeatedRoot { sandbox, id }))
    }

    /// Whether it can be given to a function.
    pub(super) fn is_alive(&self) -> bool {
        self.waiting.process.exit().is_none()
    }
}

impl Waiting {
    /// Has it load its code, in a sandbox that is the app's by now.
    pub(in crate::process) async fn serve(
        &self,
        arguments: &[String],
        env: &[(String, String)],
    ) -> io::Result<()> {
        let serve = Serve {
            kind: "serve",
            arguments,
            env: env
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
        };
        self.control.send(&serde_json::to_vec(&serve)?).await?;
        Ok(())
    }
}

async fn waits(control: &UnixDatagram) -> io::Result<()> {
    let mut word = [0; WORD_BYTES_MAX];
    let heard = tokio::time::timeout(START_MAX, control.recv(&mut word)).await;
    let length = heard.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let word: serde_json::Value = serde_json::from_slice(&word[..length])?;
    if word["kind"] == "waiting" {
        return Ok(());
    }
    Err(io::Error::other("it did not say that it waits"))
}

/// The last line of what a program wrote before it ended.
fn last_word(stderr: &OwnedFd) -> String {
    let mut words = [0; WORD_BYTES_MAX];
    let read =
        rustix::io::ioctl_fionbio(stderr, true).and_then(|()| rustix::io::read(stderr, &mut words));
    let words = String::from_utf8_lossy(&words[..read.unwrap_or(0)]);
    words.lines().last().unwrap_or_default().to_owned()
}

/// Both ends of a socket; the other one is for a program, and blocks.
fn control() -> io::Result<(UnixDatagram, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    let ours = std::os::unix::net::UnixDatagram::from(ours);
    ours.set_nonblocking(true)?;
    Ok((UnixDatagram::from_std(ours)?, theirs))
}

fn failed(error: &io::Error) -> Error {
    Error::new(ErrorKind::Internal, error.to_string())
}
