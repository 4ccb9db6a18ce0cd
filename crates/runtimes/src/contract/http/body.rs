//! The bodies of requests and replies of a program.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use mote_core::body::{Body, too_large};
use mote_core::error::Error;

use super::connection::Connection;
use super::pool::Pool;

/// What a call sends, within its limit.
pub(super) struct RequestBody {
    body: Body,
    left: u64,
    limit: u64,
}

impl RequestBody {
    pub(super) fn new(body: Body, limit: u64) -> Self {
        Self {
            body,
            left: limit,
            limit,
        }
    }

    /// The body, as long as nothing of it was read.
    pub(super) fn into_inner(self) -> Body {
        self.body
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match &mut self.body {
            Body::Bytes(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Body::Bytes(bytes) => Frame::data(std::mem::take(bytes)),
            Body::Stream(stream) => match ready!(stream.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            },
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = self.left.checked_sub(length) else {
            return Poll::Ready(Some(Err(too_large(self.limit))));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Body::Bytes(bytes) => bytes.is_empty(),
            Body::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream(stream) => stream.size_hint(),
        }
    }
}

/// What a program answers, and the connection that it comes from. Reading it drives the connection;
/// its end gives the connection back to the pool, and dropping it before closes the connection.
pub(super) struct ReplyBody {
    /// What was read before it was known to be a stream.
    head: Option<Bytes>,
    body: Incoming,
    connection: Option<Connection>,
    pool: Arc<Pool>,
    left: u64,
    limit: u64,
}

/// Largest body that is read whole before its reply is handed on.
const WHOLE_BYTES_MAX: u64 = 64 << 10;

impl ReplyBody {
    pub(super) fn new(
        body: Incoming,
        connection: Connection,
        pool: &Arc<Pool>,
        limit: u64,
    ) -> Self {
        Self {
            head: None,
            body,
            connection: Some(connection),
            pool: Arc::clone(pool),
            left: limit,
            limit,
        }
    }

    /// The body as bytes when it is small, as a stream when it is not or when its length is not
    /// known and it is not there yet.
    pub(super) async fn gather(mut self) -> Result<Body, Error> {
        let length = self.body.size_hint().exact();
        if self.body.size_hint().lower() > self.limit {
            return Err(too_large(self.limit));
        }
        let whole = length.is_some_and(|length| length <= WHOLE_BYTES_MAX);
        if length.is_some() && !whole {
            return Ok(Body::Stream(Box::pin(self)));
        }
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        loop {
            let frame = std::future::poll_fn(|cx| match self.poll_rest(cx) {
                Poll::Pending if !whole => Poll::Ready(None),
                frame => frame.map(Some),
            });
            let data = match frame.await {
                // Not all there: what came already goes ahead of the rest.
                None => break,
                Some(None) => return Ok(Body::Bytes(joined(first, all))),
                // Trailers need a stream to trail; those of a short reply are dropped.
                Some(Some(frame)) => frame?.into_data().unwrap_or_default(),
            };
            if first.is_empty() && all.is_empty() {
                first = data;
            } else {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&data);
            }
            if (first.len() + all.len()) as u64 > WHOLE_BYTES_MAX {
                break;
            }
        }
        self.head = Some(joined(first, all)).filter(|head| !head.is_empty());
        Ok(Body::Stream(Box::pin(self)))
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(None);
        };
        let frame = match ready!(connection.poll_frame(&mut self.body, cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.connection = None;
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                let settled = connection.settle(cx);
                if let Some(connection) = self.connection.take().filter(|_| settled) {
                    self.pool.keep(connection);
                }
                return Poll::Ready(None);
            }
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left.checked_sub(length) {
            Some(left) => self.left = left,
            None => {
                self.connection = None;
                return Poll::Ready(Some(Err(too_large(self.limit))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.head.take() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => self.poll_rest(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_none() && self.connection.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.head {
            // Only a body of unknown length has a head.
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}

fn joined(first: Bytes, all: BytesMut) -> Bytes {
    if all.is_empty() { first } else { all.freeze() }
}
