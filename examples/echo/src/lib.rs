//! Answers with what it was sent: the same bytes under the same content type.
#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use lean as _;
use mote::function::{request, response};

wit_bindgen::generate!({ path: "../../sdk/wit", world: "function", generate_all });

struct Echo;

impl Guest for Echo {
    fn handle(body: Vec<u8>) -> Result<Vec<u8>, String> {
        if let Some(content_type) = request::header("content-type") {
            response::set_header("content-type", &content_type);
        }
        Ok(body)
    }
}

export!(Echo);
