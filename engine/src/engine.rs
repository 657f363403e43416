//! [`Engine`]: look-ups and changes. Making room is in `reclaim`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    Losses, Meta, Now, Policy, Settings, Usage, Value,
    blocks::Blocks,
    item::{Bases, Body, HEAD_BYTES_MAX, Head, KEY_BYTES_MAX, Shape, kill},
    memory::{Memory, NoMemory, prefetch},
    segment::{Frame, Pool, Segments, Use},
    slot::{FREQUENCY_MAX, PLACES, Slot},
    table::{BUCKET_BYTES, Position, STASH_MAX, Table, pair},
    traits,
};

/// The least memory an engine works with.
const BYTES_MIN: usize = 1 << 16;
const FRAME_BYTES_MIN: usize = 4 << 10;
const FRAME_BYTES_MAX: usize = 256 << 10;
/// About as many frames; more make eviction finer, and waste less at the ends.
const FRAMES: usize = 512;
/// Addresses are reserved for so many times the memory, so that the limit can be raised.
const GROWTH: usize = if cfg!(miri) { 1 } else { 16 };
/// Cache lines of an item that are fetched before it is read: as many as one of usual size has.
const FETCHED_LINES: usize = 6;
/// A ghost counts until so many in a hundred items were evicted after it. S3-FIFO has as many as the main pool holds; where what is read
/// in loops does not fit, fewer keep more of it.
const KNOWN_PERCENT: u64 = 67;
/// A value with its key is in line up to this share of a frame.
const INLINE_SHARE: usize = 8;

/// It does not fit, and nothing may go for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct Full;

/// Where an item is: good until the engine changes, but for [`Engine::used`] and [`Engine::amend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    position: Position,
    place: u64,
}

impl Found {
    /// Changes the item's slot.
    pub(crate) fn set(self, engine: &mut Engine, slot: Slot) {
        engine.table.set(&mut engine.memory, self.position, slot);
    }
}

/// See the crate's documentation.
#[derive(Debug)]
pub struct Engine {
    pub(crate) memory: Memory,
    pub(crate) table: Table,
    pub(crate) segments: Segments,
    pub(crate) blocks: Blocks,
    pub(crate) settings: Settings,
    pub(crate) frame_bytes: usize,
    pub(crate) table_frames: usize,
    /// Blocks that are being gathered for a value, and must not be given away.
    pub(crate) blocks_wanted: usize,
    /// Items that left the small pool for good: the clock of ghosts.
    pub(crate) evictions: u64,
    pub(crate) losses: Losses,
    item_bytes: u64,
    buckets: Arc<AtomicUsize>,
}

/// Prefetches for look-ups to come, without the engine's lock.
#[derive(Clone, Debug)]
pub struct Glance {
    address: usize,
    buckets: Arc<AtomicUsize>,
}

impl Glance {
    /// Fetches the buckets of a hash.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        for at in pair(hash, self.buckets.load(Ordering::Relaxed)) {
            prefetch(self.address + at * BUCKET_BYTES);
        }
    }
}

impl Engine {
    /// An empty engine.
    pub fn new(settings: Settings) -> Result<Engine, NoMemory> {
        let bytes_max = settings.bytes_max.max(BYTES_MIN);
        let frame_bytes = 1 << (bytes_max / FRAMES).max(1).ilog2();
        let frame_bytes = frame_bytes.clamp(FRAME_BYTES_MIN, FRAME_BYTES_MAX);
        let limit = frames(bytes_max, frame_bytes);
        let capacity = (limit * GROWTH).min(PLACES as usize / frame_bytes);
        let mut memory = Memory::reserve(capacity * frame_bytes)?;
        memory.use_huge_pages(limit * frame_bytes);
        let table = Table::new(frame_bytes / BUCKET_BYTES);
        Ok(Engine {
            buckets: Arc::new(AtomicUsize::new(table.buckets())),
            memory,
            table,
            segments: Segments::new(capacity, limit, 1),
            blocks: Blocks::new(frame_bytes),
            settings,
            frame_bytes,
            table_frames: 1,
            blocks_wanted: 0,
            evictions: 0,
            losses: Losses::default(),
            item_bytes: 0,
        })
    }

    /// The hash by which this engine finds a key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        hash(key, self.settings.hash_seed)
    }

    /// The item of a key, if it is there and not over.
    #[inline]
    pub fn find(&mut self, hash: u64, key: &[u8], now: Now) -> Option<Found> {
        let (found, _) = self.look(hash, key)?;
        if self.is_over(found.place, now) {
            self.note_expired(found.place);
            self.discard(found);
            return None;
        }
        Some(found)
    }

    /// What is kept with an item.
    pub fn meta(&self, found: Found) -> Meta {
        self.head(found.place).meta
    }

    /// Of [`Engine::meta`], what was given with the item: these are cheaper one by one.
    #[inline]
    pub fn traits(&self, found: Found) -> u8 {
        Shape::read(self.item(found.place)).traits()
    }

    #[inline]
    pub fn flags(&self, found: Found) -> u32 {
        let item = self.item(found.place);
        Shape::read(item).flags(item)
    }

    #[inline]
    pub fn cas(&self, found: Found) -> u64 {
        let item = self.item(found.place);
        Shape::read(item).cas(item, &self.bases(found.place))
    }

    #[inline]
    pub fn mark(&self, found: Found) -> Option<u64> {
        let item = self.item(found.place);
        Shape::read(item).mark(item, &self.bases(found.place))
    }

    #[inline]
    pub fn stored(&self, found: Found) -> u32 {
        Shape::stored(self.item(found.place), &self.bases(found.place))
    }

    /// An item's value.
    #[inline]
    pub fn value(&self, found: Found) -> Value<'_> {
        self.value_at(found.place)
    }

    /// The item was read.
    #[inline]
    pub fn used(&mut self, found: Found, now: Now) {
        let bases = self.bases(found.place);
        Head::note_use(self.item_mut(found.place), &bases, now.unix);
        self.table.use_once(&mut self.memory, found.position);
    }

    /// Changes what is kept with an item; its value stays.
    pub fn amend(&mut self, found: Found, meta: &Meta, now: Now) -> Result<Found, Full> {
        let (bases, frame) = (self.bases(found.place), self.frame_of(found.place));
        if Head::amend(self.item_mut(found.place), &bases, meta) {
            self.segments.frame_mut(frame).note_expiry(meta.expiry);
            return Ok(found);
        }
        let key = self.key(found.place).to_vec();
        let value = self.value(found).to_vec();
        self.put(self.hash(&key), &key, &[&value], meta, now)
    }

    /// Takes an item away.
    pub fn remove(&mut self, found: Found) {
        self.discard(found);
    }

    /// Stores a value, given in parts, in place of what the key had. When it is refused, what the key had is gone all the same.
    pub fn put(
        &mut self,
        hash: u64,
        key: &[u8],
        value: &[&[u8]],
        meta: &Meta,
        now: Now,
    ) -> Result<Found, Full> {
        self.put_in(self.nursery(), (hash, key), value, meta, now)
    }

    /// Likewise, in a pool: an item of another engine, where it was in that one.
    pub fn put_in(
        &mut self,
        pool: Pool,
        (hash, key): (u64, &[u8]),
        value: &[&[u8]],
        meta: &Meta,
        now: Now,
    ) -> Result<Found, Full> {
        assert!(key.len() <= KEY_BYTES_MAX, "keys have at most {KEY_BYTES_MAX} bytes");
        let bytes = value.iter().map(|part| part.len()).sum();
        self.tend_table(now);
        let (mut pool, mut frequency) = (pool.under(self.settings.policy), 0);
        if let Some((found, slot)) = self.look(hash, key) {
            if self.overwrite(found, value, bytes, meta) {
                self.table.use_once(&mut self.memory, found.position);
                return Ok(found);
            }
            frequency = (slot.frequency() + 1).min(FREQUENCY_MAX);
            if let Use::Segment(of) = self.segments.frame(self.frame_of(found.place)).used {
                pool = of;
            }
            self.discard(found);
        } else if self.settings.policy == Policy::S3Fifo
            && let Some(eviction) = self.table.take_ghost(&mut self.memory, hash)
            && self.is_known(eviction)
        {
            pool = Pool::Main;
        }
        if self.table.stashed() >= STASH_MAX {
            self.make_slot(hash)?;
        }
        let inline = HEAD_BYTES_MAX + key.len() + bytes <= self.frame_bytes / INLINE_SHARE;
        let size = key.len() + if inline { bytes } else { 0 };
        if !inline {
            self.gather(bytes, now)?;
        }
        let frame = self.room(pool, size, meta, now);
        self.blocks_wanted = 0;
        let frame = frame?;
        let body = if inline {
            Body::Inline(bytes as u16)
        } else {
            let first = self.blocks.write(&mut self.memory, value);
            Body::Blocks { bytes: bytes as u32, first }
        };
        let place = self.append(frame, key, body, meta);
        if inline {
            self.write_inline(place, value);
        }
        self.close_when_heavy(frame);
        let slot = Slot::item(hash, place).with_frequency(frequency);
        let seed = self.settings.hash_seed;
        let position = self
            .table
            .insert(&mut self.memory, hash, slot, |memory, place| hash_at(memory, place, seed));
        Ok(Found { position, place })
    }

    /// For look-ups to come: fetches the buckets.
    pub fn glance(&self) -> Glance {
        Glance { address: self.memory.address(), buckets: Arc::clone(&self.buckets) }
    }

    /// For a look-up that comes soon, once the buckets are there: fetches the item.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let start = self.memory.address();
        self.table.candidates(&self.memory, hash, |place| {
            for line in 0..FETCHED_LINES {
                prefetch(start + place as usize + 64 * line);
            }
        });
    }

    /// Empties it, and gives the memory back.
    pub fn clear(&mut self) {
        let (capacity, limit) =
            (self.memory.bytes().len() / self.frame_bytes, self.segments.limit());
        let table_bytes = self.table_frames * self.frame_bytes;
        self.memory.bytes_mut()[..table_bytes].fill(0);
        self.memory.release(table_bytes, capacity * self.frame_bytes);
        self.table = Table::new(self.frame_bytes / BUCKET_BYTES);
        // Numbers go on: a walk that was on its way finds no segment of its own.
        self.segments = Segments::new(capacity, limit, self.segments.next_number());
        self.blocks = Blocks::new(self.frame_bytes);
        self.table_frames = 1;
        self.item_bytes = 0;
        self.publish_buckets();
    }

    pub fn len(&self) -> usize {
        self.table.items()
    }

    pub fn is_empty(&self) -> bool {
        self.table.items() == 0
    }

    pub fn losses(&self) -> Losses {
        self.losses
    }

    pub fn usage(&self) -> Usage {
        let frames = self.segments.limit() - self.segments.free();
        Usage {
            items: self.table.items(),
            item_bytes: self.item_bytes,
            used_bytes: frames * self.frame_bytes + side_bytes(self.segments.limit()),
            table_bytes: self.table.buckets() * BUCKET_BYTES,
        }
    }
}

// === What the other modules use ===

impl Engine {
    /// Which pool new items go to.
    pub(crate) fn nursery(&self) -> Pool {
        Pool::Small.under(self.settings.policy)
    }

    #[inline]
    pub(crate) fn item(&self, place: u64) -> &[u8] {
        &self.memory.bytes()[place as usize..]
    }

    #[inline]
    pub(crate) fn item_mut(&mut self, place: u64) -> &mut [u8] {
        &mut self.memory.bytes_mut()[place as usize..]
    }

    #[inline]
    pub(crate) fn key(&self, place: u64) -> &[u8] {
        key_at(&self.memory, place)
    }

    #[inline]
    pub(crate) fn frame_of(&self, place: u64) -> u32 {
        (place >> self.frame_bytes.trailing_zeros()) as u32
    }

    pub(crate) fn frame_start(&self, frame: u32) -> usize {
        frame as usize * self.frame_bytes
    }

    #[inline]
    pub(crate) fn bases(&self, place: u64) -> Bases {
        self.segments.frame(self.frame_of(place)).bases
    }

    /// Whether the item at a place is over.
    #[inline]
    pub(crate) fn is_over(&self, place: u64, now: Now) -> bool {
        let item = self.item(place);
        Head::expires(item) && Shape::read(item).expiry(item, &self.bases(place)) <= now.unix
    }

    pub(crate) fn head(&self, place: u64) -> Head {
        Head::read(self.item(place), &self.bases(place))
    }

    #[inline]
    pub(crate) fn value_at(&self, place: u64) -> Value<'_> {
        let item = self.item(place);
        let shape = Shape::read(item);
        if shape.is_large() {
            Value::in_blocks(self, shape.body(item))
        } else {
            Value::inline(shape.inline(item))
        }
    }

    #[inline]
    pub(crate) fn look(&self, hash: u64, key: &[u8]) -> Option<(Found, Slot)> {
        let is_it = |place| self.key(place) == key;
        let (position, slot) = self.table.find(&self.memory, hash, is_it)?;
        Some((Found { position, place: slot.place() }, slot))
    }

    /// Whether a ghost still counts that this eviction has left.
    fn is_known(&self, eviction: u64) -> bool {
        let since = self.evictions.wrapping_sub(eviction) % PLACES;
        since * 100 <= self.table.items() as u64 * KNOWN_PERCENT
    }

    /// The item at a place.
    pub(crate) fn look_at(&self, hash: u64, place: u64) -> (Found, Slot) {
        let found = self.table.find(&self.memory, hash, |at| at == place);
        let (position, slot) = found.expect("an item that is not dead has a slot");
        (Found { position, place }, slot)
    }

    pub(crate) fn hash_at(&self, place: u64) -> u64 {
        hash_at(&self.memory, place, self.settings.hash_seed)
    }

    pub(crate) fn publish_buckets(&self) {
        self.buckets.store(self.table.buckets(), Ordering::Relaxed);
    }

    /// Takes an item away, and its frame, if that was all that lived there.
    pub(crate) fn discard(&mut self, found: Found) {
        let frame = self.frame_of(found.place);
        self.bury(found, Slot::EMPTY);
        let empty = self.segments.frame(frame).live == 0;
        if empty && !self.segments.is_open(frame) {
            self.segments.release(frame);
        }
    }

    /// Takes an item away, but not its frame; `ghost` stays in its slot.
    pub(crate) fn bury(&mut self, found: Found, ghost: Slot) {
        self.table.remove(&mut self.memory, found.position, ghost);
        let shape = Shape::read(self.item(found.place));
        if !shape.is_large() {
            return self.lay_down(found.place, shape, 0);
        }
        let body = shape.body(self.item(found.place));
        self.lay_down(found.place, shape, self.large(body));
        if let Body::Blocks { first, .. } = body {
            self.free_blocks(first);
        }
    }

    /// The item at a place is dead; its blocks, of `large` bytes, are not touched.
    #[inline]
    pub(crate) fn lay_down(&mut self, place: u64, shape: Shape, large: u64) {
        kill(self.item_mut(place));
        self.segments.died(self.frame_of(place), shape.bytes(), large);
        self.item_bytes -= shape.bytes() as u64 + large;
    }

    fn free_blocks(&mut self, first: u32) {
        let mut emptied = Vec::new();
        self.blocks.free_chain(&self.memory, first, |frame| emptied.push(frame));
        for frame in emptied {
            let left = self.blocks.free().saturating_sub(crate::blocks::BLOCKS_PER_FRAME);
            if left >= self.blocks_wanted {
                self.blocks.retire(frame);
                self.segments.release(frame);
            }
        }
    }

    /// Memory of a value out of line.
    pub(crate) fn large(&self, body: Body) -> u64 {
        match body {
            Body::Inline(_) => 0,
            Body::Blocks { bytes, .. } => {
                (self.blocks.needed(bytes as usize) * self.blocks.block_bytes()) as u64
            }
        }
    }

    /// Writes head and key behind what the frame holds; there must be room.
    pub(crate) fn append(&mut self, frame: u32, key: &[u8], body: Body, meta: &Meta) -> u64 {
        let place = self.append_head(frame, key.len(), body, meta);
        let start = place as usize + Shape::read(self.item(place)).head_bytes();
        self.memory.bytes_mut()[start..][..key.len()].copy_from_slice(key);
        place
    }

    /// Writes a head behind what the frame holds; key and value must follow.
    pub(crate) fn append_head(
        &mut self,
        frame: u32,
        key_bytes: usize,
        body: Body,
        meta: &Meta,
    ) -> u64 {
        let Frame { bases, written, .. } = *self.segments.frame(frame);
        let shape = Shape::new(key_bytes, meta, body, &bases);
        assert!(written as usize + shape.bytes() <= self.frame_bytes, "the item fits its frame");
        let place = (self.frame_start(frame) + written as usize) as u64;
        Head { shape, meta: *meta, body }.write(&bases, self.item_mut(place));
        let large = self.large(body);
        self.segments.written(frame, shape.bytes(), large, meta.expiry);
        self.item_bytes += shape.bytes() as u64 + large;
        if let Body::Blocks { first, .. } = body {
            self.blocks.set_item(&mut self.memory, first, place);
        }
        place
    }

    pub(crate) fn note_expired(&mut self, place: u64) {
        let unfetched = self.is_unfetched(place);
        self.losses.expired += 1;
        self.losses.expired_unfetched += unfetched;
    }

    pub(crate) fn note_evicted(&mut self, place: u64) {
        let unfetched = self.is_unfetched(place);
        self.losses.evicted += 1;
        self.losses.evicted_unfetched += unfetched;
    }

    fn is_unfetched(&self, place: u64) -> u64 {
        u64::from(Shape::read(self.item(place)).traits() & traits::FETCHED == 0)
    }
}

impl Engine {
    /// Writes a value over one of the same size and layout.
    fn overwrite(&mut self, found: Found, value: &[&[u8]], bytes: usize, meta: &Meta) -> bool {
        let (bases, place) = (self.bases(found.place), found.place);
        let shape = Shape::read(self.item(place));
        let is_same = !shape.is_large() && shape.inline(self.item(place)).len() == bytes;
        if !is_same || !Head::amend(self.item_mut(place), &bases, meta) {
            return false;
        }
        let frame = self.frame_of(place);
        self.segments.frame_mut(frame).note_expiry(meta.expiry);
        self.write_inline(place, value);
        true
    }

    fn write_inline(&mut self, place: u64, value: &[&[u8]]) {
        let shape = Shape::read(self.item(place));
        let mut at = place as usize + shape.head_bytes() + shape.key(self.item(place)).len();
        for part in value {
            self.memory.bytes_mut()[at..][..part.len()].copy_from_slice(part);
            at += part.len();
        }
    }
}

/// The hash by which engines with this seed find a key. Bits 36 to 47 choose nothing: they can choose an engine.
#[inline]
pub fn hash(key: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(key, seed)
}

#[inline]
fn key_at(memory: &Memory, place: u64) -> &[u8] {
    let item = &memory.bytes()[place as usize..];
    Shape::read(item).key(item)
}

pub(crate) fn hash_at(memory: &Memory, place: u64, seed: u64) -> u64 {
    hash(key_at(memory, place), seed)
}

/// What lies beside the mapping for so many frames: headers, queues, which blocks are free.
fn side_bytes(frames: usize) -> usize {
    frames * (size_of::<Frame>() + 64)
}

/// How many frames so much memory has room for.
pub(crate) fn frames(bytes_max: usize, frame_bytes: usize) -> usize {
    bytes_max.max(BYTES_MIN) / (frame_bytes + side_bytes(1))
}
