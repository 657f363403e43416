//! Answers of nodes to a client: never a panic, and never more bytes taken than there are.
#![no_main]

use client::wire::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut buf = bytes::BytesMut::from(bytes);
    let mut left = buf.len();
    while let Ok(Some(_)) = decode(&mut buf) {
        assert!(buf.len() < left);
        left = buf.len();
    }
});
