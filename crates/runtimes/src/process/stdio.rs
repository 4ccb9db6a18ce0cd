//! The contract `stdio`: a process for each call, with the body on its standard input and the reply
//! on its standard output.
//!
//! Standard error is the call's log. A status other than 0 is a failure, named by the last line of
//! that log. Bounded: both bodies, the log, the call's time by whoever drops the future, processor
//! time, memory and processes by a cgroup. When the call ends, however it does, everything that its
//! process started is killed.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use mote_core::body::{Body, too_large};
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::Invocation;
use mote_core::log::Level;
use mote_core::memory::MemoryBudget;
use mote_core::reply::Reply;
use mote_core::runtime::{BoxFuture, CallContext, Exit, Instance, take};
use mote_core::spec::FunctionSpec;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

use super::Shared;
use super::function::ProcessFunction;
use super::output::Output;
use super::plan::Plan;
use super::root::SeatedRoot;
use crate::contract::headers::cgi_environment;
use crate::sandbox::cgroup::Cgroup;
use crate::sandbox::process::{self, Process, Spawn};

/// Most descriptors of a process.
const FILES_MAX: u64 = 1024;
/// Most cgroups that are kept for the next calls.
const CGROUPS_KEPT_MAX: usize = 32;
/// How much of a reply is read at once.
const READ_BYTES: usize = 64 << 10;

/// A function that runs as a process for each call.
pub(super) struct Stdio {
    shared: Arc<Shared>,
    spec: Arc<FunctionSpec>,
    plan: Plan,
    root: Arc<SeatedRoot>,
    /// Making a cgroup costs more than using one again.
    cgroups: Mutex<Vec<Cgroup>>,
}

impl Stdio {
    /// Makes it ready; no process runs until there is a call.
    pub(super) fn start(
        function: &ProcessFunction,
        root: Arc<SeatedRoot>,
    ) -> Result<Arc<dyn Instance>, Error> {
        let stdio = Self {
            shared: Arc::clone(&function.shared),
            spec: Arc::clone(&function.spec),
            plan: function.plan.clone(),
            root,
            cgroups: Mutex::default(),
        };
        // What cannot be had is found out now.
        let first = stdio.cgroup()?;
        stdio.keep(first);
        Ok(Arc::new(stdio))
    }

    fn cgroup(&self) -> Result<Cgroup, Error> {
        let kept = self.kept().pop();
        kept.map_or_else(|| self.shared.cgroup(&self.spec), Ok)
    }

    /// Keeps the cgroup of a call that has ended, if nothing in it was killed for its memory.
    fn keep(&self, cgroup: Cgroup) {
        let mut kept = self.kept();
        if kept.len() < CGROUPS_KEPT_MAX && cgroup.oom_kills() == 0 {
            kept.push(cgroup);
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Cgroup>> {
        self.cgroups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> &MemoryBudget {
        &self.shared.config.memory
    }

    async fn serve(
        &self,
        offered: &mut Option<Invocation>,
        context: CallContext,
    ) -> Result<Reply, Error> {
        let needs = self.spec.limits.memory_bytes;
        let Some(_memory) = self.memory().reserve(needs) else {
            return Err(no_memory(&self.spec, self.memory()));
        };
        let mut invocation = take(offered)?;
        let limit = self.spec.limits.body_bytes;
        let mut env = cgi_environment(&invocation, &self.spec.name);
        env.extend(self.plan.env.iter().cloned());
        let body = std::mem::take(&mut invocation.body).collect(limit).await?;
        let output = Output::new(self.spec.limits.log_bytes);
        output.attach(&context.log(), invocation.id);

        let cgroup = self.cgroup()?;
        let (running, pipes) = self.spawn(env, &cgroup).await?;
        let (exit, reply) = talk(&running, pipes, body, &output, limit).await?;
        let oom = cgroup.oom_kills() > 0;
        drop(running);
        self.keep(cgroup);
        match exit {
            process::Exit::Code(0) => Ok(Reply::ok(Body::Bytes(reply))),
            exit => Err(failed(exit, oom, &output)),
        }
    }

    async fn spawn(
        &self,
        env: Vec<(String, String)>,
        cgroup: &Cgroup,
    ) -> Result<(Process, Pipes), Error> {
        let ([stdin, stdout, stderr], pipes) = Pipes::new().map_err(|error| {
            Error::new(
                ErrorKind::Overloaded,
                format!("no pipes for a process: {error}"),
            )
        })?;
        let cpu = self.spec.limits.cpu;
        let spawn = Spawn {
            root: self.root.id,
            command: self.plan.command.clone(),
            env,
            directory: self.plan.directory.clone(),
            stdin,
            stdout,
            stderr,
            extra: Vec::new(),
            cgroup: Some(cgroup),
            own_network: false,
            cpu_seconds: Some(cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0)),
            files_max: FILES_MAX,
        };
        Ok((self.root.sandbox.spawn(spawn).await?, pipes))
    }
}

impl Instance for Stdio {
    fn call<'a>(
        &'a self,
        offered: &'a mut Option<Invocation>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(self.serve(offered, context))
    }

    fn idle_bytes(&self) -> u64 {
        0
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        let ended = self.root.sandbox.ended();
        Box::pin(async move {
            ended.await;
            Exit {
                how: "lost its sandbox".to_owned(),
                on_purpose: false,
            }
        })
    }
}

/// The node's ends of a process's standard streams.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl Pipes {
    /// The ends of the process, and ours, which do not block.
    pub(super) fn new() -> io::Result<([OwnedFd; 3], Self)> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let (their_in, stdin) = pipe()?;
        let (stdout, their_out) = pipe()?;
        let (stderr, their_err) = pipe()?;
        let ours = Self {
            stdin,
            stdout,
            stderr,
        };
        Ok(([their_in, their_out, their_err], ours))
    }
}

/// Writes the body, and reads reply and log until the process has ended.
async fn talk(
    running: &Process,
    pipes: Pipes,
    body: Bytes,
    output: &Arc<Output>,
    limit: u64,
) -> Result<(process::Exit, Bytes), Error> {
    let broken = |error: io::Error| {
        Error::new(
            ErrorKind::Internal,
            format!("reading from a process: {error}"),
        )
    };
    let write = write_all(pipes.stdin, body);
    let read = read_all(pipes.stdout, limit);
    let log = output.read(pipes.stderr, Level::Warn);
    // Its pipes may be held open by what it started; its own end is what counts.
    let ended = async {
        let exit = running.exited().await;
        Ok::<_, Error>(exit)
    };
    let streams = async {
        let (_, reply, logged) = tokio::join!(write, read, log);
        logged.map_err(broken)?;
        reply
    };
    tokio::try_join!(ended, streams)
}

/// A process may end without having read its input; what it answers counts all the same.
async fn write_all(pipe: OwnedFd, body: Bytes) {
    let Ok(mut pipe) = pipe::Sender::from_owned_fd(pipe) else {
        return;
    };
    let _ = pipe.write_all(&body).await;
}

async fn read_all(pipe: OwnedFd, limit: u64) -> Result<Bytes, Error> {
    let broken = |error: io::Error| {
        Error::new(
            ErrorKind::Internal,
            format!("reading from a process: {error}"),
        )
    };
    let mut pipe = pipe::Receiver::from_owned_fd(pipe).map_err(broken)?;
    let mut reply = BytesMut::new();
    loop {
        reply.reserve(READ_BYTES.min(8 << 10));
        if pipe.read_buf(&mut reply).await.map_err(broken)? == 0 {
            return Ok(reply.freeze());
        }
        if reply.len() as u64 > limit {
            return Err(too_large(limit));
        }
    }
}

/// The error for a process that did not end well.
fn failed(exit: process::Exit, oom: bool, output: &Output) -> Error {
    let last = output.last_error();
    let mut message = format!("the program {exit}");
    if oom {
        message.push_str(" because it used more memory than it may");
    }
    if !last.is_empty() {
        message.push_str(": ");
        message.push_str(&last);
    }
    let error = Error::new(ErrorKind::FunctionFailed, message);
    if oom {
        return error.with_hint("raise `memory` in the function's manifest");
    }
    match exit {
        // The kernel kills what has used up its processor time; nobody else sends this signal here.
        process::Exit::Signal(libc::SIGKILL) => error
            .with_hint("it has used up its processor time; raise `cpu` in the function's manifest"),
        _ => error,
    }
}

fn no_memory(spec: &FunctionSpec, memory: &MemoryBudget) -> Error {
    Error::new(
        ErrorKind::Overloaded,
        format!(
            "there is no memory for a process of `{}`: it may use {} MiB, and {} of {} MiB are reserved",
            spec.name,
            spec.limits.memory_bytes >> 20,
            memory.reserved() >> 20,
            memory.limit() >> 20,
        ),
    )
    .with_hint("try again later, or lower `memory` or `concurrency` in the manifest")
    .with_retry_after(std::time::Duration::from_secs(1))
}
