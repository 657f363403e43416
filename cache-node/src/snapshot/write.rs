//! A node to bytes.

use std::io::{self, Write};

use super::format::{
    self, BLOCK_BYTES, Bits, Copied, Header, Item, Kind, MAGIC, MARKS_PER_BLOCK, PAYLOAD_BYTES_MAX,
    Source, TOMBSTONES_PER_BLOCK, Times,
};
use crate::{
    node::Node,
    now::Now,
    rules::{Condition, Kept},
    store::{Entry, Pool, Traits},
};

/// Entries that are looked at while a shard is held, and about so many bytes of them at most, or one.
const LOOKS_MAX: usize = 64;
const LOOK_BYTES: usize = 16 << 20;

const _: () = assert!(LOOK_BYTES + BLOCK_BYTES + (1 << 20) <= PAYLOAD_BYTES_MAX - (1 << 30));

/// What a node does not know of itself.
#[derive(Clone, Debug)]
pub struct About {
    pub copied: Copied,
    /// Which node it is.
    pub node: String,
    pub taken: Times,
    /// The stream, and what the rules knew before the first entry is written. `None` without a source.
    pub source: Option<(Source, Kept)>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub entries: u64,
    pub bytes: u64,
}

/// Writes a node; `note` is told now and then how far it is.
pub fn write<W: Write>(
    node: &Node,
    about: &About,
    now: Now,
    out: &mut W,
    mut note: impl FnMut(Written),
) -> io::Result<Written> {
    out.write_all(MAGIC)?;
    let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let written = Written { entries: 0, bytes: wide(MAGIC.len()) };
    let mut blocks = Blocks { out, number: 0, written };
    let mut payload = Vec::with_capacity(BLOCK_BYTES);
    let totals = node.totals();
    let header = Header {
        copied: about.copied,
        taken: about.taken.clone(),
        cas: node.last_cas(),
        flush_at: node.flush_at(),
        source: about.source.as_ref().map(|(source, _)| *source),
        items: wide(totals.entries),
        bytes: wide(totals.bytes),
        node: about.node.clone(),
    };
    format::put_header(&header, &mut payload);
    blocks.put(Kind::Header, &mut payload)?;
    if let Some((_, kept)) = &about.source {
        format::put_rules(kept, &mut payload);
        blocks.put(Kind::Rules, &mut payload)?;
        for tombstones in kept.tombstones.chunks(TOMBSTONES_PER_BLOCK) {
            format::put_tombstones(tombstones, &mut payload);
            blocks.put(Kind::Tombstones, &mut payload)?;
        }
        for marks in kept.marks.chunks(MARKS_PER_BLOCK) {
            format::put_marks(marks, &mut payload);
            blocks.put(Kind::Marks, &mut payload)?;
        }
    }
    for at in 0..node.shard_count() {
        blocks.shard(node, at, now, &mut payload)?;
        note(blocks.written);
    }
    format::put_end(blocks.written.entries, &mut payload);
    blocks.put(Kind::End, &mut payload)?;
    Ok(blocks.written)
}

struct Blocks<'a, W> {
    out: &'a mut W,
    number: u64,
    written: Written,
}

impl<W: Write> Blocks<'_, W> {
    /// Writes a block, and empties the payload.
    fn put(&mut self, kind: Kind, payload: &mut Vec<u8>) -> io::Result<()> {
        self.out.write_all(&format::head(kind, self.number, payload))?;
        self.out.write_all(payload)?;
        self.number = self.number.saturating_add(1);
        let bytes = payload.len().saturating_add(format::HEAD_BYTES);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.written.bytes = self.written.bytes.saturating_add(bytes);
        payload.clear();
        Ok(())
    }

    /// The entries of a shard, oldest first; others get at the shard between two looks.
    fn shard(&mut self, node: &Node, at: usize, now: Now, payload: &mut Vec<u8>) -> io::Result<()> {
        let lane = u16::try_from(at).unwrap_or(u16::MAX);
        format::put_lane(lane, payload);
        let mut empty = payload.len();
        let item_bytes_max = node.settings().item_bytes_max;
        let looks = LOOK_BYTES.checked_div(item_bytes_max).unwrap_or(LOOKS_MAX).clamp(1, LOOKS_MAX);
        let mut cursor = node.shard_at(at).map(|mut shard| shard.walk_oldest_first(now));
        while let Some(from) = cursor {
            let Some(mut shard) = node.shard_at(at) else { break };
            let mut entries = 0_u64;
            cursor = shard.page_with_pools(from, looks, now, |pool, key, entry, value| {
                // Nobody brings the value any more.
                if !entry.traits.has(Traits::PLACEHOLDER) {
                    format::put_item(&item(pool, key, entry), value.len(), payload);
                    value.append_to(payload);
                    entries = entries.saturating_add(1);
                }
            });
            drop(shard);
            self.written.entries = self.written.entries.saturating_add(entries);
            if payload.len() >= BLOCK_BYTES {
                self.put(Kind::Entries, payload)?;
                format::put_lane(lane, payload);
                empty = payload.len();
            }
        }
        if payload.len() > empty {
            self.put(Kind::Entries, payload)?;
        }
        payload.clear();
        Ok(())
    }
}

fn item<'a>(pool: Pool, key: &'a [u8], entry: &Entry) -> Item<'a> {
    let mut bits = Bits::default();
    for (holds, bit) in [
        (entry.traits.has(Traits::FETCHED), Bits::FETCHED),
        (entry.traits.has(Traits::STALE), Bits::STALE),
        (entry.traits.has(Traits::BASE64), Bits::BASE64),
        (entry.mark.condition == Condition::Stale, Bits::CONDEMNED),
        (pool == Pool::Main, Bits::HOT),
    ] {
        bits = if holds { bits.with(bit) } else { bits };
    }
    let seconds = |unix: u64| u32::try_from(unix).unwrap_or(u32::MAX);
    Item {
        key,
        value: &[],
        flags: entry.flags,
        expiry: entry.expiry.unix().map_or(0, |unix| seconds(unix).max(1)),
        used: seconds(entry.used),
        cas: entry.cas,
        filled: entry.mark.filled,
        bits,
    }
}
