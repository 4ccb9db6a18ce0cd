//! Admission: how many calls run, how many wait, and what happens to the rest.
//!
//! A [`Gate`] is a number of permits and a bounded queue before them. One stands before each
//! function and one before the node. A call passes its function's gate first, so that calls that
//! wait for a slow function hold nothing of the node. Permits are released when they are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of permits and a bounded queue.
#[derive(Debug)]
pub struct Gate {
    permits: Arc<Semaphore>,
    permits_max: u32,
    waiting: AtomicU32,
    waiting_max: u32,
}

/// The right to run one call; released on drop.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

/// The queue before a gate is full.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Gate {
    /// A gate that lets `permits` through at once and lets `queue` more wait.
    pub fn new(permits: u32, queue: u32) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(permits as usize)),
            permits_max: permits,
            waiting: AtomicU32::new(0),
            waiting_max: queue,
        }
    }

    /// Waits for a permit, in order of arrival. Fails at once when the queue is full. Cancel-safe.
    pub async fn enter(&self) -> Result<Permit, Full> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(Permit { _permit: permit });
        }
        let _place = Place::take(self)?;
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        Ok(Permit { _permit: permit })
    }

    /// Calls that hold a permit now.
    pub fn in_flight(&self) -> u32 {
        let free = u32::try_from(self.permits.available_permits()).unwrap_or(u32::MAX);
        self.permits_max.saturating_sub(free)
    }

    /// Calls that wait now.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// One place in a gate's queue, given back on drop.
struct Place<'a>(&'a Gate);

impl<'a> Place<'a> {
    fn take(gate: &'a Gate) -> Result<Self, Full> {
        let took = gate
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < gate.waiting_max).then_some(waiting + 1)
            });
        took.map(|_| Self(gate)).map_err(|_| Full)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn lets_through_queues_then_refuses() {
        let gate = Gate::new(1, 1);
        let running = gate.enter().await.unwrap();
        let mut waiting = Box::pin(gate.enter());
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 1));
        assert_eq!(gate.enter().await.unwrap_err(), Full);
        drop(running);
        let permit = waiting.await.unwrap();
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
        drop(permit);
        assert_eq!(gate.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_leaves_no_trace() {
        let gate = Gate::new(1, 1);
        let running = gate.enter().await.unwrap();
        let mut waiting = Box::pin(gate.enter());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
        assert_eq!(gate.waiting(), 0);
        drop(running);
        assert!(gate.enter().now_or_never().is_some());
    }
}
