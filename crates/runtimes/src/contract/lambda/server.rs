//! The server's side of the Runtime API: the program's requests and what they get.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mote_core::body::{Body, too_large};
use mote_core::error::Error;
use mote_core::invocation::InvocationId;
use mote_core::log::{Level, LogSink};
use mote_core::reply::Reply;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::super::accept;
use super::answer::{self, Failure, Piece, Streamed};
use super::{LambdaApi, Start, failed};

type Out = Response<Full<Bytes>>;

/// Where the API begins.
const ROOT: &str = "/2018-06-01/runtime/";
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a report of a failure.
const FAILURE_BYTES_MAX: u64 = 256 << 10;
/// Most bytes of the prelude of a stream.
const PRELUDE_BYTES_MAX: usize = 64 << 10;
/// What ends the prelude.
const PRELUDE_END: &[u8] = &[0; 8];
/// Most bytes of an answer that are read only to be dropped, so that the program hears why.
const DROPPED_BYTES_MAX: usize = 64 << 20;

const FAILURE_TYPE: &str = "lambda-runtime-function-error-type";
const FAILURE_BODY: &str = "lambda-runtime-function-error-body";
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
const INTEGRATION: &[u8] = b"application/vnd.awslambda.http-integration-response";

pub(super) async fn serve(api: Arc<LambdaApi>, listener: TcpListener) {
    accept::run(listener, api.settings.connections, |stream| {
        let api = Arc::clone(&api);
        async move { connection(&api, stream).await }
    })
    .await;
}

async fn connection(api: &LambdaApi, stream: TcpStream) {
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(handle(api, request).await) });
    let served = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // The program hung up, or does not speak HTTP; its call fails by itself.
    let _ = served.await;
}

async fn handle(api: &LambdaApi, request: Request<Incoming>) -> Out {
    let (parts, body) = request.into_parts();
    let Some(path) = parts.uri.path().strip_prefix(ROOT) else {
        return unknown();
    };
    let call = path
        .strip_prefix("invocation/")
        .and_then(|rest| rest.split_once('/'));
    match (&parts.method, path, call) {
        (&Method::GET, "invocation/next", _) => next(api).await,
        (&Method::POST, "init/error", _) => start_failed(api, &parts.headers, body).await,
        (&Method::POST, _, Some((id, "response"))) => match Turn::of(api, id) {
            Ok(turn) => response(turn, &parts.headers, body).await,
            Err(refused) => *refused,
        },
        (&Method::POST, _, Some((id, "error"))) => match Turn::of(api, id) {
            Ok(turn) => call_failed(turn, &parts.headers, body).await,
            Err(refused) => *refused,
        },
        _ => unknown(),
    }
}

/// Waits for a call, for as long as it takes.
async fn next(api: &LambdaApi) -> Out {
    let (sender, receiver) = oneshot::channel();
    let skipped = {
        let mut state = api.lock();
        if state.gone {
            return wrong_state("the instance has ended");
        }
        if matches!(state.start, Start::UnderWay) {
            state.start = Start::Done;
        }
        state.asking = Some(sender);
        state.current.take()
    };
    if let Some(answer) = skipped.and_then(|current| current.answer) {
        answer.give(Err(failed(
            "the program asked for the next call without an answer to this one",
        )));
    }
    api.changed.notify_waiters();
    let Ok(event) = receiver.await else {
        // It asked again by another connection, or has ended.
        return wrong_state("another request waits for the next call");
    };
    let mut response = Response::new(Full::new(event.body));
    *response.headers_mut() = event.headers;
    response
}

async fn start_failed(api: &LambdaApi, headers: &HeaderMap, body: Incoming) -> Out {
    let failure = failure(headers, body).await;
    let mut state = api.lock();
    if !matches!(state.start, Start::UnderWay) {
        return wrong_state("the program has started already");
    }
    state.start = Start::Failed(failure.error().context("the program failed to start"));
    drop(state);
    for line in failure.lines() {
        (api.settings.log)(&line);
    }
    api.changed.notify_waiters();
    accepted()
}

async fn call_failed(mut turn: Turn<'_>, headers: &HeaderMap, body: Incoming) -> Out {
    let failure = failure(headers, body).await;
    turn.fail(&failure);
    accepted()
}

async fn failure(headers: &HeaderMap, body: Incoming) -> Failure {
    let kind = headers
        .get(FAILURE_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let body = match read(body, FAILURE_BYTES_MAX).await {
        Read::Whole(body) => body,
        Read::TooLarge | Read::Broken => Bytes::new(),
    };
    Failure::read(&body, kind)
}

async fn response(mut turn: Turn<'_>, headers: &HeaderMap, body: Incoming) -> Out {
    let mode = headers.get(RESPONSE_MODE);
    if mode.is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"streaming")) {
        return streamed(turn, headers, body).await;
    }
    match read(body, turn.body_bytes_max).await {
        Read::Whole(bytes) => {
            turn.give(answer::whole(bytes));
            accepted()
        }
        Read::TooLarge => {
            let limit = turn.body_bytes_max;
            turn.give(Err(too_large(limit).context("the answer")));
            over(limit)
        }
        // The end of the turn tells the caller, and the program is not there to be told.
        Read::Broken => unknown(),
    }
}

/// Passes an answer on while the program writes it.
async fn streamed(mut turn: Turn<'_>, headers: &HeaderMap, mut body: Incoming) -> Out {
    let kind = headers.get(header::CONTENT_TYPE);
    let begun = match kind {
        Some(kind) if kind.as_bytes().starts_with(INTEGRATION) => begin(&mut body).await,
        kind => {
            let mut reply = Reply::default();
            let kind = kind.cloned().unwrap_or(answer::BYTES);
            reply.headers.insert(header::CONTENT_TYPE, kind);
            Ok((reply, Bytes::new()))
        }
    };
    let (mut reply, first) = match begun {
        Ok(begun) => begun,
        Err(End::Failed(failure)) => {
            turn.fail(&failure);
            return accepted();
        }
        Err(End::Invalid(error)) => {
            turn.give(Err(error));
            drain(body).await;
            return accepted();
        }
        Err(_) => return unknown(),
    };
    let (pieces, stream) = Streamed::new();
    reply.body = Body::Stream(Box::pin(stream));
    turn.give(Ok(reply));
    let limit = turn.body_bytes_max;
    // A reader that has gone needs no last piece.
    match pump(first, &mut body, &pieces, limit).await {
        End::Whole => drop(pieces.send(Piece::End).await),
        End::Failed(failure) => {
            turn.log(&failure);
            drop(pieces.send(Piece::Failed(failure.error())).await);
        }
        End::TooLarge => {
            let error = too_large(limit).context("the answer");
            drop(pieces.send(Piece::Failed(error)).await);
            drain(body).await;
            return over(limit);
        }
        End::Unread => drain(body).await,
        End::Broken | End::Invalid(_) => return unknown(),
    }
    accepted()
}

/// How a stream, or its beginning, ends.
enum End {
    Whole,
    /// The program says so in its trailers.
    Failed(Failure),
    Invalid(Error),
    TooLarge,
    /// Nobody reads it any more.
    Unread,
    /// The connection broke; what waits for a last piece learns of it by the missing one.
    Broken,
}

/// Reads the prelude. Returns the reply without its body, and the first bytes of that.
async fn begin(body: &mut Incoming) -> Result<(Reply, Bytes), End> {
    let mut head = BytesMut::new();
    loop {
        let ends = |part: &[u8]| part == PRELUDE_END;
        if let Some(at) = head.windows(PRELUDE_END.len()).position(ends) {
            let json = head.split_to(at);
            let rest = head.split_off(PRELUDE_END.len());
            let reply = answer::prelude(&json).map_err(End::Invalid)?;
            return Ok((reply, rest.freeze()));
        }
        if head.len() > PRELUDE_BYTES_MAX {
            let message = format!("the answer's prelude is larger than {PRELUDE_BYTES_MAX} bytes");
            return Err(End::Invalid(failed(message)));
        }
        match piece(body).await {
            Ok(data) => head.extend_from_slice(&data),
            Err(End::Whole) => {
                return Err(End::Invalid(failed("the answer ended within its prelude")));
            }
            Err(end) => return Err(end),
        }
    }
}

/// Passes data on until there is no more.
async fn pump(first: Bytes, body: &mut Incoming, pieces: &mpsc::Sender<Piece>, limit: u64) -> End {
    let (mut data, mut left) = (first, limit);
    loop {
        match left.checked_sub(data.len() as u64) {
            Some(rest) => left = rest,
            None => return End::TooLarge,
        }
        if !data.is_empty() && pieces.send(Piece::Data(data)).await.is_err() {
            return End::Unread;
        }
        data = match piece(body).await {
            Ok(data) => data,
            Err(end) => return end,
        };
    }
}

/// The next bytes of an answer, or its end.
async fn piece(body: &mut Incoming) -> Result<Bytes, End> {
    let Some(frame) = body.frame().await else {
        return Err(End::Whole);
    };
    let frame = frame.map_err(|_| End::Broken)?;
    match frame.into_data() {
        Ok(data) => Ok(data),
        Err(frame) => match frame.trailers_ref().and_then(trailing_failure) {
            Some(failure) => Err(End::Failed(failure)),
            None => Ok(Bytes::new()),
        },
    }
}

fn trailing_failure(trailers: &HeaderMap) -> Option<Failure> {
    let kind = trailers.get(FAILURE_TYPE)?.to_str().ok();
    let body = trailers.get(FAILURE_BODY).map(|body| STANDARD.decode(body));
    let body = body.and_then(Result::ok).unwrap_or_default();
    Some(Failure::read(&body, kind))
}

enum Read {
    Whole(Bytes),
    TooLarge,
    Broken,
}

async fn read(mut body: Incoming, limit: u64) -> Read {
    let mut all = BytesMut::new();
    loop {
        match piece(&mut body).await {
            Ok(data) if (all.len() + data.len()) as u64 > limit => {
                drain(body).await;
                return Read::TooLarge;
            }
            Ok(data) => all.extend_from_slice(&data),
            Err(End::Broken) => return Read::Broken,
            Err(_) => return Read::Whole(all.freeze()),
        }
    }
}

/// Reads what is left to nowhere: a program that cannot write does not hear what is wrong.
async fn drain(mut body: Incoming) {
    let mut left = DROPPED_BYTES_MAX;
    while let Ok(data) = piece(&mut body).await {
        match left.checked_sub(data.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The request that answers a call: the only one that may. Its end is the end of the call, whether
/// there was an answer or not.
struct Turn<'a> {
    api: &'a LambdaApi,
    id: InvocationId,
    reply: Option<oneshot::Sender<Result<Reply, Error>>>,
    body_bytes_max: u64,
    log: Arc<dyn LogSink>,
}

impl<'a> Turn<'a> {
    fn of(api: &'a LambdaApi, id: &str) -> Result<Self, Box<Out>> {
        let mut state = api.lock();
        let current = state.current.as_mut();
        let Some(current) = current.filter(|current| current.id.hex() == id.as_bytes()) else {
            let text = "this is not the call that was handed out";
            return Err(Box::new(refused(
                StatusCode::BAD_REQUEST,
                "InvalidRequestID",
                text,
            )));
        };
        let Some(answer) = current.answer.take() else {
            return Err(Box::new(wrong_state("the call is being answered already")));
        };
        Ok(Self {
            api,
            id: current.id,
            reply: Some(answer.reply),
            body_bytes_max: answer.body_bytes_max,
            log: answer.log,
        })
    }

    fn give(&mut self, reply: Result<Reply, Error>) {
        if let Some(sender) = self.reply.take() {
            // Nobody waits for the answer of a call that was cancelled.
            let _ = sender.send(reply);
        }
    }

    fn fail(&mut self, failure: &Failure) {
        self.log(failure);
        self.give(Err(failure.error()));
    }

    /// Writes what a program says about its failure beyond the message.
    fn log(&self, failure: &Failure) {
        for line in failure.lines() {
            self.log.line(self.id, Level::Error, &line);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.api.lock();
        if state
            .current
            .as_ref()
            .is_some_and(|current| current.id == self.id)
        {
            state.current = None;
        }
        drop(state);
        self.api.changed.notify_waiters();
    }
}

fn accepted() -> Out {
    json(StatusCode::ACCEPTED, r#"{"status":"OK"}"#.into())
}

fn unknown() -> Out {
    let text = "the Runtime API of 2018-06-01 has no such request";
    refused(StatusCode::NOT_FOUND, "NotFound", text)
}

fn wrong_state(text: &str) -> Out {
    refused(StatusCode::FORBIDDEN, "InvalidStateTransition", text)
}

fn over(limit: u64) -> Out {
    let text = format!("Exceeded maximum allowed payload size ({limit} bytes).");
    refused(
        StatusCode::PAYLOAD_TOO_LARGE,
        "Function.ResponseSizeTooLarge",
        &text,
    )
}

fn refused(status: StatusCode, kind: &str, text: &str) -> Out {
    let body = serde_json::json!({ "errorMessage": text, "errorType": kind });
    json(status, body.to_string())
}

fn json(status: StatusCode, body: String) -> Out {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
