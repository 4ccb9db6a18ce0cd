//! A call of a component that exports `wasi:http/incoming-handler` 0.2.
//!
//! The guest goes on running while its reply is read: its future moves into the reply's body, so
//! that reading the body drives the guest and dropping it ends the guest, without a task of its own.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{Invocation, Meta};
use mote_core::reply::Reply;
use mote_core::runtime::CallContext;
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::failure::guest_error;
use super::meter::Ticker;
use super::prepared::{Guest, Loaded, Shard, Warm};
use super::store::{Call, CallState};

/// The header by which such a guest publishes its reply.
const PUBLISH: &str = "mote-publish";

type Response_ = Result<Response<HyperOutgoingBody>, ErrorCode>;
type GuestFuture = Pin<Box<dyn Future<Output = Result<Option<Warm>, Error>> + Send>>;

pub(super) async fn call(
    loaded: &Loaded,
    shard: &Shard,
    pre: &ProxyPre<CallState>,
    invocation: Invocation,
    context: CallContext,
) -> Result<Reply, Error> {
    let spec = &loaded.function.spec;
    let request = request(&invocation.meta, invocation.body, spec.limits.body_bytes)?;
    let call = Call::new(invocation.id, invocation.meta, context, spec);
    let (mut store, warm) = loaded.store(shard, call)?;
    let (sender, mut receiver) = oneshot::channel::<Response_>();

    let meter = Arc::clone(&store.data().meter);
    let (pre, reuse) = (pre.clone(), spec.reuse > 1);
    let guest = async move {
        let run = async {
            let mut view = store.data_mut().http();
            let request = view.new_incoming_request(Scheme::Http, request)?;
            let out = view.new_response_outparam(sender)?;
            let (guest, calls) = match warm {
                Some((Guest::Http(guest), calls)) => (guest, calls),
                _ => (pre.instantiate_async(&mut store).await?, 0),
            };
            guest
                .wasi_http_incoming_handler()
                .call_handle(&mut store, request, out)
                .await?;
            Ok((guest, calls + 1))
        };
        match run.await {
            Ok((guest, calls)) if reuse => Ok(Some(Warm {
                store,
                guest: Guest::Http(guest),
                calls,
            })),
            Ok(_) => Ok(None),
            Err(error) => Err(guest_error(&error, Some(store.data()))),
        }
    };
    let mut guest: Option<GuestFuture> = Some(Box::pin(metered(
        meter,
        Arc::clone(loaded.ticker()),
        shard.number,
        guest,
    )));

    let response = std::future::poll_fn(|cx| {
        if let Some(running) = &mut guest
            && let Poll::Ready(done) = running.poll_unpin(cx)
        {
            guest = None;
            match done {
                Ok(Some(warm)) => loaded.keep(shard, warm),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match receiver.poll_unpin(cx) {
            Poll::Ready(Ok(Ok(response))) => Poll::Ready(Ok(response)),
            Poll::Ready(Ok(Err(code))) => Poll::Ready(Err(failed(format!(
                "the function answered an error: {code:?}"
            )))),
            Poll::Ready(Err(_)) => {
                Poll::Ready(Err(failed("the function ended without an answer".into())))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    let (mut parts, body) = response.into_parts();
    if !(200..=599).contains(&parts.status.as_u16()) {
        let message = format!(
            "the function answered status {}, not within 200 to 599",
            parts.status.as_u16()
        );
        return Err(failed(message));
    }
    let publish = parts.headers.remove(PUBLISH);
    let publish = publish.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let mut body = ReplyBody {
        head: VecDeque::new(),
        body,
        guest,
        warm: None,
    };
    let body = match std::future::poll_fn(|cx| Poll::Ready(body.gather(cx))).await? {
        Some(bytes) => {
            if let Some(warm) = body.warm {
                loaded.keep(shard, warm);
            }
            Body::Bytes(bytes)
        }
        None => Body::Stream(Box::pin(body)),
    };
    Ok(Reply {
        status: parts.status,
        headers: parts.headers,
        body,
        publish,
    })
}

async fn metered<F: Future>(
    meter: Arc<super::meter::Meter>,
    ticker: Arc<Ticker>,
    shard: usize,
    future: F,
) -> F::Output {
    meter.run(&ticker, shard, pin!(future)).await
}

/// The request as the guest sees it: paths begin after the function's name.
fn request(
    meta: &Meta,
    body: Body,
    limit: u64,
) -> Result<
    Request<impl http_body::Body<Data = Bytes, Error = wasmtime_wasi_http::Error> + use<>>,
    Error,
> {
    let path = if meta.path().is_empty() {
        "/"
    } else {
        meta.path()
    };
    let target = meta
        .query()
        .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut request = Request::new(limited(body, limit));
    *request.method_mut() = meta.method.clone();
    *request.uri_mut() = target
        .parse()
        .map_err(|_| Error::new(ErrorKind::BadRequest, "the path is not valid"))?;
    *request.headers_mut() = meta.headers.clone();
    // HTTP/1.1 asks for one, and CoAP has none.
    request
        .headers_mut()
        .entry(header::HOST)
        .or_insert(HeaderValue::from_static("localhost"));
    Ok(request)
}

fn limited(
    body: Body,
    limit: u64,
) -> impl http_body::Body<Data = Bytes, Error = wasmtime_wasi_http::Error> + Send + 'static {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let stream: mote_core::body::BodyStream = match body {
        Body::Bytes(bytes) => {
            Box::pin(http_body_util::Full::new(bytes).map_err(|never| match never {}))
        }
        Body::Stream(stream) => stream,
    };
    http_body_util::Limited::new(stream, limit)
        .map_err(|error| wasmtime_wasi_http::Error::InternalError(Some(error.to_string())))
}

/// What the guest writes, and the guest that writes it.
struct ReplyBody {
    /// Pieces that were gathered already.
    head: VecDeque<Bytes>,
    body: HyperOutgoingBody,
    guest: Option<GuestFuture>,
    /// The guest's store, when it is done and may serve another call.
    warm: Option<Warm>,
}

/// Most bytes that are gathered before a reply becomes a stream.
const GATHER_BYTES_MAX: usize = 64 << 10;

impl ReplyBody {
    /// The whole body, if the guest can write it without being waited for: such a reply needs no
    /// stream. What was written until then stays at the head of the stream.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<Option<Bytes>, Error> {
        let mut bytes = 0;
        while bytes <= GATHER_BYTES_MAX {
            match self.poll_rest(cx) {
                Poll::Pending => return Ok(None),
                Poll::Ready(None) if self.head.len() <= 1 => {
                    return Ok(Some(self.head.pop_front().unwrap_or_default()));
                }
                Poll::Ready(None) => {
                    return Ok(Some(self.head.iter().flatten().copied().collect()));
                }
                // Trailers need a stream to trail; those of a short reply are dropped.
                Poll::Ready(Some(frame)) => {
                    if let Ok(data) = frame?.into_data() {
                        bytes += data.len();
                        self.head.push_back(data);
                    }
                }
            }
        }
        Ok(None)
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let frame = Pin::new(&mut self.body).poll_frame(cx);
            if let Poll::Ready(Some(frame)) = frame {
                let broken = |error| failed(format!("the reply broke off: {error:?}"));
                return Poll::Ready(Some(frame.map_err(broken)));
            }
            let Some(guest) = &mut self.guest else {
                return frame.map(|_| None);
            };
            // A body that ended waits for its guest, which may still fail.
            match guest.poll_unpin(cx) {
                Poll::Ready(Ok(warm)) => {
                    self.guest = None;
                    self.warm = warm;
                }
                Poll::Ready(Err(error)) => {
                    self.guest = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.head.pop_front() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => self.poll_rest(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.guest.is_none() && self.body.is_end_stream()
    }
}

fn failed(message: String) -> Error {
    Error::new(ErrorKind::FunctionFailed, message)
}
