//! Says what shape a picture shows: a convolutional network of 31 million multiplications.
//!
//! The body is a binary PGM in base64, square, with a side of 64 or a multiple of that. The weights are
//! those of `experiments/classifier/train.py`, as integers, and all of the network is computed in
//! integers: `classify-python` gives the same reply byte for byte.
//! Bounded: by the largest picture, and by the network, whose layers are constants.
#![no_std]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use lean as _;
use mote::function::response;

mod network;
mod picture;

wit_bindgen::generate!({ path: "../../../sdk/wit", world: "function", generate_all });

struct Classify;

impl Guest for Classify {
    fn handle(body: Vec<u8>) -> Result<Vec<u8>, String> {
        match picture::read(&body) {
            Ok(picture) => {
                response::set_header("content-type", "application/json");
                Ok(answer(picture).into())
            }
            Err(why) => {
                response::set_status(400);
                Ok(format!("the body must be a picture as binary PGM in base64: {why}\n").into())
            }
        }
    }
}

fn answer(picture: Vec<u8>) -> String {
    let found = network::classify(picture);
    format!(
        "{{\"label\":\"{}\",\"score\":{}.{:04}}}\n",
        found.label,
        found.score / 10_000,
        found.score % 10_000
    )
}

export!(Classify);
