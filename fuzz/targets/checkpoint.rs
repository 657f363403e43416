//! Checkpoints: never a panic, and what is decoded is encoded so that it decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schemas::record::{FORMAT_VERSION, decode_checkpoint, encode_checkpoint};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(checkpoint) = decode_checkpoint(FORMAT_VERSION, bytes) {
        let mut again = Vec::new();
        encode_checkpoint(&checkpoint, &mut again);
        assert_eq!(decode_checkpoint(FORMAT_VERSION, &again), Ok(checkpoint));
    }
});
