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

/// Looks after groups until shutdown. `pressure` reads the share of time that something on the
/// system waited for memory, in percent.
pub async fn run(invoker: Invoker, pressure: impl Fn() -> f64 + Send, shutdown: CancellationToken) {
    let wake = std::sync::Arc::clone(&invoker.shared().wake);
    let mut look_again = true;
    let mut gave_way = None;
    while !shutdown.is_cancelled() {
        let pause = async {
            if look_again {
                tokio::time::sleep(PERIOD).await;
            } else {
                wake.notified().await;
            }
        };
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return;
        }
        look_again = look(&invoker.catalog(), pressure(), &mut gave_way);
    }
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
