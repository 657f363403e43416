//! Recognisers: which interleavings of the race catalogue (`docs/races.md`) a history contains.

use cache_node::rules::{Ask, Refused, Served};
use protocol::control::{Batch, Item};
use schemas::{
    cursor::{Partition, Place},
    record::Record,
    version::Version,
};

use crate::{
    check::Author,
    client::{How, Op},
    database::Txn,
    node::{Entry, Shelf, key_id},
    world::{MS, World},
};

/// A reader that takes longer than this between its read and its fill is slow, in microseconds.
const SLOW: u64 = 500 * MS;

impl World {
    /// A fill came to a node, and was stored or refused.
    pub(crate) fn recognise_fill(&mut self, op: &Op, stored: Result<Version, Refused>) {
        let newer = |txn: &&Txn| txn.writes_key(op.key) && txn.lost_at.is_none();
        let first = op.value.map_or(0, |txn| txn.0 as usize + 1);
        let old = self.db.txns.iter().skip(first).filter(newer).any(|txn| txn.visible_at.is_some());
        let lost = op.value.is_some_and(|txn| self.db.txn(txn).lost_at.is_some());
        let slow = self.now.saturating_sub(op.opened) > SLOW;
        let name = match (stored, op.how) {
            (Err(Refused::Deleted), _) if !old && !lost => "r16",
            (Err(Refused::Deleted), _) if slow => "r01",
            (Err(Refused::Deleted), _) if op.server != self.db.primary => "r02",
            (Err(Refused::Deleted), _) => "r03",
            (Err(Refused::BelowFillFloor), _) => "r04",
            (Err(Refused::TooOld), How::Version(_)) => "r05",
            (Err(Refused::TooOld), How::Copy { .. }) => "r46",
            (Err(Refused::TooOld), _) => "r61",
            (Err(Refused::NoLease), _) if op.told_by.0 != op.node => "r09",
            (Err(Refused::NoLease), _) if op.told_by.1 != self.nodes[op.node].life => "r08",
            (Err(Refused::NoLease), _) => "r07",
            (Err(Refused::EpochEnded), _) => "r35",
            (Err(Refused::BelowServeFloor), _) => "r32",
            (Ok(_), _) if lost => "r35",
            (Ok(_), How::Copy { .. }) => "r47",
            (Ok(_), _) if old => "r18",
            _ => return,
        };
        self.stats.race(name);
    }

    /// An entry was asked for.
    pub(crate) fn recognise_read(&mut self, node: usize, entry: &Entry, served: Served, ask: Ask) {
        if served == Served::Stale {
            self.stats.race("r10");
        }
        if served == Served::Miss && ask.at_least > entry.mark.filled {
            self.stats.race("r56");
        }
        if !self.nodes[node].rules.is_fresh(self.moment()) {
            self.stats.race("r27");
        }
    }

    /// A batch came to a node whose cursor was at `before`, with these entries.
    pub(crate) fn recognise_batch(
        &mut self,
        node: usize,
        batch: &Batch,
        before: Option<Place>,
        shelf: &Shelf,
    ) {
        if self.nodes[node].rules.applied_everywhere().is_none() {
            self.stats.race("r64");
        }
        let again = before.is_some_and(|before| batch.from < before);
        for item in &batch.items {
            let Item::Delete { key, version } = item else { continue };
            let entry = shelf.0.get(&key_id(key));
            if again {
                self.stats.race("r19");
            }
            if *version < self.check.highest_delete(node, key_id(key)) {
                self.stats.race("r20");
            }
            if again && entry.is_some_and(|entry| entry.mark.filled >= *version) {
                self.stats.race("r41");
            }
            if entry.is_some_and(|entry| entry.value.is_none()) {
                self.stats.race("r13");
            }
        }
    }

    /// A record came into the log.
    pub(crate) fn recognise_record(
        &mut self,
        record: &Record,
        partition: Partition,
        place: Place,
        author: Author,
    ) {
        match record {
            Record::Invalidations(of) if of.transactions.iter().any(|part| !part.last) => {
                self.stats.race("r39");
            }
            Record::Epoch(start)
                if author == Author::Leader
                    && self.broker.epochs.iter().any(|known| known.origin == start.origin) =>
            {
                self.stats.race("r37");
            }
            Record::TermStart(_) if place.sequence <= self.broker.highest(partition) => {
                self.stats.race("r62");
            }
            _ => {}
        }
    }

    /// A node started again, with its data or without.
    pub(crate) fn recognise_restart(&mut self, node: usize) {
        if self.check.has_marks(node, self.now) {
            self.stats.race("r65");
        }
        let ends = self.broker.ends();
        let rules = &self.nodes[node].rules;
        let behind = (0..)
            .map(Partition)
            .zip(&ends)
            .any(|(partition, end)| rules.cursor(partition).is_some_and(|cursor| cursor < *end));
        if behind {
            self.stats.race("r48");
        }
    }
}
