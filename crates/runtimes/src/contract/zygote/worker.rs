//! One worker: a forked process, its stream, and its output.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::Invocation;
use mote_core::log::Level;
use mote_core::reply::Reply;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::control::{Control, Life, Say};
use super::frame::{self, Answer, Lost};
use super::log::{CallLog, Output};

/// How long a fork may take before the loader counts as stuck.
const FORK_MAX: Duration = Duration::from_secs(10);
/// How long to wait for the word how a worker ended.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

/// Room for one worker; given back on drop.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicU32>);

impl Place {
    pub(super) fn take(workers: &Arc<AtomicU32>, max: NonZeroU32) -> Option<Self> {
        let more = |count| (count < max.get()).then_some(count + 1);
        workers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Self(Arc::clone(workers)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A worker; dropping it kills its process group.
#[derive(Debug)]
pub(super) struct Worker {
    id: u64,
    control: Arc<Control>,
    life: watch::Receiver<Life>,
    stream: UnixStream,
    output: Output,
    errors: Output,
    _place: Place,
}

impl Worker {
    /// Asks for one. It may be given a request at once, which it reads when it is there.
    pub(super) fn fork(
        control: &Arc<Control>,
        place: Place,
        calls: NonZeroU32,
        cgroups: &[OwnedFd],
    ) -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let theirs = theirs.into_std()?;
        theirs.set_nonblocking(false)?;
        let (output_writer, output) = pipe::pipe()?;
        let (errors_writer, errors) = pipe::pipe()?;
        let mut descriptors = vec![
            theirs.into(),
            output_writer.into_blocking_fd()?,
            errors_writer.into_blocking_fd()?,
        ];
        for cgroup in cgroups {
            descriptors.push(cgroup.try_clone()?);
        }
        let (id, life) = control.register();
        let worker = Self {
            id,
            control: Arc::clone(control),
            life,
            stream,
            output: Output::new(output, Level::Info),
            errors: Output::new(errors, Level::Warn),
            _place: place,
        };
        control.send(
            &Say::Fork {
                id,
                calls: calls.get(),
            },
            descriptors,
        )?;
        Ok(worker)
    }

    /// Waits until it is there. Fails with `Overloaded` when the system refuses another process.
    pub(super) async fn forked(&mut self) -> Result<(), Error> {
        let settled = self.life.wait_for(|life| *life != Life::Asked);
        let life = match tokio::time::timeout(FORK_MAX, settled).await {
            Ok(Ok(life)) => life.clone(),
            Ok(Err(_)) => Life::Gone("the function's process ended".to_owned()),
            Err(_) => Life::Refused(format!("no answer within {} s", FORK_MAX.as_secs())),
        };
        match life {
            Life::Asked | Life::Running => Ok(()),
            Life::Refused(why) => Err(Error::new(
                ErrorKind::Overloaded,
                format!("cannot fork a worker: {why}"),
            )
            .with_hint("raise `processes` or `memory` in the function's manifest")),
            Life::Gone(how) => Err(ended(&how)),
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(*self.life.borrow(), Life::Gone(_) | Life::Refused(_))
    }

    /// Serves a call. Returns the worker when it takes another one; else it is gone.
    pub(super) async fn serve(
        mut self,
        invocation: Invocation,
        log: &mut CallLog,
        body_bytes_max: u64,
    ) -> Result<(Reply, Option<Self>), Error> {
        let body = invocation.body.collect(body_bytes_max).await?;
        let head = frame::request(
            &invocation.meta,
            invocation.id,
            invocation.budget,
            body.len(),
        )?;
        let exchange = async {
            frame::write(&mut self.stream, head, &body).await?;
            frame::read(&mut self.stream, body_bytes_max).await
        };
        let answer = beside(exchange, &mut self.output, &mut self.errors, log).await;
        let answer = match answer {
            Err(Lost::Ended) => Err(self.last_word().await),
            Err(Lost::Broken(error)) => Err(error),
            Ok(answer) => Ok(answer),
        };
        self.output.finish(log);
        self.errors.finish(log);
        let Answer { reply, last } = answer?;
        Ok((reply?, (!last).then_some(self)))
    }

    /// How it ended, as far as one can tell.
    async fn last_word(&mut self) -> Error {
        let gone = self.life.wait_for(|life| matches!(life, Life::Gone(_)));
        match tokio::time::timeout(LAST_WORD_MAX, gone).await {
            Ok(Ok(life)) => match &*life {
                Life::Gone(how) => ended(how),
                _ => ended("closed its stream"),
            },
            _ => ended("closed its stream"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.is_gone() {
            // When this fails the loader is gone, and its workers with it.
            let _ = self.control.send(&Say::Kill { id: self.id }, Vec::new());
        }
    }
}

/// Runs an exchange, and passes on what the worker writes meanwhile.
async fn beside<T>(
    exchange: impl Future<Output = T>,
    output: &mut Output,
    errors: &mut Output,
    log: &mut CallLog,
) -> T {
    tokio::pin!(exchange);
    loop {
        tokio::select! {
            biased;
            done = &mut exchange => return done,
            () = output.readable() => {
                output.read(log);
            }
            () = errors.readable() => {
                errors.read(log);
            }
        }
    }
}

fn ended(how: &str) -> Error {
    let what = match how.split_once(' ') {
        Some(("exit", status)) => {
            format!("the worker exited with status {status} before it answered")
        }
        Some(("signal", "9")) => {
            return Error::new(
                ErrorKind::FunctionFailed,
                "the worker was killed by signal 9 before it answered",
            )
            .with_hint(
                "it may have used more memory than `memory` in the function's manifest allows",
            );
        }
        Some(("signal", number)) => {
            format!("the worker was killed by signal {number} before it answered")
        }
        _ => format!("the worker is gone: {how}"),
    };
    Error::new(ErrorKind::FunctionFailed, what)
        .with_hint("its last words may be in the function's log")
}
