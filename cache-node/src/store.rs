//! [`Store`]: entries by key, bounded by bytes; the one that was not used for longest goes first. Plain, and the seam behind which
//! a better engine goes.
//!
//! Sizes are counted as memcached counts them, header included, so that the same limit holds about the same.
//! An entry moves to the front at most once in [`BUMP_SECONDS`]: a read costs one look-up.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    now::{Expiry, Now},
    rules::Mark,
};

/// Reads of an entry in this time count as one.
pub const BUMP_SECONDS: u64 = 60;
/// What memcached keeps with each item: header, CAS, the NUL behind the key, the CRLF behind the value.
const OVERHEAD_BYTES: usize = 48 + 8 + 1 + 2;
/// Client flags, where they are not 0.
const FLAGS_BYTES: usize = 4;

/// One value, with everything that is known of it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub value: Box<[u8]>,
    pub flags: u32,
    pub expiry: Expiry,
    /// Changes with each mutation; clients compare it.
    pub cas: u64,
    pub traits: Traits,
    /// What the rules keep.
    pub mark: Mark,
    /// When it was last read or written, in seconds since 1970.
    pub used: u64,
    /// When it was stored, likewise; the store sets it.
    pub stored: u64,
}

/// What else an entry is; a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits(u8);

impl Traits {
    pub const NONE: Traits = Traits(0);
    /// Was read since it was stored.
    pub const FETCHED: Traits = Traits(1);
    /// Is outdated; shown to clients that know what that means.
    pub const STALE: Traits = Traits(2);
    /// Somebody was told to renew it.
    pub const WON: Traits = Traits(4);
    /// Its key was sent as base64.
    pub const BASE64: Traits = Traits(8);
    /// Holds the place of a value that somebody is fetching.
    pub const PLACEHOLDER: Traits = Traits(16);

    pub fn has(self, other: Traits) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub fn with(self, other: Traits) -> Traits {
        Traits(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Traits) -> Traits {
        Traits(self.0 & !other.0)
    }
}

/// What left the store without being asked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    pub evicted: u64,
    /// Of those, never read.
    pub evicted_unfetched: u64,
    /// Found expired.
    pub expired: u64,
    pub expired_unfetched: u64,
}

/// Some of the entries, those that were not used for longest first.
#[derive(Debug)]
pub struct Page<'a> {
    pub entries: Vec<(&'a [u8], &'a Entry)>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// It does not fit, and nothing may be evicted for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct Full;

/// What to do when the budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    Allowed,
    /// Refuse instead.
    Never,
}

/// Invariants: `order` holds each key of `entries` once, under its entry's turn; `bytes` is the sum of their sizes.
#[derive(Debug)]
pub struct Store {
    entries: HashMap<Arc<[u8]>, Slot>,
    /// Keys by turn, the one that was not used for longest first.
    order: BTreeMap<u64, Arc<[u8]>>,
    next_turn: u64,
    bytes: usize,
    bytes_max: usize,
    eviction: Eviction,
    /// Everything stored before this time is void from then on.
    flush_at: Option<u64>,
    losses: Losses,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    turn: u64,
    bytes: usize,
}

impl Store {
    pub fn new(bytes_max: usize, eviction: Eviction) -> Store {
        Store {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next_turn: 0,
            bytes: 0,
            bytes_max,
            eviction,
            flush_at: None,
            losses: Losses::default(),
        }
    }

    /// The entry, if it is there and not over.
    pub fn get(&mut self, key: &[u8], now: Now) -> Option<&mut Entry> {
        self.flush_when_due(now);
        if self.entries.get(key)?.entry.expiry.is_over(now) {
            let gone = self.remove(key)?;
            self.losses.expired = self.losses.expired.saturating_add(1);
            if !gone.traits.has(Traits::FETCHED) {
                self.losses.expired_unfetched = self.losses.expired_unfetched.saturating_add(1);
            }
            return None;
        }
        self.entries.get_mut(key).map(|slot| &mut slot.entry)
    }

    /// The entry was read.
    pub fn used(&mut self, key: &[u8], now: Now) {
        let Some(slot) = self.entries.get_mut(key) else { return };
        slot.entry.traits = slot.entry.traits.with(Traits::FETCHED);
        if now.unix.saturating_sub(slot.entry.used) < BUMP_SECONDS {
            return;
        }
        slot.entry.used = now.unix;
        if let Some(name) = self.order.remove(&slot.turn) {
            slot.turn = self.next_turn;
            self.order.insert(self.next_turn, name);
            self.next_turn = self.next_turn.saturating_add(1);
        }
    }

    /// Stores the entry in place of the one that was there.
    pub fn put(&mut self, key: &[u8], entry: Entry, now: Now) -> Result<(), Full> {
        self.flush_when_due(now);
        self.remove(key);
        let bytes = item_bytes(key.len(), entry.value.len(), entry.flags);
        while self.bytes.saturating_add(bytes) > self.bytes_max {
            if self.eviction == Eviction::Never || !self.evict(now) {
                return Err(Full);
            }
        }
        let name: Arc<[u8]> = key.into();
        let turn = self.next_turn;
        self.next_turn = turn.saturating_add(1);
        self.order.insert(turn, Arc::clone(&name));
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries.insert(name, Slot { entry: Entry { stored: now.unix, ..entry }, turn, bytes });
        Ok(())
    }

    /// Takes the entry out.
    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let slot = self.entries.remove(key)?;
        self.order.remove(&slot.turn);
        self.bytes = self.bytes.saturating_sub(slot.bytes);
        Some(slot.entry)
    }

    /// Empties it: what was stored before `at`, in seconds since 1970, once that has come. A later call replaces an earlier one.
    pub fn flush(&mut self, at: u64, now: Now) {
        self.flush_when_due(now);
        if at <= now.unix {
            self.flush_at = None;
            self.entries.clear();
            self.order.clear();
            self.bytes = 0;
        } else {
            self.flush_at = Some(at);
        }
    }

    /// Another budget; what is too much goes with the next store.
    pub fn limit(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Up to `looks` entries from turn `from` on, without those that are over.
    pub fn page(&self, from: u64, looks: usize, now: Now) -> Page<'_> {
        let due = self.flush_at.filter(|at| *at <= now.unix).unwrap_or(0);
        let (mut entries, mut next) = (Vec::new(), None);
        for (at, (turn, key)) in self.order.range(from..).enumerate() {
            if at == looks {
                next = Some(*turn);
                break;
            }
            let Some(slot) = self.entries.get(key) else { continue };
            if !slot.entry.expiry.is_over(now) && slot.entry.stored >= due {
                entries.push((&**key, &slot.entry));
            }
        }
        Page { entries, next }
    }

    /// Drops up to `looks` entries that are over, beginning with those that were not used for longest behind `from`. Returns where
    /// to go on; `None` at the end.
    pub fn sweep(&mut self, from: u64, looks: usize, now: Now) -> Option<u64> {
        self.flush_when_due(now);
        let some: Vec<(u64, Arc<[u8]>)> = self
            .order
            .range(from..)
            .take(looks)
            .map(|(turn, key)| (*turn, Arc::clone(key)))
            .collect();
        for (_, key) in &some {
            self.get(key, now);
        }
        let last = some.last().filter(|_| some.len() == looks)?;
        Some(last.0.saturating_add(1))
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What they take, as memcached counts it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn losses(&self) -> Losses {
        self.losses
    }

    fn evict(&mut self, now: Now) -> bool {
        let Some((_, key)) = self.order.pop_first() else { return false };
        let Some(slot) = self.entries.remove(&key) else { return false };
        self.bytes = self.bytes.saturating_sub(slot.bytes);
        let unfetched = u64::from(!slot.entry.traits.has(Traits::FETCHED));
        if slot.entry.expiry.is_over(now) {
            self.losses.expired = self.losses.expired.saturating_add(1);
            self.losses.expired_unfetched = self.losses.expired_unfetched.saturating_add(unfetched);
        } else {
            self.losses.evicted = self.losses.evicted.saturating_add(1);
            self.losses.evicted_unfetched = self.losses.evicted_unfetched.saturating_add(unfetched);
        }
        true
    }

    fn flush_when_due(&mut self, now: Now) {
        let Some(at) = self.flush_at.filter(|at| *at <= now.unix) else { return };
        self.flush_at = None;
        let void: Vec<Arc<[u8]>> = self
            .entries
            .iter()
            .filter(|(_, slot)| slot.entry.stored < at)
            .map(|(key, _)| Arc::clone(key))
            .collect();
        for key in void {
            self.remove(&key);
        }
    }
}

/// What an item takes.
pub fn item_bytes(key_bytes: usize, value_bytes: usize, flags: u32) -> usize {
    let flags_bytes = if flags == 0 { 0 } else { FLAGS_BYTES };
    key_bytes.saturating_add(value_bytes).saturating_add(OVERHEAD_BYTES).saturating_add(flags_bytes)
}

#[cfg(test)]
mod tests;
