//! What went wrong in a guest, as an error for its caller.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use wasmtime::{PoolConcurrencyLimitError, Trap};

use super::store::CallState;

/// Ends a guest whose CPU time is used up.
#[derive(Debug)]
pub(super) struct CpuUsedUp(pub(super) Duration);

impl fmt::Display for CpuUsedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the call used up its {:?} of CPU time", self.0)
    }
}

impl std::error::Error for CpuUsedUp {}

/// Ends a guest whose reply is over the limit.
#[derive(Debug)]
pub(super) struct ReplyTooLarge(pub(super) u64);

impl fmt::Display for ReplyTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the reply is larger than the limit of {} bytes", self.0)
    }
}

impl std::error::Error for ReplyTooLarge {}

/// Longest description of a failure; a guest may put its own text there.
const TEXT_BYTES_MAX: usize = 500;

/// Turns what the engine says about a guest into an error. `state` explains a trap that follows a
/// refused allocation.
pub(super) fn guest_error(error: &wasmtime::Error, state: Option<&CallState>) -> Error {
    if let Some(used_up) = error.downcast_ref::<CpuUsedUp>() {
        return Error::new(ErrorKind::Timeout, used_up.to_string())
            .with_hint("raise `cpu` in the function's manifest if it needs more");
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return Error::new(
            ErrorKind::Overloaded,
            "this node has no room for another instance",
        )
        .with_retry_after(Duration::from_secs(1));
    }
    if let Some(too_large) = error.downcast_ref::<ReplyTooLarge>() {
        return Error::new(ErrorKind::FunctionFailed, too_large.to_string())
            .with_hint("answer less, or raise `body` in the function's manifest");
    }
    if let Some(state) = state
        && state.limiter.refused.load(Ordering::Relaxed)
    {
        let message = format!(
            "the function failed after it was refused memory: {}",
            reason(error)
        );
        return Error::new(ErrorKind::FunctionFailed, message).with_hint(format!(
            "it may have {} bytes of memory and {} table elements; raise `memory` or `table` in its manifest",
            state.spec.limits.memory_bytes, state.spec.limits.table_elements
        ));
    }
    Error::new(
        ErrorKind::FunctionFailed,
        format!("the function failed: {}", reason(error)),
    )
}

/// The innermost reason; the layers above it tell of addresses and frames.
fn reason(error: &wasmtime::Error) -> String {
    let text = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}
