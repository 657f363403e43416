//! [`Table`]: from a key's hash to its item: buckets of eight slots, two for each key.
//!
//! It grows by one bucket at a time (linear hashing): bucket `n` takes its share of bucket `n - 2^k`, so it is always about as full,
//! and nobody ever waits for it to double. A slot has too few bits of the hash to be moved by; the key is read for that.
//!
//! Ghosts live in slots that items do not need. What finds no place, even after others have moved to their other buckets,
//! goes to a small stash that every look-up passes through while it is not empty.

use crate::{
    memory::Memory,
    slot::{FREQUENCY_MAX, Slot},
};

pub(crate) const BUCKET_BYTES: usize = 64;
pub(crate) const SLOTS: usize = 8;
/// More than this in the stash and something must go.
pub(crate) const STASH_MAX: usize = 64;
/// Items that move for one that is added.
const MOVES_MAX: usize = 64;
/// Positions from here on are in the stash.
const IN_STASH: usize = 1 << 60;

/// Where a slot is. Good until the table changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position(usize);

/// See the module. The buckets are at the beginning of the memory.
///
/// Invariant: an item's slot is in one of the two buckets of its key's hash, or in the stash.
#[derive(Debug)]
pub(crate) struct Table {
    buckets: usize,
    items: usize,
    stash: Vec<(u64, Slot)>,
}

/// The address of a bucket, for a hash whose low bits choose it: buckets that were not split yet stand for two.
#[inline]
fn index(hash: u64, buckets: usize) -> usize {
    let mask = buckets.next_power_of_two() - 1;
    let at = hash as usize & mask;
    if at < buckets { at } else { at & (mask >> 1) }
}

/// The second bucket is chosen by other bits.
#[inline]
fn second(hash: u64) -> u64 {
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

/// Both buckets of a hash.
#[inline]
pub(crate) fn pair(hash: u64, buckets: usize) -> [usize; 2] {
    [index(hash, buckets), index(second(hash), buckets)]
}

/// The tags of a bucket's eight slots come first, two bytes each, so that all are compared at once; then six bytes of each slot.
type Bucket = [u8; BUCKET_BYTES];

const TAG_BYTES: usize = 2;
const REST_BYTES: usize = 6;

#[inline]
fn bucket(memory: &Memory, at: usize) -> &Bucket {
    &memory.bytes().as_chunks().0[at]
}

#[inline]
fn slot_in(bucket: &Bucket, slot: usize) -> Slot {
    let tag = u16::from_le_bytes([bucket[TAG_BYTES * slot], bucket[TAG_BYTES * slot + 1]]);
    // Two bytes before the rest are read along, and shifted out.
    let begin = TAG_BYTES * SLOTS + REST_BYTES * slot - 2;
    let (rest, _) = bucket[begin..].split_first_chunk().expect("a slot ends in its bucket");
    Slot::from_parts(tag, u64::from_le_bytes(*rest) >> 16)
}

#[inline]
fn slots_in(bucket: &Bucket) -> impl Iterator<Item = (usize, Slot)> {
    (0..SLOTS).map(|slot| (slot, slot_in(bucket, slot)))
}

#[inline]
fn slot_at(memory: &Memory, position: usize) -> Slot {
    slot_in(bucket(memory, position / SLOTS), position % SLOTS)
}

/// The slots of a bucket with this tag; rarely one with another tag. Four tags are compared at a time: a lane of `x` that is zero
/// is the lowest whose upper bit is set in `(x - 1) & !x`, lane by lane.
#[inline]
fn tagged(bucket: &Bucket, tag: u16) -> impl Iterator<Item = (usize, Slot)> {
    const LANES: u64 = 0x0001_0001_0001_0001;
    let (words, _) = bucket.as_chunks::<8>();
    let zeros = |word: usize| {
        let differs = u64::from_le_bytes(words[word]) ^ (u64::from(tag) * LANES);
        (differs.wrapping_sub(LANES) & !differs & (LANES << 15)) >> 15
    };
    // Bit 16 n stands for slot n, bit 16 n + 1 for slot 4 + n.
    let mut found = zeros(0) | (zeros(1) << 1);
    std::iter::from_fn(move || {
        let bit = (found != 0).then(|| found.trailing_zeros() as usize)?;
        found &= found - 1;
        let slot = bit / 16 + bit % 2 * 4;
        Some((slot, slot_in(bucket, slot)))
    })
}

impl Table {
    /// An empty table; its memory must be zeroed.
    pub(crate) fn new(buckets: usize) -> Table {
        assert!(buckets > 0, "a table has buckets");
        Table { buckets, items: 0, stash: Vec::new() }
    }

    pub(crate) fn buckets(&self) -> usize {
        self.buckets
    }

    pub(crate) fn items(&self) -> usize {
        self.items
    }

    pub(crate) fn slots(&self) -> usize {
        self.buckets * SLOTS
    }

    pub(crate) fn stashed(&self) -> usize {
        self.stash.len()
    }

    /// The slot of the item with this hash for whose place `is_it` holds.
    #[inline]
    pub(crate) fn find(
        &self,
        memory: &Memory,
        hash: u64,
        mut is_it: impl FnMut(u64) -> bool,
    ) -> Option<(Position, Slot)> {
        for at in pair(hash, self.buckets) {
            for (slot, found) in tagged(bucket(memory, at), Slot::tag_of(hash)) {
                if found.is_item_of(hash) && is_it(found.place()) {
                    return Some((Position(at * SLOTS + slot), found));
                }
            }
        }
        let stashed = self.stash.iter().position(|(of, slot)| *of == hash && is_it(slot.place()));
        stashed.map(|at| (Position(IN_STASH + at), self.stash[at].1))
    }

    /// Places of items that may have this hash, for prefetching.
    #[inline]
    pub(crate) fn candidates(&self, memory: &Memory, hash: u64, mut each: impl FnMut(u64)) {
        for at in pair(hash, self.buckets) {
            tagged(bucket(memory, at), Slot::tag_of(hash)).for_each(|(_, slot)| each(slot.place()));
        }
    }

    /// The number of the eviction that left a ghost of this hash, if there is one. It is taken away.
    pub(crate) fn take_ghost(&mut self, memory: &mut Memory, hash: u64) -> Option<u64> {
        for at in pair(hash, self.buckets) {
            let ghost = tagged(bucket(memory, at), Slot::tag_of(hash))
                .find(|(_, slot)| slot.is_ghost_of(hash));
            if let Some((slot, ghost)) = ghost {
                self.set(memory, Position(at * SLOTS + slot), Slot::EMPTY);
                return Some(ghost.place());
            }
        }
        None
    }

    /// Changes a slot in place.
    pub(crate) fn set(&mut self, memory: &mut Memory, position: Position, slot: Slot) {
        if let Some(at) = position.0.checked_sub(IN_STASH) {
            self.stash[at].1 = slot;
        } else {
            let (at, number) = (position.0 / SLOTS, position.0 % SLOTS);
            let bucket: &mut Bucket = &mut memory.bytes_mut().as_chunks_mut().0[at];
            bucket[TAG_BYTES * number..][..TAG_BYTES].copy_from_slice(&slot.tag().to_le_bytes());
            let rest = &mut bucket[TAG_BYTES * SLOTS + REST_BYTES * number..][..REST_BYTES];
            rest.copy_from_slice(&slot.0.to_le_bytes()[..REST_BYTES]);
        }
    }

    /// Counts one use of an item.
    #[inline]
    pub(crate) fn use_once(&mut self, memory: &mut Memory, position: Position) {
        let slot = match position.0.checked_sub(IN_STASH) {
            Some(at) => self.stash[at].1,
            None => slot_at(memory, position.0),
        };
        if slot.frequency() < FREQUENCY_MAX {
            self.set(memory, position, slot.with_frequency(slot.frequency() + 1));
        }
    }

    /// Takes an item's slot away, or leaves `ghost` in its place.
    pub(crate) fn remove(&mut self, memory: &mut Memory, position: Position, ghost: Slot) {
        self.items -= 1;
        if let Some(at) = position.0.checked_sub(IN_STASH) {
            self.stash.swap_remove(at);
        } else {
            self.set(memory, position, ghost);
        }
    }

    /// Adds an item that is not there. `hash_of` reads the key at a place.
    ///
    /// Where both buckets are full, items move to their other buckets until one finds a vacancy; if that takes too long, the last one
    /// goes to the stash.
    pub(crate) fn insert(
        &mut self,
        memory: &mut Memory,
        hash: u64,
        slot: Slot,
        hash_of: impl Fn(&Memory, u64) -> u64,
    ) -> Position {
        self.items += 1;
        let (mut moving, mut inserted) = ((hash, slot), None);
        for step in 0..MOVES_MAX {
            if let Some(position) = self.vacancy(memory, moving.0) {
                self.set(memory, position, moving.1);
                return if moving.1.place() == slot.place() {
                    position
                } else {
                    inserted.unwrap_or(position)
                };
            }
            // Any choice will do that is not the same again and again.
            let choice = (moving.0 >> 40) as usize + step * 7;
            let at = pair(moving.0, self.buckets)[choice % 2];
            let position = Position(at * SLOTS + choice / 2 % SLOTS);
            let out = slot_at(memory, position.0);
            self.set(memory, position, moving.1);
            if moving.1.place() == slot.place() {
                inserted = Some(position);
            }
            moving = (hash_of(memory, out.place()), out);
        }
        self.stash.push(moving);
        let stashed = Position(IN_STASH + self.stash.len() - 1);
        if moving.1.place() == slot.place() { stashed } else { inserted.unwrap_or(stashed) }
    }

    /// A slot without an item: an empty one of the emptier bucket, else that of the oldest ghost.
    fn vacancy(&self, memory: &Memory, hash: u64) -> Option<Position> {
        let mut best: Option<(usize, Position)> = None;
        let mut oldest: Option<(u64, Position)> = None;
        for at in pair(hash, self.buckets) {
            let (mut empty, mut last) = (0, None);
            for (number, slot) in slots_in(bucket(memory, at)) {
                let position = Position(at * SLOTS + number);
                if slot.is_empty() {
                    empty += 1;
                    last = Some(position);
                } else if slot.is_ghost() && oldest.is_none_or(|(age, _)| slot.place() < age) {
                    oldest = Some((slot.place(), position));
                }
            }
            if let Some(position) = last.filter(|_| best.is_none_or(|(most, _)| empty > most)) {
                best = Some((empty, position));
            }
        }
        best.or(oldest.map(|(_, position)| (0, position))).map(|(_, position)| position)
    }

    /// Whether some bucket has to be split before the next item, for at most `percent` of the slots to hold items.
    pub(crate) fn is_loaded(&self, percent: usize) -> bool {
        self.items * 100 >= self.slots() * percent
    }

    /// Adds a bucket, whose memory must be there.
    pub(crate) fn split(&mut self, memory: &mut Memory, hash_of: impl Fn(&Memory, u64) -> u64) {
        let before = self.buckets;
        let top = if before.is_power_of_two() { before } else { before.next_power_of_two() >> 1 };
        let from = before - top;
        self.buckets += 1;
        memory.bytes_mut()[before * BUCKET_BYTES..][..BUCKET_BYTES].fill(0);
        let whole = *bucket(memory, from);
        for (_, slot) in slots_in(&whole).filter(|(_, slot)| slot.is_item()) {
            crate::memory::prefetch(memory.address() + slot.place() as usize);
        }
        for (number, slot) in slots_in(&whole).filter(|(_, slot)| slot.is_item()) {
            let hash = hash_of(memory, slot.place());
            // The item may be here for either of its buckets: it moves with the one that it is here for.
            let now = pair(hash, self.buckets);
            let then = pair(hash, before);
            let stays = (0..2).any(|way| then[way] == from && now[way] == from);
            if !stays {
                self.set(memory, Position(from * SLOTS + number), Slot::EMPTY);
                self.set(memory, Position(before * SLOTS + number), slot);
            }
        }
        self.unstash(memory, hash_of);
    }

    /// Tries to bring one item from the stash into its buckets.
    pub(crate) fn unstash(&mut self, memory: &mut Memory, hash_of: impl Fn(&Memory, u64) -> u64) {
        let Some((hash, slot)) = self.stash.pop() else { return };
        self.items -= 1;
        self.insert(memory, hash, slot, hash_of);
    }

    /// An item of the bucket that `hash` belongs to which is used least: the one to lose when nothing else helps.
    pub(crate) fn least_used(&self, memory: &Memory, hash: u64) -> Option<(Position, Slot)> {
        let slots = pair(hash, self.buckets).into_iter().flat_map(|at| {
            slots_in(bucket(memory, at))
                .map(move |(number, slot)| (Position(at * SLOTS + number), slot))
        });
        slots.filter(|(_, slot)| slot.is_item()).min_by_key(|(_, slot)| slot.frequency())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u64 = if cfg!(miri) { 600 } else { 20_000 };

    fn hash(number: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes())
    }

    #[test]
    fn finds_what_it_holds_while_it_grows_and_shrinks() {
        let mut memory = Memory::reserve(1 << 20).expect("memory");
        let mut table = Table::new(3);
        let read = |_: &Memory, place: u64| hash(place);
        for number in 0..COUNT {
            while table.is_loaded(88) {
                table.split(&mut memory, read);
            }
            let slot = Slot::item(hash(number), number);
            let position = table.insert(&mut memory, hash(number), slot, read);
            let found = table.find(&memory, hash(number), |place| place == number);
            assert_eq!(found, Some((position, slot)));
            assert!(table.stashed() < 8, "{} of {number}", table.stashed());
        }
        assert_eq!(table.items() as u64, COUNT);
        for number in 0..COUNT {
            let found = table.find(&memory, hash(number), |place| place == number);
            let (position, slot) = found.expect("it is there");
            assert_eq!(slot.place(), number);
            if number % 2 == 0 {
                table.remove(&mut memory, position, slot.into_ghost(number));
            }
        }
        for number in 0..COUNT {
            let there = table.find(&memory, hash(number), |place| place == number).is_some();
            assert_eq!(there, number % 2 == 1);
        }
        assert_eq!(table.take_ghost(&mut memory, hash(4)), Some(4));
        assert_eq!(table.take_ghost(&mut memory, hash(4)), None);
    }
}
