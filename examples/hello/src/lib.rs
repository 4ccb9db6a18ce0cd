//! The smallest function there is: it ignores the request and says hello.
//!
//! It asks the platform for nothing, so it imports nothing; that makes it the yardstick for what a
//! call costs apart from the function's own work.
#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use lean as _;

wit_bindgen::generate!({ path: "../../sdk/wit", world: "function", generate_all });

struct Hello;

impl Guest for Hello {
    fn handle(_body: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(b"hello, world\n".to_vec())
    }
}

export!(Hello);
