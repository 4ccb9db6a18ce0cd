//! An echo that calls itself: `?hops=N` says how many more calls follow, each made by the one before.
//!
//! A call with hops left POSTs its body to the address in `$NEXT` with one hop less, and returns what
//! comes back; the last one returns what it was sent. Each waits for the next, so a call of `N` hops
//! holds `N + 1` calls of the node. The body is read whole before it is sent on: a function that
//! streamed both ways at once would have to watch both, and the ones it measures do not.
//! Bounded: by [`HOPS_MAX`], and by the function's body limit.
#![no_std]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use lean as _;
use wasip2::cli::environment::get_environment;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

/// The longest chain of the experiments has 20 functions.
const HOPS_MAX: u32 = 20;
/// The most that is read from a body at once.
const PIECE_BYTES: u64 = 64 * 1024;
const NEXT: &str = "NEXT";

struct Chain;

wasip2::http::proxy::export!(Chain);

/// A body with the content type it came under.
struct Payload {
    content_type: Option<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Guest for Chain {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, payload) = match answer(&request) {
            Ok(reply) => reply,
            Err((status, why)) => (status, text(&why)),
        };
        reply(out, status, &payload);
    }
}

fn answer(request: &IncomingRequest) -> Result<(u16, Payload), (u16, String)> {
    let target = request.path_with_query().unwrap_or_default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let hops = hops(query).ok_or_else(|| {
        let why = format!("hops must be an integer from 0 to {HOPS_MAX}: ?{query}\n");
        (400, why)
    })?;
    let body = request.consume().ok();
    let bytes = body.and_then(|body| read(&body));
    let payload = Payload {
        content_type: content_type(&request.headers()),
        bytes: bytes.ok_or_else(|| (400, String::from("the body breaks off\n")))?,
    };
    match hops.checked_sub(1) {
        None => Ok((200, payload)),
        Some(left) => forward(left, &payload).map_err(|why| (502, why)),
    }
}

/// How many calls are to follow; none when nothing is said.
fn hops(query: &str) -> Option<u32> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("hops="));
    let hops = value.map_or(Some(0), |value| value.parse().ok())?;
    (hops <= HOPS_MAX).then_some(hops)
}

/// Sends the payload to the next function and gives its reply.
fn forward(hops: u32, payload: &Payload) -> Result<(u16, Payload), String> {
    let environment = get_environment();
    let next = environment.iter().find(|(name, _)| name == NEXT);
    let (_, next) = next.ok_or_else(|| format!("no variable {NEXT} names the next function\n"))?;
    let failed = |code: ErrorCode| format!("cannot call {next}: {code:?}\n");
    let response = send(next, hops, payload)?.map_err(failed)?;
    let body = response.consume().ok();
    let bytes = body.and_then(|body| read(&body));
    let payload = Payload {
        content_type: content_type(&response.headers()),
        bytes: bytes.ok_or_else(|| format!("the reply of {next} breaks off\n"))?,
    };
    Ok((response.status(), payload))
}

/// Makes one POST request and waits for the head of its response.
fn send(
    next: &str,
    hops: u32,
    payload: &Payload,
) -> Result<Result<IncomingResponse, ErrorCode>, String> {
    let invalid = |()| format!("{NEXT} is not of the form http://host:port/path: {next}\n");
    let (authority, path) = split(next).ok_or(()).map_err(invalid)?;
    let target = format!("{path}?hops={hops}");
    let request = OutgoingRequest::new(headers(payload));
    request
        .set_method(&Method::Post)
        .and_then(|()| request.set_scheme(Some(&Scheme::Http)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(&target)))
        .map_err(invalid)?;
    let lost = || format!("the connection to {next} was lost\n");
    let body = request.body().map_err(|()| lost())?;
    let response = match outgoing_handler::handle(request, None) {
        Ok(response) => response,
        Err(code) => return Ok(Err(code)),
    };
    // A peer that refuses may do so before it has read everything: its response says why.
    let _ = write(body, &payload.bytes);
    response.subscribe().block();
    match response.get() {
        Some(Ok(result)) => Ok(result),
        _ => Err(lost()),
    }
}

/// `http://host:port/path` as host and port, and path.
fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    rest.find('/').map(|slash| rest.split_at(slash))
}

fn content_type(headers: &Fields) -> Option<Vec<u8>> {
    headers.get("content-type").into_iter().next()
}

/// The headers that a payload goes out with: its type, and its length, so that it is sent in one piece.
fn headers(payload: &Payload) -> Fields {
    let headers = Fields::new();
    let length = format!("{}", payload.bytes.len());
    // Both are values that arrived as headers or digits, which is all that can be wrong with them.
    let _ = headers.append("content-length", length.as_bytes());
    if let Some(content_type) = &payload.content_type {
        let _ = headers.append("content-type", content_type);
    }
    headers
}

fn text(why: &str) -> Payload {
    Payload {
        content_type: Some(b"text/plain; charset=utf-8".to_vec()),
        bytes: why.as_bytes().to_vec(),
    }
}

/// Everything up to the end of a body; nothing when it breaks off.
fn read(body: &IncomingBody) -> Option<Vec<u8>> {
    let stream = body.stream().ok()?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(PIECE_BYTES) {
            // The first piece is most often all there is.
            Ok(piece) if bytes.is_empty() => bytes = piece,
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => return Some(bytes),
            Err(StreamError::LastOperationFailed(_)) => return None,
        }
    }
}

/// Answers. When the caller is gone there is nobody to tell.
fn reply(out: ResponseOutparam, status: u16, payload: &Payload) {
    let response = OutgoingResponse::new(headers(payload));
    let body = response.set_status_code(status).and(response.body());
    ResponseOutparam::set(out, Ok(response));
    if let Ok(body) = body {
        let _ = write(body, &payload.bytes);
    }
}

/// Writes a whole body. One that breaks off is not finished, so that nobody takes a part for the whole.
fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), StreamError> {
    if let Ok(stream) = body.write() {
        pour(&stream, bytes)?;
    }
    let _ = OutgoingBody::finish(body, None);
    Ok(())
}

/// Writes no more at once than the other side takes.
fn pour(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = stream.check_write()?;
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let (piece, rest) = bytes.split_at(room.min(bytes.len()));
        stream.write(piece)?;
        bytes = rest;
    }
    stream.blocking_flush()
}
