//! [`Cutter`]: the packets of a dump in, events out. Pure.
//!
//! ```text
//! answer = %x00 event | %xff error | %xfe end          ; one or more packets each
//! ```
//!
//! An event is handed out when it is whole and its checksum good. Compressed transactions that are large are handed out
//! in parts instead, before their checksum is known: whoever makes keys of them may make some in vain, and learns of it,
//! before the transaction is committed.

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{
    self, CHECKSUM_BYTES, Checksum, FORMAT_DESCRIPTION, FrameError, HEADER_BYTES, Header,
    has_checksums,
};

/// The first byte of an answer: all is well.
pub const OK: u8 = 0;
/// Likewise: an error.
pub const ERR: u8 = 0xff;
/// Likewise: the end.
pub const EOF: u8 = 0xfe;
/// Payload of a packet that is continued in the next one.
pub const PACKET_FULL: usize = (1 << 24) - 1;
/// Bytes before each payload: its length, and a number.
pub const PACKET_HEADER: usize = 4;

/// Packets up to this size wait in the buffer until they are whole.
const SMALL_BYTES_MAX: usize = 1 << 20;
/// Longest event: the servers' own limit.
const EVENT_BYTES_MAX: usize = 1 << 30;
const TRANSACTION_PAYLOAD: u8 = 40;

/// An event, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole one, without its checksum.
    Event { header: Header, body: Bytes },
    /// A compressed transaction that comes in parts.
    Begin(Header),
    /// Some of its body.
    Bytes(Bytes),
    /// It is complete, and its checksum good.
    End,
}

/// Why nothing more can be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uncut {
    /// The server says what is wrong, in this packet.
    Error(Bytes),
    /// The server ended the stream.
    End,
    /// An event that is not whole, or has changed on the way.
    Frame { position: u32, error: FrameError },
    /// A packet that makes no sense.
    Strange(&'static str),
}

/// See the module. One for each connection.
#[derive(Debug, Default)]
pub struct Cutter {
    checksums: bool,
    large: Option<Large>,
}

/// An event of more than [`SMALL_BYTES_MAX`] bytes.
#[derive(Debug)]
struct Large {
    header: Header,
    checksum: Checksum,
    /// Of the body, without checksum.
    body_left: usize,
    packet_left: usize,
    /// Another packet follows.
    continues: bool,
    /// The body so far; `None` if it is handed out in parts.
    body: Option<Vec<u8>>,
    /// The checksum's bytes so far.
    tail: Vec<u8>,
}

impl Cutter {
    /// Cuts the next piece off the front of `buffer`; `None` if more bytes are needed.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, Uncut> {
        if let Some(large) = &mut self.large {
            let piece = large.next(buffer)?;
            if matches!(piece, Some(Piece::Event { .. } | Piece::End)) {
                self.large = None;
            }
            return Ok(piece);
        }
        let Some(length) = packet_length(buffer) else { return Ok(None) };
        if length > SMALL_BYTES_MAX {
            return self.begin_large(length, buffer);
        }
        if buffer.len() < length.saturating_add(PACKET_HEADER) {
            return Ok(None);
        }
        buffer.advance(PACKET_HEADER);
        let mut packet = buffer.split_to(length).freeze();
        match packet.first() {
            Some(&OK) => {}
            Some(&ERR) => return Err(Uncut::Error(packet)),
            Some(&EOF) => return Err(Uncut::End),
            _ => return Err(Uncut::Strange("a packet of no known kind in a dump")),
        }
        packet.advance(1);
        self.small(packet).map(Some)
    }

    fn small(&mut self, mut event: Bytes) -> Result<Piece, Uncut> {
        let broken = |position, error| Uncut::Frame { position, error };
        let header = Header::parse(&event).map_err(|error| broken(0, error))?;
        let need = usize::try_from(header.event_bytes).unwrap_or(usize::MAX);
        if need != event.len() {
            let error = FrameError::Truncated { need, have: event.len() };
            return Err(broken(header.end_position, error));
        }
        if header.kind == FORMAT_DESCRIPTION {
            self.checksums = has_checksums(&event);
        }
        if self.checksums {
            let truncated = FrameError::Truncated { need: CHECKSUM_BYTES, have: event.len() };
            let (_, checksum) = event
                .split_last_chunk::<CHECKSUM_BYTES>()
                .ok_or_else(|| broken(header.end_position, truncated))?;
            frame::verify(&header, &event, *checksum)
                .map_err(|error| broken(header.end_position, error))?;
            event.truncate(event.len().saturating_sub(CHECKSUM_BYTES).max(HEADER_BYTES));
        }
        event.advance(HEADER_BYTES);
        Ok(Piece::Event { header, body: event })
    }

    fn begin_large(
        &mut self,
        length: usize,
        buffer: &mut BytesMut,
    ) -> Result<Option<Piece>, Uncut> {
        let before = PACKET_HEADER.saturating_add(1);
        let Some(bytes) = buffer.get(before..before.saturating_add(HEADER_BYTES)) else {
            return Ok(None);
        };
        let header = Header::parse(bytes).map_err(|error| Uncut::Frame { position: 0, error })?;
        if buffer.get(PACKET_HEADER) != Some(&OK) {
            return Err(Uncut::Strange("a large packet in a dump that is no event"));
        }
        let total = usize::try_from(header.event_bytes).unwrap_or(usize::MAX);
        let around = HEADER_BYTES.saturating_add(if self.checksums { CHECKSUM_BYTES } else { 0 });
        let body_left = total
            .checked_sub(around)
            .filter(|_| total <= EVENT_BYTES_MAX)
            .ok_or(Uncut::Strange("an event whose length makes no sense"))?;
        buffer.advance(before.saturating_add(HEADER_BYTES));
        let in_parts = header.kind == TRANSACTION_PAYLOAD;
        self.large = Some(Large {
            header,
            checksum: Checksum::of(&header),
            body_left,
            packet_left: length.saturating_sub(HEADER_BYTES.saturating_add(1)),
            continues: length == PACKET_FULL,
            body: (!in_parts).then(Vec::new),
            tail: Vec::with_capacity(if self.checksums { CHECKSUM_BYTES } else { 0 }),
        });
        if in_parts { Ok(Some(Piece::Begin(header))) } else { self.next(buffer) }
    }
}

impl Large {
    fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, Uncut> {
        loop {
            if self.tail.len() > CHECKSUM_BYTES {
                return Err(Uncut::Strange("an event that is longer than it says"));
            }
            if self.packet_left == 0 && !self.continues {
                return self.end().map(Some);
            }
            if self.packet_left == 0 {
                let Some(length) = packet_length(buffer) else { return Ok(None) };
                buffer.advance(PACKET_HEADER);
                (self.packet_left, self.continues) = (length, length == PACKET_FULL);
                continue;
            }
            if buffer.is_empty() {
                return Ok(None);
            }
            let count = self.packet_left.min(buffer.len());
            self.packet_left = self.packet_left.saturating_sub(count);
            let mut bytes = buffer.split_to(count).freeze();
            let body = bytes.split_to(count.min(self.body_left));
            self.body_left = self.body_left.saturating_sub(body.len());
            self.tail.extend_from_slice(&bytes);
            self.checksum.update(&body);
            match &mut self.body {
                Some(whole) => whole.extend_from_slice(&body),
                None if body.is_empty() => {}
                None => return Ok(Some(Piece::Bytes(body))),
            }
        }
    }

    fn end(&mut self) -> Result<Piece, Uncut> {
        let (need, have) =
            (usize::try_from(self.header.event_bytes).unwrap_or(usize::MAX), self.body_left);
        let broken = |error| Uncut::Frame { position: self.header.end_position, error };
        if self.body_left > 0 {
            return Err(broken(FrameError::Truncated { need, have: need.saturating_sub(have) }));
        }
        if let Ok(checksum) = self.tail[..].try_into() {
            self.checksum.clone().verify(checksum).map_err(broken)?;
        } else if !self.tail.is_empty() {
            return Err(Uncut::Strange("an event that is longer than it says"));
        }
        Ok(match self.body.take() {
            Some(body) => Piece::Event { header: self.header, body: body.into() },
            None => Piece::End,
        })
    }
}

/// The payload's length of the packet at the front of `buffer`.
pub fn packet_length(buffer: &[u8]) -> Option<usize> {
    match buffer {
        [a, b, c, _, ..] => usize::try_from(u32::from_le_bytes([*a, *b, *c, 0])).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
