//! The contract of forking: a process that imported the code once makes another for each call.
//!
//! The loader of an environment, the *zygote*, inherits one end of a control socket as descriptor 3 and
//! says there when the code is imported. For each worker the node sends it the ends of a stream and of
//! two pipes; the zygote forks, and the child reads requests from the stream and answers there, while
//! its standard output and error are the log of that call alone. `environments/python3/loader.py` is
//! the other side and describes the messages.
//!
//! Neither side of a worker is trusted: heads, bodies and logs are bounded here, workers are counted, and
//! a dropped call has its worker's process group killed. A worker ends after its number of calls, when
//! its call is dropped, when it fails, and with the [`Zygote`].

mod control;
mod frame;
mod log;
mod worker;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::Invocation;
use mote_core::log::LogSink;
use mote_core::reply::Reply;

use self::control::{Control, Stage};
use self::worker::Worker;

/// How workers come and go.
#[derive(Debug)]
pub struct Settings {
    /// Calls that a worker serves before it ends; 1 is a fresh process for each call.
    pub calls_per_worker: NonZeroU32,
    /// Idle workers that are kept ready, forked ahead of the calls they will serve.
    pub spares: u32,
    /// Most workers at once, spares included.
    pub workers_max: NonZeroU32,
    /// Open `cgroup.procs` files that each worker joins before it runs any code; at most four.
    pub cgroups: Vec<OwnedFd>,
}

/// What one call may take.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Bytes of the request's body, and of the reply's.
    pub body_bytes: u64,
    /// Bytes of log.
    pub log_bytes: u64,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Workers that were asked for.
    pub forks: u64,
    /// Calls that found a worker ready and waited for no fork.
    pub warm: u64,
    /// Workers there are now.
    pub workers: u32,
    /// Of those, the ones without a call.
    pub idle: u32,
}

/// A process that imported a function's code and forks workers. Dropping it ends all of them, since the
/// loader ends when its control socket does.
#[derive(Debug)]
pub struct Zygote {
    control: Arc<Control>,
    settings: Settings,
    idle: Mutex<VecDeque<Worker>>,
    workers: Arc<AtomicU32>,
    forks: AtomicU64,
    warm: AtomicU64,
}

impl Zygote {
    /// Talks to a loader over this end of a `SOCK_SEQPACKET` pair whose other end the loader has as
    /// descriptor 3. Must be called inside a tokio runtime.
    pub fn new(control: OwnedFd, settings: Settings) -> io::Result<Self> {
        Ok(Self {
            control: Control::new(control)?,
            settings,
            idle: Mutex::default(),
            workers: Arc::default(),
            forks: AtomicU64::new(0),
            warm: AtomicU64::new(0),
        })
    }

    /// Waits until the code is imported; then forks the spares. Fails with `FunctionFailed` when the
    /// import fails, the loader ends, or it takes longer than this. Cancel-safe.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let mut stage = self.control.stage();
        let settled = stage.wait_for(|stage| *stage != Stage::Importing);
        let stage = match tokio::time::timeout(within, settled).await {
            Ok(Ok(stage)) => stage.clone(),
            Ok(Err(_)) => Stage::Ended,
            Err(_) => {
                return Err(failed(format!(
                    "the code was not imported within {} ms",
                    within.as_millis()
                ))
                .with_hint(
                    "move slow work out of the module's top level, or give the function more CPU",
                ));
            }
        };
        match stage {
            Stage::Ready => {
                self.refill();
                Ok(())
            }
            Stage::Failed(why) => Err(failed(format!("the import failed: {why}"))
                .with_hint("the traceback is in the function's log")),
            Stage::Importing | Stage::Ended => Err(failed(
                "the loader ended before the code was imported".to_owned(),
            )
            .with_hint("its last words may be in the function's log")),
        }
    }

    /// Whether the loader is gone; no call can be served any more.
    pub fn ended(&self) -> bool {
        *self.control.stage().borrow() == Stage::Ended
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            forks: self.forks.load(Ordering::Relaxed),
            warm: self.warm.load(Ordering::Relaxed),
            workers: self.workers.load(Ordering::Relaxed),
            idle: u32::try_from(idle.len()).unwrap_or(u32::MAX),
        }
    }

    /// Serves one call in a worker of its own. The call is taken out of `offered` when a worker is
    /// there to take it; when none can be made, it stays. Dropping the future kills the worker.
    pub async fn call(
        &self,
        offered: &mut Option<Invocation>,
        sink: &Arc<dyn LogSink>,
        limits: CallLimits,
    ) -> Result<Reply, Error> {
        let worker = self.worker().await?;
        let invocation = mote_core::runtime::take(offered)?;
        // Dropped last on every path: the number of spares is made up when the worker has been put
        // back or is gone.
        let _refill = Refill(self);
        let mut log = log::CallLog::new(invocation.id, Arc::clone(sink), limits.log_bytes);
        let (reply, worker) = worker
            .serve(invocation, &mut log, limits.body_bytes)
            .await?;
        if let Some(worker) = worker {
            self.lay_by(worker);
        }
        Ok(reply)
    }

    /// An idle worker, or a new one.
    async fn worker(&self) -> Result<Worker, Error> {
        while let Some(mut worker) = self.take_idle() {
            if worker.forked().await.is_ok() {
                self.warm.fetch_add(1, Ordering::Relaxed);
                return Ok(worker);
            }
        }
        let mut worker = self.fork()?;
        worker.forked().await?;
        Ok(worker)
    }

    fn take_idle(&self) -> Option<Worker> {
        // The one used last has the most of its memory in caches.
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop_back()
    }

    /// Keeps a worker for its next call. There are never more than were busy at once.
    fn lay_by(&self, worker: Worker) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push_back(worker);
    }

    fn fork(&self) -> Result<Worker, Error> {
        if self.ended() {
            return Err(failed("the function's process has ended".to_owned()));
        }
        let Some(place) = worker::Place::take(&self.workers, self.settings.workers_max) else {
            let message = format!("all {} workers are busy", self.settings.workers_max);
            return Err(Error::new(ErrorKind::Overloaded, message)
                .with_hint("raise `processes` or lower `concurrency` in the function's manifest"));
        };
        self.forks.fetch_add(1, Ordering::Relaxed);
        let calls = self.settings.calls_per_worker;
        Worker::fork(&self.control, place, calls, &self.settings.cgroups).map_err(|error| {
            Error::new(
                ErrorKind::Overloaded,
                format!("cannot make a worker: {error}"),
            )
        })
    }

    /// Forks ahead what is missing.
    fn refill(&self) {
        // Sockets need the runtime, which may be on its way out when a call is dropped.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        loop {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|worker| !worker.is_gone());
            if idle.len() >= self.settings.spares as usize {
                return;
            }
            // A spare is a favour: what keeps it from being made is told to the next call that needs one.
            let Ok(worker) = self.fork() else { return };
            // It serves after the ones that are warm.
            idle.push_front(worker);
        }
    }
}

/// Makes up the number of spares when it is dropped.
struct Refill<'a>(&'a Zygote);

impl Drop for Refill<'_> {
    fn drop(&mut self) {
        self.0.refill();
    }
}

fn failed(message: String) -> Error {
    Error::new(ErrorKind::FunctionFailed, message)
}

#[cfg(test)]
mod tests;
