//! [`Store`]: the entries of a shard, in an [`Engine`]. What an entry is to commands, and what of it the engine keeps.
//!
//! The engine knows numbers; here they get their meaning. `F` is the engine's mark, 0 where there is none. The rules' `since` is
//! when the engine stored the entry, in whole seconds, rounded towards older.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

pub use engine::{Cursor, Full, Glance, Losses, Pool, Value};
use engine::{Engine, Found, Meta, NoMemory, Policy};
use schemas::{moment::Moment, version::Version};

use crate::{
    now::{Expiry, Now},
    rules::{Condition, Mark},
};

/// What memcached keeps with each item: header, CAS, the NUL behind the key, the CRLF behind the value.
const OVERHEAD_BYTES: usize = 48 + 8 + 1 + 2;
/// Client flags, where they are not 0.
const FLAGS_BYTES: usize = 4;

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub flags: u32,
    pub expiry: Expiry,
    /// Changes with each mutation; clients compare it.
    pub cas: u64,
    pub traits: Traits,
    /// What the rules keep.
    pub mark: Mark,
    /// When it was last read or written, in seconds since 1970, to a minute.
    pub used: u64,
}

/// What else an entry is; a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits(u8);

impl Traits {
    pub const NONE: Traits = Traits(0);
    /// Was read since it was stored.
    pub const FETCHED: Traits = Traits(engine::traits::FETCHED);
    /// Is outdated; shown to clients that know what that means.
    pub const STALE: Traits = Traits(2);
    /// Somebody was told to renew it.
    pub const WON: Traits = Traits(4);
    /// Its key was sent as base64.
    pub const BASE64: Traits = Traits(8);
    /// Holds the place of a value that somebody is fetching.
    pub const PLACEHOLDER: Traits = Traits(16);
    /// For the engine: its mark says that it is stale.
    const CONDEMNED: Traits = Traits(32);
    /// For the engine: nobody knows when it was stored.
    const AGELESS: Traits = Traits(64);

    pub fn has(self, other: Traits) -> bool {
        self.0 & other.0 != 0
    }

    /// Without those that are the engine's.
    fn known(self) -> Traits {
        self.without(Traits::CONDEMNED).without(Traits::AGELESS)
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

/// What goes when the memory is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// What is not used again.
    S3Fifo,
    /// What was not used for longest: the control in benchmarks.
    Lru,
    /// Nothing; what does not fit is refused.
    Never,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    engine: Engine,
    /// Everything is void from then on.
    flush_at: Option<u64>,
}

/// An entry that was found. Each of its parts is read where it lies, which is cheaper than all of them.
#[derive(Debug)]
pub struct Hit<'s> {
    engine: &'s mut Engine,
    found: Found,
    now: engine::Now,
}

impl<'s> Hit<'s> {
    pub fn traits(&self) -> Traits {
        Traits(self.engine.traits(self.found)).known()
    }

    pub fn flags(&self) -> u32 {
        self.engine.flags(self.found)
    }

    pub fn cas(&self) -> u64 {
        self.engine.cas(self.found)
    }

    pub fn mark(&self) -> Mark {
        let kept = Traits(self.engine.traits(self.found));
        mark_of(kept, self.engine.mark(self.found), self.engine.stored(self.found))
    }

    pub fn value(&self) -> Value<'_> {
        self.engine.value(self.found)
    }

    /// The entry was read. To be said last.
    pub fn note_read(self) {
        self.engine.used(self.found, self.now);
    }

    /// All of it, to be changed.
    pub fn hold(self) -> Held<'s> {
        let entry = Entry::from_meta(&self.engine.meta(self.found));
        Held { hit: self, entry, changed: false }
    }
}

/// An entry where it is kept. What is changed of it is written back when this is dropped.
#[derive(Debug)]
pub struct Held<'s> {
    hit: Hit<'s>,
    entry: Entry,
    changed: bool,
}

impl Deref for Held<'_> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Entry {
        self.changed = true;
        &mut self.entry
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Where nothing may be evicted, an entry that got longer may find no room; then it is gone, which a cache may do.
        let _written = self.write_back();
    }
}

impl Held<'_> {
    pub fn value(&self) -> Value<'_> {
        self.hit.value()
    }

    /// The entry was read. To be said last.
    pub fn note_read(mut self) {
        if self.write_back().is_ok() {
            let Hit { engine, found, now } = &mut self.hit;
            engine.used(*found, *now);
        }
    }

    fn write_back(&mut self) -> Result<(), Full> {
        if std::mem::take(&mut self.changed) {
            let Hit { engine, found, now } = &mut self.hit;
            *found = engine.amend(*found, &self.entry.meta(), *now)?;
        }
        Ok(())
    }
}

impl Store {
    /// Keys are spread by `hash_seed`, which nobody outside should know.
    pub fn new(bytes_max: usize, eviction: Eviction, hash_seed: u64) -> Result<Store, NoMemory> {
        let policy = match eviction {
            Eviction::S3Fifo => Policy::S3Fifo,
            Eviction::Lru => Policy::Lru,
            Eviction::Never => Policy::Never,
        };
        let engine = Engine::new(engine::Settings { bytes_max, policy, hash_seed })?;
        Ok(Store { engine, flush_at: None })
    }

    /// The hash by which a key is found here.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.engine.hash(key)
    }

    /// The entry, if it is there and not over.
    #[inline]
    pub fn look(&mut self, hash: u64, key: &[u8], now: Now) -> Option<Hit<'_>> {
        self.flush_when_due(now);
        let now = told(now);
        let found = self.engine.find(hash, key, now)?;
        Some(Hit { engine: &mut self.engine, found, now })
    }

    /// Stores the entry, its value in parts, in place of the one that was there.
    pub fn put(
        &mut self,
        (hash, key): (u64, &[u8]),
        value: &[&[u8]],
        entry: &Entry,
        now: Now,
    ) -> Result<(), Full> {
        self.flush_when_due(now);
        let meta = Meta { used: seconds(now.unix), ..entry.meta() };
        self.engine.put(hash, key, value, &meta, told(now))?;
        Ok(())
    }

    /// Takes the entry out.
    pub fn remove(&mut self, hash: u64, key: &[u8], now: Now) {
        if let Some(found) = self.engine.find(hash, key, told(now)) {
            self.engine.remove(found);
        }
    }

    /// Fetches what a look-up that comes soon will read.
    pub fn prefetch(&self, hash: u64) {
        self.engine.prefetch(hash);
    }

    /// For prefetching without a lock.
    pub fn glance(&self) -> Glance {
        self.engine.glance()
    }

    /// Empties it: what was stored before `at`, in seconds since 1970, once that has come. A later call replaces an earlier one.
    pub fn flush(&mut self, at: u64, now: Now) {
        self.flush_at = Some(at);
        self.flush_when_due(now);
    }

    /// Another budget; what is too much goes at once.
    pub fn limit(&mut self, bytes_max: usize, now: Now) {
        self.engine.limit(bytes_max, told(now));
    }

    /// The beginning of a walk through all entries, hottest first.
    pub fn walk(&mut self, now: Now) -> Cursor {
        self.flush_when_due(now);
        self.engine.walk()
    }

    /// Shows the next entries of a walk, up to `looks` of them, without those that are over. Returns where to go on.
    pub fn page(
        &mut self,
        cursor: Cursor,
        looks: usize,
        now: Now,
        mut see: impl FnMut(&[u8], &Entry, Value<'_>),
    ) -> Option<Cursor> {
        self.flush_when_due(now);
        self.engine.page(cursor, looks, told(now), |key, meta, value| {
            see(key, &Entry::from_meta(meta), value);
        })
    }

    /// The beginning of a walk for a copy of this store: see [`Store::put_back`].
    pub fn walk_oldest_first(&mut self, now: Now) -> Cursor {
        self.flush_when_due(now);
        self.engine.walk_oldest_first()
    }

    /// As [`Store::page`], with the pool that each entry is in.
    pub fn page_with_pools(
        &mut self,
        cursor: Cursor,
        looks: usize,
        now: Now,
        mut see: impl FnMut(Pool, &[u8], &Entry, Value<'_>),
    ) -> Option<Cursor> {
        self.flush_when_due(now);
        self.engine.page_with_pools(cursor, looks, told(now), |pool, key, meta, value| {
            see(pool, key, &Entry::from_meta(meta), value);
        })
    }

    /// Stores an entry of another store where it was there, and as it was.
    pub fn put_back(
        &mut self,
        pool: Pool,
        (hash, key): (u64, &[u8]),
        value: &[u8],
        entry: &Entry,
        now: Now,
    ) -> Result<(), Full> {
        self.engine.put_in(pool, (hash, key), &[value], &entry.meta(), told(now))?;
        Ok(())
    }

    /// When everything is void; `None` if nobody has said so.
    pub fn flush_at(&self) -> Option<u64> {
        self.flush_at
    }

    /// Drops what is over from up to `looks` segments, beginning with number `from`. Returns where to go on; `None` at the end.
    pub fn sweep(&mut self, from: u32, looks: usize, now: Now) -> Option<u32> {
        self.flush_when_due(now);
        self.engine.sweep(from, looks, told(now)).next
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.engine.len()
    }

    pub fn is_empty(&self) -> bool {
        self.engine.is_empty()
    }

    /// What they take, with keys and heads.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.engine.usage().item_bytes).unwrap_or(usize::MAX)
    }

    pub fn losses(&self) -> Losses {
        self.engine.losses()
    }

    /// At the first look after the time has come, everything that is there was stored before it.
    fn flush_when_due(&mut self, now: Now) {
        if self.flush_at.is_some_and(|at| at <= now.unix) {
            self.flush_at = None;
            self.engine.clear();
        }
    }
}

impl Entry {
    /// An entry that nothing has happened to.
    pub fn new(flags: u32, expiry: Expiry, cas: u64, mark: Mark, now: Now) -> Entry {
        Entry { flags, expiry, cas, traits: Traits::NONE, mark, used: now.unix }
    }

    /// Whether it is not outdated, or somebody was told to renew it.
    pub(crate) fn is_good_or_awaited(&self) -> bool {
        self.mark.condition == Condition::Good || self.traits.has(Traits::WON)
    }

    /// Seconds since it was stored, as far as that is known.
    pub fn age_seconds(&self, now: Now) -> u64 {
        self.mark.since.map_or(0, |since| now.moment.since(since).as_secs())
    }

    fn meta(&self) -> Meta {
        let mut traits = self.traits;
        if self.mark.condition == Condition::Stale {
            traits = traits.with(Traits::CONDEMNED);
        }
        if self.mark.since.is_none() {
            traits = traits.with(Traits::AGELESS);
        }
        let filled = self.mark.filled;
        Meta {
            flags: self.flags,
            expiry: self.expiry.unix().map_or(0, |unix| seconds(unix).max(1)),
            cas: self.cas,
            mark: (filled != Version::ZERO).then(|| filled.bits()),
            traits: traits.0,
            stored: self.mark.since.map_or(0, uptime),
            used: seconds(self.used),
        }
    }

    fn from_meta(meta: &Meta) -> Entry {
        let kept = Traits(meta.traits);
        Entry {
            flags: meta.flags,
            expiry: Expiry::at(meta.expiry),
            cas: meta.cas,
            traits: kept.known(),
            mark: mark_of(kept, meta.mark, meta.stored),
            used: meta.used.into(),
        }
    }
}

/// What the rules keep, from what the engine keeps.
fn mark_of(kept: Traits, filled: Option<u64>, stored: u32) -> Mark {
    let since = Moment::after_start(Duration::from_secs(stored.into()));
    Mark {
        filled: filled.map_or(Version::ZERO, Version::from_bits),
        condition: if kept.has(Traits::CONDEMNED) { Condition::Stale } else { Condition::Good },
        since: (!kept.has(Traits::AGELESS)).then_some(since),
    }
}

/// Both clocks, as the engine wants them.
fn told(now: Now) -> engine::Now {
    engine::Now { unix: seconds(now.unix), uptime: uptime(now.moment) }
}

fn uptime(moment: Moment) -> u32 {
    seconds(moment.since(Moment::START).as_secs())
}

fn seconds(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// What an item takes, as memcached counts it.
pub fn item_bytes(key_bytes: usize, value_bytes: usize, flags: u32) -> usize {
    let flags_bytes = if flags == 0 { 0 } else { FLAGS_BYTES };
    key_bytes.saturating_add(value_bytes).saturating_add(OVERHEAD_BYTES).saturating_add(flags_bytes)
}

#[cfg(test)]
mod tests;
