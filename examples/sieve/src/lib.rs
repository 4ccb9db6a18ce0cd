//! The primes up to 1000 by the sieve of Eratosthenes, on one line.
//!
//! A small, fixed amount of real work: the load that papers about FaaS on small machines measure.
#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use lean as _;

wit_bindgen::generate!({ path: "../../sdk/wit", world: "function", generate_all });

/// The largest number looked at.
const LIMIT: usize = 1000;
/// 168 primes of at most three digits, each with the space or the line end behind it.
const LINE_BYTES_MAX: usize = 168 * 4;

struct Sieve;

impl Guest for Sieve {
    fn handle(_body: Vec<u8>) -> Result<Vec<u8>, String> {
        let mut line = Vec::with_capacity(LINE_BYTES_MAX);
        let mut composite = [false; LIMIT + 1];
        for number in 2..=LIMIT {
            if composite[number] {
                continue;
            }
            push_decimal(&mut line, number);
            line.push(b' ');
            // Smaller multiples were struck out by their smaller factor.
            for multiple in (number * number..=LIMIT).step_by(number) {
                composite[multiple] = true;
            }
        }
        if let Some(last) = line.last_mut() {
            *last = b'\n';
        }
        Ok(line)
    }
}

/// Appends `number`, which is not above 999, in decimal.
fn push_decimal(line: &mut Vec<u8>, number: usize) {
    let digits = [number / 100, number / 10 % 10, number % 10];
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    line.extend(digits[zeros..].iter().map(|digit| b'0' + *digit as u8));
}

export!(Sieve);
