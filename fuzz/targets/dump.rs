//! The packets of a dump: never a panic, and the same pieces however the bytes are cut. A binlog file is taken for the events
//! of one, in packets; anything else for the packets themselves.
#![no_main]

use binlog::{
    dump::{Cutter, OK, PACKET_FULL, Piece, Uncut},
    frame::{HEADER_BYTES, Header, MAGIC},
};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, bytes)) = bytes.split_last() else { return };
    let stream = packets(bytes).unwrap_or_else(|| bytes.to_vec());
    let whole = pieces(&stream, stream.len());
    assert_eq!(pieces(&stream, usize::from(size) + 1), whole);
});

/// What comes of it when `size` bytes arrive at a time; parts of one event together.
fn pieces(stream: &[u8], size: usize) -> (Vec<Piece>, Option<Uncut>) {
    let (mut cutter, mut buffer, mut out) = (Cutter::default(), BytesMut::new(), Vec::new());
    for part in stream.chunks(size.max(1)) {
        buffer.extend_from_slice(part);
        loop {
            match cutter.next(&mut buffer) {
                Ok(None) => break,
                Ok(Some(Piece::Bytes(bytes))) => match out.last_mut() {
                    Some(Piece::Bytes(before)) => *before = [&before[..], &bytes].concat().into(),
                    _ => out.push(Piece::Bytes(bytes)),
                },
                Ok(Some(piece)) => out.push(piece),
                Err(uncut) => return (out, Some(uncut)),
            }
        }
    }
    (out, None)
}

/// A file's events, each in packets of its own.
fn packets(file: &[u8]) -> Option<Vec<u8>> {
    let mut rest = file.strip_prefix(&MAGIC)?;
    let mut out = Vec::new();
    while let Ok(header) = Header::parse(rest) {
        let length = usize::try_from(header.event_bytes).ok()?.clamp(HEADER_BYTES, rest.len());
        let (event, behind) = rest.split_at(length);
        rest = behind;
        let payload = [&[OK], event].concat();
        for (number, part) in payload.chunks(PACKET_FULL).enumerate() {
            out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes()[..3]);
            out.push(u8::try_from(number & 0xff).ok()?);
            out.extend_from_slice(part);
        }
    }
    Some(out)
}
