//! Waiting for something without knowing how long it takes: asked often, given up after a deadline.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often is asked.
const EVERY: Duration = Duration::from_millis(5);
/// Longest wait of [`eventually`]: generous, because machines that test are busy.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `is_so`; fails when it is not within 30 s.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let is = within(DEADLINE, || is_so().then_some(()));
    assert!(is.is_some(), "not within {DEADLINE:?}: {what}");
}

/// Waits until there is a value, but not longer than this.
pub fn within<T>(longest: Duration, mut value: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + longest;
    loop {
        if let Some(value) = value() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(EVERY);
    }
}
