//! [`Node`]: what all workers share: the entries, in shards, and the rules, if a source is attached.
//!
//! Locks, in this order: the rules (for the whole of what one read brought, and only with a source), then one shard (for one
//! key). Nobody waits for anything else while holding one.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use schemas::key::Key;
use xxhash_rust::xxh64::xxh64;

use crate::{
    counters::Counters,
    now::{Expiry, Now},
    rules::{Entries, Fate, Mark, Rules},
    server_facts::ServerFacts,
    store::{Entry, Eviction, Losses, Store, Traits},
    usage::Usage,
};

/// A shard smaller than this could not hold the largest items of its share.
const SHARD_BYTES_MIN: usize = 16 << 20;
/// More shards than this bring nothing.
const SHARDS_MAX: usize = 256;
/// Seed of the shard hash: another than the one that spreads keys over partitions.
const SHARD_SEED: u64 = 1;

/// How a node behaves towards its clients.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of all entries together, counted as memcached does.
    pub memory_bytes_max: usize,
    /// Bytes of one entry, likewise.
    pub item_bytes_max: usize,
    pub eviction: Eviction,
    /// Threads that serve connections.
    pub workers: usize,
    /// Whether plain reads see the places of values that somebody is fetching.
    pub placeholders: Placeholders,
    /// Where the prefix of a key ends, for statistics.
    pub prefix_delimiter: u8,
    pub allowed: Allowed,
}

/// Whether plain reads see what `mg` with `N` has put in a missing value's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholders {
    /// As an empty value; memcached does that.
    Shown,
    /// As a miss.
    Hidden,
}

/// Commands that an operator may switch off or on; a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed(u8);

impl Allowed {
    pub const NOTHING: Allowed = Allowed(0);
    pub const FLUSH_ALL: Allowed = Allowed(1);
    pub const SHUTDOWN: Allowed = Allowed(2);
    pub const DUMP: Allowed = Allowed(4);
    /// `debugtime`, for tests.
    pub const DEBUG_TIME: Allowed = Allowed(8);

    pub fn has(self, other: Allowed) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub fn with(self, other: Allowed) -> Allowed {
        Allowed(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Allowed) -> Allowed {
        Allowed(self.0 & !other.0)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    shards: Box<[Mutex<Store>]>,
    rules: Option<Mutex<Rules>>,
    /// The last CAS that was given out.
    cas: AtomicU64,
    memory_bytes_max: AtomicUsize,
    /// One for each worker; a worker counts in its own.
    counters: Box<[Counters]>,
    usage: Usage,
    server: ServerFacts,
}

impl Node {
    /// An empty node. `rules` stands for an attached source; `cas_base` is 0, or with a source a random number, so that no CAS of
    /// an earlier life can be taken for one of this life.
    pub fn new(settings: Settings, rules: Option<Rules>, cas_base: u64) -> Node {
        let shards = shards(&settings);
        let each = settings.memory_bytes_max.checked_div(shards).unwrap_or_default();
        Node {
            shards: (0..shards).map(|_| Mutex::new(Store::new(each, settings.eviction))).collect(),
            rules: rules.map(Mutex::new),
            cas: AtomicU64::new(cas_base),
            memory_bytes_max: AtomicUsize::new(settings.memory_bytes_max),
            counters: (0..settings.workers.max(1)).map(|_| Counters::default()).collect(),
            usage: Usage::new(settings.prefix_delimiter),
            server: ServerFacts::default(),
            settings,
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether a source is attached.
    pub fn has_source(&self) -> bool {
        self.rules.is_some()
    }

    /// The rules, held until the guard is dropped; `None` without a source.
    pub fn rules(&self) -> Option<MutexGuard<'_, Rules>> {
        self.rules.as_ref().map(|rules| rules.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The shard of a key, held until the guard is dropped.
    pub fn shard(&self, key: &[u8]) -> MutexGuard<'_, Store> {
        let count = u64::try_from(self.shards.len()).unwrap_or(u64::MAX);
        let at = xxh64(key, SHARD_SEED).checked_rem(count).and_then(|at| usize::try_from(at).ok());
        self.shard_at(at.unwrap_or_default()).expect("a node has at least one shard")
    }

    /// One shard after the other, by number.
    pub fn shard_at(&self, at: usize) -> Option<MutexGuard<'_, Store>> {
        self.shards.get(at).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn each_shard(&self) -> impl Iterator<Item = MutexGuard<'_, Store>> {
        (0..self.shards.len()).filter_map(|at| self.shard_at(at))
    }

    /// A CAS that nothing had before.
    pub fn next_cas(&self) -> u64 {
        self.cas.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// The counters of a worker.
    pub fn counters(&self, worker: usize) -> &Counters {
        let at = worker.checked_rem(self.counters.len()).unwrap_or_default();
        self.counters.get(at).expect("a node has at least one worker")
    }

    pub fn all_counters(&self) -> &[Counters] {
        &self.counters
    }

    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    pub fn server(&self) -> &ServerFacts {
        &self.server
    }

    /// Empties every shard; see [`Store::flush`].
    pub fn flush(&self, at: u64, now: Now) {
        self.each_shard().for_each(|mut shard| shard.flush(at, now));
    }

    pub fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max.load(Ordering::Relaxed)
    }

    /// Another bound for all entries together.
    pub fn limit_memory(&self, bytes_max: usize) {
        self.memory_bytes_max.store(bytes_max, Ordering::Relaxed);
        let each = bytes_max.checked_div(self.shards.len()).unwrap_or_default();
        self.each_shard().for_each(|mut shard| shard.limit(each));
    }

    /// Entries, their bytes, and what was lost.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in self.each_shard() {
            let losses = shard.losses();
            totals.entries = totals.entries.saturating_add(shard.len());
            totals.bytes = totals.bytes.saturating_add(shard.bytes());
            totals.losses.evicted = totals.losses.evicted.saturating_add(losses.evicted);
            totals.losses.expired = totals.losses.expired.saturating_add(losses.expired);
            totals.losses.evicted_unfetched =
                totals.losses.evicted_unfetched.saturating_add(losses.evicted_unfetched);
            totals.losses.expired_unfetched =
                totals.losses.expired_unfetched.saturating_add(losses.expired_unfetched);
        }
        totals
    }

    /// Drops entries that are over, a few at a time so that nobody waits long.
    pub fn sweep(&self, now: Now) {
        const LOOKS: usize = 500;
        for at in 0..self.shards.len() {
            let mut from = Some(0);
            while let Some(begin) = from {
                from = self.shard_at(at).and_then(|mut shard| shard.sweep(begin, LOOKS, now));
            }
        }
    }
}

/// Sums over all shards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub entries: usize,
    pub bytes: usize,
    pub losses: Losses,
}

/// Enough that workers seldom meet in one.
fn shards(settings: &Settings) -> usize {
    let wanted = if settings.workers <= 1 { 1 } else { settings.workers.saturating_mul(8) };
    let room = settings.memory_bytes_max.checked_div(SHARD_BYTES_MIN).unwrap_or(1);
    wanted.min(room).clamp(1, SHARDS_MAX)
}

/// Lets the rules look at the marks of a node's entries.
#[derive(Debug)]
pub struct Judged<'a> {
    pub node: &'a Node,
    pub now: Now,
}

impl Entries for Judged<'_> {
    fn judge(&mut self, key: &Key, judge: &mut dyn FnMut(&mut Mark) -> Fate) {
        let key = key.as_bytes();
        let mut shard = self.node.shard(key);
        let Some(entry) = shard.get(key, self.now) else { return };
        match judge(&mut entry.mark) {
            Fate::Keep => {}
            Fate::Stale if entry.traits.has(Traits::PLACEHOLDER) => {
                shard.remove(key);
            }
            Fate::Stale => {
                make_stale(entry, self.node.next_cas());
            }
        }
    }
}

/// Outdated from now on; the next reader who can is told to renew it.
pub(crate) fn make_stale(entry: &mut Entry, cas: u64) {
    entry.traits = entry.traits.with(Traits::STALE).without(Traits::WON);
    entry.cas = cas;
}

impl Entry {
    /// An entry that nothing has happened to.
    pub fn new(
        value: Box<[u8]>,
        flags: u32,
        expiry: Expiry,
        cas: u64,
        mark: Mark,
        now: Now,
    ) -> Entry {
        Entry {
            value,
            flags,
            expiry,
            cas,
            traits: Traits::NONE,
            mark,
            used: now.unix,
            stored: now.unix,
        }
    }
}
