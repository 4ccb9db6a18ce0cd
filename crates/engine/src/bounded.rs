//! Runs a call's future within its deadline, and keeps its panics inside.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// Why a future did not run to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The deadline passed.
    Late,
    /// It panicked.
    Panicked,
}

/// Runs `future` until its end or until `deadline`. It is pinned by the caller, so that it is not
/// moved once more. Cancel-safe if the future is.
pub(crate) async fn bounded<F: Future>(
    deadline: Instant,
    mut future: Pin<&mut F>,
) -> Result<F::Output, Stopped> {
    let mut timer = Timer::new(deadline);
    poll_fn(|cx| {
        let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        match poll {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => timer.poll(cx).map(|()| Err(Stopped::Late)),
            Err(_) => Poll::Ready(Err(Stopped::Panicked)),
        }
    })
    .await
}

/// A deadline that costs nothing until somebody has to wait for it: most calls never do.
#[derive(Debug)]
struct Timer {
    deadline: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            sleep: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
    use std::pin::pin;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn ends_in_time_late_or_in_a_panic() {
        let deadline = Instant::now() + Duration::from_secs(1);
        assert_eq!(bounded(deadline, pin!(async { 7 })).await, Ok(7));
        let never = pin!(std::future::pending::<()>());
        assert_eq!(bounded(deadline, never).await, Err(Stopped::Late));
        let panics = pin!(async { panic!("guest") });
        assert_eq!(bounded::<_>(deadline, panics).await, Err(Stopped::Panicked));
    }
}
