//! The bounded queue before a thread: who brings something is refused when it is full and never
//! waits, who takes something may wait for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Both ends.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    max: usize,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

/// What there is to take.
pub(super) enum Next<T> {
    /// The oldest.
    One(T),
    /// Nothing came in time.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

/// Why something was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// The end that takes. Dropping it, which a panic does too, drops what waits and refuses the rest.
pub(super) struct Takes<T>(Arc<Queue<T>>);

impl<T> Queue<T> {
    pub(super) fn new(max: usize) -> (Arc<Self>, Takes<T>) {
        let queue = Arc::new(Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                closed: false,
            }),
            changed: Condvar::new(),
            max,
        });
        (Arc::clone(&queue), Takes(queue))
    }

    pub(super) fn bring(&self, one: T) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.waiting.len() >= self.max {
            return Err(Refused::Full);
        }
        state.waiting.push_back(one);
        self.changed.notify_one();
        Ok(())
    }

    /// Refuses more; what waits is still taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Takes<T> {
    /// The next one; waits until then, or without an end.
    pub(super) fn next(&self, until: Option<Instant>) -> Next<T> {
        let mut state = self.0.lock();
        loop {
            if let Some(one) = state.waiting.pop_front() {
                return Next::One(one);
            }
            if state.closed {
                return Next::Closed;
            }
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => return Next::Nothing,
                Some(left) => {
                    let woken = self.0.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let woken = self.0.changed.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// The next one, if it is there.
    pub(super) fn try_next(&self) -> Option<T> {
        self.0.lock().waiting.pop_front()
    }
}

impl<T> Drop for Takes<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_taken_in_order_and_the_rest_is_refused() {
        let (queue, takes) = Queue::new(2);
        assert_eq!([1, 2].map(|one| queue.bring(one)), [Ok(()), Ok(())]);
        assert_eq!(queue.bring(3), Err(Refused::Full));
        assert!(matches!(takes.next(None), Next::One(1)));
        queue.bring(3).unwrap();
        queue.close();
        assert_eq!(queue.bring(4), Err(Refused::Closed));
        assert_eq!(takes.try_next(), Some(2));
        assert!(matches!(takes.next(None), Next::One(3)));
        assert!(matches!(takes.next(None), Next::Closed));
    }

    #[test]
    fn who_waits_is_woken_or_gives_up() {
        let (queue, takes) = Queue::new(1);
        assert!(matches!(takes.next(Some(Instant::now())), Next::Nothing));
        let waiting = std::thread::spawn(move || matches!(takes.next(None), Next::One("woken")));
        queue.bring("woken").unwrap();
        assert!(waiting.join().unwrap());
        assert_eq!(queue.bring("gone"), Err(Refused::Closed));
    }

    #[test]
    fn an_end_drops_what_waits() {
        let (queue, takes) = Queue::new(1);
        let one = Arc::new(());
        queue.bring(Arc::clone(&one)).unwrap();
        drop(takes);
        assert_eq!(Arc::strong_count(&one), 1);
    }
}
