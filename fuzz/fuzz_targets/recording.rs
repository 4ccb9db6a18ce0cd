//! Recorded requests: nothing panics, and what was read is written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mote_api::recording::{self, Content};

fuzz_target!(|text: &str| {
    let Ok(read) = recording::parse(text) else {
        return;
    };
    for mut exchange in read {
        let texts = [&exchange.body, &exchange.expected_body];
        let writable = |content: &Option<Content>| match content {
            Some(Content::Text(text)) => Content::is_writable(text),
            // A name as it may stand in a file.
            Some(Content::File(name)) => !name.is_empty(),
            None => true,
        };
        if !texts.into_iter().all(writable) {
            continue;
        }
        let again = recording::parse(&exchange.to_string()).expect("what is written is readable");
        exchange.line = 2;
        assert_eq!(again, [exchange]);
    }
});
