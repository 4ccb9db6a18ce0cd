//! The Fibonacci number whose index is the request's body, by the recursion that defines it.
//!
//! The cost grows as the number itself, so one integer in the request says how much work a call is.
//! Bounded: an index above [`INDEX_MAX`] is refused, for each further one costs 1.6 times as much.
#![no_std]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use lean as _;
use mote::function::response;

wit_bindgen::generate!({ path: "../../../sdk/wit", world: "function", generate_all });

/// 331 million calls of the recursion.
const INDEX_MAX: u64 = 40;

struct Fib;

impl Guest for Fib {
    fn handle(body: Vec<u8>) -> Result<Vec<u8>, String> {
        let Some(index) = parse(&body) else {
            response::set_status(400);
            return Ok(format!("the body must be an integer from 0 to {INDEX_MAX}\n").into());
        };
        Ok(format!("{}\n", fib(index)).into())
    }
}

fn parse(body: &[u8]) -> Option<u64> {
    let index = core::str::from_utf8(body).ok()?.trim().parse().ok()?;
    (index <= INDEX_MAX).then_some(index)
}

/// Recursive on purpose: it is the load. The box keeps the compiler from making a loop of one half.
fn fib(index: u64) -> u64 {
    if index < 2 {
        return index;
    }
    fib(index - 1) + fib(black_box(index - 2))
}

export!(Fib);
