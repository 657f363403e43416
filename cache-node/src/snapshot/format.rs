//! The form of a snapshot: blocks, and what is in them. Pure; bytes from anywhere never panic, and memory is bounded by them.
//!
//! ```text
//! snapshot   = "mcsqueal snapshot 2\n" block*                        ; the number is the version of the format
//! block      = length:4 kind:1 checksum:8 payload                    ; of the payload: xxh3, seeded with kind and number of the block
//! blocks     = header [rules tombstones* marks*] entries* end        ; rules where a source is attached
//! header     = exact:1 wall:8 uptime:8 boot cas:8 flush-at:8 (0 / 1 stream:8 ring:8) items:8 bytes:8 node
//! rules      = serve-floor:8 fill-floor:8 epoch:2 age-floor:8 highest:8
//!              list(partition) list(prefix-floor) list(from:8 until:8) list(epoch) list(highest:8 floor:8)
//! partition  = (0 / 1 place) applied:8 (0 / (1 / 2) place)           ; nothing is missing; what is before; a hole
//! epoch      = number:2 last:8 (0 / 1 / 2) resumed:8                 ; lossless, new server, same server
//! tombstones = *(hash:8 version:8)
//! marks      = *(hash:8 list(nonce:8 microseconds:8) list(version:8))
//! entries    = lane:2 *entry                                         ; entries of one lane are in their order
//! entry      = bits:1 key-length:1 value-length:4 flags:4 expiry:4 used:4 cas:8 filled:8 key value
//! end        = entries:8
//! place      = term:4 sequence:8 ; text = length:2 bytes ; list(x) = count:4 x*
//! ```
//!
//! Numbers are little-endian. Times are in seconds since 1970, but for `wall` and `uptime`, which are in microseconds. What is unknown
//! (a kind, a bit, bytes at the end of a block) makes the snapshot malformed: another form has another number.

use protocol::control::{Continuity, EpochNews};
use schemas::{
    cursor::{Place, StreamId, Term},
    version::Version,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::cut::{Cut, Malformed, put_list, put_place, put_text};
use crate::rules::{Kept, KeptMark, KeptMissing, KeptPartition, Nonce};

/// What a snapshot begins with.
pub const MAGIC: &[u8; 20] = b"mcsqueal snapshot 2\n";
/// All of it but the version of the format.
pub(super) const MAGIC_OF_ALL: &[u8] = b"mcsqueal snapshot ";
/// Length, kind and checksum.
pub const HEAD_BYTES: usize = 13;
/// The longest payload: one entry of the largest size, behind others.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 30) + (1 << 25);
/// Entries of a block have about so many bytes together.
pub const BLOCK_BYTES: usize = 256 << 10;
/// Tombstones in a block.
pub(super) const TOMBSTONES_PER_BLOCK: usize = 16_384;
/// Marked keys in a block.
pub(super) const MARKS_PER_BLOCK: usize = 1024;

const _: () = assert!(BLOCK_BYTES < PAYLOAD_BYTES_MAX && TOMBSTONES_PER_BLOCK * 16 <= BLOCK_BYTES);

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Header,
    Rules,
    Tombstones,
    Marks,
    Entries,
    End,
}

const KINDS: [(u8, Kind); 6] = [
    (1, Kind::Header),
    (2, Kind::Rules),
    (3, Kind::Tombstones),
    (4, Kind::Marks),
    (5, Kind::Entries),
    (6, Kind::End),
];

impl Kind {
    fn number(self) -> u8 {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or(0, |(number, _)| *number)
    }
}

/// Whether others could change anything while a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// Nobody: all of it is as it was in the end.
    Exactly,
    /// Entries may be newer than the rules. Keys without versions may be wrong, and marks may be missing.
    WhileServing,
}

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub copied: Copied,
    pub taken: Times,
    /// The last CAS that was given out.
    pub cas: u64,
    /// When everything is void, in seconds since 1970.
    pub flush_at: Option<u64>,
    /// `None` for a plain memcached.
    pub source: Option<Source>,
    /// About so many entries, of so many bytes.
    pub items: u64,
    pub bytes: u64,
    /// Which node this is of.
    pub node: String,
}

/// The stream that a node holds cursors of, and the ring by which its lanes spread keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub stream: StreamId,
    pub ring: u64,
}

/// Both clocks of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Microseconds since 1970.
    pub wall: u64,
    /// Microseconds since the machine started.
    pub uptime: u64,
    /// Names the start of the machine; empty where it has no name.
    pub boot: String,
}

/// One entry; times in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub flags: u32,
    /// 0 for never.
    pub expiry: u32,
    pub used: u32,
    pub cas: u64,
    pub filled: Version,
    pub bits: Bits,
}

/// What else an entry is; a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits(u8);

impl Bits {
    /// It was read since it was stored.
    pub const FETCHED: Bits = Bits(1);
    /// It is outdated, and clients may renew it.
    pub const STALE: Bits = Bits(2);
    /// Its key was sent as base64.
    pub const BASE64: Bits = Bits(4);
    /// A delete has found it.
    pub const CONDEMNED: Bits = Bits(8);
    /// It was used again and again.
    pub const HOT: Bits = Bits(16);
    const ALL: u8 = 31;

    pub fn has(self, other: Bits) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub fn with(self, other: Bits) -> Bits {
        Bits(self.0 | other.0)
    }
}

// === Blocks ===

/// What stands before a payload.
pub fn head(kind: Kind, number: u64, payload: &[u8]) -> [u8; HEAD_BYTES] {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let checksum = checksum(kind, number, payload).to_le_bytes();
    let mut head = [0; HEAD_BYTES];
    let parts = length.into_iter().chain([kind.number()]).chain(checksum);
    head.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    head
}

/// A block that is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    pub kind: Kind,
    pub payload_bytes: usize,
    checksum: u64,
}

impl Announced {
    pub fn read(head: [u8; HEAD_BYTES]) -> Result<Announced, Malformed> {
        let mut cut = Cut(&head);
        let payload_bytes = cut.count()?;
        let number = cut.byte()?;
        let kind = KINDS.iter().find(|(of, _)| *of == number).map(|(_, kind)| *kind);
        let checksum = cut.long()?;
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(Malformed("a block is too long"));
        }
        Ok(Announced {
            kind: kind.ok_or(Malformed("a block is of no kind"))?,
            payload_bytes,
            checksum,
        })
    }

    /// Whether this is the payload.
    pub fn check(&self, number: u64, payload: &[u8]) -> Result<(), Malformed> {
        let same = self.checksum == checksum(self.kind, number, payload);
        same.then_some(()).ok_or(Malformed("a block does not match its checksum"))
    }
}

/// Blocks that are left out, come twice or in another order do not match either.
fn checksum(kind: Kind, number: u64, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, (number << 8) | u64::from(kind.number()))
}

// === Payloads, written ===

pub fn put_header(header: &Header, out: &mut Vec<u8>) {
    out.push(u8::from(header.copied == Copied::Exactly));
    for number in [header.taken.wall, header.taken.uptime] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_text(header.taken.boot.as_bytes(), out);
    for number in [header.cas, header.flush_at.unwrap_or(u64::MAX)] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    match header.source {
        None => out.push(0),
        Some(Source { stream, ring }) => {
            out.push(1);
            out.extend_from_slice(&stream.0.to_le_bytes());
            out.extend_from_slice(&ring.to_le_bytes());
        }
    }
    for number in [header.items, header.bytes] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_text(header.node.as_bytes(), out);
}

/// All but tombstones and marks.
pub fn put_rules(kept: &Kept, out: &mut Vec<u8>) {
    put_versions([kept.serve_floor, kept.fill_floor], out);
    out.extend_from_slice(&kept.epoch.to_le_bytes());
    put_versions([kept.age_floor, kept.highest], out);
    put_list(&kept.partitions, out, |partition, out| {
        match partition.cursor {
            None => out.push(0),
            Some(place) => {
                out.push(1);
                put_place(place, out);
            }
        }
        put_versions([partition.applied], out);
        match partition.missing {
            KeptMissing::Nothing => out.push(0),
            KeptMissing::Before(place) => {
                out.push(1);
                put_place(place, out);
            }
            KeptMissing::Hole(place) => {
                out.push(2);
                put_place(place, out);
            }
        }
    });
    put_list(&kept.prefix_floors, out, |(prefix, floor), out| {
        put_text(prefix, out);
        put_versions([*floor], out);
    });
    put_list(&kept.cuts, out, |(from, until), out| put_versions([*from, *until], out));
    put_list(&kept.epochs, out, |news, out| {
        out.extend_from_slice(&news.epoch.to_le_bytes());
        put_versions([news.last], out);
        out.push(match news.continuity {
            Continuity::Lossless => 0,
            Continuity::NewServer => 1,
            Continuity::SameServer => 2,
        });
        put_versions([news.resumed], out);
    });
    put_list(&kept.proofs, out, |(highest, floor), out| put_versions([*highest, *floor], out));
}

pub fn put_tombstones(tombstones: &[(u64, Version)], out: &mut Vec<u8>) {
    for (hash, version) in tombstones {
        out.extend_from_slice(&hash.to_le_bytes());
        put_versions([*version], out);
    }
}

pub fn put_marks(marks: &[KeptMark], out: &mut Vec<u8>) {
    for mark in marks {
        out.extend_from_slice(&mark.hash.to_le_bytes());
        put_list(&mark.pending, out, |(nonce, left), out| {
            out.extend_from_slice(&nonce.0.to_le_bytes());
            let micros = u64::try_from(left.as_micros()).unwrap_or(u64::MAX);
            out.extend_from_slice(&micros.to_le_bytes());
        });
        put_list(&mark.named, out, |version, out| put_versions([*version], out));
    }
}

/// The beginning of a block of entries.
pub fn put_lane(lane: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&lane.to_le_bytes());
}

/// Appends an entry but for its value, which is appended next and has `value_bytes`.
pub fn put_item(item: &Item<'_>, value_bytes: usize, out: &mut Vec<u8>) {
    out.push(item.bits.0);
    out.push(u8::try_from(item.key.len()).unwrap_or(u8::MAX));
    let value_bytes = u32::try_from(value_bytes).unwrap_or(u32::MAX);
    for number in [value_bytes, item.flags, item.expiry, item.used] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&item.cas.to_le_bytes());
    put_versions([item.filled], out);
    out.extend_from_slice(item.key);
}

pub fn put_end(entries: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&entries.to_le_bytes());
}

fn put_versions<const N: usize>(versions: [Version; N], out: &mut Vec<u8>) {
    for version in versions {
        out.extend_from_slice(&version.bits().to_le_bytes());
    }
}

// === Payloads, read ===

pub fn header(payload: &[u8]) -> Result<Header, Malformed> {
    let mut cut = Cut(payload);
    let copied = if cut.flag()? { Copied::Exactly } else { Copied::WhileServing };
    let (wall, uptime, boot) = (cut.long()?, cut.long()?, cut.words()?);
    let (cas, flush_at) = (cut.long()?, cut.long()?);
    let source = if cut.flag()? {
        Some(Source { stream: StreamId(cut.long()?), ring: cut.long()? })
    } else {
        None
    };
    let (items, bytes, node) = (cut.long()?, cut.long()?, cut.words()?);
    cut.end()?;
    let flush_at = (flush_at != u64::MAX).then_some(flush_at);
    let taken = Times { wall, uptime, boot };
    Ok(Header { copied, taken, cas, flush_at, source, items, bytes, node })
}

pub fn rules(payload: &[u8]) -> Result<Kept, Malformed> {
    let mut cut = Cut(payload);
    let kept = Kept {
        serve_floor: version(&mut cut)?,
        fill_floor: version(&mut cut)?,
        epoch: cut.short()?,
        age_floor: version(&mut cut)?,
        highest: version(&mut cut)?,
        partitions: cut.list(partition)?,
        prefix_floors: cut.list(|cut| Ok((cut.text()?.into(), version(cut)?)))?,
        cuts: cut.list(|cut| Ok((version(cut)?, version(cut)?)))?,
        epochs: cut.list(epoch)?,
        proofs: cut.list(|cut| Ok((version(cut)?, version(cut)?)))?,
        ..Kept::default()
    };
    cut.end()?;
    let count = kept.partitions.len();
    if count == 0 || u16::try_from(count).is_err() {
        return Err(Malformed("there are no partitions, or too many"));
    }
    Ok(kept)
}

fn partition(cut: &mut Cut<'_>) -> Result<KeptPartition, Malformed> {
    Ok(KeptPartition {
        cursor: if cut.flag()? { Some(place(cut)?) } else { None },
        applied: version(cut)?,
        missing: match cut.byte()? {
            0 => KeptMissing::Nothing,
            1 => KeptMissing::Before(place(cut)?),
            2 => KeptMissing::Hole(place(cut)?),
            _ => return Err(Malformed("nobody knows what is missing")),
        },
    })
}

fn epoch(cut: &mut Cut<'_>) -> Result<EpochNews, Malformed> {
    Ok(EpochNews {
        epoch: cut.short()?,
        last: version(cut)?,
        continuity: match cut.byte()? {
            0 => Continuity::Lossless,
            1 => Continuity::NewServer,
            2 => Continuity::SameServer,
            _ => return Err(Malformed("an epoch began in an unknown way")),
        },
        resumed: version(cut)?,
    })
}

pub fn tombstones(payload: &[u8]) -> Result<Vec<(u64, Version)>, Malformed> {
    Cut(payload).all(|cut| Ok((cut.long()?, version(cut)?)))
}

pub fn marks(payload: &[u8]) -> Result<Vec<KeptMark>, Malformed> {
    Cut(payload).all(|cut| {
        Ok(KeptMark {
            hash: cut.long()?,
            pending: cut.list(|cut| {
                Ok((Nonce(cut.long()?), std::time::Duration::from_micros(cut.long()?)))
            })?,
            named: cut.list(version)?,
        })
    })
}

/// The lane of a block of entries.
pub fn lane(payload: &[u8]) -> Result<u16, Malformed> {
    Cut(payload).short()
}

/// Shows the entries of a block in their order.
pub fn entries<'a>(payload: &'a [u8], mut see: impl FnMut(Item<'a>)) -> Result<(), Malformed> {
    let mut cut = Cut(payload);
    cut.short()?;
    while !cut.0.is_empty() {
        let bits = Bits(cut.byte()?);
        if bits.0 & !Bits::ALL != 0 {
            return Err(Malformed("an entry has an unknown trait"));
        }
        let (key_bytes, value_bytes) = (usize::from(cut.byte()?), cut.count()?);
        let (flags, expiry, used) = (cut.four()?, cut.four()?, cut.four()?);
        let (cas, filled) = (cut.long()?, version(&mut cut)?);
        let (key, value) = (cut.take(key_bytes)?, cut.take(value_bytes)?);
        if key.is_empty() {
            return Err(Malformed("an entry has no key"));
        }
        see(Item { key, value, flags, expiry, used, cas, filled, bits });
    }
    Ok(())
}

/// How many entries there were.
pub fn end(payload: &[u8]) -> Result<u64, Malformed> {
    let mut cut = Cut(payload);
    let entries = cut.long()?;
    cut.end()?;
    Ok(entries)
}

fn version(cut: &mut Cut<'_>) -> Result<Version, Malformed> {
    cut.long().map(Version::from_bits)
}

fn place(cut: &mut Cut<'_>) -> Result<Place, Malformed> {
    Ok(Place { term: Term(cut.four()?), sequence: cut.long()? })
}

#[cfg(test)]
mod tests;
