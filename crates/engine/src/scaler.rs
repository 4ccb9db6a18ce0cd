//! The loop that looks after the instances of functions outside of the node.
//!
//! It runs while there are any, and sleeps until a call wants one otherwise. Each group decides for
//! itself; what they share is memory: when one has calls and no room for its first instance, the
//! instance of another that was idle for longest gives way.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::invoker::Invoker;
use crate::plan::Plan;
use crate::pool::group::STOP_GRACE;

/// How often groups are looked at while there are instances or calls.
pub const PERIOD: Duration = Duration::from_millis(500);

/// How long there was nothing to look after before the node is at rest.
const REST: Duration = Duration::from_secs(10);

/// Looks after groups until shutdown. `pressure` reads the share of time that something on the
/// system waited for memory, in percent; `at_rest` is told some time after
/// the last instance has gone.
pub async fn run(
    invoker: Invoker,
    pressure: impl Fn() -> f64 + Send,
    at_rest: impl Fn() + Send,
    shutdown: CancellationToken,
) {
    let wake = std::sync::Arc::clone(&invoker.shared().wake);
    let mut next = Next::Look;
    let mut gave_way = None;
    while !shutdown.is_cancelled() {
        let pause = async {
            match next {
                Next::Look => tokio::time::sleep(PERIOD).await,
                Next::Rest => return tokio::time::timeout(REST, wake.notified()).await.is_err(),
                Next::Sleep => wake.notified().await,
            }
            false
        };
        let Some(rested) = shutdown.run_until_cancelled(pause).await else {
            return;
        };
        if rested {
            at_rest();
            next = Next::Sleep;
            continue;
        }
        let any = look(&invoker.catalog(), pressure(), &mut gave_way);
        next = if any { Next::Look } else { Next::Rest };
    }
}

/// What the loop waits for.
enum Next {
    /// A while, to look again.
    Look,
    /// A call, for a while: there was nothing to look after.
    Rest,
    /// A call.
    Sleep,
}

/// Looks at every group once; returns whether there is anything to look after. `gave_way` is when an
/// instance was last stopped for the room it takes, which it goes on taking until it has ended.
fn look(plan: &Plan, pressure: f64, gave_way: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let groups: Vec<_> = plan
        .entries()
        .filter_map(|entry| entry.pool.group())
        .collect();
    let mut any = false;
    for group in &groups {
        any |= group.tick(now, pressure);
    }
    for starved in groups.iter().filter(|group| group.is_starved()) {
        let spare = groups
            .iter()
            .filter_map(|group| Some((group.spare_since()?, group)));
        match spare.min_by_key(|(since, _)| *since) {
            Some((_, group)) => {
                group.give_up_spare();
                *gave_way = Some(now);
            }
            None if gave_way.is_some_and(|at| now < at + STOP_GRACE) => {}
            None => starved.refuse(),
        }
    }
    any
}
