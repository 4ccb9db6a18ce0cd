//! A `wasi:http/incoming-handler` component: proof that one built for any host runs unmodified.
//!
//! The last segment of the path says what it does, so it works wherever it is mounted:
//! `POST …/echo` streams the request's body back in pieces, `GET …/fetch?url=…` makes a request of
//! its own and relays status, content type and body, and anything else is greeted.
//! Bounded: it holds one piece of a body at a time.
#![no_std]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use lean as _;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

mod url;

/// The most that is read from a body at once.
const PIECE_BYTES: u64 = 16 * 1024;

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match (request.method(), path.rsplit('/').next()) {
            (Method::Post, Some("echo")) => echo(&request, out),
            (Method::Get, Some("fetch")) => fetch(query, out),
            _ => say(out, 200, "hello, world\n"),
        }
    }
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let content_type = request.headers().get("content-type").into_iter().next();
    match request.consume() {
        Ok(body) => relay(out, 200, content_type, &body),
        Err(()) => say(out, 500, "the body was taken already\n"),
    }
}

fn fetch(query: &str, out: ResponseOutparam) {
    let Some(url) = query.split('&').find_map(|pair| pair.strip_prefix("url=")) else {
        return say(out, 400, "say what to fetch: ?url=http://host/path\n");
    };
    let response = match send(&url::decode(url)) {
        Ok(response) => response,
        Err(why) => return say(out, 502, &why),
    };
    let content_type = response.headers().get("content-type").into_iter().next();
    match response.consume() {
        Ok(body) => relay(out, response.status(), content_type, &body),
        Err(()) => say(out, 500, "the body was taken already\n"),
    }
}

/// Makes a GET request and waits for the head of its response.
fn send(url: &str) -> Result<IncomingResponse, String> {
    let parts = url::split(url).ok_or_else(|| format!("not a URL: {url}\n"))?;
    let scheme = if parts.secure {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let request = OutgoingRequest::new(Fields::new());
    request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(parts.authority)))
        .and_then(|()| request.set_path_with_query(Some(parts.path)))
        .map_err(|()| format!("not a URL: {url}\n"))?;
    let failed = |code: ErrorCode| format!("cannot fetch {url}: {code:?}\n");
    let response = outgoing_handler::handle(request, None).map_err(failed)?;
    response.subscribe().block();
    match response.get() {
        Some(Ok(result)) => result.map_err(failed),
        _ => Err(format!("cannot fetch {url}: no response\n")),
    }
}

/// Replies with a short text.
fn say(out: ResponseOutparam, status: u16, text: &str) {
    if let Some(body) = open(out, status, Some(b"text/plain; charset=utf-8".to_vec())) {
        let written = body.write().is_ok_and(|stream| {
            text.as_bytes()
                .chunks(4096)
                .all(|chunk| stream.blocking_write_and_flush(chunk).is_ok())
        });
        if written {
            let _ = OutgoingBody::finish(body, None);
        }
    }
}

/// Replies with the bytes of `source` as they arrive. When one of the two sides breaks off, the
/// reply is not finished, so that nobody takes a part for the whole.
fn relay(out: ResponseOutparam, status: u16, content_type: Option<Vec<u8>>, source: &IncomingBody) {
    if let Some(body) = open(out, status, content_type) {
        let poured = match (source.stream(), body.write()) {
            (Ok(from), Ok(to)) => pour(&from, &to).is_ok(),
            _ => false,
        };
        if poured {
            let _ = OutgoingBody::finish(body, None);
        }
    }
}

/// Starts a reply: the head is on its way when this returns.
fn open(out: ResponseOutparam, status: u16, content_type: Option<Vec<u8>>) -> Option<OutgoingBody> {
    let headers = Fields::new();
    if let Some(content_type) = content_type {
        headers.append("content-type", &content_type).ok()?;
    }
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).ok()?;
    let body = response.body().ok()?;
    ResponseOutparam::set(out, Ok(response));
    Some(body)
}

/// Reads no more than the other side takes.
fn pour(from: &InputStream, to: &OutputStream) -> Result<(), StreamError> {
    loop {
        let room = to.check_write()?;
        if room == 0 {
            to.subscribe().block();
            continue;
        }
        match from.blocking_read(room.min(PIECE_BYTES)) {
            Ok(piece) => to.write(&piece)?,
            Err(StreamError::Closed) => return to.blocking_flush(),
            Err(failed) => return Err(failed),
        }
    }
}
