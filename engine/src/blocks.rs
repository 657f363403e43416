//! [`Blocks`]: where values lie that are too large for a segment: chains of small blocks, 64 to a frame.
//!
//! Blocks can be anywhere, so nothing is lost to fragmentation, and a frame that has few of them is emptied by moving those. For
//! that every block knows its neighbours; the first one knows its item.

use std::collections::BTreeSet;

use crate::memory::Memory;

/// Blocks of a frame: one for each bit of a word.
pub(crate) const BLOCKS_PER_FRAME: usize = 64;
/// Ends a chain.
pub(crate) const NONE: u32 = u32::MAX;

/// What is known of a block that is used.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    before: Before,
}

/// What points to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// The item at this place.
    Item(u64),
    Block(u32),
}

/// A frame full of blocks.
#[derive(Debug)]
struct Sheet {
    /// A bit for every free block.
    free: u64,
    links: [Link; BLOCKS_PER_FRAME],
}

/// Side memory of one frame of blocks.
pub(crate) const SHEET_BYTES: usize = size_of::<Sheet>();

/// See the module.
///
/// Invariant: `vacant` names the sheets with free blocks, and `free` is their number.
#[derive(Debug)]
pub(crate) struct Blocks {
    block_bytes: usize,
    sheets: Vec<Option<Box<Sheet>>>,
    count: usize,
    vacant: BTreeSet<u32>,
    free: usize,
}

impl Blocks {
    pub(crate) fn new(frames: usize, frame_bytes: usize) -> Blocks {
        let mut sheets = Vec::new();
        sheets.resize_with(frames, || None);
        let block_bytes = frame_bytes / BLOCKS_PER_FRAME;
        Blocks { block_bytes, sheets, count: 0, vacant: BTreeSet::new(), free: 0 }
    }

    /// Blocks that a value takes.
    pub(crate) fn needed(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.block_bytes).max(1)
    }

    pub(crate) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// Frames of blocks.
    pub(crate) fn sheets(&self) -> usize {
        self.count
    }

    /// A frame is for blocks from now on.
    pub(crate) fn add(&mut self, frame: u32) {
        let link = Link { next: NONE, before: Before::Block(NONE) };
        let sheet = Sheet { free: u64::MAX, links: [link; BLOCKS_PER_FRAME] };
        self.sheets[frame as usize] = Some(Box::new(sheet));
        self.count += 1;
        self.vacant.insert(frame);
        self.free += BLOCKS_PER_FRAME;
    }

    /// Takes a frame back all of whose blocks are free.
    pub(crate) fn retire(&mut self, frame: u32) {
        let sheet = self.sheets[frame as usize].take().expect("the frame holds blocks");
        assert_eq!(sheet.free, u64::MAX, "no block of the frame is used");
        self.count -= 1;
        self.vacant.remove(&frame);
        self.free -= BLOCKS_PER_FRAME;
    }

    fn sheet(&mut self, block: u32) -> (&mut Sheet, usize) {
        let (frame, at) = split(block);
        let sheet = self.sheets[frame as usize].as_mut();
        (sheet.expect("a block is in a frame of blocks"), at)
    }

    fn link(&self, block: u32) -> Link {
        let (frame, at) = split(block);
        self.sheets[frame as usize].as_ref().expect("a block is in a frame of blocks").links[at]
    }

    fn take(&mut self) -> u32 {
        let frame = *self.vacant.first().expect("the caller has made sure of free blocks");
        let sheet = self.sheets[frame as usize].as_mut().expect("it is vacant");
        let at = sheet.free.trailing_zeros();
        sheet.free &= sheet.free - 1;
        if sheet.free == 0 {
            self.vacant.remove(&frame);
        }
        self.free -= 1;
        frame * BLOCKS_PER_FRAME as u32 + at
    }

    /// Writes a value, given in parts; there must be blocks for it. Returns its first block, which knows no item yet.
    pub(crate) fn write(&mut self, memory: &mut Memory, parts: &[&[u8]]) -> u32 {
        let first = self.take();
        let (mut block, mut filled) = (first, 0);
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                if filled == self.block_bytes {
                    let next = self.take();
                    self.set_next(block, next);
                    let (sheet, at) = self.sheet(next);
                    sheet.links[at] = Link { next: NONE, before: Before::Block(block) };
                    (block, filled) = (next, 0);
                }
                let (now, later) = rest.split_at(rest.len().min(self.block_bytes - filled));
                let start = block as usize * self.block_bytes + filled;
                memory.bytes_mut()[start..][..now.len()].copy_from_slice(now);
                (rest, filled) = (later, filled + now.len());
            }
        }
        self.set_next(block, NONE);
        first
    }

    fn set_next(&mut self, block: u32, next: u32) {
        let (sheet, at) = self.sheet(block);
        sheet.links[at].next = next;
    }

    /// The item of a chain is at this place now.
    pub(crate) fn set_item(&mut self, first: u32, place: u64) {
        let (sheet, at) = self.sheet(first);
        sheet.links[at].before = Before::Item(place);
    }

    /// The next block of a chain.
    pub(crate) fn next(&self, block: u32) -> u32 {
        self.link(block).next
    }

    pub(crate) fn bytes<'a>(&self, memory: &'a Memory, block: u32) -> &'a [u8] {
        &memory.bytes()[block as usize * self.block_bytes..][..self.block_bytes]
    }

    /// Frees a chain; `emptied` is told of frames without a used block.
    pub(crate) fn free_chain(&mut self, first: u32, mut emptied: impl FnMut(u32)) {
        let mut block = first;
        while block != NONE {
            let next = self.next(block);
            if self.free_one(block) {
                emptied(split(block).0);
            }
            block = next;
        }
    }

    /// True if its frame has no used block left.
    fn free_one(&mut self, block: u32) -> bool {
        let (frame, at) = split(block);
        let (sheet, _) = self.sheet(block);
        assert_eq!(sheet.free & (1 << at), 0, "the block is used");
        sheet.free |= 1 << at;
        let empty = sheet.free == u64::MAX;
        self.vacant.insert(frame);
        self.free += 1;
        empty
    }

    /// The frame with the fewest used blocks.
    pub(crate) fn emptiest(&self) -> Option<u32> {
        let free_of = |frame: &u32| {
            self.sheets[*frame as usize].as_ref().map_or(0, |sheet| sheet.free.count_ones())
        };
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
            let (sheet, _) = self.sheet(from);
            if sheet.free & (1 << at) != 0 {
                continue;
            }
            // The links may change while the chain's other blocks move: they are read when it is this one's turn.
            let link = self.link(from);
            let to = self.take();
            let start = from as usize * self.block_bytes;
            let target = to as usize * self.block_bytes;
            memory.bytes_mut().copy_within(start..start + self.block_bytes, target);
            let (sheet, place) = self.sheet(to);
            sheet.links[place] = link;
            match link.before {
                Before::Block(before) => self.set_next(before, to),
                Before::Item(item) => first_moved(memory, item, to),
            }
            if link.next != NONE {
                let (sheet, place) = self.sheet(link.next);
                sheet.links[place].before = Before::Block(to);
            }
            let (sheet, _) = self.sheet(from);
            sheet.free |= 1 << at;
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
            block = blocks.next(block);
        }
        out.truncate(bytes);
        out
    }

    #[test]
    fn chains_survive_moves() {
        let mut memory = Memory::reserve(4 * 640).expect("memory");
        let mut blocks = Blocks::new(4, 640);
        blocks.add(1);
        blocks.add(2);
        let value: Vec<u8> = (0..=255).collect();
        let firsts: Vec<u32> = (0..4)
            .map(|item| {
                let first = blocks.write(&mut memory, &[&value[..100], &value[100..200 + item]]);
                blocks.set_item(first, item as u64);
                first
            })
            .collect();
        assert_eq!(blocks.free(), 2 * BLOCKS_PER_FRAME - 20 - 3 * 21);
        let mut emptied = Vec::new();
        blocks.free_chain(firsts[1], |frame| emptied.push(frame));
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
            blocks.free_chain(moved[item], |frame| emptied.push(frame));
        }
        assert_eq!((emptied, blocks.free()), (vec![2], BLOCKS_PER_FRAME));
    }
}
