//! [`Check`]: what must be true after every step, and at the end. It knows the whole history; the parts
//! under test know nothing of it.

mod clients;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cache_node::rules::{Ask, Nonce, Rules, Served, Subject};
use protocol::control::{Batch, Item};
use schemas::{
    cursor::{Partition, Place, partition_of},
    epochs::EpochTable,
    record::{Checkpoint, EpochStart, Origin, Record, Scope},
    version::Version,
};

use crate::{
    binlog::key_name,
    database::{KeyId, Topology, Txn, TxnId, Value, Writes},
    node::key,
    world::{MS, Size},
};

/// The bound that nodes promise, as they are configured here.
const STALENESS_MAX: u64 = 1_500 * MS;
const MARKER_TTL: u64 = 2_000 * MS;
/// Connections to a node that may still deliver something.
const CONNECTIONS_MAX: usize = 12;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in microseconds.
    pub at: u64,
    /// Which.
    pub what: String,
}

/// Who wrote a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// The tailer that leads.
    Leader,
    /// One that was replaced and has not heard of it: what it writes does not count, its successor says it again.
    Replaced,
}

/// What a node serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub node: usize,
    pub key: KeyId,
    pub value: Value,
    pub served: Served,
    pub ask: Ask,
}

/// What one node has been told.
#[derive(Clone, Debug, Default)]
struct Told {
    /// Transactions whose delete of the key it has applied.
    deleted: BTreeMap<KeyId, BTreeSet<TxnId>>,
    /// What it must have applied before it serves the key again, since it was away.
    owed: BTreeMap<KeyId, TxnId>,
    /// Marks that stand: key, nonce, since.
    marks: Vec<(KeyId, Nonce, u64)>,
    /// Writes whose mark stood until their version was named.
    named: BTreeMap<KeyId, TxnId>,
    /// Until when their readers are sent to the primary, if not everybody has them before.
    hinted: BTreeMap<KeyId, (TxnId, u64)>,
    /// The highest version of a delete of the key that it has applied.
    highest: BTreeMap<KeyId, Version>,
    /// What it must have applied when the lane that asked on a connection has named the heads; the last connections.
    owes: VecDeque<(u64, BTreeMap<KeyId, TxnId>)>,
    /// It has been fresh: a floor covers what it has not seen. Until then it flags what it serves.
    attached: bool,
    /// What of this was so when the snapshot began that is the newest.
    at_snapshot: AtSnapshot,
}

/// What a snapshot knows: deletes that were applied, and whether its node was attached.
type AtSnapshot = (BTreeMap<KeyId, BTreeSet<TxnId>>, bool);

/// See the module.
pub(crate) struct Check {
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// Why lost transactions must not be served: since which epoch, and since when.
    lost: BTreeMap<TxnId, (u16, u64)>,
    errant: BTreeSet<TxnId>,
    table: EpochTable,
    /// What writers know of it.
    heard: EpochTable,
    /// How much later they hear of an epoch.
    heard_after: u64,
    unheard: Vec<(u64, EpochStart)>,
    /// What each version of a published delete stands for, key by key.
    published: BTreeMap<(Version, KeyId), TxnId>,
    /// The version that each published transaction got first.
    own: BTreeMap<TxnId, Version>,
    /// The published deletes of each key, as they were appended.
    deletes: Vec<Vec<(Version, TxnId, Place)>>,
    committed: Vec<Vec<(TxnId, Version)>>,
    told: Vec<Told>,
    oracle: BTreeMap<(usize, KeyId), Value>,
    /// The partition of each key.
    partition_of: Vec<Partition>,
    keys: KeyId,
}

impl Check {
    pub(crate) fn new(size: &Size, heard_after: u64) -> Check {
        Check {
            violation: None,
            lost: BTreeMap::new(),
            errant: BTreeSet::new(),
            table: EpochTable::default(),
            heard: EpochTable::default(),
            heard_after,
            unheard: Vec::new(),
            published: BTreeMap::new(),
            own: BTreeMap::new(),
            deletes: vec![Vec::new(); size.keys],
            committed: vec![Vec::new(); size.keys],
            told: vec![Told::default(); size.nodes],
            oracle: BTreeMap::new(),
            partition_of: (0..size.keys)
                .map(|id| partition_of(&key(id), size.partitions))
                .collect(),
            keys: size.keys,
        }
    }

    pub(crate) fn fail(&mut self, at: u64, what: String) {
        self.violation.get_or_insert(Violation { at, what });
    }
}

// === What happened ===

impl Check {
    pub(crate) fn errant(&mut self, txn: TxnId) {
        self.errant.insert(txn);
    }

    /// Whether something is lost of which no tailer will know, because it is not in the checkpoint, and no epoch has told.
    pub(crate) fn lost_unread_by(&self, db: &Topology, saved: Option<&Checkpoint>) -> bool {
        let read = |at: &TxnId, txn: &Txn| {
            let saved = saved.is_some_and(|saved| saved.executed.contains(&txn.gtid()));
            saved && self.own.contains_key(at)
        };
        let told = |at: &TxnId| self.lost.contains_key(at) || self.errant.contains(at);
        db.all().any(|(at, txn)| txn.lost_at.is_some() && !told(&at) && !read(&at, txn))
    }

    /// What is lost and was not announced is known only to the operator.
    pub(crate) fn lost_unread(&mut self, db: &Topology) {
        let lost =
            db.all().filter(|(at, txn)| txn.lost_at.is_some() && !self.lost.contains_key(at));
        self.errant.extend(lost.map(|(at, _)| at));
    }

    pub(crate) fn epoch_appended(&mut self, now: u64, db: &Topology, start: &EpochStart) {
        self.unheard.push((now + self.heard_after, start.clone()));
        if !self.table.learn(start.clone()) || start.lossless {
            return;
        }
        for (at, txn) in db.all() {
            // Whoever reads a server that somebody wrote to still sees it; the epoch that counts comes after that.
            let server = &db.instances[txn.server];
            let open = self.errant.contains(&at) && server.readable && server.log.contains(&at);
            // One that is of this very epoch is lost to a later one.
            let own = server_of(start) == Some(txn.server) && txn.number >= start.first;
            // Nor does one end it that begins before it: of what is read again of an older reign.
            let behind =
                db.all().take_while(|(before, _)| *before < at).all(|(before, survivor)| {
                    let gone = survivor.lost_at.is_some() || self.errant.contains(&before);
                    gone || start.before.contains(&survivor.gtid())
                });
            if txn.lost_at.is_some() && !open && !own && behind {
                self.lost.entry(at).or_insert((start.epoch, now));
            }
        }
    }

    /// A record arrived in the log.
    pub(crate) fn appended(
        &mut self,
        db: &Topology,
        record: &Record,
        (partition, place): (Partition, Place),
        author: Author,
    ) {
        match record {
            Record::Invalidations(of) => {
                for transaction in &of.transactions {
                    for invalidation in &transaction.keys {
                        let id = crate::node::key_id(&invalidation.key);
                        self.publish(db, transaction.version, &[id], place, author);
                    }
                }
            }
            Record::Floor(floor) => {
                let own = |id: &KeyId| self.partition_of[*id] == partition;
                let all: Vec<KeyId> = (0..self.keys).filter(own).collect();
                // What covers a lost tail has the version of something else.
                if floor.scope != Scope::All
                    && matches!(self.resolve(db, floor.version), Some(txn) if db.txn(txn).writes == Writes::Truncate)
                {
                    self.publish(db, floor.version, &all, place, author);
                }
            }
            _ => {}
        }
    }

    fn publish(
        &mut self,
        db: &Topology,
        version: Version,
        keys: &[KeyId],
        place: Place,
        author: Author,
    ) {
        let Some(txn) = self.resolve(db, version) else { return };
        // What is published again in a later epoch has a version that is not its own.
        for id in keys.iter().filter(|id| db.txn(txn).writes_key(**id)) {
            let txn = *self.published.entry((version, *id)).or_insert(txn);
            self.own.entry(txn).or_insert(version);
            if author == Author::Leader {
                self.deletes[*id].push((version, txn, place));
            }
        }
    }

    /// The transaction that a version stands for.
    fn resolve(&self, db: &Topology, version: Version) -> Option<TxnId> {
        let start = self.table.iter().find(|start| start.epoch == version.epoch())?;
        if version.sequence() < start.first {
            return None; // What is read again of older epochs stands below the first of this one.
        }
        let server = server_of(start)?;
        let is_it = |(at, txn): &(TxnId, &Txn)| {
            txn.server == server && txn.number == version.sequence() && !self.errant.contains(at)
        };
        db.all().rfind(is_it).map(|(at, _)| at)
    }

    /// A delete that names the key came, whether or not anybody committed it.
    pub(crate) fn delete_came(&mut self, node: usize, id: KeyId, version: Version) {
        let highest = self.told[node].highest.entry(id).or_default();
        *highest = version.max(*highest);
        self.deleted(node, id, version);
    }

    pub(crate) fn deleted(&mut self, node: usize, id: KeyId, version: Version) {
        if let Some(txn) = self.published.get(&(version, id)) {
            self.told[node].deleted.entry(id).or_default().insert(*txn);
        }
    }

    /// Records that nobody can read any more: what they said must come again, or as a floor.
    pub(crate) fn records_lost(&mut self, partition: usize, places: &[Place]) {
        for (id, deletes) in self.deletes.iter_mut().enumerate() {
            if usize::from(self.partition_of[id].0) == partition {
                deletes.retain(|(_, _, place)| !places.contains(place));
            }
        }
    }

    pub(crate) fn node_emptied(&mut self, node: usize) {
        // What was promised to a writer stands, whatever the node forgets.
        let Told { marks, named, at_snapshot, .. } = std::mem::take(&mut self.told[node]);
        self.told[node] = Told { marks, named, at_snapshot, ..Told::default() };
        self.oracle.retain(|(of, _), _| *of != node);
    }

    pub(crate) fn snapshot_began(&mut self, node: usize) {
        let told = &mut self.told[node];
        told.at_snapshot = (told.deleted.clone(), told.attached);
    }

    pub(crate) fn node_started_empty(&mut self, node: usize) {
        self.told[node].at_snapshot = AtSnapshot::default();
    }

    pub(crate) fn node_restored(&mut self, node: usize) {
        let told = &mut self.told[node];
        (told.deleted, told.attached) = std::mem::take(&mut told.at_snapshot);
    }

    /// Whether a node's marks stand that it does not know of.
    pub(crate) fn has_marks(&self, node: usize, now: u64) -> bool {
        self.told[node].marks.iter().any(|(_, _, since)| now < since + MARKER_TTL)
    }

    /// The highest version of a delete that a node was told of.
    pub(crate) fn highest_delete(&self, node: usize, id: KeyId) -> Version {
        self.told[node].highest.get(&id).copied().unwrap_or_default()
    }

    /// A lane asks a node where it is: from now on it may name what the log has now.
    pub(crate) fn greeted(&mut self, node: usize, connection: u64, db: &Topology) {
        let survives = |txn: &TxnId| db.txn(*txn).lost_at.is_none();
        let newest = |deletes: &Vec<(Version, TxnId, Place)>| {
            deletes.iter().map(|(_, txn, _)| *txn).filter(survives).max()
        };
        let all = self.deletes.iter().enumerate();
        let owes = all.filter_map(|(id, deletes)| Some((id, newest(deletes)?))).collect();
        let connections = &mut self.told[node].owes;
        connections.truncate(CONNECTIONS_MAX - 1);
        connections.push_front((connection, owes));
    }

    /// It named the heads of these partitions to a node that was away: from now on the node owes every delete up to them.
    pub(crate) fn returned(&mut self, node: usize, connection: u64, heads: &[(Partition, Place)]) {
        let told = &mut self.told[node];
        let Some((_, owes)) = told.owes.iter().find(|(of, _)| *of == connection) else { return };
        for (id, newest) in owes {
            let partition = self.partition_of[*id];
            // The log may have lost its tail since the greeting.
            let still =
                self.deletes[*id].iter().map(|(_, txn, _)| txn).filter(|txn| *txn <= newest);
            if let Some(newest) = still.max()
                && heads.iter().any(|(of, _)| *of == partition)
            {
                let owed = told.owed.entry(*id).or_insert(*newest);
                *owed = (*owed).max(*newest);
            }
        }
    }

    /// A key was marked. Returns whether it is already, for another write.
    pub(crate) fn marked(&mut self, node: usize, id: KeyId, nonce: Nonce, now: u64) -> bool {
        self.told[node].marks.retain(|(_, _, since)| now < since + MARKER_TTL);
        let already = self.told[node].marks.iter().any(|(of, _, _)| *of == id);
        self.told[node].marks.push((id, nonce, now));
        already
    }

    pub(crate) fn named(
        &mut self,
        now: u64,
        node: usize,
        id: KeyId,
        nonce: Nonce,
        in_time: Option<TxnId>,
    ) {
        let told = &mut self.told[node];
        told.marks.retain(|(of, mark, _)| (*of, *mark) != (id, nonce));
        if let Some(txn) = in_time {
            let named = told.named.entry(id).or_insert(txn);
            *named = txn.max(*named);
            told.hinted.insert(id, (*named, now + MARKER_TTL));
        }
    }

    /// Whether a cache that knows the present state would have had the value; it has it from now on.
    pub(crate) fn oracle_hits(&mut self, node: usize, id: KeyId, present: Value) -> bool {
        self.oracle.insert((node, id), present) == Some(present)
    }
}

// === What must be true ===

impl Check {
    /// A reader is told to wait for the holder of a lease that was good up to `filled`.
    pub(crate) fn waits(&mut self, now: u64, node: usize, id: KeyId, filled: Version) {
        if self.told[node].highest.get(&id).is_some_and(|deleted| filled < *deleted) {
            let name = key_name(id);
            self.fail(
                now,
                format!("node {node} lets readers of {name} wait for a fill that it will refuse"),
            );
        }
    }

    /// A reader is sent to any instance; whoever wrote and named it in time must find his write there.
    pub(crate) fn sent_anywhere(&mut self, now: u64, db: &Topology, node: usize, id: KeyId) {
        let Some(&(named, until)) = self.told[node].hinted.get(&id) else { return };
        let lacks = |of: &crate::database::Instance| of.readable && !of.visible.contains(&named);
        if now < until && db.txn(named).lost_at.is_none() && db.instances.iter().any(lacks) {
            let name = key_name(id);
            self.fail(now, format!("node {node} sends readers of {name} anywhere, and {named:?}, which was named in time, is not everywhere"));
        }
    }

    /// A cursor never falls while its node lives.
    pub(crate) fn cursor_moved(
        &mut self,
        now: u64,
        node: usize,
        before: Option<Place>,
        after: Option<Place>,
    ) {
        if after < before {
            self.fail(now, format!("a cursor of node {node} falls from {before:?} to {after:?}"));
        }
    }

    /// The newest deletes of a key in the log, newest first: what an operator may replay.
    pub(crate) fn replayable(&self, id: KeyId, count: usize) -> Vec<Version> {
        self.deletes[id].iter().rev().take(count).map(|(version, _, _)| *version).collect()
    }

    /// A batch left an entry, or took it away: nothing that is as new as the delete may go.
    pub(crate) fn judged(
        &mut self,
        now: u64,
        node: usize,
        id: KeyId,
        filled: Version,
        deleted: Version,
    ) {
        if filled >= deleted {
            let name = key_name(id);
            self.fail(
                now,
                format!("node {node} drops {name}, filled at {filled}, for a delete at {deleted}"),
            );
        }
    }

    pub(crate) fn served(&mut self, now: u64, db: &Topology, rules: &Rules, shown: Shown) {
        let Shown { node, key: id, value, served, .. } = shown;
        if served == Served::Stale {
            return;
        }
        self.told[node].attached |= served == Served::Hit;
        let told = &self.told[node];
        let survives = |txn: &&TxnId| db.txn(**txn).lost_at.is_none();
        let applied =
            told.deleted.get(&id).and_then(|txns| txns.iter().rev().find(survives)).copied();
        let mut wrong = None;
        let is_unread =
            |value: TxnId| self.errant.contains(&value) && !self.lost.contains_key(&value);
        // After a promotion, a transaction that was published may come again, and meanwhile nobody can have seen it.
        let shown_at_source = |txn: &TxnId| db.instances[db.primary].visible.contains(txn);
        let applied = applied.filter(|txn| !value.is_some_and(is_unread) && shown_at_source(txn));
        if let Some(applied) = applied.filter(|txn| value < Some(*txn)) {
            wrong = Some(format!("older than the delete of {applied:?}, which it has applied"));
        }
        let owed = told.owed.get(&id).filter(|_| told.attached);
        let owed = owed.filter(|txn| survives(txn) && value < Some(**txn));
        if let Some(owed) = owed {
            wrong = Some(format!("older than {owed:?}, which was in the log when it came back"));
        }
        if let Some((epoch, _)) = value.and_then(|txn| self.lost.get(&txn))
            && *epoch <= rules.newest_epoch()
        {
            wrong = Some(format!(
                "of a transaction that was lost before epoch {epoch}, which it knows"
            ));
        }
        if served == Served::Hit {
            wrong = wrong.or_else(|| self.judge_hit(now, db, shown));
        }
        if let Some(wrong) = wrong {
            self.fail(
                now,
                format!("node {node} serves {} = {value:?} ({served:?}), {wrong}", key_name(id)),
            );
        }
    }

    fn judge_hit(&self, now: u64, db: &Topology, shown: Shown) -> Option<String> {
        let Shown { node, key: id, value, ask, .. } = shown;
        if let Some(since) = self.superseded(db, id, value)
            && now > since + STALENESS_MAX
        {
            return Some(format!("superseded {} ms ago", (now - since) / MS));
        }
        // What was named in an older epoch may have a higher version by now, and is promised to those alone who ask for it.
        let asked = self.committed[id].iter().filter(|(txn, version)| {
            let named = version.epoch() == ask.at_least.epoch() && *version <= ask.at_least;
            named && *version != Version::ZERO && db.txn(*txn).lost_at.is_none()
        });
        if ask.at_least != Version::ZERO
            && let Some((txn, version)) = asked.max()
            && value < Some(*txn)
        {
            return Some(format!("without {txn:?}, although at least {version} was asked for"));
        }
        let told = &self.told[node];
        if let Some(mark) =
            told.marks.iter().find(|(of, _, since)| *of == id && now < since + MARKER_TTL)
        {
            return Some(format!("while it is marked ({mark:?})"));
        }
        if let Some(named) = told.named.get(&id)
            && db.txn(*named).lost_at.is_none()
            && value < Some(*named)
        {
            return Some(format!("without {named:?}, which was named in time"));
        }
        None
    }

    /// Since when the source has something newer, or has it not at all.
    fn superseded(&self, db: &Topology, id: KeyId, value: Value) -> Option<u64> {
        if let Some(txn) = value
            && db.txn(txn).lost_at.is_some()
        {
            return if self.errant.contains(&txn) {
                self.lost.get(&txn).map(|(_, at)| *at)
            } else {
                db.txn(txn).lost_at
            };
        }
        let first = value.map_or(0, |txn| txn.0 as usize + 1);
        let mut newer =
            db.txns.iter().skip(first).filter(|txn| txn.lost_at.is_none() && txn.writes_key(id));
        newer.find_map(|txn| txn.visible_at)
    }

    /// What the node says that it has applied, it has.
    pub(crate) fn applied(
        &mut self,
        now: u64,
        db: &Topology,
        node: usize,
        rules: &Rules,
        batch: &Batch,
    ) {
        for item in &batch.items {
            if let Item::Floor { version, .. } = item {
                let truncates = |id: &KeyId| {
                    let txn = self.published.get(&(*version, *id));
                    txn.is_some_and(|txn| db.txn(*txn).writes == Writes::Truncate)
                };
                for id in (0..self.keys).filter(truncates).collect::<Vec<_>>() {
                    self.deleted(node, id, *version);
                }
            }
        }
        let everywhere = rules.applied_everywhere().unwrap_or(Version::ZERO);
        for id in 0..self.keys {
            let ours = self.partition_of[id] == batch.partition;
            let applied =
                if ours { rules.applied(batch.partition).max(everywhere) } else { everywhere };
            let claimed = self.deletes[id]
                .iter()
                .rev()
                .find(|(version, txn, _)| *version <= applied && db.txn(*txn).lost_at.is_none());
            let Some((version, txn, _)) = claimed else { continue };
            let told = self.told[node].deleted.get(&id);
            if told.is_none_or(|has| has.contains(txn)) {
                continue;
            }
            let name = key_name(id);
            let floor = rules.fill_floor().max(rules.serve_floor(&Subject::new(name.as_bytes())));
            // What is published again in a later epoch is covered by what covers its own version.
            let own = self.own.get(txn).map_or(*version, |own| (*own).min(*version));
            if floor < own && !rules.is_cut(own) {
                self.fail(now, format!("node {node} says that it has applied {applied}, and was never told of {name} at {version}"));
            }
        }
    }
}

/// The server of an epoch's origin.
pub(crate) fn server_of(start: &EpochStart) -> Option<usize> {
    match &start.origin {
        Origin::Mysql { server_id, .. } => usize::try_from(*server_id).ok()?.checked_sub(1),
        _ => None,
    }
}
