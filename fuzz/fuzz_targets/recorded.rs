//! Recorded requests: nothing panics, and what was read is read again as it is written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mote_api::recorded::{self, Exchange};

fuzz_target!(|text: &str| {
    let Ok(read) = recorded::parse(text) else {
        return;
    };
    let bodies = read
        .iter()
        .flat_map(|one| [Some(&one.body), one.expected.body.as_ref()]);
    if !bodies.flatten().all(|body| recorded::can_be_written(body)) {
        return;
    }
    let written: String = read.iter().map(Exchange::to_string).collect();
    let mut again = recorded::parse(&written).expect("what was written is read");
    assert_eq!(again.len(), read.len());
    for (again, read) in again.iter_mut().zip(&read) {
        again.line = read.line;
    }
    assert_eq!(again, read);
});
