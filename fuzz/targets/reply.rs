//! Replies of memcached: never a panic, and never more bytes taken than there are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::reply::decode;

fuzz_target!(|bytes: &[u8]| {
    let mut buf = bytes::BytesMut::from(bytes);
    while let Ok(Some(_)) = decode(&mut buf) {
        assert!(buf.len() < bytes.len());
    }
});
