//! `__http_request`: an outgoing request of a FunLess module.
//!
//! The module gives an address for the response and none for how much room is there. Its libraries
//! make room for 1024 bytes (Go) or for none at all (Rust, an address of 1), and the original host
//! writes whatever came, over what lies behind. Here at most 1024 bytes are written. At an address
//! below 1024, where compilers put nothing of a program's own, it is what fits below 1024, so that
//! the modules whose libraries make no room get the short responses they live on. A longer response
//! is a failure and is logged.
//!
//! A failure is status 0 and an empty response, as there; what went wrong is in the log.

use std::pin::{Pin, pin};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use mote_core::log::Level;
use wasmtime::{Caller, Linker};
use wasmtime_wasi_http::{WasiBody, WasiHttpHooks};

use super::{IMPORTS, checked, memory, read, write};
use crate::wasm::outbound::Outbound;
use crate::wasm::store::CallState;

/// Most bytes of a response: the room that the libraries make, where they make some.
const RESPONSE_BYTES_MAX: u32 = 1024;
/// Below this address compilers put nothing that a program uses.
const UNUSED_BELOW: u32 = 1024;
/// Most bytes of an address and of headers; they are copied out of the guest.
const HEAD_BYTES_MAX: u32 = 32 << 10;
/// Where the methods that the libraries know stand in their enumeration.
const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::PUT, Method::DELETE];

/// The arguments, in their order: where response, its length and the status go; the method; address
/// and length of the URI, the headers and the body.
type Arguments = (u32, u32, u32, i32, u32, u32, u32, u32, u32, u32);

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(IMPORTS, "__http_request", |caller, arguments: Arguments| {
        Box::new(http_request(caller, arguments))
    })?;
    Ok(())
}

async fn http_request(
    mut caller: Caller<'_, CallState>,
    arguments: Arguments,
) -> wasmtime::Result<()> {
    let (response, response_length, status, ..) = arguments;
    let left = memory(&mut caller)?.data_size(&caller) as u64;
    let left = left.saturating_sub(response.into());
    let room = room(response).min(u32::try_from(left).unwrap_or(u32::MAX));
    // Before the request is made: an address that is wrong ends the call, with nothing done.
    checked(&mut caller, response_length, 4)?;
    checked(&mut caller, status, 2)?;
    checked(&mut caller, response, room)?;
    let request = request(&mut caller, arguments)?;
    let answer = match request {
        Ok(request) => send(&mut caller, request, room).await,
        Err(error) => Err(error),
    };
    let (code, body) = answer.unwrap_or_else(|error| {
        let line = format!("the outgoing request failed: {error}");
        caller.data().call.log().line(Level::Error, &line);
        (0, Bytes::new())
    });
    write(&mut caller, status, &code.to_le_bytes())?;
    let length = u32::try_from(body.len())?;
    write(&mut caller, response_length, &length.to_le_bytes())?;
    write(&mut caller, response, &body)
}

/// How much may be written at an address.
fn room(response: u32) -> u32 {
    match UNUSED_BELOW.checked_sub(response) {
        Some(below @ 1..) => below,
        _ => RESPONSE_BYTES_MAX,
    }
}

/// The request; the outer error ends the call, the inner one is the request's failure.
fn request(
    caller: &mut Caller<'_, CallState>,
    arguments: Arguments,
) -> wasmtime::Result<Result<Request<WasiBody>, String>> {
    let (.., method, uri, uri_length, headers, headers_length, body, body_length) = arguments;
    let limit = caller.data().spec.limits.body_bytes;
    checked(caller, uri, uri_length)?;
    checked(caller, headers, headers_length)?;
    checked(caller, body, body_length)?;
    if uri_length > HEAD_BYTES_MAX || headers_length > HEAD_BYTES_MAX {
        return Ok(Err(format!(
            "its head has more than {HEAD_BYTES_MAX} bytes"
        )));
    }
    if u64::from(body_length) > limit {
        return Ok(Err(format!("its body has more than {limit} bytes")));
    }
    let uri = read(caller, uri, uri_length)?;
    let headers = read(caller, headers, headers_length)?;
    let body = read(caller, body, body_length)?;
    Ok(build(method, &uri, &headers, body.into()))
}

fn build(
    method: i32,
    uri: &[u8],
    headers: &[u8],
    body: Bytes,
) -> Result<Request<WasiBody>, String> {
    let method = usize::try_from(method)
        .ok()
        .and_then(|place| METHODS.get(place))
        .ok_or_else(|| format!("method {method} is not one of 0 to 3"))?;
    let uri = Uri::try_from(uri).map_err(|error| format!("its address is not valid: {error}"))?;
    let authority = uri.authority().ok_or("its address names no host")?;
    let host = HeaderValue::try_from(authority.as_str()).map_err(|error| error.to_string())?;
    let body = Full::new(body).map_err(|never| match never {});
    let mut request = Request::new(body.boxed_unsync());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    for line in headers.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        // A value may have colons of its own.
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.ok_or("a header has no colon")?);
        let name = HeaderName::from_bytes(name.trim_ascii());
        let value = HeaderValue::from_bytes(value[1..].trim_ascii());
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err("a header is not valid".to_owned());
        };
        request.headers_mut().append(name, value);
    }
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

/// Sends it where the function may, and reads a response of at most so many bytes.
async fn send(
    caller: &mut Caller<'_, CallState>,
    request: Request<WasiBody>,
    room: u32,
) -> Result<(u16, Bytes), String> {
    let state = caller.data();
    let mut outbound = Outbound::new(&state.spec, state.call.log());
    let nothing = Box::new(std::future::ready(Ok(())));
    let answer = Pin::from(outbound.send_request(request, None, nothing)).await;
    let (response, connection) = answer.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let mut body = pin!(response.into_body());
    let mut connection = Some(Pin::from(connection));
    let mut bytes = Vec::new();
    loop {
        let frame = std::future::poll_fn(|cx| {
            // The connection has to be driven for the body to come.
            if let Some(driven) = &mut connection
                && driven.as_mut().poll(cx).is_ready()
            {
                connection = None;
            }
            body.as_mut().poll_frame(cx)
        });
        let Some(frame) = frame.await else {
            return Ok((status, bytes.into()));
        };
        let frame = frame.map_err(|error| format!("the response broke off: {error}"))?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        if bytes.len() + data.len() > room as usize {
            return Err(format!(
                "the response is longer than the {room} bytes that the module has room for"
            ));
        }
        bytes.extend_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_the_libraries_make() {
        assert_eq!(room(1), 1023);
        assert_eq!(room(1023), 1);
        assert_eq!(room(1024), 1024);
        assert_eq!(room(0), 1024);
        assert_eq!(room(u32::MAX), 1024);
    }

    #[test]
    fn a_request_is_what_the_module_said() {
        let built = |method, uri: &str, headers: &str| {
            build(method, uri.as_bytes(), headers.as_bytes(), Bytes::new())
        };
        let headers = "a:1\nlink: http://b:80/\n\nHost:other";
        let request = built(3, "http://example.org:8080/x?y", headers).unwrap();
        assert_eq!(
            (request.method(), request.uri().path()),
            (&Method::DELETE, "/x")
        );
        assert_eq!(request.headers()["link"], "http://b:80/");
        assert_eq!(request.headers()["host"], "example.org:8080");
        for (method, uri, headers) in [
            (4, "http://a/", ""),
            (-1, "http://a/", ""),
            (0, "/path", ""),
            (0, "http://a b/", ""),
            (0, "http://a/", "no colon"),
            (0, "http://a/", "na me:x"),
        ] {
            assert!(
                built(method, uri, headers).is_err(),
                "{method} {uri} {headers}"
            );
        }
    }
}
