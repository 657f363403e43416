//! [`Kept`]: what a node keeps over a restart beside its entries, as plain data for whoever writes it down; and back.
//!
//! Not kept: leases (void in another life), ages, what is known of positions now. Marks are kept, but count only if the node had
//! stopped before they were taken: else others may have come since.

use std::time::Duration;

use protocol::control::EpochNews;
use schemas::{cursor::Place, moment::Moment, version::Version};

use super::{
    Nonce, Rules, Settings, Snapshot, floors::Floors, markers::Markers, position::Positions,
    progress::Progress, renumbered::Renumbered,
};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// In the order of their numbers.
    pub partitions: Vec<KeptPartition>,
    /// The serve floor of all keys.
    pub serve_floor: Version,
    /// Those of prefixes.
    pub prefix_floors: Vec<(Box<[u8]>, Version)>,
    /// What may hold values of lost transactions: from a version (included) to another one (excluded).
    pub cuts: Vec<(Version, Version)>,
    pub fill_floor: Version,
    /// The newest epoch that was known.
    pub epoch: u16,
    /// Epochs that began, oldest first.
    pub epochs: Vec<EpochNews>,
    pub age_floor: Version,
    /// The highest version that anybody had seen since the last epoch began.
    pub highest: Version,
    /// Proofs for a cut: when the age floor was the second, nobody had seen anything above the first.
    pub proofs: Vec<(Version, Version)>,
    /// Key hashes and versions, in the order in which they came.
    pub tombstones: Vec<(u64, Version)>,
    pub marks: Vec<KeptMark>,
}

/// One partition of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptPartition {
    /// The last record that was applied.
    pub cursor: Option<Place>,
    /// Every delete up to here was applied.
    pub applied: Version,
    pub missing: KeptMissing,
}

/// Records that were not applied, and that no floor covered yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeptMissing {
    /// There were none.
    #[default]
    Nothing,
    /// Those up to this place, from before the node had a cursor.
    Before(Place),
    /// Some before this place.
    Hole(Place),
}

/// The marks of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptMark {
    pub hash: u64,
    /// Writers that had not named their version, and for how long their marks still stood.
    pub pending: Vec<(Nonce, Duration)>,
    /// Versions that were named.
    pub named: Vec<Version>,
}

impl Snapshot {
    /// As plain data; marks as they stood at `now`.
    pub fn kept(&self, now: Moment) -> Kept {
        let Snapshot(rules) = self;
        let mut kept = Kept {
            partitions: rules.progress.to_kept(),
            fill_floor: rules.fill_floor,
            epoch: rules.epoch,
            epochs: rules.renumbered.to_kept(),
            tombstones: rules.tombstones.to_kept(),
            marks: rules.markers.to_kept(now),
            ..Kept::default()
        };
        rules.floors.keep(&mut kept);
        rules.positions.keep(&mut kept);
        kept
    }

    /// From plain data, for a node with these settings. The number of partitions is the data's. Marks are left out: see
    /// [`Rules::restore_marks`].
    pub fn of(settings: Settings, kept: &Kept) -> Snapshot {
        let mut rules = Rules::new(Moment::START, settings);
        let settings = &rules.settings;
        rules.progress = Progress::of_kept(kept, settings.staleness_max, settings.clock_skew_max);
        rules.positions = Positions::of_kept(kept, settings.fill_age_max);
        rules.floors = Floors::of_kept(kept);
        rules.renumbered = Renumbered::of_kept(&kept.epochs);
        (rules.fill_floor, rules.epoch) = (kept.fill_floor, kept.epoch);
        for &(hash, version) in &kept.tombstones {
            // The table may be smaller than it was.
            let evicted = rules.tombstones.add(hash, version, Version::ZERO);
            rules.fill_floor = rules.fill_floor.max(evicted.unwrap_or_default());
        }
        rules.settings.partitions = rules.progress.partitions();
        Snapshot(rules)
    }
}

impl Rules {
    /// Nobody could mark a key since `marks` were taken, `down` ago: they are all there are.
    pub fn restore_marks(&mut self, now: Moment, marks: &[KeptMark], down: Duration) {
        let Settings { markers_max, marker_ttl_max, .. } = self.settings;
        let mut markers = Markers::new(now, markers_max, marker_ttl_max);
        if markers.restore(now, marks, down, &self.renumbered).is_ok() {
            markers.nothing_lost(now);
        }
        self.markers = markers;
    }
}
