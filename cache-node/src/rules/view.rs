//! What others may know of the rules' state: statistics, answers to lanes, checks.

use std::time::Duration;

use schemas::{
    cursor::{Partition, Place},
    moment::Moment,
    version::Version,
};

use super::{Rules, Settings, Subject};

impl Rules {
    /// The cursor of a partition.
    pub fn cursor(&self, partition: Partition) -> Option<Place> {
        self.progress.cursor(partition)
    }

    /// `A` of one partition.
    pub fn applied(&self, partition: Partition) -> Version {
        self.progress.applied(partition)
    }

    /// `A` of the node: the lowest of all partitions; `None` until every one has reported.
    pub fn applied_everywhere(&self) -> Option<Version> {
        self.progress.applied_everywhere()
    }

    /// How often this node's wall clock has jumped back in this life; findings of lanes are of one of these stretches.
    pub fn clock_steps(&self) -> u32 {
        self.progress.clock_steps()
    }

    /// What this node tells pollers, who say it back with their next push.
    pub fn age_floor(&self) -> Version {
        self.positions.age_floor()
    }

    /// `P`, as far as it is known here.
    pub fn position(&self) -> Version {
        self.positions.region()
    }

    /// Visible on the primary, as far as this node knows.
    pub fn primary_position(&self) -> Version {
        self.positions.primary()
    }

    /// Fills below this are refused.
    pub fn fill_floor(&self) -> Version {
        self.fill_floor
    }

    /// Entries of a key below this are misses.
    pub fn serve_floor(&self, subject: &Subject<'_>) -> Version {
        self.floors.of(subject.key)
    }

    /// The newest epoch that is known here.
    pub fn newest_epoch(&self) -> u16 {
        self.epoch
    }

    /// Whether every partition is recent.
    pub fn is_fresh(&self, now: Moment) -> bool {
        self.progress.is_fresh(now)
    }

    /// How long ago the stream had no more than what was applied here, `clock_skew_max` included; `None` while that is not known.
    pub fn age(&self, now: Moment) -> Option<Duration> {
        self.progress.age(now)
    }

    /// Whether what was filled at this version is a miss, because what it was read from may have been lost.
    pub fn is_cut(&self, filled: Version) -> bool {
        self.floors.is_lost(filled)
    }

    /// Whether nothing is served until the node has caught up.
    pub fn is_quarantined(&self) -> bool {
        self.progress.is_quarantined()
    }

    /// What the bounded tables take when they are full.
    pub fn tables_bytes_max(&self) -> usize {
        /// An item of a hash map that is somewhat full, and its place in a queue.
        const ITEM_BYTES: usize = 56;
        let Settings { tombstones_max, leases_max, markers_max, .. } = &self.settings;
        let items = tombstones_max.saturating_add(*leases_max).saturating_add(*markers_max);
        items.saturating_mul(ITEM_BYTES)
    }

    /// Tombstones held.
    pub fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    /// Marks held.
    pub fn marks(&self) -> usize {
        self.markers.len()
    }
}
