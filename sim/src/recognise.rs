//! Recognisers: which interleavings of the race catalogue (`docs/races.md`) a history contains.

use cache_node::rules::Refused;
use schemas::version::Version;

use crate::{
    client::{How, Op},
    database::Txn,
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
            (Err(Refused::Deleted), _) if slow => "r01",
            (Err(Refused::Deleted), _) if op.server != self.db.primary => "r02",
            (Err(Refused::Deleted), _) => "r03",
            (Err(Refused::BelowFillFloor), _) => "r04",
            (Err(Refused::TooOld), How::Version(_)) => "r05",
            (Err(Refused::TooOld), How::Copy { .. }) => "r46",
            (Err(Refused::TooOld), _) => "r61",
            (Err(Refused::NoLease), _) => "r07",
            (Err(Refused::EpochEnded), _) => "r35",
            (Err(Refused::BelowServeFloor), _) => "r32",
            (Ok(_), _) if lost => "r35b",
            (Ok(_), How::Copy { .. }) => "r47",
            (Ok(_), _) if old => "r18",
            _ => return,
        };
        self.stats.race(name);
    }
}
