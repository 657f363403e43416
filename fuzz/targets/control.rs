//! The control port, both sides: never a panic, and what was understood is said in the same way again.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use protocol::control::wire::{Decoder, decode_answer, encode, encode_answer};

fuzz_target!(|bytes: &[u8]| {
    let (mut decoder, mut input) = (Decoder::default(), BytesMut::from(bytes));
    while let Ok(Some(message)) = decoder.next(&mut input) {
        let mut said = BytesMut::new();
        encode(&message, &mut said);
        assert_eq!(Decoder::default().next(&mut said), Ok(Some(message)));
    }
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(message)) = decode_answer(&mut input) {
        let mut said = BytesMut::new();
        encode_answer(&message, &mut said);
        assert!(decode_answer(&mut said).is_ok());
    }
});
