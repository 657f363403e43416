//! Inflating: MariaDB's zlib sections, MySQL's zstd payloads. What comes out is bounded.

use std::io::Read;

use zstd::stream::raw::{Decoder, Operation};

use crate::{
    event,
    frame::{Event, HEADER_BYTES, Header},
    read::Bytes,
};

/// Longest inflated section or event, in bytes: the servers' own limit for an event.
const INFLATED_BYTES_MAX: u64 = 1 << 30;

/// MariaDB: `byte 0 & 7` bytes hold the inflated length, big-endian; then a zlib stream.
pub(crate) fn mariadb(section: &[u8]) -> Option<Vec<u8>> {
    let mut section = Bytes(section);
    let head = section.u8()?;
    let length = section
        .take(usize::from(head & 7))?
        .iter()
        .fold(0, |value, &byte| (value << 8) | u64::from(byte));
    if head & 0xf0 != 0x80 || length > INFLATED_BYTES_MAX {
        return None;
    }
    let mut out = Vec::new();
    flate2::read::ZlibDecoder::new(section.rest())
        .take(length.saturating_add(1))
        .read_to_end(&mut out)
        .ok()?;
    (u64::try_from(out.len()).ok()? == length).then_some(out)
}

/// How a payload is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Zstd,
    None,
}

/// Inflated bytes that are made at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Longest description before the events of a payload; servers write a few dozen bytes.
const HEAD_BYTES_MAX: usize = 4096;
/// Memory that is kept from one payload to the next.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Unpacks a payload as its bytes come. Memory: the longest event in it, and what zstd needs (2 MiB at the server's
/// default level, up to 128 MiB at the highest).
///
/// Invariant: `inflated` holds no whole event between two calls.
#[derive(Default)]
pub(crate) struct Unpacker {
    head: Vec<u8>,
    compression: Option<Compression>,
    /// Kept over payloads, since making one takes longer than a small transaction.
    decoder: Option<Decoder<'static>>,
    /// The last frame is complete.
    ended: bool,
    inflated: Vec<u8>,
}

impl Unpacker {
    /// Begins with another payload.
    pub(crate) fn begin(&mut self) {
        self.head.clear();
        self.compression = None;
        self.ended = false;
        self.inflated.clear();
        self.inflated.shrink_to(KEPT_BYTES_MAX);
        // What cannot start anew is made anew.
        self.decoder.take_if(|decoder| decoder.reinit().is_err());
    }

    /// Takes the next bytes, and hands out each event that is whole. `None`: the bytes make no sense.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(Event<'_>) -> Option<()>,
    ) -> Option<()> {
        let mut input = bytes;
        if self.compression.is_none() {
            let seen = self.head.len();
            let room = HEAD_BYTES_MAX.saturating_sub(seen).min(input.len());
            self.head.extend_from_slice(input.get(..room)?);
            let Some((compression, rest)) = event::payload(&self.head) else {
                return (self.head.len() < HEAD_BYTES_MAX).then_some(());
            };
            let head = self.head.len().checked_sub(rest.len())?;
            input = input.get(head.checked_sub(seen)?..)?;
            self.compression = Some(compression);
        }
        loop {
            let made = self.inflate(&mut input)?;
            self.hand_out(each)?;
            if made < PIECE_BYTES && input.is_empty() {
                return Some(());
            }
        }
    }

    /// Whether the payload may end here.
    pub(crate) fn is_whole(&self) -> bool {
        self.ended && self.inflated.is_empty()
    }

    /// Inflates a piece of `input`, which becomes shorter; returns how much came out.
    fn inflate(&mut self, input: &mut &[u8]) -> Option<usize> {
        let have = self.inflated.len();
        if self.compression == Some(Compression::None) {
            let (piece, rest) = input.split_at(input.len().min(PIECE_BYTES));
            self.inflated.extend_from_slice(piece);
            (*input, self.ended) = (rest, true);
            return Some(piece.len());
        }
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new().ok()?),
        };
        self.inflated.resize(have.checked_add(PIECE_BYTES)?, 0);
        let status = decoder.run_on_buffers(input, self.inflated.get_mut(have..)?).ok()?;
        self.inflated.truncate(have.checked_add(status.bytes_written)?);
        if status.bytes_read == 0 && status.bytes_written == 0 && !input.is_empty() {
            return None;
        }
        if status.bytes_read > 0 || status.bytes_written > 0 {
            self.ended = status.remaining == 0;
        }
        *input = input.get(status.bytes_read..)?;
        Some(status.bytes_written)
    }

    fn hand_out(&mut self, each: &mut dyn FnMut(Event<'_>) -> Option<()>) -> Option<()> {
        let mut rest = &self.inflated[..];
        while rest.len() >= HEADER_BYTES {
            let header = Header::parse(rest).ok()?;
            if u64::from(header.event_bytes) > INFLATED_BYTES_MAX {
                return None;
            }
            let length = usize::try_from(header.event_bytes).ok()?;
            let Some((event, after)) = rest.split_at_checked(length) else { break };
            each(Event { header, body: event.get(HEADER_BYTES..)? })?;
            rest = after;
        }
        let done = self.inflated.len().checked_sub(rest.len())?;
        self.inflated.drain(..done);
        Some(())
    }
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("compression", &self.compression).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: u8 = 2;

    fn event(body: &[u8]) -> Vec<u8> {
        let header = Header {
            timestamp_s: 1,
            kind: QUERY,
            server_id: 1,
            event_bytes: u32::try_from(HEADER_BYTES.saturating_add(body.len())).unwrap(),
            end_position: 0,
            flags: 0,
        };
        [&header.to_bytes()[..], body].concat()
    }

    /// A payload's body: fields 2 (how it is packed) and 0, then the events.
    fn payload(compression: u8, events: &[u8]) -> Vec<u8> {
        let how: &[u8] = if compression == 255 { &[2, 3, 252, 255, 0] } else { &[2, 1, 0] };
        [how, &[0], events].concat()
    }

    /// The bodies that come out of `payload` in parts of so many bytes; `None` if it cannot be read.
    fn bodies(unpacker: &mut Unpacker, payload: &[u8], part: usize) -> Option<Vec<Vec<u8>>> {
        let mut bodies = Vec::new();
        unpacker.begin();
        for bytes in payload.chunks(part) {
            unpacker.push(bytes, &mut |event| {
                bodies.push(event.body.to_vec());
                Some(())
            })?;
        }
        unpacker.is_whole().then_some(bodies)
    }

    #[test]
    fn parts_of_any_size_make_the_same_events() {
        let texts = [b"a".repeat(7), b"xyz".repeat(60_000), Vec::new()];
        let events: Vec<u8> = texts.iter().flat_map(|text| event(text)).collect();
        let packed = zstd::encode_all(&events[..], 3).unwrap();
        let mut unpacker = Unpacker::default();
        for whole in [payload(0, &packed), payload(255, &events)] {
            for part in [1, 2, 19, 1000, whole.len()] {
                assert_eq!(
                    bodies(&mut unpacker, &whole, part).as_deref(),
                    Some(&texts[..]),
                    "{part}"
                );
            }
        }
    }

    #[test]
    fn a_payload_that_is_cut_or_damaged_is_noticed() {
        let events: Vec<u8> = (0..100_u8).flat_map(|at| event(&[at; 50])).collect();
        let whole = payload(0, &zstd::encode_all(&events[..], 3).unwrap());
        let mut unpacker = Unpacker::default();
        for end in 0..whole.len() {
            assert_eq!(bodies(&mut unpacker, &whole[..end], 64), None, "cut at {end}");
        }
        let mut unknown = whole.clone();
        unknown[2] = 9;
        assert_eq!(bodies(&mut unpacker, &unknown, 64), None);
        assert_eq!(bodies(&mut unpacker, &[2; 5000], 64), None);
        assert!(
            bodies(&mut unpacker, &whole, 64).is_some(),
            "what was broken before does not matter"
        );
    }
}
