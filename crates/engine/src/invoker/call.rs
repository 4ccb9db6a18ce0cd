//! A call that was accepted: how it ends, and what it holds while its reply is on its way.

use std::sync::Arc;

use mote_core::body::Body;
use mote_core::error::Error;
use mote_core::invocation::InvocationId;
use mote_core::reply::Reply;
use tokio::time::Instant;

use super::Shared;
use super::refusal::log_failure;
use super::stream::{ReplyStream, Streaming};
use crate::outcome::{Outcome, Record};
use crate::plan::Entry;
use crate::pool::Kept;

/// A call that was accepted and has no outcome yet.
pub(super) struct Call {
    pub(super) id: InvocationId,
    pub(super) deadline: Instant,
    pub(super) record: Record,
}

/// What a call with a streamed reply holds until that has been read or dropped: its instance, a
/// permit of its function, and one of the node if it came from outside.
pub(super) struct Held {
    pub(super) _instance: Kept,
    pub(super) entry: Arc<Entry>,
    pub(super) node: Option<Arc<Shared>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(node) = &self.node {
            node.gate.release();
        }
        self.entry.gate.release();
    }
}

impl Call {
    /// Counts a call that failed, and tells its function's log.
    pub(super) fn fail(self, error: &Error) {
        log_failure(self.record.entry(), self.id, error);
        self.record.finish(Outcome::Failed(error.kind()));
    }

    /// Counts a reply that is all there; sends everything that the call holds along with one that
    /// is not.
    pub(super) fn reply(mut self, mut reply: Reply, held: Option<Held>) -> Reply {
        let outcome = if reply.status.is_server_error() {
            Outcome::FunctionError
        } else {
            Outcome::Ok
        };
        reply.body = match reply.body {
            Body::Bytes(bytes) => {
                self.record.finish(outcome);
                Body::Bytes(bytes)
            }
            Body::Stream(stream) => {
                self.record.keep_for_long();
                let left = self.record.entry().spec.limits.body_bytes;
                let streaming = Streaming {
                    stream,
                    left,
                    outcome,
                    call: self,
                    reader: None,
                    _held: held,
                };
                Body::Stream(Box::pin(ReplyStream::new(streaming)))
            }
        };
        reply
    }
}
