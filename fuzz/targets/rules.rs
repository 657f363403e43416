//! Rules files: never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schemas::rules::Rules;

fuzz_target!(|text: &str| {
    if let Ok(rules) = Rules::parse("fuzz", text) {
        assert_eq!(
            Rules::parse("fuzz", text).map(|again| again.digest()).ok(),
            Some(rules.digest())
        );
    }
});
