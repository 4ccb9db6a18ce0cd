//! Which loaded functions to unload: those idle for long, then the longest unused until the loaded
//! ones fit their limit (FunLess §III-B: LRU over a size, and a time to live of 45 minutes).
//!
//! [`decide`] is the policy, a pure function; [`run`] feeds it and carries it out.

use std::time::Duration;

use mote_core::invocation::FunctionId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::invoker::Invoker;

/// One loaded function.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Which one.
    pub function: FunctionId,
    /// Bytes that unloading it frees.
    pub bytes: u64,
    /// When it was last called.
    pub last_used: Instant,
    /// Whether a call runs now; such a function stays.
    pub busy: bool,
}

/// When functions are unloaded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all loaded functions together.
    pub bytes_max: u64,
    /// How long a function stays loaded without a call.
    pub idle_max: Duration,
}

/// Why a function is unloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was not called for long.
    Idle,
    /// Others need the room, and it was unused for longest.
    Room,
}

/// Which functions to unload now, and why.
pub fn decide(loaded: &[Loaded], limits: &Limits, now: Instant) -> Vec<(FunctionId, Reason)> {
    let mut candidates: Vec<_> = loaded.iter().filter(|function| !function.busy).collect();
    candidates.sort_by_key(|function| function.last_used);
    let mut total: u64 = loaded.iter().map(|function| function.bytes).sum();
    let mut decision = Vec::new();
    for function in candidates {
        let reason = if now.saturating_duration_since(function.last_used) >= limits.idle_max {
            Reason::Idle
        } else if total > limits.bytes_max {
            Reason::Room
        } else {
            break;
        };
        total -= function.bytes;
        decision.push((function.function, reason));
    }
    decision
}

/// How often the loop looks. Between two looks the limit may be exceeded.
const PERIOD: Duration = Duration::from_secs(10);

/// Unloads functions by [`decide`] until shutdown.
pub async fn run(limits: Limits, invoker: Invoker, shutdown: CancellationToken) {
    while shutdown
        .run_until_cancelled(tokio::time::sleep(PERIOD))
        .await
        .is_some()
    {
        let plan = invoker.catalog();
        let loaded: Vec<_> = plan
            .entries()
            .filter_map(|entry| {
                Some(Loaded {
                    function: entry.id,
                    bytes: entry.pool.loaded_bytes()?,
                    last_used: entry.pool.single()?.last_used(),
                    busy: entry.gate.in_flight() > 0,
                })
            })
            .collect();
        for (function, reason) in decide(&loaded, &limits, Instant::now()) {
            let Some(entry) = plan.get(function) else {
                continue;
            };
            if let Some(single) = entry.pool.single() {
                single.unload();
                tracing::debug!(function = %entry.name, ?reason, "unloaded");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(id: u32, bytes: u64, last_used: Instant) -> Loaded {
        Loaded {
            function: FunctionId(id),
            bytes,
            last_used,
            busy: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_ones_go_then_the_longest_unused() {
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        let limits = Limits {
            bytes_max: 10,
            idle_max: 45 * minute,
        };
        let now = start + 60 * minute;
        let mut view = vec![
            loaded(1, 4, start + 50 * minute),
            loaded(2, 4, start + 10 * minute),
            loaded(3, 4, start + 40 * minute),
            loaded(4, 4, start + 59 * minute),
        ];
        assert_eq!(
            decide(&view, &limits, now),
            [(FunctionId(2), Reason::Idle), (FunctionId(3), Reason::Room)]
        );
        view[1].busy = true;
        assert_eq!(
            decide(&view, &limits, now),
            [(FunctionId(3), Reason::Room), (FunctionId(1), Reason::Room)]
        );
        assert!(decide(&view[..1], &limits, now).is_empty());
    }
}
