//! A `wasi:http/incoming-handler` component that uses what the node offers beside: it calls the
//! sibling that the path names with `/hello`, counts its calls in key-value data, and says the
//! setting `ROOM`.
#![no_std]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use lean as _;
use mote::function::call;
use wasi::config::store as config;
use wasi::keyvalue::{atomics, store};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

wit_bindgen::generate!({
    inline: "
        package tests:composer;
        world beside {
            import mote:function/call@0.1.1;
            import wasi:config/store@0.2.0-rc.1;
            import wasi:keyvalue/store@0.2.0-draft2;
            import wasi:keyvalue/atomics@0.2.0-draft2;
        }
    ",
    path: "../../../sdk/wit",
    generate_all,
});

struct Composer;

wasip2::http::proxy::export!(Composer);

impl Guest for Composer {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let sibling = target.trim_start_matches('/');
        let text = format!("{}; {}; {}\n", called(sibling), counted(), room());
        say(out, text.as_bytes());
    }
}

fn called(sibling: &str) -> String {
    let reply = call::invoke(&call::Request {
        function: sibling.into(),
        method: "GET".into(),
        target: "/hello".into(),
        headers: Vec::new(),
        body: Vec::new(),
    });
    match reply {
        Ok(reply) => String::from_utf8(reply.body).unwrap_or_default(),
        Err(error) => format!("{:?}", error.kind),
    }
}

fn counted() -> String {
    let sum = store::open("default").and_then(|bucket| atomics::increment(&bucket, "calls", 1));
    sum.map_or_else(|_| "no data".into(), |sum| sum.to_string())
}

fn room() -> String {
    let room = config::get("ROOM").ok().flatten();
    room.unwrap_or_else(|| "no room".into())
}

fn say(out: ResponseOutparam, text: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        // When the caller is gone there is nobody to tell.
        let _ = stream.blocking_write_and_flush(text);
    }
    let _ = OutgoingBody::finish(body, None);
}
