//! Making room: frames for segments, blocks and the table. See the crate's documentation for the order of things.

use crate::{
    Now, Policy,
    blocks::BLOCKS_PER_FRAME,
    engine::{Engine, Found, Full, frames, hash_at},
    item::{Bases, Body, HEAD_BYTES_MAX, Head, Shape},
    memory::prefetch,
    segment::{POOLS, Pool, Use},
    slot::Slot,
    table::{BUCKET_BYTES, pair},
};

/// Frames that stay free, for what is copied.
const RESERVE: usize = 1;
/// So many rounds may copy what is used; then everything goes.
const PATIENCE: usize = 8;
/// The small pool's share of all segments, as a divisor.
const SMALL_SHARE: u64 = 10;
/// Uses that bring an item from the small pool to the main pool. S3-FIFO has two. Item by item, on four traces, in caches of 1800 items
/// and more, one costs at most half a point (a database's pages) and brings up to four (a disk's blocks, which come back in loops).
const PROMOTION: u8 = 1;
/// The table gets a bucket when more than so many percent of its slots hold items: the others are for ghosts, and keep inserts short...
const LOAD_PERCENT: usize = 72;
/// ... and takes a frame away from the items for it when it is more than so many.
const LOAD_PERCENT_MAX: usize = 82;
/// The table has at most this share of the frames, as a divisor.
const TABLE_SHARE: usize = 2;
/// Items whose buckets are fetched together.
pub(crate) const BATCH: usize = 16;
/// A segment with large values is closed when an eighth of their bytes would fill it: few entries must not hold its frame for long,
/// nor too many megabytes come and go at once.
const HEAVY: u64 = 8;

/// Whether eviction copies what was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Used {
    Keep,
    Drop,
}

// === Room for what is written ===

impl Engine {
    /// A frame of the pool with room for an item with so many bytes of key and value.
    pub(crate) fn room(
        &mut self,
        pool: Pool,
        bytes: usize,
        meta: &crate::Meta,
        now: Now,
    ) -> Result<u32, Full> {
        if let Some(open) = self.open_with_room(pool, bytes) {
            return Ok(open);
        }
        self.want_frame(now)?;
        // What was copied may have left room behind it.
        if let Some(open) = self.open_with_room(pool, bytes) {
            return Ok(open);
        }
        self.segments.begin(pool, Bases::around(meta, now.unix, now.uptime)).ok_or(Full)
    }

    fn open_with_room(&self, pool: Pool, bytes: usize) -> Option<u32> {
        self.segments.open(pool).find(|open| {
            let written = self.segments.frame(*open).written as usize;
            written + HEAD_BYTES_MAX + bytes <= self.frame_bytes
        })
    }

    /// Closes a segment whose large values are enough.
    pub(crate) fn close_when_heavy(&mut self, frame: u32) {
        let segment = self.segments.frame(frame);
        let weight = u64::from(segment.written) + segment.large / HEAVY;
        if weight >= self.frame_bytes as u64 && self.segments.is_open(frame) {
            self.segments.close(frame);
        }
    }

    /// Makes sure of free blocks for a value; nobody else gets them before it is written.
    pub(crate) fn gather(&mut self, bytes: usize, now: Now) -> Result<(), Full> {
        let needed = self.blocks.needed(bytes);
        let spoken_for = self.table_frames + RESERVE + 4;
        let sheets = needed.div_ceil(BLOCKS_PER_FRAME);
        if sheets + spoken_for > self.segments.limit() || u32::try_from(bytes).is_err() {
            return Err(Full);
        }
        self.blocks_wanted = needed;
        while self.blocks.free() < needed {
            if self.want_frame(now).is_err() {
                self.blocks_wanted = 0;
                return Err(Full);
            }
            let frame = self.segments.take_last(Use::Blocks).expect("a frame was made free");
            self.blocks.add(frame);
        }
        Ok(())
    }

    /// Makes sure of a frame beside the reserve.
    fn want_frame(&mut self, now: Now) -> Result<(), Full> {
        let rounds_max = PATIENCE + 4 * self.segments.limit();
        for round in 0..rounds_max {
            if self.segments.free() > RESERVE {
                return Ok(());
            }
            let used = if round < PATIENCE { Used::Keep } else { Used::Drop };
            if !self.reclaim(used, now) {
                return Err(Full);
            }
        }
        Err(Full)
    }

    /// One round; false if there is nothing to be had.
    fn reclaim(&mut self, used: Used, now: Now) -> bool {
        if self.gather_blocks() {
            return true;
        }
        let total = (self.segments.limit() * self.frame_bytes) as u64;
        if self.segments.dead() * 8 > total && self.compact(self.frame_bytes / 2, now) {
            return true;
        }
        if self.settings.policy == Policy::Never {
            return self.sweep(0, usize::MAX, now).removed > 0
                || self.compact(self.frame_bytes / 16, now);
        }
        let Some(victim) = self.victim() else { return false };
        self.evict(victim, used, now);
        true
    }

    /// Moves blocks together, if that frees a frame.
    fn gather_blocks(&mut self) -> bool {
        if self.blocks.free() < self.blocks_wanted + BLOCKS_PER_FRAME {
            return false;
        }
        let Some(frame) = self.blocks.emptiest() else { return false };
        self.empty_sheet(frame);
        true
    }

    fn empty_sheet(&mut self, frame: u32) {
        self.blocks.empty(&mut self.memory, frame, |memory, item, block| {
            Head::set_first_block(&mut memory.bytes_mut()[item as usize..], block);
        });
        self.blocks.retire(frame);
        self.segments.release(frame);
    }

    /// Copies what lives in the segment that has the most dead bytes, if they are at least so many.
    fn compact(&mut self, dead_min: usize, now: Now) -> bool {
        let Some((frame, dead)) = self.segments.deadest() else { return false };
        if (dead as usize) < dead_min {
            return false;
        }
        let Use::Segment(pool) = self.segments.frame(frame).used else { return false };
        self.each_item(
            frame,
            |_| true,
            |engine, place, hash| {
                let (found, slot) = engine.look_at(hash, place);
                if engine.is_over(place, now) {
                    engine.note_expired(place);
                    engine.bury(found, Slot::EMPTY);
                } else if !engine.transfer((found, slot), pool, slot.frequency(), now) {
                    engine.note_evicted(place);
                    engine.bury(found, Slot::EMPTY);
                }
            },
        );
        self.segments.release(frame);
        true
    }

    /// The segment that goes next.
    fn victim(&mut self) -> Option<u32> {
        let bytes = |pool| {
            let extent = self.segments.extent(pool);
            (extent.segments * self.frame_bytes) as u64 + extent.large
        };
        let (small, main) = (bytes(Pool::Small), bytes(Pool::Main));
        let mut order = POOLS;
        if small * SMALL_SHARE <= small + main {
            order.reverse();
        }
        if let Some(frame) = order.into_iter().find_map(|pool| self.segments.oldest(pool)) {
            return Some(frame);
        }
        self.segments.close_all();
        order.into_iter().find_map(|pool| self.segments.oldest(pool))
    }

    /// Empties a segment; see the crate's documentation.
    fn evict(&mut self, frame: u32, used: Used, now: Now) {
        let Use::Segment(pool) = self.segments.frame(frame).used else { return };
        self.each_item(
            frame,
            |_| true,
            |engine, place, hash| {
                let (found, slot) = engine.look_at(hash, place);
                if engine.is_over(place, now) {
                    engine.note_expired(place);
                    return engine.bury(found, Slot::EMPTY);
                }
                let frequency = match (pool, slot.frequency()) {
                    (Pool::Small, frequency) if frequency >= PROMOTION => Some(0),
                    (Pool::Main, frequency) => frequency.checked_sub(1),
                    (Pool::Small, _) => None,
                };
                let kept = frequency.filter(|_| used == Used::Keep);
                if kept.is_some_and(|frequency| {
                    engine.transfer((found, slot), Pool::Main, frequency, now)
                }) {
                    return;
                }
                engine.note_evicted(place);
                let ghost = if pool == Pool::Small {
                    engine.evictions += 1;
                    slot.into_ghost(engine.evictions)
                } else {
                    Slot::EMPTY
                };
                engine.bury(found, ghost);
            },
        );
        self.segments.release(frame);
    }

    /// Copies an item to the end of a pool; false if there is no frame left for it.
    fn transfer(&mut self, from: (Found, Slot), pool: Pool, frequency: u8, now: Now) -> bool {
        let (found, slot) = from;
        let place = slot.place();
        let head = self.head(place);
        let inline = match head.body {
            Body::Inline(bytes) => usize::from(bytes),
            Body::Blocks { .. } => 0,
        };
        let key_bytes = head.shape.key(self.item(place)).len();
        let target = self
            .open_with_room(pool, key_bytes + inline)
            .or_else(|| self.segments.begin(pool, Bases::around(&head.meta, now.unix, now.uptime)));
        let Some(target) = target else { return false };
        let to = self.append_head(target, key_bytes, head.body, &head.meta);
        let from = place as usize + head.shape.head_bytes();
        let start = to as usize + Shape::read(self.item(to)).head_bytes();
        self.memory.bytes_mut().copy_within(from..from + key_bytes + inline, start);
        found.set(self, slot.at(to).with_frequency(frequency));
        self.lay_down(place, head.shape, self.large(head.body));
        self.close_when_heavy(target);
        true
    }

    /// Calls `act` for every item of a segment that is not dead and `wanted`, with its place and hash.
    pub(crate) fn each_item(
        &mut self,
        frame: u32,
        wanted: impl Fn(&[u8]) -> bool,
        mut act: impl FnMut(&mut Engine, u64, u64),
    ) {
        let start = self.frame_start(frame);
        let end = start + self.segments.frame(frame).written as usize;
        let (mut at, address) = (start, self.memory.address());
        while at < end {
            let mut batch = [(0_u64, 0_u64); BATCH];
            let mut count = 0;
            while at < end && count < BATCH {
                let item = self.item(at as u64);
                let shape = Shape::read(item);
                if !shape.is_dead() && wanted(item) {
                    let hash = self.hash_at(at as u64);
                    for bucket in pair(hash, self.table.buckets()) {
                        prefetch(address + bucket * BUCKET_BYTES);
                    }
                    batch[count] = (at as u64, hash);
                    count += 1;
                }
                at += shape.bytes();
            }
            for (place, hash) in &batch[..count] {
                act(self, *place, *hash);
            }
        }
    }
}

// === The table ===

impl Engine {
    /// Gives the table its next bucket when it needs one.
    pub(crate) fn tend_table(&mut self, now: Now) {
        if self.table.stashed() > 0 {
            let seed = self.settings.hash_seed;
            self.table.unstash(&mut self.memory, |memory, place| hash_at(memory, place, seed));
        }
        // Two for one new item: it catches up when it could not grow for a while.
        for _ in 0..2 {
            if !self.table.is_loaded(LOAD_PERCENT) || !self.has_bucket_memory(now) {
                return;
            }
            let seed = self.settings.hash_seed;
            self.table.split(&mut self.memory, |memory, place| hash_at(memory, place, seed));
            self.publish_buckets();
        }
    }

    fn has_bucket_memory(&mut self, now: Now) -> bool {
        if (self.table.buckets() + 1) * BUCKET_BYTES <= self.table_frames * self.frame_bytes {
            return true;
        }
        if (self.table_frames + 1) * TABLE_SHARE > self.segments.limit() {
            return false;
        }
        if self.segments.free() <= RESERVE {
            let urgent = self.table.is_loaded(LOAD_PERCENT_MAX);
            if !urgent || self.want_frame(now).is_err() {
                return false;
            }
        }
        let next = self.table_frames as u32;
        if self.segments.frame(next).used != Use::Free {
            self.vacate(next);
        }
        let taken = self.segments.take_for_table(next);
        self.table_frames += usize::from(taken);
        taken
    }

    /// Moves what a frame holds elsewhere; there must be a free frame.
    fn vacate(&mut self, frame: u32) {
        match self.segments.frame(frame).used {
            Use::Free | Use::Table => {}
            Use::Blocks => {
                let other = self.segments.take_last(Use::Blocks).expect("there is a free frame");
                self.blocks.add(other);
                self.empty_sheet(frame);
            }
            Use::Segment(_) => {
                let to = self.segments.last_free().expect("there is a free frame");
                let (start, target) = (self.frame_start(frame), self.frame_start(to));
                let written = self.segments.frame(frame).written as usize;
                self.memory.bytes_mut().copy_within(start..start + written, target);
                self.each_item(
                    frame,
                    |_| true,
                    |engine, place, hash| {
                        let moved = place - start as u64 + target as u64;
                        let (found, slot) = engine.look_at(hash, place);
                        if let Body::Blocks { first, .. } = engine.head(place).body {
                            engine.blocks.set_item(&mut engine.memory, first, moved);
                        }
                        found.set(engine, slot.at(moved));
                    },
                );
                self.segments.moved(frame, to);
            }
        }
    }

    /// The stash is full: some item of these buckets has to go.
    pub(crate) fn make_slot(&mut self, hash: u64) -> Result<(), Full> {
        if self.settings.policy == Policy::Never {
            return Err(Full);
        }
        let Some((_, slot)) = self.table.least_used(&self.memory, hash) else { return Ok(()) };
        let place = slot.place();
        let (found, _) = self.look_at(self.hash_at(place), place);
        self.note_evicted(place);
        self.discard(found);
        let seed = self.settings.hash_seed;
        self.table.unstash(&mut self.memory, |memory, place| hash_at(memory, place, seed));
        Ok(())
    }
}

// === The limit ===

impl Engine {
    /// Another amount of memory, up to sixteen times the first. What is too much goes at once.
    pub fn limit(&mut self, bytes_max: usize, now: Now) {
        let least = self.table_frames + RESERVE + 4;
        let limit = frames(bytes_max, self.frame_bytes).max(least);
        self.segments.set_limit(limit);
        self.settings.bytes_max = bytes_max;
        while let Some(frame) = self.segments.last_used_behind_limit() {
            if self.segments.free() > 0 {
                self.vacate(frame);
            } else {
                let victim = if self.segments.frame(frame).used == Use::Blocks {
                    self.victim()
                } else {
                    Some(frame)
                };
                let victim = victim.expect("blocks belong to items, and those to segments");
                self.evict(victim, Used::Drop, now);
            }
        }
        let (from, to) = (self.segments.limit() * self.frame_bytes, self.memory.bytes().len());
        self.memory.release(from, to);
        self.memory.use_huge_pages(from);
    }
}
