//! A lamp: `on` and `off` switch it, and everyone who observes it sees the change.
//!
//! Each call runs in a fresh memory, so the lamp remembers nothing: the platform keeps the state
//! that a call publishes, and a GET gets that. Only a GET that comes before anything was published
//! runs this code, and the lamp is off then.
#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use lean as _;
use mote::function::{request, response};

wit_bindgen::generate!({ path: "../../sdk/wit", world: "function", generate_all });

const ON: &str = "{\"light\":\"on\"}";
const OFF: &str = "{\"light\":\"off\"}";

struct Light;

impl Guest for Light {
    fn handle(body: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(answer(&request::method(), &body).into())
    }
}

fn answer(method: &str, body: &[u8]) -> &'static str {
    match (method, body.trim_ascii()) {
        ("GET" | "HEAD", _) => state(OFF),
        ("POST" | "PUT", b"on") => switch(ON),
        ("POST" | "PUT", b"off") => switch(OFF),
        ("POST" | "PUT", _) => refuse(400, "the body must be `on` or `off`\n"),
        _ => {
            response::set_header("allow", "GET, HEAD, POST, PUT");
            refuse(
                405,
                "GET asks for the light, POST or PUT with `on` or `off` switches it\n",
            )
        }
    }
}

/// Replies with a state and makes it what observers see.
fn switch(new: &'static str) -> &'static str {
    response::publish();
    state(new)
}

fn state(json: &'static str) -> &'static str {
    response::set_header("content-type", "application/json");
    json
}

fn refuse(status: u16, why: &'static str) -> &'static str {
    response::set_status(status);
    why
}

export!(Light);
