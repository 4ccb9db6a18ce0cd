//! The threads that serve calls: each runs its connections and their calls from begin to end.
//!
//! Nothing moves between them, so a call costs no wake-up of another thread and no cache line that
//! two of them write. The price: one connection is never served by two threads at once.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Turns of a worker between two looks at its sockets. A busy CoAP shard runs for some milliseconds
/// at a time; with the usual 61 the others would wait for a tenth of a second.
const EVENT_INTERVAL: u32 = 8;

/// Threads with a runtime each. They end when the last handle is dropped, and their tasks with them.
#[derive(Clone)]
pub struct Workers {
    all: Arc<[Worker]>,
    _end: Option<Arc<DropGuard>>,
}

struct Worker {
    handle: Handle,
    connections: AtomicUsize,
}

impl Workers {
    /// Starts so many threads. Fails when the system gives none, or no descriptors.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let all: io::Result<Arc<[Worker]>> = (0..count.get())
            .map(|number| {
                let runtime = Builder::new_current_thread()
                    .event_interval(EVENT_INTERVAL)
                    .enable_all()
                    .build()?;
                let (handle, end) = (runtime.handle().clone(), end.clone());
                thread::Builder::new()
                    .name(format!("mote-worker-{number}"))
                    .spawn(move || runtime.block_on(end.cancelled_owned()))?;
                Ok(Worker::new(handle))
            })
            .collect();
        Ok(Self {
            all: all?,
            _end: Some(Arc::new(end.drop_guard())),
        })
    }

    /// The runtime of the caller as the only worker.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn current() -> Self {
        Self {
            all: Arc::new([Worker::new(Handle::current())]),
            _end: None,
        }
    }

    /// How many there are.
    pub fn count(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.all.len()).unwrap_or(NonZeroUsize::MIN)
    }

    /// The runtimes of all of them, for what need not stay on one.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.all.iter().map(|worker| worker.handle.clone())
    }

    /// The runtime of one of them, round and round.
    pub(crate) fn handle(&self, number: usize) -> &Handle {
        &self.all[number % self.all.len()].handle
    }

    /// The worker with the fewest connections, for one more.
    pub(crate) fn least_busy(&self) -> Seat {
        let connections = |number: &usize| self.all[*number].connections.load(Ordering::Relaxed);
        let number = (0..self.all.len()).min_by_key(connections).unwrap_or(0);
        self.all[number].connections.fetch_add(1, Ordering::Relaxed);
        Seat {
            all: Arc::clone(&self.all),
            number,
        }
    }
}

impl Worker {
    fn new(handle: Handle) -> Self {
        Self {
            handle,
            connections: AtomicUsize::new(0),
        }
    }
}

/// The place of a connection on its worker; given back on drop.
pub(crate) struct Seat {
    all: Arc<[Worker]>,
    number: usize,
}

impl Seat {
    pub(crate) fn handle(&self) -> &Handle {
        &self.all[self.number].handle
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let connections = &self.all[self.number].connections;
        connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Workers").field(&self.all.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_spread_and_stay() {
        let workers = Workers::start(NonZeroUsize::new(2).unwrap()).unwrap();
        let seats: Vec<_> = (0..4).map(|_| workers.least_busy()).collect();
        let numbers: Vec<_> = seats.iter().map(|seat| seat.number).collect();
        assert_eq!(numbers, [0, 1, 0, 1]);
        drop(seats);
        assert_eq!(workers.least_busy().number, 0);
        let thread = |number: usize| {
            let task = workers
                .handle(number)
                .spawn(async { thread::current().id() });
            workers.handle(0).block_on(task).unwrap()
        };
        assert_ne!(thread(0), thread(1));
        assert_eq!(thread(1), thread(3));
    }
}
