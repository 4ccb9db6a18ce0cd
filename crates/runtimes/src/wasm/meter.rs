//! CPU time of guests, and the ticker that interrupts them.
//!
//! The ticker raises every engine's epoch each [`TICK`] while a guest runs anywhere, and sleeps
//! otherwise. A guest that runs when the epoch rises stops at its next loop or call: it gives way to
//! other calls of its thread, and ends when its CPU time is used up. So a busy guest delays others
//! by a tick at most, and overruns its limit by about one.
//!
//! CPU time is taken as the time between giving the guest the processor and getting it back. When
//! the machine itself is short of processors that is more than the true CPU time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use tokio::time::Instant;
use wasmtime::Engine;

/// How often a busy guest is interrupted.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a running guest after which the ticker goes to sleep.
const LINGER: u32 = 50;

/// Drives the epochs of all engines.
#[derive(Debug)]
pub(super) struct Ticker {
    /// Guests that have a processor, for each engine; apart, so that threads do not share a cache
    /// line on every call.
    running: Vec<Running>,
    asleep: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Ticker {
    /// Starts the thread. It ends when the last handle is gone.
    pub(super) fn start(engines: Vec<Engine>) -> Result<Arc<Self>, Error> {
        let ticker = Arc::new(Self {
            running: engines.iter().map(|_| Running::default()).collect(),
            asleep: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let weak = Arc::downgrade(&ticker);
        let tick = move || {
            let mut quiet = 0;
            loop {
                std::thread::sleep(TICK);
                let Some(ticker) = weak.upgrade() else { return };
                engines.iter().for_each(Engine::increment_epoch);
                quiet = if ticker.is_quiet() { quiet + 1 } else { 0 };
                if quiet < LINGER {
                    continue;
                }
                // Both sides write first and read then, in one order, so that one of them sees the
                // other: either the guest wakes this thread, or this thread sees the guest.
                ticker.asleep.store(true, Ordering::SeqCst);
                if ticker.is_quiet() {
                    drop(ticker);
                    std::thread::park_timeout(Duration::from_secs(60));
                    let Some(ticker) = weak.upgrade() else { return };
                    ticker.asleep.store(false, Ordering::SeqCst);
                } else {
                    ticker.asleep.store(false, Ordering::SeqCst);
                }
                quiet = 0;
            }
        };
        let thread = std::thread::Builder::new()
            .name("mote-epochs".into())
            .spawn(tick)
            .map_err(|error| {
                Error::new(
                    ErrorKind::Internal,
                    format!("no thread for the epochs: {error}"),
                )
            })?;
        ticker.thread.get_or_init(|| thread.thread().clone());
        Ok(ticker)
    }

    fn is_quiet(&self) -> bool {
        self.running
            .iter()
            .all(|running| running.0.load(Ordering::SeqCst) == 0)
    }

    fn enter(&self, shard: usize) -> Entered<'_> {
        let running = &self.running[shard];
        running.0.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Entered(running)
    }
}

/// How many guests of one engine have a processor.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Running(AtomicUsize);

/// A guest has a processor.
struct Entered<'a>(&'a Running);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The CPU time of one call.
#[derive(Debug)]
pub(super) struct Meter {
    base: Instant,
    /// Nanoseconds used before the guest last got the processor.
    used: AtomicU64,
    /// When it got it, in nanoseconds since `base`.
    since: AtomicU64,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            base: Instant::now(),
            used: AtomicU64::new(0),
            since: AtomicU64::new(0),
        }
    }

    /// CPU time up to now; only meaningful while the guest runs.
    pub(super) fn used(&self) -> Duration {
        let now = self.now();
        let since = self.since.load(Ordering::Relaxed);
        Duration::from_nanos(self.used.load(Ordering::Relaxed) + now.saturating_sub(since))
    }

    /// Runs a guest's future, pinned by the caller, taking its time.
    pub(super) async fn run<F: Future>(
        &self,
        ticker: &Ticker,
        shard: usize,
        mut future: Pin<&mut F>,
    ) -> F::Output {
        let mut first = true;
        std::future::poll_fn(|cx| {
            // The first run begins at the base, which spares most calls a look at the clock.
            if !std::mem::take(&mut first) {
                self.since.store(self.now(), Ordering::Relaxed);
            }
            let entered = ticker.enter(shard);
            let poll = future.as_mut().poll(cx);
            drop(entered);
            if poll.is_pending() {
                self.used.store(nanos(self.used()), Ordering::Relaxed);
            }
            poll
        })
        .await
    }

    /// Runs a future that is not the guest's work, such as another guest that this one waits for:
    /// its time is not taken. For use while the guest runs.
    pub(super) async fn aside<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        std::future::poll_fn(|cx| {
            self.used.store(nanos(self.used()), Ordering::Relaxed);
            let poll = future.as_mut().poll(cx);
            self.since.store(self.now(), Ordering::Relaxed);
            poll
        })
        .await
    }

    fn now(&self) -> u64 {
        nanos(self.base.elapsed())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_runs_aside_takes_no_time_of_the_guest() {
        let ticker = Ticker::start(vec![Engine::default()]).unwrap();
        let meter = Meter::new();
        let spend = |ms| tokio::time::advance(Duration::from_millis(ms));
        let guest = pin!(async {
            spend(2).await;
            meter.aside(pin!(spend(100))).await;
            spend(3).await;
        });
        meter.run(&ticker, 0, guest).await;
        // Giving way inside of `advance` takes none either.
        assert!(
            meter.used() <= Duration::from_millis(5),
            "{:?}",
            meter.used()
        );
    }
}
