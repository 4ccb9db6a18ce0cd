//! Programs in a sandbox, as the node sees them.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};

use mote_core::error::{Error, ErrorKind};
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::Sandbox;
use super::cgroup::Cgroup;
use super::message::{Failure, Program, Step};
use super::root::RootId;

/// Most processes that one sandbox starts; what they start counts in their cgroup.
pub const PROCESSES_MAX: usize = 4096;

/// Most descriptors that a program is given besides the standard ones.
pub const EXTRA_MAX: usize = 16;

/// A program to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// What it sees as its file system.
    pub root: RootId,
    /// The program and its arguments. Without a slash the program is looked for on `PATH`.
    pub command: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub directory: String,
    /// Descriptor 0.
    pub stdin: OwnedFd,
    /// Descriptor 1.
    pub stdout: OwnedFd,
    /// Descriptor 2.
    pub stderr: OwnedFd,
    /// Descriptors from 3 on, at most [`EXTRA_MAX`]; it has no others.
    pub extra: Vec<OwnedFd>,
    /// What limits it, together with everything else in it.
    pub cgroup: Option<&'a Cgroup>,
    /// Whether it gets a loopback interface of its own, instead of the app's.
    pub own_network: bool,
    /// Seconds of processor time after which it is killed; each of its children has as many.
    pub cpu_seconds: Option<u64>,
    /// Most descriptors that it may have open.
    pub files_max: u64,
}

/// A network of a sandbox: a loopback interface and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(pub(super) u64);

impl Network {
    /// The one that all programs of the app share, but for those with their own.
    pub const APP: Network = Network(0);
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Together with its whole sandbox.
    Lost,
}

impl Exit {
    /// From a status as `waitpid` gives it.
    pub(super) fn from_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::Lost => f.write_str("lost with its sandbox"),
        }
    }
}

/// A running program, with everything that it starts. Dropping it kills them all.
#[derive(Debug)]
pub struct Process {
    id: u64,
    /// Keeps the sandbox for as long as something runs in it.
    _sandbox: Arc<Sandbox>,
    pidfd: OwnedFd,
    pid: OnceLock<u32>,
    network: Network,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    pub(super) fn new(
        id: u64,
        sandbox: Arc<Sandbox>,
        pidfd: OwnedFd,
        network: Network,
        exit: watch::Receiver<Option<Exit>>,
    ) -> Self {
        Self {
            id,
            _sandbox: sandbox,
            pidfd,
            pid: OnceLock::new(),
            network,
            exit,
        }
    }

    /// Its number in its sandbox.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Its process id as the node's system counts, for people; 0 when it has ended already.
    pub fn pid(&self) -> u32 {
        *self.pid.get_or_init(|| {
            let path = format!("/proc/self/fdinfo/{}", self.pidfd.as_raw_fd());
            std::fs::read_to_string(path)
                .ok()
                .and_then(|text| {
                    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
                    line.trim().parse().ok()
                })
                .unwrap_or(0)
        })
    }

    /// Where its ports are.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Waits until it and everything it started have ended. Cancel-safe; many may wait, also later.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        let mut exit = self.exit.clone();
        async move {
            match exit.wait_for(Option::is_some).await {
                Ok(exit) => exit.unwrap_or(Exit::Lost),
                Err(_) => Exit::Lost,
            }
        }
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Sends it a signal. As the first process of its namespace it does not see one that it has no
    /// handler for, unless that is `SIGKILL`.
    pub fn signal(&self, signal: Signal) {
        // The only failure that can be is that it has ended.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// Ends it and everything it started, at once.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Spawn<'_> {
    /// Whether it can be started as it is written.
    pub(super) fn check(&self) -> Result<(), Error> {
        let bad = |message: String| Err(Error::new(ErrorKind::BadRequest, message));
        if self.command.first().is_none_or(String::is_empty) {
            return bad("the command has no program".to_owned());
        }
        if self.extra.len() > EXTRA_MAX {
            let count = self.extra.len();
            return bad(format!("{count} extra descriptors, more than {EXTRA_MAX}"));
        }
        let pairs = self.env.iter().flat_map(|(key, value)| [key, value]);
        let mut words = self.command.iter().chain(pairs).chain([&self.directory]);
        if words.any(|word| word.contains('\0')) {
            return bad("a zero byte in the command or the environment".to_owned());
        }
        let name = |(key, _): &(String, String)| key.is_empty() || key.contains('=');
        if self.env.iter().any(name) {
            return bad("an empty name or one with `=` in the environment".to_owned());
        }
        Ok(())
    }

    /// What the sandbox is told, and the descriptors that go with it.
    pub(super) fn program(&self) -> (Program, Vec<std::os::fd::BorrowedFd<'_>>) {
        let program = Program {
            root: self.root.0,
            command: self.command.clone(),
            env: self.env.clone(),
            directory: self.directory.clone(),
            extra: self.extra.len(),
            own_network: self.own_network,
            cpu_seconds: self.cpu_seconds,
            files: self.files_max,
        };
        let mut fds = vec![self.stdin.as_fd(), self.stdout.as_fd(), self.stderr.as_fd()];
        fds.extend(self.extra.iter().map(|fd| fd.as_fd()));
        if let Some(cgroup) = self.cgroup {
            fds.extend(cgroup.joins());
        }
        (program, fds)
    }
}

/// Waits until a new process has become its program; otherwise what was in the way.
pub(super) async fn started(report: OwnedFd, command: &str) -> Result<(), Error> {
    let read = async {
        let mut report = pipe::Receiver::from_owned_fd(report)?;
        let mut bytes = Vec::with_capacity(8);
        report.read_to_end(&mut bytes).await?;
        io::Result::Ok(bytes)
    };
    let bytes = read
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, format!("a new process: {error}")))?;
    let Ok(bytes) = <[u8; 8]>::try_from(bytes.as_slice()) else {
        return Ok(());
    };
    match Step::parse(bytes) {
        Some((step, errno)) => Err(refused(command, step, errno)),
        None => Err(Error::new(
            ErrorKind::Internal,
            "a new process wrote nonsense",
        )),
    }
}

fn refused(command: &str, step: Step, errno: i32) -> Error {
    let command = command.escape_debug();
    let error = io::Error::from_raw_os_error(errno);
    let failed = |message: String| Error::new(ErrorKind::FunctionFailed, message);
    match (step, errno) {
        (Step::Program, libc::ENOEXEC) => failed(format!("program `{command}`: exec format error"))
            .with_hint(format!(
                "build it for {}, or begin a script with a line such as #!/bin/sh",
                std::env::consts::ARCH
            )),
        (Step::Program, libc::ENOENT) => failed(format!("program `{command}` does not exist"))
            .with_hint("give its path inside the sandbox, such as /app/program"),
        (Step::Program, libc::EACCES) => failed(format!("program `{command}` may not be run"))
            .with_hint("make it executable for everyone: chmod a+rx"),
        (Step::Interpreter, _) => failed(format!(
            "program `{command}` needs an interpreter or a loader that does not exist"
        ))
        .with_hint("check its first line, or link it statically"),
        (Step::Directory, _) => failed(format!("the directory of `{command}`: {error}")),
        (_, libc::EAGAIN | libc::ENOMEM) => Error::new(
            ErrorKind::Overloaded,
            format!("program `{command}`: {}: {error}", step.doing()),
        ),
        _ => Error::new(
            ErrorKind::Internal,
            format!("program `{command}`: {}: {error}", step.doing()),
        ),
    }
}

/// What a request that failed in the sandbox is for its caller.
pub(super) fn failed(failure: &Failure) -> Error {
    let error = failure.error();
    let kind = match failure.errno {
        libc::EAGAIN | libc::ENOMEM | libc::ENOSPC | libc::EMFILE | libc::ENFILE => {
            ErrorKind::Overloaded
        }
        libc::ENOENT | libc::ENOTDIR | libc::E2BIG | libc::EINVAL => ErrorKind::BadRequest,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("the sandbox, {}: {error}", failure.doing))
}
