//! [`Publisher`]: transactions' keys in, batches of records out. Pure.
//!
//! Keys are spread over partitions by hash. Within one batch each key of a transaction comes once. A transaction that
//! is larger than a batch is published in parts, while it is being read: only its last part in a partition says
//! `last` (and has no keys, if none were left). In later parts a key may come again, which is harmless. Keys beyond
//! `transaction_keys_max` are not listed: the transaction then ends in one floor that covers them.
//!
//! Memory is bounded by one batch, whatever the size of transactions.

use std::{collections::HashSet, sync::Arc};

use bytes::BytesMut;
use foldhash::quality::RandomState;
use schemas::{
    cure::Cure,
    cursor::{Partition, partition_of},
    key::{KEY_BYTES_MAX, Key},
    record::{
        Checkpoint, EpochStart, Floor, Invalidation, Invalidations, Progress, Record, Scope,
        Transaction, UnixMicros,
    },
    version::Version,
};
use stream::Batch;

use crate::{scope::ScopeSum, settings::Limits, stale::StaleKey};

/// Keys that are copied to the same memory: they go at about the same time.
const MEMORY_BYTES: usize = 32 << 10;
/// Bytes that a key takes in a record beside its text; more than the wire form needs.
const KEY_FRAME_BYTES: usize = 16;
/// Likewise for a transaction.
const TRANSACTION_FRAME_BYTES: usize = 64;
/// Likewise for a record of another kind.
const RECORD_FRAME_BYTES: usize = 256;

/// Invariants: `keys` and `bytes` are those of the lanes; a lane has an open part only while a transaction is open.
#[derive(Debug)]
pub struct Publisher {
    source: Arc<str>,
    limits: Limits,
    lanes: Vec<Lane>,
    keys: usize,
    bytes: usize,
    open: Option<Open>,
    /// Keys of the open transaction that are in this batch. Kept over transactions for its memory.
    seen: HashSet<Key, RandomState>,
    /// What keys are copied to.
    memory: BytesMut,
}

/// What waits for one partition.
#[derive(Debug, Default)]
struct Lane {
    items: Vec<Item>,
    part: Option<Part>,
    /// A part of the open transaction is out already.
    continues: bool,
}

#[derive(Debug)]
enum Item {
    Part(Part),
    Other(Record),
}

#[derive(Debug)]
struct Part {
    transaction: Transaction,
    bytes: usize,
}

/// The transaction that is being read.
#[derive(Debug)]
struct Open {
    version: Version,
    committed_at: Option<UnixMicros>,
    received_at: UnixMicros,
    keys: usize,
    /// What its keys beyond the limit can be.
    unlisted: ScopeSum,
    /// What its floors cover.
    floored: ScopeSum,
}

impl Publisher {
    /// Nothing waits. `partitions` is at least 1.
    pub fn new(source: Arc<str>, partitions: u16, limits: Limits) -> Publisher {
        let lanes = (0..partitions.max(1)).map(|_| Lane::default()).collect();
        Publisher {
            source,
            limits,
            lanes,
            keys: 0,
            bytes: 0,
            open: None,
            seen: HashSet::default(),
            memory: BytesMut::new(),
        }
    }

    /// A transaction begins; one that was open ends.
    pub fn begin(
        &mut self,
        version: Version,
        committed_at: Option<UnixMicros>,
        received_at: UnixMicros,
    ) {
        self.commit();
        let (unlisted, floored) = (ScopeSum::default(), ScopeSum::default());
        self.open = Some(Open { version, committed_at, received_at, keys: 0, unlisted, floored });
    }

    /// A key of the open transaction; `scope` covers it, should it be one too many. False if it is in the batch
    /// already.
    pub fn key(&mut self, key: StaleKey<'_>, scope: &Scope) -> bool {
        let partitions = u16::try_from(self.lanes.len()).unwrap_or(u16::MAX);
        let partition = usize::from(partition_of(&key.key, partitions).0);
        let (Some(open), Some(lane)) = (self.open.as_mut(), self.lanes.get_mut(partition)) else {
            debug_assert!(false, "a key outside of a transaction");
            return false;
        };
        if self.seen.contains(key.key.as_bytes()) {
            return false;
        }
        if open.keys >= self.limits.transaction_keys_max {
            // Adding up is cheap and says each scope once, however many keys follow.
            drop(open.unlisted.add(scope));
            return true;
        }
        if self.memory.capacity() < KEY_BYTES_MAX {
            self.memory = BytesMut::with_capacity(MEMORY_BYTES);
        }
        let StaleKey { key, table, rule, operation } = key;
        let key = key.to_key_in(&mut self.memory);
        self.seen.insert(key.clone());
        let (table, rule) = (Arc::clone(table), Arc::clone(rule));
        let key = Invalidation { key, table, rule, operation };
        open.keys = open.keys.saturating_add(1);
        let bytes = [key.key.as_bytes().len(), key.table.len(), key.rule.len(), KEY_FRAME_BYTES]
            .iter()
            .sum();
        if lane
            .part
            .as_ref()
            .is_some_and(|part| part.bytes.saturating_add(bytes) > self.limits.record_bytes_max)
        {
            lane.close_part();
        }
        let part = lane.part.get_or_insert_with(|| {
            self.bytes = self.bytes.saturating_add(TRANSACTION_FRAME_BYTES);
            open.part()
        });
        part.bytes = part.bytes.saturating_add(bytes);
        part.transaction.keys.push(key);
        self.keys = self.keys.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }

    /// Keys that nobody can list are stale up to `version`. Within one transaction each scope is said once; false if
    /// this one was.
    pub fn floor(&mut self, scope: &Scope, version: Version, reason: &str) -> bool {
        let new = match self.open.as_mut() {
            Some(open) => open.floored.add(scope),
            None => Some(scope.clone()),
        };
        let Some(scope) = new else { return false };
        let (source, reason) = (Arc::clone(&self.source), Arc::from(reason));
        self.everywhere(&Record::Floor(Floor { source, scope, version, reason }));
        true
    }

    /// Numbers start anew.
    pub fn epoch(&mut self, start: EpochStart) {
        self.everywhere(&Record::Epoch(start));
    }

    /// Everything up to a point is published.
    pub fn progress(&mut self, progress: Progress) {
        let partitions = if Cure::ProgressEverywhere.works() { self.lanes.len() } else { 1 };
        self.on_the_first(partitions, &Record::Progress(progress));
    }

    /// The open transaction is complete. Returns the floor's scope, if it had too many keys.
    pub fn commit(&mut self) -> Option<Scope> {
        let unlisted = self
            .open
            .as_ref()
            .and_then(|open| open.unlisted.scope().map(|scope| (scope, open.version)));
        if let Some((scope, version)) = &unlisted
            && Cure::UnlistedKeysRaiseFloor.works()
        {
            self.floor(scope, *version, "the transaction has more keys than transaction_keys_max");
        }
        if let Some(open) = self.open.take() {
            for lane in &mut self.lanes {
                if lane.part.is_none() && lane.continues {
                    self.bytes = self.bytes.saturating_add(TRANSACTION_FRAME_BYTES);
                    lane.part = Some(open.part());
                }
                if let Some(mut part) = lane.part.take() {
                    part.transaction.last = true;
                    lane.items.push(Item::Part(part));
                }
                lane.continues = false;
            }
        }
        self.seen.clear();
        unlisted.map(|(scope, _)| scope)
    }

    /// Whether there is enough for a batch.
    pub fn is_full(&self) -> bool {
        self.keys >= self.limits.batch_keys_max || self.bytes >= self.limits.batch_bytes_max
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.items.is_empty() && lane.part.is_none())
    }

    /// All that waits, as one batch; of the open transaction what has been read so far.
    pub fn take(&mut self, checkpoint: Option<Checkpoint>) -> Batch {
        let mut records = Vec::new();
        for (partition, lane) in (0..).map(Partition).zip(&mut self.lanes) {
            if lane.part.is_some() {
                lane.close_part();
            }
            lane.take(&self.source, self.limits.record_bytes_max, |record| {
                records.push((partition, record));
            });
        }
        self.seen.clear();
        (self.keys, self.bytes) = (0, 0);
        Batch { records, checkpoint }
    }

    fn everywhere(&mut self, record: &Record) {
        self.on_the_first(self.lanes.len(), record);
    }

    fn on_the_first(&mut self, partitions: usize, record: &Record) {
        for lane in self.lanes.iter_mut().take(partitions) {
            self.bytes = self.bytes.saturating_add(RECORD_FRAME_BYTES);
            lane.items.push(Item::Other(record.clone()));
        }
    }
}

impl Lane {
    /// More of the transaction follows.
    fn close_part(&mut self) {
        self.continues = true;
        self.items.extend(self.part.take().map(Item::Part));
    }

    /// Joins parts to records of at most `bytes_max`, but a record has at least one.
    fn take(&mut self, source: &Arc<str>, bytes_max: usize, mut each: impl FnMut(Record)) {
        let record = |transactions| {
            Record::Invalidations(Invalidations { source: Arc::clone(source), transactions })
        };
        let (mut transactions, mut bytes) = (Vec::new(), 0_usize);
        for item in self.items.drain(..) {
            match item {
                Item::Part(part) => {
                    if !transactions.is_empty() && bytes.saturating_add(part.bytes) > bytes_max {
                        each(record(std::mem::take(&mut transactions)));
                        bytes = 0;
                    }
                    bytes = bytes.saturating_add(part.bytes);
                    transactions.push(part.transaction);
                }
                Item::Other(other) => {
                    if !transactions.is_empty() {
                        each(record(std::mem::take(&mut transactions)));
                        bytes = 0;
                    }
                    each(other);
                }
            }
        }
        if !transactions.is_empty() {
            each(record(transactions));
        }
    }
}

impl Open {
    fn part(&self) -> Part {
        let Open { version, committed_at, received_at, .. } = *self;
        let transaction =
            Transaction { version, committed_at, received_at, last: false, keys: Vec::new() };
        Part { transaction, bytes: TRANSACTION_FRAME_BYTES }
    }
}

#[cfg(test)]
mod tests;
