//! From a reply or an error to a response.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use mote_core::body::{Body, BodyStream};
use mote_core::error::Error;
use mote_core::reply::Reply;
use serde_json::json;

use super::io::UnderWay;

/// The body of a response.
pub(super) enum ReplyBody {
    Bytes(Bytes),
    Stream {
        stream: BodyStream,
        /// How long it may take; event streams have no end.
        longest: Option<Duration>,
        /// The request that it answers.
        request: Option<UnderWay>,
    },
}

impl ReplyBody {
    pub(super) fn stream(stream: BodyStream, longest: Option<Duration>) -> Self {
        Self::Stream {
            stream,
            longest,
            request: None,
        }
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream { stream, .. } => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Stream { stream, .. } => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream { stream, .. } => stream.size_hint(),
        }
    }
}

/// The reply of a function with this timeout as a response.
pub(super) fn response(reply: Reply, timeout: Duration) -> Response<ReplyBody> {
    let body = match reply.body {
        Body::Bytes(bytes) => ReplyBody::Bytes(bytes),
        Body::Stream(stream) => ReplyBody::stream(stream, Some(timeout)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    // Runtimes let no header of the connection through; the length is counted anew, and a wrong one
    // would cut the next reply short.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}

/// An error as problem details (RFC 9457).
pub(super) fn error_response(error: &Error) -> Response<ReplyBody> {
    let kind = error.kind();
    let status = kind.http_status();
    let mut problem = json!({
        "type": "about:blank",
        "title": kind.title(),
        "status": status.as_u16(),
        "detail": error.message(),
        "kind": kind.label(),
    });
    if let Some(hint) = error.hint() {
        problem["hint"] = hint.into();
    }
    let mut response = plain(status, Bytes::from(format!("{problem}\n")));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if let Some(delay) = error.retry_after() {
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(delay.as_secs().max(1)),
        );
    }
    response
}

/// A short text of the door itself.
pub(super) fn plain(status: StatusCode, text: Bytes) -> Response<ReplyBody> {
    let has_text = !text.is_empty();
    let mut response = Response::new(ReplyBody::Bytes(text));
    *response.status_mut() = status;
    if has_text {
        let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
    }
    response
}
