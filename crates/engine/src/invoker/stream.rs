//! A reply whose body is still being written: the call goes on until that ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use mote_core::body::{BodyStream, too_large};
use mote_core::error::{Error, ErrorKind};
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use super::call::{Call, Held};
use super::refusal::late;
use crate::outcome::Outcome;

/// A reply's body that ends its call when it ends, is dropped, or is late. The deadline holds even
/// when nobody reads: a client that opens no window would otherwise keep its call for ever.
pub(super) struct ReplyStream {
    streaming: Arc<Mutex<Option<Streaming>>>,
    deadline: AbortHandle,
    ended: bool,
}

/// A call whose reply is on its way.
pub(super) struct Streaming {
    pub(super) stream: BodyStream,
    pub(super) left: u64,
    pub(super) outcome: Outcome,
    pub(super) call: Call,
    /// Who waits for the next frame.
    pub(super) reader: Option<Waker>,
    pub(super) _held: Option<Held>,
}

type PolledFrame = Poll<Option<Result<Frame<Bytes>, Error>>>;

impl ReplyStream {
    pub(super) fn new(streaming: Streaming) -> Self {
        let deadline = streaming.call.deadline;
        let streaming = Arc::new(Mutex::new(Some(streaming)));
        let late = Arc::downgrade(&streaming);
        let task = tokio::spawn(async move {
            sleep_until(deadline).await;
            let Some(streaming) = late.upgrade() else {
                return;
            };
            let taken = lock(&streaming).take();
            if let Some(mut streaming) = taken {
                let (error, reader) = (streaming.late(), streaming.reader.take());
                streaming.call.fail(&error);
                reader.inspect(Waker::wake_by_ref);
            }
        });
        Self {
            streaming,
            deadline: task.abort_handle(),
            ended: false,
        }
    }

    fn fail(&mut self, error: Error) -> PolledFrame {
        self.ended = true;
        if let Some(streaming) = lock(&self.streaming).take() {
            streaming.call.fail(&error);
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        self.deadline.abort();
    }
}

impl Streaming {
    fn late(&self) -> Error {
        let record = &self.call.record;
        late(record.entry(), record.elapsed())
    }

    /// The next frame, within the function's limit.
    fn poll(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let frame = match self.stream.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Pending => {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            end => return end,
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = self.left.checked_sub(length) else {
            let limit = self.call.record.entry().spec.limits.body_bytes;
            return Poll::Ready(Some(Err(too_large(limit))));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }
}

fn lock(streaming: &Mutex<Option<Streaming>>) -> MutexGuard<'_, Option<Streaming>> {
    // A guest that panics is caught before it gets here; what it left is dropped like any other.
    streaming.lock().unwrap_or_else(PoisonError::into_inner)
}

impl http_body::Body for ReplyStream {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = lock(&self.streaming)
            .as_mut()
            .map(|streaming| streaming.poll(cx));
        match polled {
            // The deadline took it.
            None => {
                self.ended = true;
                let message = "the function did not end its reply in time";
                Poll::Ready(Some(Err(Error::new(ErrorKind::Timeout, message))))
            }
            Some(Poll::Ready(None)) => {
                self.ended = true;
                if let Some(Streaming { call, outcome, .. }) = lock(&self.streaming).take() {
                    call.record.finish(outcome);
                }
                Poll::Ready(None)
            }
            Some(Poll::Ready(Some(Err(error)))) => self.fail(error),
            Some(other) => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        // The last frame must be polled for, so that the outcome is counted before hyper lets go.
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        let streaming = lock(&self.streaming);
        streaming
            .as_ref()
            .map_or_else(SizeHint::default, |all| all.stream.size_hint())
    }
}
