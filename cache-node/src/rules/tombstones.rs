//! [`Tombstones`]: which keys were deleted lately, and at which version. Bounded.
//!
//! A tombstone may go at any time: one that is evicted is added to a floor that the caller raises,
//! and one that lapses is covered by the age floor. So the table's size is a matter of hit rate, never
//! of safety.

use std::collections::{HashMap, VecDeque};

use schemas::{cure::Cure, version::Version};

/// What is known of one key's last delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tombstone {
    /// The highest version of any delete, whoever named it.
    pub version: Version,
    /// The highest that the stream has named; the rest is a client's word.
    pub confirmed: Version,
}

/// Who named a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The stream: it happened.
    Stream,
    /// A client that marked the key: the stream will say so later, if it is true.
    Client,
}

/// Tombstones by key hash. Keys that share a hash share a tombstone, which refuses too much, never
/// too little.
///
/// Invariant: each key of `deleted` is in `queue` with its `version` at least once.
#[derive(Clone, Debug)]
pub(super) struct Tombstones {
    deleted: HashMap<u64, Tombstone>,
    /// Deletes in the order in which they came; an item whose version is not the key's any more is void.
    queue: VecDeque<(u64, Version)>,
    entries_max: usize,
}

impl Tombstones {
    /// None; at most `entries_max` (at least 1).
    pub(super) fn new(entries_max: usize) -> Tombstones {
        Tombstones {
            deleted: HashMap::new(),
            queue: VecDeque::new(),
            entries_max: entries_max.max(1),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.deleted.len()
    }

    /// The tombstone of a key.
    pub(super) fn get(&self, hash: u64) -> Option<Tombstone> {
        self.deleted.get(&hash).copied()
    }

    /// Remembers a delete. `lapsed` is the version below which a tombstone has no use any more. Returns what had to go
    /// to make room: the caller raises its fill floor by that.
    #[must_use = "an evicted tombstone must raise the fill floor"]
    pub(super) fn add(
        &mut self,
        hash: u64,
        version: Version,
        evidence: Evidence,
        lapsed: Version,
    ) -> Option<(u64, Tombstone)> {
        let confirmed = match evidence {
            Evidence::Stream => version,
            Evidence::Client => Version::ZERO,
        };
        let tombstone =
            self.deleted.entry(hash).or_insert(Tombstone { version: Version::ZERO, confirmed });
        let highest = if Cure::TombstoneKeepsHighest.works() {
            tombstone.version.max(version)
        } else {
            version
        };
        if tombstone.version != highest {
            self.queue.push_back((hash, highest));
        }
        *tombstone = Tombstone { version: highest, confirmed: tombstone.confirmed.max(confirmed) };
        self.lapse(lapsed);
        // A key that is deleted again and again leaves void items behind.
        if self.queue.len() > self.entries_max.saturating_mul(2) {
            let deleted = &self.deleted;
            self.queue.retain(|(hash, version)| {
                deleted.get(hash).is_some_and(|tombstone| tombstone.version == *version)
            });
        }
        if self.deleted.len() > self.entries_max { self.evict() } else { None }
    }

    /// Drops those at the front of the queue that are void or of no use.
    fn lapse(&mut self, lapsed: Version) {
        while let Some(&(hash, version)) = self.queue.front() {
            match self.deleted.get(&hash) {
                Some(tombstone) if tombstone.version == version && version > lapsed => return,
                Some(tombstone) if tombstone.version == version => {
                    self.deleted.remove(&hash);
                }
                _ => {}
            }
            self.queue.pop_front();
        }
    }

    /// The oldest goes.
    fn evict(&mut self) -> Option<(u64, Tombstone)> {
        while let Some((hash, version)) = self.queue.pop_front() {
            if self.deleted.get(&hash).is_some_and(|tombstone| tombstone.version == version) {
                return self.deleted.remove(&hash).map(|tombstone| (hash, tombstone));
            }
        }
        None
    }
}
