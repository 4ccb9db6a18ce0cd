//! Names of functions and digests of artifacts: what parses prints, and what it prints parses to the same.
//! And names as functions say them to each other: none leads out of the caller's app.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mote_core::digest::Digest;
use mote_core::name::FunctionName;

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<FunctionName>() {
        for spelling in [name.full(), name.short()] {
            let again: FunctionName = spelling.parse().expect("a name prints as a valid one");
            assert_eq!(again, name);
        }
    }
    let caller: FunctionName = "caller.home".parse().expect("both are labels");
    if let Ok(sibling) = caller.sibling(text) {
        assert_eq!(sibling.app(), "home");
        assert!(text == sibling.function() || text == sibling.full());
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
});
