//! Admission: how many calls run, how many wait, and what happens to the rest.
//!
//! A [`Gate`] is a number of permits and two bounded queues before them: one for calls from outside,
//! and one for nested calls, which go first because others wait for them already. One gate stands
//! before each function and one before the node. A call from outside passes its function's gate
//! first, so that calls that wait for a slow function hold nothing of the node; a nested call runs
//! under the node's permit of the call it comes from. Permits are released when they are dropped.
//! Who waits while it holds something asks the module `waits` first.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Semaphore;

/// A number of permits and bounded queues.
///
/// A call that finds a free permit takes it with one atomic operation; only those that wait go
/// through a queue, whose order is that of arrival. Every call writes here, so it has its cache
/// lines for itself: what lies beside it is read by all threads and should stay in their caches.
#[derive(Debug)]
#[repr(align(128))]
pub struct Gate {
    free: AtomicU32,
    permits: u32,
    /// Calls from outside.
    outer: Queue,
    /// Calls of functions that run.
    nested: Queue,
}

/// Those that wait for a permit.
#[derive(Debug)]
struct Queue {
    waiting: AtomicU32,
    waiting_max: u32,
    /// Permits on their way to those that wait.
    handed: Semaphore,
}

/// The right to run one call; released on drop.
#[derive(Debug)]
pub struct Permit<'a> {
    gate: &'a Gate,
    /// Whether the call had to wait for it.
    pub waited: bool,
}

/// The queue before a gate is full.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Gate {
    /// A gate that lets `permits` through at once and lets `queue` more wait, from outside and
    /// nested each.
    pub fn new(permits: u32, queue: u32) -> Self {
        Self {
            free: AtomicU32::new(permits),
            permits,
            outer: Queue::new(queue),
            nested: Queue::new(queue),
        }
    }

    /// Waits for a permit. Fails at once when the queue is full. Cancel-safe.
    pub async fn enter(&self) -> Result<Permit<'_>, Full> {
        match self.try_enter() {
            Some(permit) => Ok(permit),
            // Boxed, so that calls that do not wait do not carry the room for it along.
            None => Box::pin(self.wait(&self.outer)).await,
        }
    }

    /// A permit, if one is free and nobody waits: who comes now does not overtake.
    pub fn try_enter(&self) -> Option<Permit<'_>> {
        let nobody = self.outer.is_empty() && self.nested.is_empty();
        (nobody && self.take()).then(|| self.permit(false))
    }

    /// Waits for a permit that [`Gate::try_enter`] did not have. Fails at once when the queue is
    /// full. Cancel-safe.
    pub async fn wait_outer(&self) -> Result<Permit<'_>, Full> {
        self.wait(&self.outer).await
    }

    /// A permit for a nested call, if one is free. Calls from outside that wait are overtaken.
    pub fn try_enter_nested(&self) -> Option<Permit<'_>> {
        (self.nested.is_empty() && self.take()).then(|| self.permit(false))
    }

    /// Waits for a permit for a nested call, before all calls from outside. Fails at once when the
    /// queue is full. Cancel-safe.
    pub async fn wait_nested(&self) -> Result<Permit<'_>, Full> {
        self.wait(&self.nested).await
    }

    async fn wait<'a>(&'a self, queue: &'a Queue) -> Result<Permit<'a>, Full> {
        let _place = Place::take(self, queue)?;
        // A permit that became free before the place was taken was not handed over.
        if self.take() {
            return Ok(self.permit(true));
        }
        let handed = queue.handed.acquire().await;
        handed.expect("the semaphore is never closed").forget();
        Ok(self.permit(true))
    }

    /// Calls that hold a permit now.
    pub fn in_flight(&self) -> u32 {
        self.permits
            .saturating_sub(self.free.load(Ordering::Relaxed))
    }

    /// Calls that wait now, from outside and nested.
    pub fn waiting(&self) -> u32 {
        let waiting = |queue: &Queue| queue.waiting.load(Ordering::Relaxed);
        waiting(&self.outer).saturating_add(waiting(&self.nested))
    }

    /// Gives back a permit that was kept with [`Permit::keep`].
    pub fn release(&self) {
        loop {
            // First the permit, then the look at who waits; who waits does the two in the other
            // order, so one of them sees the other.
            self.free.fetch_add(1, Ordering::SeqCst);
            let first = [&self.nested, &self.outer]
                .into_iter()
                .find(|queue| queue.waiting.load(Ordering::SeqCst) > 0);
            let Some(queue) = first.filter(|_| self.take()) else {
                return;
            };
            queue.handed.add_permits(1);
            // The last one that waited may have left before it could take this one.
            if queue.waiting.load(Ordering::SeqCst) > 0 {
                return;
            }
            match queue.handed.try_acquire() {
                Ok(handed) => handed.forget(),
                Err(_) => return,
            }
        }
    }

    fn take(&self) -> bool {
        let took = |free: u32| free.checked_sub(1);
        self.free
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, took)
            .is_ok()
    }

    fn permit(&self, waited: bool) -> Permit<'_> {
        Permit { gate: self, waited }
    }
}

impl Queue {
    fn new(waiting_max: u32) -> Self {
        Self {
            waiting: AtomicU32::new(0),
            waiting_max,
            handed: Semaphore::new(0),
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }
}

impl Permit<'_> {
    /// Keeps the permit beyond this value: whoever calls this calls [`Gate::release`] later.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.gate.release();
    }
}

/// One place in a queue of a gate, given back on drop.
struct Place<'a> {
    gate: &'a Gate,
    queue: &'a Queue,
}

impl<'a> Place<'a> {
    fn take(gate: &'a Gate, queue: &'a Queue) -> Result<Self, Full> {
        let more = |waiting: u32| (waiting < queue.waiting_max).then_some(waiting + 1);
        let took = queue
            .waiting
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, more);
        took.map(|_| Self { gate, queue }).map_err(|_| Full)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waiting = self.queue.waiting.fetch_sub(1, Ordering::SeqCst);
        if waiting > 1 {
            return;
        }
        // Permits that were handed to those that gave up go back when nobody else can take them.
        let mut left = 0;
        while let Ok(handed) = self.queue.handed.try_acquire() {
            handed.forget();
            left += 1;
        }
        (0..left).for_each(|_| self.gate.release());
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
        assert_eq!(gate.enter().await.err(), Some(Full));
        drop(running);
        let permit = waiting.await.unwrap();
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
        drop(permit);
        assert_eq!(gate.in_flight(), 0);
    }

    #[tokio::test]
    async fn permits_handed_to_several_that_gave_up_are_not_lost() {
        let gate = Gate::new(3, 3);
        let mut running = Vec::new();
        for _ in 0..3 {
            running.push(gate.enter().await.unwrap());
        }
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(gate.enter())).collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        drop(running);
        drop(waiting);
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn a_permit_handed_to_one_that_gave_up_is_not_lost() {
        let gate = Gate::new(1, 2);
        let running = gate.enter().await.unwrap();
        let mut first = Box::pin(gate.enter());
        assert!(first.as_mut().now_or_never().is_none());
        drop(running);
        drop(first);
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
        assert!(gate.enter().now_or_never().is_some());
    }

    #[tokio::test]
    async fn nested_calls_go_before_those_from_outside() {
        let gate = Gate::new(1, 1);
        let running = gate.enter().await.unwrap();
        let mut outer = Box::pin(gate.enter());
        assert!(outer.as_mut().now_or_never().is_none());
        assert!(gate.try_enter_nested().is_none());
        let mut nested = Box::pin(gate.wait_nested());
        assert!(nested.as_mut().now_or_never().is_none());
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 2));
        // Each queue has its own bound.
        assert_eq!(gate.wait_nested().await.err(), Some(Full));
        drop(running);
        assert!(outer.as_mut().now_or_never().is_none());
        let permit = nested.await.unwrap();
        drop(permit);
        outer.await.unwrap();
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn a_nested_call_takes_what_is_free_although_others_wait() {
        let gate = Gate::new(2, 2);
        let first = gate.enter().await.unwrap();
        let second = gate.enter().await.unwrap();
        let mut nested = Box::pin(gate.wait_nested());
        assert!(nested.as_mut().now_or_never().is_none());
        let mut outer = Box::pin(gate.enter());
        assert!(outer.as_mut().now_or_never().is_none());
        // The permit goes to the nested one; when it has gone away, to the other.
        drop(first);
        drop(nested);
        let third = outer.now_or_never().unwrap().unwrap();
        drop((second, third));
        let waiting = gate.try_enter_nested().unwrap();
        assert!(!waiting.waited);
        drop(waiting);
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_permit_is_lost_or_made_under_contention() {
        let gate = std::sync::Arc::new(Gate::new(2, 1000));
        let running = std::sync::Arc::new(AtomicU32::new(0));
        let calls: Vec<_> = (0..200)
            .map(|number: u32| {
                let (gate, running) = (gate.clone(), running.clone());
                tokio::spawn(async move {
                    for _ in 0..50 {
                        // Some give up while they wait.
                        let wait = std::time::Duration::from_micros(if number.is_multiple_of(3) {
                            1
                        } else {
                            10_000_000
                        });
                        let enter = async {
                            if number.is_multiple_of(2) {
                                return gate.enter().await;
                            }
                            match gate.try_enter_nested() {
                                Some(permit) => Ok(permit),
                                None => gate.wait_nested().await,
                            }
                        };
                        let Ok(permit) = tokio::time::timeout(wait, enter).await else {
                            continue;
                        };
                        let permit = permit.unwrap();
                        assert!(running.fetch_add(1, Ordering::SeqCst) < 2);
                        tokio::task::yield_now().await;
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
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
