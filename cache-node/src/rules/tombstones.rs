//! [`Tombstones`]: which keys were deleted lately, and at which version. Bounded.
//!
//! A tombstone may go at any time: one that is evicted is added to a floor that the caller raises,
//! and one that lapses is covered by the age floor. So the table's size is a matter of hit rate, never
//! of safety.

use std::collections::{VecDeque, hash_map::Entry};

use foldhash::HashMap;
use schemas::{cure::Cure, version::Version};

/// Tombstones by key hash. Keys that share a hash share a tombstone, which refuses too much, never
/// too little.
///
/// Invariant: each key of `deleted` is in `queue` with its version.
#[derive(Clone, Debug)]
pub(super) struct Tombstones {
    deleted: HashMap<u64, Version>,
    /// Deletes in the order in which they came; an item whose version is not the key's any more is void.
    queue: VecDeque<(u64, Version)>,
    entries_max: usize,
}

impl Tombstones {
    /// None; at most `entries_max` (at least 1).
    pub(super) fn new(entries_max: usize) -> Tombstones {
        Tombstones {
            deleted: HashMap::default(),
            queue: VecDeque::new(),
            entries_max: entries_max.max(1),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.deleted.len()
    }

    /// The version of a key's last delete; [`Version::ZERO`] if none is known.
    pub(super) fn get(&self, hash: u64) -> Version {
        self.deleted.get(&hash).copied().unwrap_or_default()
    }

    /// Remembers a delete. `lapsed` is the version up to which a tombstone has no use any more. Returns what had to go
    /// to make room: the caller raises its fill floor by that.
    #[must_use = "an evicted tombstone must raise the fill floor"]
    pub(super) fn add(&mut self, hash: u64, version: Version, lapsed: Version) -> Option<Version> {
        let stays = |before: Version| {
            before == version || (before > version && Cure::TombstoneKeepsHighest.works())
        };
        match self.deleted.entry(hash) {
            Entry::Occupied(before) if stays(*before.get()) => {}
            entry => {
                entry.insert_entry(version);
                self.queue.push_back((hash, version));
            }
        }
        self.lapse(lapsed);
        // A key that is deleted again and again leaves void items behind.
        if self.queue.len() > self.entries_max.saturating_mul(2) {
            let deleted = &self.deleted;
            self.queue.retain(|(hash, version)| deleted.get(hash) == Some(version));
        }
        if self.deleted.len() > self.entries_max { self.evict() } else { None }
    }

    /// Those that there are, in the order in which they came.
    pub(super) fn to_kept(&self) -> Vec<(u64, Version)> {
        let newest = |(hash, version): &&(u64, Version)| self.deleted.get(hash) == Some(version);
        self.queue.iter().filter(newest).copied().collect()
    }

    /// Drops those at the front of the queue that are of no use.
    fn lapse(&mut self, lapsed: Version) {
        while self.queue.front().is_some_and(|(_, version)| *version <= lapsed) {
            self.drop_front();
        }
    }

    /// The oldest goes.
    fn evict(&mut self) -> Option<Version> {
        while !self.queue.is_empty() {
            if let Some(version) = self.drop_front() {
                return Some(version);
            }
        }
        None
    }

    /// Drops the front of the queue; returns the version of its tombstone, unless it is void.
    fn drop_front(&mut self) -> Option<Version> {
        let (hash, version) = self.queue.pop_front()?;
        match self.deleted.entry(hash) {
            Entry::Occupied(known) if *known.get() == version => Some(known.remove()),
            _ => None,
        }
    }
}
