//! Region files: never a panic, and a refusal says something.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schemas::config::Region;

fuzz_target!(|text: &str| {
    if let Err(err) = Region::parse("fuzz", text) {
        assert!(err.to_string().starts_with("fuzz:"));
    }
});
