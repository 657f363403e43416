//! The relay's frames, both sides: never a panic, and what was understood is said in the same way again.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use protocol::relay::{
    FRAME_BYTES_MAX, HELLO_BYTES_MAX, next_of_reader, next_of_relay, put_of_reader, put_of_relay,
};

fuzz_target!(|bytes: &[u8]| {
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(message)) = next_of_relay(&mut input) {
        let mut said = BytesMut::new();
        put_of_relay(&message, &mut said);
        assert!(said.len() <= FRAME_BYTES_MAX);
        assert!(matches!(next_of_relay(&mut said), Ok(Some(_))));
    }
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(message)) = next_of_reader(&mut input, HELLO_BYTES_MAX) {
        let mut said = BytesMut::new();
        put_of_reader(&message, &mut said);
        assert_eq!(next_of_reader(&mut said, HELLO_BYTES_MAX), Ok(Some(message)));
    }
});
