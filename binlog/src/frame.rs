//! Framing: headers, checksums, and files cut into events. (Skeleton.)

/// Bytes of an event's header.
pub const HEADER_BYTES: usize = 19;

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
    /// Fewer bytes than the event says that it has.
    #[error("event ends after {have} of {need} bytes")]
    Truncated { need: usize, have: usize },
    /// The CRC32 does not match: the bytes changed on the way or on disk.
    #[error("checksum is {have:08x}, must be {need:08x}")]
    Checksum { need: u32, have: u32 },
}

impl Header {
    /// Reads the first [`HEADER_BYTES`] of an event.
    pub fn parse(_bytes: &[u8]) -> Result<Header, FrameError> {
        todo!()
    }
    /// The header's wire form.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        todo!()
    }
}

/// Checks the CRC32 over header and body.
pub fn verify(_header: &Header, _body: &[u8], _checksum: [u8; 4]) -> Result<(), FrameError> {
    todo!()
}

/// Cuts a whole binlog file (from its magic number on) or a prefix of one into events, verifying
/// checksums as its format description says.
#[derive(Debug)]
pub struct FileReader<'a> {
    _bytes: &'a [u8],
}
// impl<'a> FileReader<'a> { pub fn new(bytes) -> Result<..>; pub fn next(&mut self) -> Result<Option<Event<'a>>, FrameError> }
