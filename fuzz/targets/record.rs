//! Records of the stream: never a panic, and what is decoded is encoded so that it decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schemas::record::{FORMAT_VERSION, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = decode(FORMAT_VERSION, bytes) {
        let mut again = Vec::new();
        encode(&record, &mut again);
        assert_eq!(decode(FORMAT_VERSION, &again), Ok(record));
    }
});
