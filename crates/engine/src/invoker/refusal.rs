//! Why a call has no reply, in words.

use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{HOPS_MAX, InvocationId};
use mote_core::log::{Level, LogSink};
use mote_core::name::FunctionName;
use tokio::time::Instant;

use crate::bounded::Stopped;
use crate::plan::Entry;

/// What callers are told to wait when there is no room; long enough for a queue of short calls.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Puts what the node found wrong with a call into the function's own log. Refusals are not there:
/// they say nothing about the function, and come in crowds.
pub(super) fn log_failure(entry: &Entry, id: InvocationId, error: &Error) {
    if matches!(
        error.kind(),
        ErrorKind::FunctionFailed | ErrorKind::Timeout | ErrorKind::Internal
    ) {
        let hint = error
            .hint()
            .map(|hint| format!("; {hint}"))
            .unwrap_or_default();
        entry
            .state
            .log
            .line(id, Level::Error, &format!("{error}{hint}"));
    }
}

pub(super) fn stopped_error(stopped: &Stopped, entry: &Entry, started: Instant) -> Error {
    match stopped {
        Stopped::Late => late(entry, started.elapsed()),
        Stopped::Panicked => {
            tracing::error!(function = %entry.name, "a call panicked; please report this");
            Error::new(
                ErrorKind::Internal,
                format!("the node failed while running `{}`", entry.name),
            )
        }
    }
}

pub(super) fn late(entry: &Entry, took: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!(
            "function `{}` did not answer in {} ms",
            entry.name,
            took.as_millis()
        ),
    )
    .with_hint(if took < entry.spec.limits.timeout {
        "its caller had no more time: raise `timeout` in the caller's manifest if it needs longer"
    } else {
        "raise `timeout` in its manifest if it needs longer"
    })
}

pub(super) fn throttled(entry: &Entry) -> Error {
    let message = format!(
        "function `{}` has {} calls running and its queue is full",
        entry.name, entry.spec.limits.concurrency
    );
    Error::new(ErrorKind::Throttled, message)
        .with_hint("try again later, or raise `concurrency` or `queue` in its manifest")
        .with_retry_after(RETRY_AFTER)
}

pub(super) fn overloaded() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "this node has no room for another call",
    )
    .with_retry_after(RETRY_AFTER)
}

/// A nested call that would wait for one that may be waiting for it.
pub(crate) fn circle(name: &FunctionName, place: &str) -> Error {
    let message = format!(
        "function `{name}` has no free {place}, and waiting for one could last for ever: \
        a call that holds one may wait for this call"
    );
    Error::new(ErrorKind::Overloaded, message)
        .with_hint("raise `concurrency` in its manifest, or let the functions not call each other in a circle")
        .with_retry_after(RETRY_AFTER)
}

/// A call that came through too many others.
pub(crate) fn too_deep(hops: u8) -> Error {
    let message = format!(
        "the calls nest too deep: this one came through {hops} others, the limit is {HOPS_MAX}"
    );
    Error::new(ErrorKind::BadRequest, message)
        .with_hint("a function that calls itself has to stop sooner")
}

/// The node goes away while functions still ask for something.
pub(crate) fn stopping() -> Error {
    Error::new(ErrorKind::Overloaded, "the node is about to stop").with_retry_after(RETRY_AFTER)
}
