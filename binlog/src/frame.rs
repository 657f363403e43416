//! Framing: headers, checksums, and files cut into events.
//!
//! ```text
//! event  = timestamp:4 kind:1 server_id:4 event_bytes:4 end_position:4 flags:2 body [crc32:4]
//! file   = %xfe "bin" format_description *event
//! ```
//!
//! Source: MySQL Internals, "Binary Log Event"; all numbers are little-endian. The CRC32 is over header and body.

use crate::read::Bytes;

/// Bytes of an event's header.
pub const HEADER_BYTES: usize = 19;
/// The beginning of every binlog file.
pub const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
/// Bytes of an event's checksum.
pub const CHECKSUM_BYTES: usize = 4;
/// FORMAT_DESCRIPTION_EVENT.
pub const FORMAT_DESCRIPTION: u8 = 15;
/// Set in the format description of a file that is being written; it is not part of its checksum.
const IN_USE: u16 = 0x0001;

/// The common header of every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Seconds since the Unix epoch; when the statement began on the source.
    pub timestamp_s: u32,
    /// Event type, raw.
    pub kind: u8,
    /// The server that wrote the transaction first.
    pub server_id: u32,
    /// Whole event with header and checksum.
    pub event_bytes: u32,
    /// Offset of the next event, modulo 4 GiB; 0 in events that are not in the file.
    pub end_position: u32,
    /// `LOG_EVENT_*_F`.
    pub flags: u16,
}

/// One event: its header and its body without checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The common header.
    pub header: Header,
    /// What follows the header, without the checksum.
    pub body: &'a [u8],
}

/// Bytes that are no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The file does not begin with [`MAGIC`].
    #[error("no binlog file: it does not begin with 0xfe \"bin\"")]
    Magic,
    /// Fewer bytes than the event says that it has.
    #[error("event ends after {have} of {need} bytes")]
    Truncated { need: usize, have: usize },
    /// The CRC32 does not match: the bytes changed on the way or on disk.
    #[error("checksum is {have:08x}, must be {need:08x}")]
    Checksum { need: u32, have: u32 },
}

impl Header {
    /// Reads the first [`HEADER_BYTES`] of an event.
    pub fn parse(bytes: &[u8]) -> Result<Header, FrameError> {
        let mut fields = Bytes(bytes);
        let mut parse = || {
            Some(Header {
                timestamp_s: fields.u32()?,
                kind: fields.u8()?,
                server_id: fields.u32()?,
                event_bytes: fields.u32()?,
                end_position: fields.u32()?,
                flags: fields.u16()?,
            })
        };
        parse().ok_or(FrameError::Truncated { need: HEADER_BYTES, have: bytes.len() })
    }

    /// The header's wire form.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let fields = [
            &self.timestamp_s.to_le_bytes()[..],
            &[self.kind],
            &self.server_id.to_le_bytes(),
            &self.event_bytes.to_le_bytes(),
            &self.end_position.to_le_bytes(),
            &self.flags.to_le_bytes(),
        ];
        for (to, from) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        out
    }
}

/// The CRC32 of an event, as its bytes come.
#[derive(Clone, Debug)]
pub struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// Of the header; the body follows.
    pub fn of(header: &Header) -> Checksum {
        let mut header = *header;
        if header.kind == FORMAT_DESCRIPTION {
            header.flags &= !IN_USE;
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header.to_bytes());
        Checksum(hasher)
    }

    /// The next bytes of the body.
    pub fn update(&mut self, body: &[u8]) {
        self.0.update(body);
    }

    /// Compares it with the one behind the event.
    pub fn verify(self, checksum: [u8; CHECKSUM_BYTES]) -> Result<(), FrameError> {
        let (need, have) = (self.0.finalize(), u32::from_le_bytes(checksum));
        if need == have { Ok(()) } else { Err(FrameError::Checksum { need, have }) }
    }
}

/// Checks the checksum of a whole event, which is at its end.
pub fn verify(
    header: &Header,
    event: &[u8],
    checksum: [u8; CHECKSUM_BYTES],
) -> Result<(), FrameError> {
    let covered = event.len().saturating_sub(CHECKSUM_BYTES);
    if header.kind == FORMAT_DESCRIPTION {
        let mut computed = Checksum::of(header);
        computed.update(event.get(HEADER_BYTES..covered).unwrap_or_default());
        return computed.verify(checksum);
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(event.get(..covered).unwrap_or_default());
    Checksum(hasher).verify(checksum)
}

/// Whether the events behind a format description end in a checksum. Its body still has its own, which is always there.
pub fn has_checksums(format_description: &[u8]) -> bool {
    // The algorithm stands before the checksum; 1 is CRC32. Servers since 5.6 always write both.
    let at = format_description.len().saturating_sub(CHECKSUM_BYTES.saturating_add(1));
    format_description.get(at) == Some(&1)
}

/// Cuts a binlog file into events, verifying checksums as its format description says.
#[derive(Clone, Debug)]
pub struct FileReader<'a> {
    rest: &'a [u8],
    checksums: bool,
}

impl<'a> FileReader<'a> {
    /// Begins with the magic number.
    pub fn new(bytes: &'a [u8]) -> Result<FileReader<'a>, FrameError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(FrameError::Magic)?;
        Ok(FileReader { rest, checksums: false })
    }

    /// The next event; `None` at the end of the file. A file that is being written may end in an error.
    pub fn next_event(&mut self) -> Result<Option<Event<'a>>, FrameError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let header = Header::parse(self.rest)?;
        let need = usize::try_from(header.event_bytes).unwrap_or(usize::MAX).max(HEADER_BYTES);
        let truncated = FrameError::Truncated { need, have: self.rest.len() };
        let (event, rest) = self.rest.split_at_checked(need).ok_or(truncated.clone())?;
        let (_, mut body) = event.split_at_checked(HEADER_BYTES).ok_or(truncated.clone())?;
        if header.kind == FORMAT_DESCRIPTION {
            self.checksums = has_checksums(body);
        }
        if self.checksums {
            let (whole, checksum) = body.split_last_chunk::<CHECKSUM_BYTES>().ok_or(truncated)?;
            verify(&header, event, *checksum)?;
            body = whole;
        }
        self.rest = rest;
        Ok(Some(Event { header, body }))
    }
}
