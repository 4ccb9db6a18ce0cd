//! Manifests, sizes and durations: nothing panics, and what was read survives the way over the wire.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mote_api::manifest::{self, Source};
use mote_api::spec::FunctionSpec;
use mote_api::units::{Period, Size};

fuzz_target!(|text: &str| {
    if let Ok(size) = text.parse::<Size>() {
        assert_eq!(size.to_string().parse::<Size>().expect("a printed size is one"), size);
    }
    if let Ok(period) = text.parse::<Period>() {
        // Durations beyond what any limit allows may print in more digits than are read.
        if period.0.as_secs() < 1 << 32 {
            let printed = period.to_string();
            assert_eq!(printed.parse::<Period>().expect("a printed duration is one"), period);
        }
    }
    let Ok(read) = manifest::parse(text) else {
        return;
    };
    for function in read.functions {
        if let Source::Path(path) = &function.source {
            assert!(!path.is_absolute());
        }
        let wire = FunctionSpec::from(&function.spec);
        let again = wire.into_core(function.spec.name.clone()).expect("a checked spec stays valid");
        assert_eq!(again, function.spec);
    }
});
