//! [`Node`]: what all workers share: the entries, in shards, and the rules, if a source is attached.
//!
//! Locks, in this order: the rules (for the whole of what one read brought, and only with a source; shared by those who only read),
//! then one shard (for one key). Nobody waits for anything else while holding one.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use schemas::key::Key;

use crate::{
    copies::Copies,
    counters::Counters,
    now::Now,
    rules::{Entries, Fate, Mark, Rules},
    server_facts::ServerFacts,
    store::{Entry, Eviction, Full, Glance, Held, Hit, Losses, Pool, Store, Traits},
    usage::Usage,
};

/// A shard smaller than this could not hold the largest items of its share.
const SHARD_BYTES_MIN: usize = 16 << 20;
/// More shards than this bring nothing.
const SHARDS_MAX: usize = 256;
/// The bits of a hash that choose neither bucket nor tag: these choose the shard.
const SHARD_SHIFT: u32 = 36;
const SHARD_BITS: u32 = 12;
const SHARD_MASK: u64 = (1 << SHARD_BITS) - 1;

/// How a node behaves towards its clients.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of everything: entries, tables, connections. Entries get what is left of it.
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
    /// Of each shard.
    glances: Box<[Glance]>,
    hash_seed: u64,
    /// What the tables of the rules take at most.
    tables_bytes: usize,
    rules: Option<RwLock<Rules>>,
    /// The last CAS that was given out.
    cas: AtomicU64,
    flushes: AtomicU64,
    memory_bytes_max: AtomicUsize,
    /// One for each worker; a worker counts in its own.
    counters: Box<[Counters]>,
    usage: Usage,
    server: ServerFacts,
    copies: Copies,
}

impl Node {
    /// An empty node. `rules` stands for an attached source; `cas_base` is 0, or with a source a random number, so that no CAS of
    /// an earlier life can be taken for one of this life.
    pub fn new(settings: Settings, rules: Option<Rules>, cas_base: u64) -> Node {
        let shards = shards(&settings);
        let tables_bytes = rules.as_ref().map_or(0, Rules::tables_bytes_max);
        let entries_bytes = entries_bytes(settings.memory_bytes_max, tables_bytes);
        let each = entries_bytes.checked_div(shards).unwrap_or_default();
        let hash_seed = RandomState::new().hash_one(cas_base);
        let store = || Store::new(each, settings.eviction, hash_seed);
        let stores: Vec<Store> = (0..shards)
            .map(|_| store().expect("the system reserves addresses for what it is told to hold"))
            .collect();
        Node {
            hash_seed,
            tables_bytes,
            glances: stores.iter().map(Store::glance).collect(),
            shards: stores.into_iter().map(Mutex::new).collect(),
            rules: rules.map(RwLock::new),
            cas: AtomicU64::new(cas_base),
            flushes: AtomicU64::new(0),
            memory_bytes_max: AtomicUsize::new(settings.memory_bytes_max),
            counters: (0..settings.workers.max(1)).map(|_| Counters::default()).collect(),
            usage: Usage::new(settings.prefix_delimiter),
            server: ServerFacts::default(),
            copies: Copies::default(),
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

    /// The rules, held alone until the guard is dropped; `None` without a source.
    pub fn rules(&self) -> Option<RwLockWriteGuard<'_, Rules>> {
        self.rules.as_ref().map(|rules| rules.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The rules for one who only asks them; others may ask at the same time.
    pub fn rules_shared(&self) -> Option<RwLockReadGuard<'_, Rules>> {
        self.rules.as_ref().map(|rules| rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The shard of a key, held until the guard is dropped.
    pub fn shard(&self, key: &[u8]) -> Shard<'_> {
        self.shard_with(self.hash(key))
    }

    /// By this a key is found.
    pub fn hash(&self, key: &[u8]) -> u64 {
        engine::hash(key, self.hash_seed)
    }

    /// The shard of the key with this hash.
    pub fn shard_with(&self, hash: u64) -> Shard<'_> {
        let store = self.shard_at(self.shard_of(hash)).expect("a node has at least one shard");
        Shard { store, hash }
    }

    /// The engines' own bits of a hash are others.
    fn shard_of(&self, hash: u64) -> usize {
        let chosen = usize::try_from((hash >> SHARD_SHIFT) & SHARD_MASK).unwrap_or_default();
        chosen.saturating_mul(self.shards.len()) >> SHARD_BITS
    }

    /// For look-ups that come soon: the hashes of their keys, whose buckets are being fetched.
    pub fn glance(&self, key: &[u8]) -> u64 {
        let hash = self.hash(key);
        if let Some(glance) = self.glances.get(self.shard_of(hash)) {
            glance.prefetch(hash);
        }
        hash
    }

    /// For a look-up that comes soon, and whose buckets are there: its entry is being fetched.
    pub fn prefetch(&self, hash: u64) {
        // A shard that is busy is not waited for: this is a hint.
        if let Some(Ok(shard)) = self.shards.get(self.shard_of(hash)).map(Mutex::try_lock) {
            shard.prefetch(hash);
        }
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

    /// The last CAS that was given out.
    pub fn last_cas(&self) -> u64 {
        self.cas.load(Ordering::Relaxed)
    }

    /// When everything is void; `None` if nobody has said so.
    pub fn flush_at(&self) -> Option<u64> {
        self.shard_at(0).and_then(|shard| shard.flush_at())
    }

    /// How often everything was flushed.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// This node goes on from one whose entries it has. That one gave out CAS up to `cas`, and flushes everything at `flush_at`.
    pub fn restore(&self, cas: u64, flush_at: Option<u64>, now: Now) {
        self.cas.fetch_max(cas, Ordering::Relaxed);
        if let Some(at) = flush_at {
            self.each_shard().for_each(|mut shard| shard.flush(at, now));
        }
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

    /// What was given to other nodes, and kept from them.
    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    /// Reads of clients so far, and how many found a value.
    pub fn reads(&self) -> (u64, u64) {
        let sum = |of: fn(&Counters) -> u64| self.counters.iter().map(of).sum();
        (sum(|counters| counters.cmd_get.get()), sum(|counters| counters.get_hits.get()))
    }

    /// Whether the key has a value that is not outdated, or somebody is fetching one.
    pub fn holds(&self, key: &[u8], now: Now) -> bool {
        self.shard(key).get(key, now).is_some_and(|entry| entry.is_good_or_awaited())
    }

    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Empties every shard; see [`Store::flush`].
    pub fn flush(&self, at: u64, now: Now) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.each_shard().for_each(|mut shard| shard.flush(at, now));
    }

    pub fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max.load(Ordering::Relaxed)
    }

    /// Another bound for all entries together.
    pub fn limit_memory(&self, bytes_max: usize, now: Now) {
        self.memory_bytes_max.store(bytes_max, Ordering::Relaxed);
        let entries_bytes = entries_bytes(bytes_max, self.tables_bytes);
        let each = entries_bytes.checked_div(self.shards.len()).unwrap_or_default();
        self.each_shard().for_each(|mut shard| shard.limit(each, now));
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
        const LOOKS: usize = 4;
        for at in 0..self.shards.len() {
            let mut from = Some(0);
            while let Some(begin) = from {
                from = self.shard_at(at).and_then(|mut shard| shard.sweep(begin, LOOKS, now));
            }
        }
    }
}

/// The shard of one key, and of no other.
#[derive(Debug)]
pub struct Shard<'n> {
    store: MutexGuard<'n, Store>,
    /// The key's.
    hash: u64,
}

impl Shard<'_> {
    /// See [`Store::look`].
    #[inline]
    pub fn look(&mut self, key: &[u8], now: Now) -> Option<Hit<'_>> {
        self.store.look(self.hash, key, now)
    }

    /// Likewise, all of it.
    pub fn get(&mut self, key: &[u8], now: Now) -> Option<Held<'_>> {
        self.look(key, now).map(Hit::hold)
    }

    /// See [`Store::put`].
    pub fn put(
        &mut self,
        key: &[u8],
        value: &[&[u8]],
        entry: &Entry,
        now: Now,
    ) -> Result<(), Full> {
        self.store.put((self.hash, key), value, entry, now)
    }

    /// See [`Store::put_back`].
    pub fn put_back(
        &mut self,
        pool: Pool,
        key: &[u8],
        value: &[u8],
        entry: &Entry,
        now: Now,
    ) -> Result<(), Full> {
        self.store.put_back(pool, (self.hash, key), value, entry, now)
    }

    /// See [`Store::remove`].
    pub fn remove(&mut self, key: &[u8], now: Now) {
        self.store.remove(self.hash, key, now);
    }
}

/// Sums over all shards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub entries: usize,
    pub bytes: usize,
    pub losses: Losses,
}

/// What is left of a node's memory for entries: the tables of the rules, and a little for connections and the program, come first, but
/// not before most of a small memory.
fn entries_bytes(bytes_max: usize, tables_bytes: usize) -> usize {
    const PROGRAM_BYTES: usize = 8 << 20;
    let (sixteenth, quarter) = (bytes_max >> 4, bytes_max >> 2);
    bytes_max.saturating_sub(PROGRAM_BYTES.min(sixteenth)).saturating_sub(tables_bytes.min(quarter))
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
        let Some(mut entry) = shard.get(key, self.now) else { return };
        let mut mark = entry.mark;
        let fate = judge(&mut mark);
        if mark != entry.mark {
            entry.mark = mark;
        }
        match fate {
            Fate::Keep => {}
            Fate::Stale if entry.traits.has(Traits::PLACEHOLDER) => {
                drop(entry);
                shard.remove(key, self.now);
            }
            Fate::Stale => {
                make_stale(&mut entry, self.node.next_cas());
            }
        }
    }
}

/// Outdated from now on; the next reader who can is told to renew it.
pub(crate) fn make_stale(entry: &mut Entry, cas: u64) {
    entry.traits = entry.traits.with(Traits::STALE).without(Traits::WON);
    entry.cas = cas;
}
