//! Runs a call's future within its deadline, and keeps its panics inside.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::time::{Instant, Sleep, sleep_until};

/// Why a future did not run to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The deadline passed.
    Late,
    /// It panicked.
    Panicked,
}

/// Runs `future` until its end or until `deadline`. Cancel-safe if the future is.
pub(crate) async fn bounded<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Stopped> {
    let mut future = pin!(AssertUnwindSafe(future).catch_unwind());
    let mut timer = Timer::new(deadline);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(|_| Stopped::Panicked)),
        Poll::Pending => timer.poll(cx).map(|()| Err(Stopped::Late)),
    })
    .await
}

/// A deadline that costs nothing until somebody has to wait for it: most calls never do.
#[derive(Debug)]
pub(crate) struct Timer {
    deadline: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(crate) fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            sleep: None,
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        self.sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)))
            .as_mut()
            .poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn ends_in_time_late_or_in_a_panic() {
        let deadline = Instant::now() + Duration::from_secs(1);
        assert_eq!(bounded(deadline, async { 7 }).await, Ok(7));
        assert_eq!(
            bounded(deadline, std::future::pending::<()>()).await,
            Err(Stopped::Late)
        );
        assert_eq!(
            bounded(deadline, async { panic!("guest") }).await,
            Err::<(), _>(Stopped::Panicked)
        );
    }
}
