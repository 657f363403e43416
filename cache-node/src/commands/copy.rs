//! Copies between nodes: what this one gives of its entries, and what it keeps of another's. The rules say which.

use protocol::control::wire::{COPY_BYTES_MAX, Copy};
use schemas::key::Key;

use super::Turn;
use crate::{
    now::Expiry,
    rules::{Fill, Refused},
    store::{Cursor, Entry, Value},
};

/// Entries that are looked at while a shard is held.
const PAGE: usize = 50;

/// How far a walk through all entries has come. The shards have their turns, so that the hottest of each come first.
#[derive(Debug, Default)]
pub struct Walk {
    at: Vec<Place>,
    /// Whose turn it is.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Begin,
    At(Cursor),
    Over,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Yes,
    /// The key has a value that is not outdated, or somebody is fetching one.
    There,
    /// It is too large, or memory is full.
    NoRoom,
    Refused(Refused),
}

impl Walk {
    pub fn is_over(&self) -> bool {
        !self.at.is_empty() && self.at.iter().all(|place| matches!(place, Place::Over))
    }
}

impl Turn<'_> {
    /// A copy of an entry, if it is there and may be copied.
    pub fn copy(&self, key: &Key) -> Option<Copy> {
        let mut shard = self.node.shard(key.as_bytes());
        let entry = shard.get(key.as_bytes(), self.now)?;
        self.copy_of(key, &entry, entry.value())
    }

    /// Looks at about so many entries more, and shows those that may be copied. Returns how many it has looked at.
    pub fn walk(&self, walk: &mut Walk, looks: usize, mut give: impl FnMut(Copy)) -> usize {
        if walk.at.is_empty() {
            walk.at = vec![Place::Begin; self.node.shard_count()];
        }
        let mut looked = 0_usize;
        while looked < looks && !walk.is_over() {
            let number = walk.next.checked_rem(walk.at.len()).unwrap_or_default();
            walk.next = number.saturating_add(1);
            let Some(place) = walk.at.get_mut(number) else { break };
            let Some(mut shard) = self.node.shard_at(number) else { break };
            let cursor = match *place {
                Place::Begin => shard.walk(self.now),
                Place::At(cursor) => cursor,
                Place::Over => continue,
            };
            let next = shard.page(cursor, PAGE, self.now, |key, entry, value| {
                looked = looked.saturating_add(1);
                let Ok(key) = Key::new(key.to_vec()) else { return };
                if let Some(copy) = self.copy_of(&key, entry, value) {
                    give(copy);
                }
            });
            *place = next.map_or(Place::Over, Place::At);
        }
        looked
    }

    fn copy_of(&self, key: &Key, entry: &Entry, value: Value<'_>) -> Option<Copy> {
        if value.len() > COPY_BYTES_MAX || self.is_hidden(entry.traits) {
            return None;
        }
        let version = self.gate.copy_version(self.now, key.as_bytes(), entry)?;
        let ttl_s = entry.expiry.seconds_left(self.now);
        let value = value.to_vec().into();
        Some(Copy { key: key.clone(), version, flags: entry.flags, ttl_s, value })
    }

    /// Keeps a value that another node or memcached had, if the rules allow it and nothing better is in its place.
    pub fn keep(&mut self, copy: &Copy, fill: Fill) -> Kept {
        let (key, now, node) = (copy.key.as_bytes(), self.now, self.node);
        if !self.fits(key, &copy.value, copy.flags) {
            return Kept::NoRoom;
        }
        self.gate.change();
        let mut shard = node.shard(key);
        if shard.get(key, now).is_some_and(|entry| entry.is_good_or_awaited()) {
            return Kept::There;
        }
        let accepted = match self.gate.accept(now, key, fill) {
            Ok(accepted) => accepted,
            Err(refused) => return Kept::Refused(refused),
        };
        let expiry = copy.ttl_s.map_or(Expiry::NEVER, |ttl| Expiry::after(ttl, now));
        let entry = self.entry(copy.flags, expiry, accepted, node.next_cas());
        let stored = shard.put(key, &[&copy.value], &entry, now);
        if stored.is_ok() { Kept::Yes } else { Kept::NoRoom }
    }
}
