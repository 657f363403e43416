//! [`Blocks`]: where values lie that are too large for a segment: chains of small blocks, 64 to a frame.
//!
//! Blocks can be anywhere, so nothing is lost to fragmentation, and a frame that has few of them is emptied by moving those. For
//! that every block knows its neighbours; the first one knows its item:
//!
//! ```text
//! block    what points to it 8 | next block 4 | bytes of the value
//! ```

use std::collections::BTreeSet;

use crate::memory::Memory;

/// Blocks of a frame: one for each bit of a word.
pub(crate) const BLOCKS_PER_FRAME: usize = 64;
/// Ends a chain.
pub(crate) const NONE: u32 = u32::MAX;

/// Of a block, before the bytes of a value.
const LINK_BYTES: usize = 12;

/// What is known of a block that is used.
#[derive(Clone, Copy, Debug)]
struct Link {
    before: Before,
    next: u32,
}

/// What points to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// The item at this place.
    Item(u64),
    Block(u32),
}

impl Before {
    /// Places and blocks have far fewer bits than 63.
    fn into_word(self) -> u64 {
        match self {
            Before::Item(place) => place << 1,
            Before::Block(block) => u64::from(block) << 1 | 1,
        }
    }

    fn from_word(word: u64) -> Before {
        if word & 1 == 0 { Before::Item(word >> 1) } else { Before::Block((word >> 1) as u32) }
    }
}

/// See the module.
///
/// Invariant: `vacant` names the frames with free blocks, and `free` is the number of these.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// With the link.
    block_bytes: usize,
    /// Of every frame of blocks, a bit for each that is free.
    sheets: Vec<Option<u64>>,
    vacant: BTreeSet<u32>,
    free: usize,
}

impl Blocks {
    pub(crate) fn new(frame_bytes: usize) -> Blocks {
        let block_bytes = frame_bytes / BLOCKS_PER_FRAME;
        Blocks { block_bytes, sheets: Vec::new(), vacant: BTreeSet::new(), free: 0 }
    }

    /// Blocks that a value takes.
    pub(crate) fn needed(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.room()).max(1)
    }

    /// Bytes of a value in a block.
    fn room(&self) -> usize {
        self.block_bytes - LINK_BYTES
    }

    /// Memory of a block.
    pub(crate) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// A frame is for blocks from now on.
    pub(crate) fn add(&mut self, frame: u32) {
        let known = self.sheets.len().max(frame as usize + 1);
        self.sheets.resize(known, None);
        self.sheets[frame as usize] = Some(u64::MAX);
        self.vacant.insert(frame);
        self.free += BLOCKS_PER_FRAME;
    }

    /// Takes a frame back all of whose blocks are free.
    pub(crate) fn retire(&mut self, frame: u32) {
        let free = self.sheets[frame as usize].take().expect("the frame holds blocks");
        assert_eq!(free, u64::MAX, "no block of the frame is used");
        self.vacant.remove(&frame);
        self.free -= BLOCKS_PER_FRAME;
    }

    /// The free blocks of a frame.
    fn sheet(&mut self, frame: u32) -> &mut u64 {
        self.sheets[frame as usize].as_mut().expect("the frame holds blocks")
    }

    fn start(&self, block: u32) -> usize {
        block as usize * self.block_bytes
    }

    fn link(&self, memory: &Memory, block: u32) -> Link {
        let bytes = &memory.bytes()[self.start(block)..];
        let (before, rest) = bytes.split_first_chunk().expect("blocks are longer than links");
        let next = rest.first_chunk().expect("blocks are longer than links");
        let before = Before::from_word(u64::from_le_bytes(*before));
        Link { before, next: u32::from_le_bytes(*next) }
    }

    fn set_before(&self, memory: &mut Memory, block: u32, before: Before) {
        let start = self.start(block);
        memory.bytes_mut()[start..][..8].copy_from_slice(&before.into_word().to_le_bytes());
    }

    fn set_next(&self, memory: &mut Memory, block: u32, next: u32) {
        let start = self.start(block);
        memory.bytes_mut()[start + 8..][..4].copy_from_slice(&next.to_le_bytes());
    }

    fn take(&mut self) -> u32 {
        let frame = *self.vacant.first().expect("the caller has made sure of free blocks");
        let free = self.sheet(frame);
        let at = free.trailing_zeros();
        *free &= *free - 1;
        if *free == 0 {
            self.vacant.remove(&frame);
        }
        self.free -= 1;
        frame * BLOCKS_PER_FRAME as u32 + at
    }

    /// Writes a value, given in parts; there must be blocks for it. Returns its first block, which knows no item yet.
    pub(crate) fn write(&mut self, memory: &mut Memory, parts: &[&[u8]]) -> u32 {
        let first = self.take();
        self.set_before(memory, first, Before::Block(NONE));
        let (mut block, mut filled) = (first, 0);
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                if filled == self.room() {
                    let next = self.take();
                    self.set_next(memory, block, next);
                    self.set_before(memory, next, Before::Block(block));
                    (block, filled) = (next, 0);
                }
                let (now, later) = rest.split_at(rest.len().min(self.room() - filled));
                let start = self.start(block) + LINK_BYTES + filled;
                memory.bytes_mut()[start..][..now.len()].copy_from_slice(now);
                (rest, filled) = (later, filled + now.len());
            }
        }
        self.set_next(memory, block, NONE);
        first
    }

    /// The item of a chain is at this place now.
    pub(crate) fn set_item(&self, memory: &mut Memory, first: u32, place: u64) {
        self.set_before(memory, first, Before::Item(place));
    }

    /// The next block of a chain.
    pub(crate) fn next(&self, memory: &Memory, block: u32) -> u32 {
        self.link(memory, block).next
    }

    /// What a block holds of a value; in the last one of a chain, more than that.
    pub(crate) fn bytes<'a>(&self, memory: &'a Memory, block: u32) -> &'a [u8] {
        &memory.bytes()[self.start(block) + LINK_BYTES..][..self.room()]
    }

    /// Frees a chain; `emptied` is told of frames without a used block.
    pub(crate) fn free_chain(&mut self, memory: &Memory, first: u32, mut emptied: impl FnMut(u32)) {
        let mut block = first;
        while block != NONE {
            let next = self.next(memory, block);
            if self.free_one(block) {
                emptied(split(block).0);
            }
            block = next;
        }
    }

    /// True if its frame has no used block left.
    fn free_one(&mut self, block: u32) -> bool {
        let (frame, at) = split(block);
        let free = self.sheet(frame);
        assert_eq!(*free & (1 << at), 0, "the block is used");
        *free |= 1 << at;
        let empty = *free == u64::MAX;
        self.vacant.insert(frame);
        self.free += 1;
        empty
    }

    /// The frame with the fewest used blocks.
    pub(crate) fn emptiest(&self) -> Option<u32> {
        let free_of = |frame: &u32| self.sheets[*frame as usize].map_or(0, u64::count_ones);
        self.vacant.iter().copied().max_by_key(free_of)
    }

    /// Moves every used block of a frame elsewhere; there must be room. `first_moved(item, block)` is told of first blocks.
    pub(crate) fn empty(
        &mut self,
        memory: &mut Memory,
        frame: u32,
        mut first_moved: impl FnMut(&mut Memory, u64, u32),
    ) {
        self.vacant.remove(&frame);
        for at in 0..BLOCKS_PER_FRAME {
            let from = frame * BLOCKS_PER_FRAME as u32 + at as u32;
            if *self.sheet(frame) & (1 << at) != 0 {
                continue;
            }
            // The link may change while the chain's other blocks move: it is read when it is this one's turn.
            let link = self.link(memory, from);
            let to = self.take();
            let (start, target) = (self.start(from), self.start(to));
            memory.bytes_mut().copy_within(start..start + self.block_bytes, target);
            match link.before {
                Before::Block(before) => self.set_next(memory, before, to),
                Before::Item(item) => first_moved(memory, item, to),
            }
            if link.next != NONE {
                self.set_before(memory, link.next, Before::Block(to));
            }
            *self.sheet(frame) |= 1 << at;
            self.free += 1;
        }
        self.vacant.insert(frame);
    }
}

fn split(block: u32) -> (u32, usize) {
    (block / BLOCKS_PER_FRAME as u32, block as usize % BLOCKS_PER_FRAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(blocks: &Blocks, memory: &Memory, first: u32, bytes: usize) -> Vec<u8> {
        let (mut out, mut block) = (Vec::new(), first);
        while block != NONE {
            out.extend_from_slice(blocks.bytes(memory, block));
            block = blocks.next(memory, block);
        }
        out.truncate(bytes);
        out
    }

    #[test]
    fn chains_survive_moves() {
        let mut memory = Memory::reserve(4 * 22 * 64).expect("memory");
        let mut blocks = Blocks::new(22 * 64);
        blocks.add(1);
        blocks.add(2);
        let value: Vec<u8> = (0..=255).collect();
        let firsts: Vec<u32> = (0..4)
            .map(|item| {
                let first = blocks.write(&mut memory, &[&value[..100], &value[100..200 + item]]);
                blocks.set_item(&mut memory, first, item as u64);
                first
            })
            .collect();
        assert_eq!(blocks.free(), 2 * BLOCKS_PER_FRAME - 20 - 3 * 21);
        let mut emptied = Vec::new();
        blocks.free_chain(&memory, firsts[1], |frame| emptied.push(frame));
        assert_eq!(emptied, []);
        let mut moved = firsts.clone();
        blocks.empty(&mut memory, 1, |_, item, block| {
            moved[usize::try_from(item).expect("small")] = block;
        });
        assert!(moved[0] != firsts[0] && moved[3] != firsts[3]);
        blocks.retire(1);
        for item in [0, 2, 3] {
            let bytes = 200 + item;
            assert_eq!(read(&blocks, &memory, moved[item], bytes), value[..bytes]);
        }
        for item in [0, 2, 3] {
            blocks.free_chain(&memory, moved[item], |frame| emptied.push(frame));
        }
        assert_eq!((emptied, blocks.free()), (vec![2], BLOCKS_PER_FRAME));
    }
}
