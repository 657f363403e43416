//! Inflating: MariaDB's zlib sections, MySQL's zstd payloads. What comes out is bounded.

use std::io::Read;

use crate::read::Bytes;

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

/// A stream of events, inflated as it is read.
pub(crate) struct Payload<'a> {
    read: Box<dyn Read + 'a>,
}

impl<'a> Payload<'a> {
    pub(crate) fn new(compression: Compression, bytes: &'a [u8]) -> Option<Payload<'a>> {
        let read: Box<dyn Read + 'a> = match compression {
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).ok()?),
            Compression::None => Box::new(bytes),
        };
        Some(Payload { read })
    }

    /// Reads exactly `count` bytes into `out`; `Ok(false)` at a clean end.
    pub(crate) fn fill(&mut self, count: usize, out: &mut Vec<u8>) -> Option<bool> {
        out.clear();
        let limit = u64::try_from(count).ok().filter(|&limit| limit <= INFLATED_BYTES_MAX)?;
        let have = self.read.by_ref().take(limit).read_to_end(out).ok()?;
        match have {
            0 if count > 0 => Some(false),
            have if have == count => Some(true),
            _ => None,
        }
    }
}
