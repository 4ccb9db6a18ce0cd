//! A call of a component that exports `wasi:http/incoming-handler` 0.2.
//!
//! The guest goes on running while its reply is read: its future moves into the reply's body, so
//! that reading the body drives the guest and dropping it ends the guest, without a task of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as _, Frame, SizeHint};
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
    let call = Call::new(invocation.id, invocation.meta, context.log, spec);
    let (mut store, warm) = loaded.store(shard, call);
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
    reply(response, guest).await
}

async fn metered<F: Future>(
    meter: Arc<super::meter::Meter>,
    ticker: Arc<Ticker>,
    shard: usize,
    future: F,
) -> F::Output {
    meter.run(&ticker, shard, future).await
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

async fn reply(
    response: Response<HyperOutgoingBody>,
    guest: Option<GuestFuture>,
) -> Result<Reply, Error> {
    let (mut parts, body) = response.into_parts();
    let publish = parts
        .headers
        .remove(PUBLISH)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let mut body = ReplyBody { body, guest };
    let body = match body.all_there() {
        Some(bytes) => Body::Bytes(bytes?),
        None => Body::Stream(Box::pin(body)),
    };
    Ok(Reply {
        status: parts.status,
        headers: parts.headers,
        body,
        publish,
    })
}

/// What the guest writes, and the guest that writes it.
struct ReplyBody {
    body: HyperOutgoingBody,
    guest: Option<GuestFuture>,
}

impl ReplyBody {
    /// The whole body, if the guest is done and wrote no more than one piece: a reply that needs no
    /// stream.
    fn all_there(&mut self) -> Option<Result<Bytes, Error>> {
        if self.guest.is_some()
            || self
                .body
                .size_hint()
                .exact()
                .is_none_or(|length| length > 0)
                && !self.body.is_end_stream()
        {
            return None;
        }
        Some(Ok(Bytes::new()))
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
                return Poll::Ready(frame.map(|frame| {
                    frame.map_err(|error| failed(format!("the reply broke off: {error:?}")))
                }));
            }
            let Some(guest) = &mut self.guest else {
                return Poll::Pending;
            };
            match guest.poll_unpin(cx) {
                Poll::Ready(Ok(_)) => self.guest = None,
                Poll::Ready(Err(error)) => {
                    self.guest = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.guest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn failed(message: String) -> Error {
    Error::new(ErrorKind::FunctionFailed, message)
}
