//! [`Owned`]: which keys are this node's own, as its lanes have said; and what it may still hold of keys that have left.
//!
//! A node gets deletes of its own keys alone. So a fill of any other key is refused, and where the ring changes, three things happen:
//!
//! - *Keys have left.* Entries of them get no deletes from now on. They are misses at once, and a sweep through all entries drops
//!   them. Until it is over, an entry must be of a key that was ours by every ring since: one that leaves and comes back meanwhile may
//!   have changed at the other node. After it, there is nothing of keys that have left, and nobody has to look.
//! - *Keys have come.* Their deletes before now went to others, and there are no tombstones of them here: they have a floor for fills, which
//!   is what the stream's partitions hold now, and no fill of them is accepted until that is known (`Progress`). It is forgotten once the age
//!   floor is as high.
//! - *Keys stay.* Their entries do, too: the node's cursors say up to where deletes of them have come, and the lanes of the new ring
//!   begin there. It does not matter whether this node has missed a ring in between.
//!
//! Lanes of one version of the ring may be at two stages: while some client uses the former ring, deletes go by both. Who has heard that
//! it is over does not go back: of what lanes of one version say, the narrower counts.

use std::sync::Arc;

use protocol::control::RingPlace;
use schemas::{
    cure::Cure,
    ring::{Ring, RingError, RingNode},
    version::Version,
};

use super::{Refused, Rules, Subject, progress::Covers};

/// Rings that are remembered while it matters; with more, every key has left, and come.
pub(super) const PENDING_MAX: usize = 8;

/// See the module. Without a word of lanes every key is this node's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Owned {
    known: Option<Known>,
    /// What is here was kept over a restart, and went by this version.
    kept: Option<u64>,
    /// An entry that is there must be of a key that is ours by each of these. Empty: the sweep is over.
    pending: Vec<Rings>,
    /// A key that was not ours by one of these has come since.
    came: Vec<Rings>,
    /// Keys that have come are not filled below this.
    floor: Version,
    /// Grows with every change.
    round: u64,
}

#[derive(Clone, Debug)]
struct Known {
    version: u64,
    rings: Rings,
}

/// A key is ours if it is by one of them.
type Rings = Arc<[Place]>;

#[derive(Clone, Debug)]
struct Place {
    said: RingPlace,
    ring: Ring,
}

/// What lanes said of the rings makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingRefused {
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("no ring")]
    None,
    /// Who changes nodes, weights or hashing must raise the version: it says which of two rings is the newer one.
    #[error("ring version {version} is that of another ring: raise ring_version")]
    Another { version: u64 },
}

/// What became of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// None has come.
    NoneCame,
    /// Some may have come whose deletes went to others.
    SomeCame,
}

impl Owned {
    /// Whether the node gets deletes of the key.
    pub(super) fn is_own(&self, key: &[u8]) -> bool {
        self.known.as_ref().is_none_or(|known| owns(&known.rings, key))
    }

    /// Whether an entry of the key that is there has had all its deletes.
    pub(super) fn is_kept(&self, key: &[u8]) -> bool {
        self.pending.iter().all(|rings| owns(rings, key))
    }

    /// What a walk through all entries must begin anew for; `None`: there is nothing to sweep.
    pub(super) fn sweeping(&self) -> Option<u64> {
        (!self.pending.is_empty()).then_some(self.round)
    }

    /// All entries were looked at since this round began, and those that are not kept are gone.
    pub(super) fn swept(&mut self, round: u64) {
        if round == self.round {
            self.pending.clear();
        }
    }

    /// The floor for fills of a key that has come; `None`: it has been ours long enough.
    pub(super) fn floor_of(&self, key: &[u8]) -> Option<Version> {
        let came = self.came.iter().any(|before| !owns(before, key));
        came.then_some(self.floor)
    }

    /// Others may have got deletes up to this version.
    pub(super) fn raise_floor(&mut self, version: Version) {
        self.floor = self.floor.max(version);
    }

    /// No fill below this is accepted any more, of whatever key; and the floor is known.
    pub(super) fn lapse(&mut self, age_floor: Version) {
        if age_floor >= self.floor {
            self.came.clear();
        }
    }

    /// A lane says by which rings it delivers, the newest one first.
    pub(super) fn told(&mut self, version: u64, said: &[RingPlace]) -> Result<Change, RingRefused> {
        let rings: Rings = said.iter().map(Place::new).collect::<Result<_, _>>()?;
        let Some(newest) = rings.first() else { return Err(RingRefused::None) };
        let (came, left) = match &self.known {
            // What was there before is ours by this version at least: nobody has said more. And who has not kept it from this version
            // does not know what was said to others.
            None => {
                let newest = Rings::from([newest.clone()]);
                let kept = self.kept == Some(version);
                let before = if kept { Arc::clone(&newest) } else { Rings::from([]) };
                ((!is_within(&rings, &before)).then_some(before), Some(newest))
            }
            Some(known) if known.version == version && is_within(&known.rings, &rings) => {
                return Ok(Change::NoneCame);
            }
            Some(known) if known.version == version && !is_within(&rings, &known.rings) => {
                return Err(RingRefused::Another { version });
            }
            Some(known) => {
                let came = !is_within(&rings, &known.rings);
                let came = came.then(|| Arc::clone(&known.rings));
                let left = !is_within(&known.rings, &rings) || !self.pending.is_empty();
                (came, left.then(|| Arc::clone(&rings)))
            }
        };
        if let Some(left) = left {
            if !Cure::SweepRemembersRings.works() {
                self.pending.clear();
            }
            remember(&mut self.pending, left);
        }
        let change = if came.is_some() { Change::SomeCame } else { Change::NoneCame };
        if let Some(before) = came.filter(|_| Cure::GainHasFillFloor.works()) {
            remember(&mut self.came, before);
        }
        self.round = self.round.wrapping_add(1);
        self.known = Some(Known { version, rings });
        Ok(change)
    }
}

// === What lanes and the storage say and ask ===

impl Rules {
    /// A lane says which keys are this node's: by the rings of this version, and by the one before, if some client still uses it.
    pub fn rings(&mut self, version: u64, rings: &[RingPlace]) -> Result<(), RingRefused> {
        if self.owned.told(version, rings)? == Change::SomeCame {
            self.progress.gains();
        }
        Ok(())
    }

    /// Whether a fill of the key may be stored, as far as the ring is concerned.
    pub(super) fn check_ring(&self, subject: &Subject<'_>, filled: Version) -> Result<(), Refused> {
        if !self.owned.is_own(subject.key) && Cure::AcceptAsksRing.works() {
            return Err(Refused::OtherNode);
        }
        let unknown = self.progress.is_gaining(self.partition(subject));
        match self.owned.floor_of(subject.key) {
            Some(floor) if unknown || filled < floor => Err(Refused::BelowFillFloor),
            _ => Ok(()),
        }
    }

    /// A `Progress` has said this version.
    pub(super) fn cover_ring(&mut self, covers: Covers, version: Version) {
        if covers.gained {
            self.owned.raise_floor(version);
        }
        if !self.progress.gains_any() {
            self.owned.lapse(self.positions.age_floor());
        }
    }

    /// What this node has kept over a restart went by this version of the ring.
    pub fn kept_by_ring(&mut self, version: u64) {
        self.owned = Owned { kept: Some(version), ..Owned::default() };
    }

    /// The version of the ring whose keys are this node's; `None` if no lane has said which are.
    pub fn ring(&self) -> Option<u64> {
        self.owned.known.as_ref().map(|known| known.version)
    }

    /// What a walk that drops entries of keys that have left must begin anew for, when it changes; `None`: there are none.
    pub fn sweeping(&self) -> Option<u64> {
        self.owned.sweeping()
    }

    /// Whether an entry that is there may stay, as far as the ring is concerned.
    pub fn is_kept(&self, subject: &Subject<'_>) -> bool {
        self.is_unsourced(subject) || self.owned.is_kept(subject.key)
    }

    /// All entries were looked at since [`Rules::sweeping`] said this, and those that are not [`Rules::is_kept`] are gone.
    pub fn swept(&mut self, round: u64) {
        self.owned.swept(round);
    }

    /// Whether keys have come, of which others have got deletes that fills may not know of.
    pub fn has_new_keys(&self) -> bool {
        !self.owned.came.is_empty()
    }
}

impl Place {
    fn new(said: &RingPlace) -> Result<Place, RingError> {
        let mut said = said.clone();
        let own = said.nodes.get(usize::from(said.own)).map(|node| node.name.clone());
        let own = own.ok_or(RingError::Empty)?;
        if !said.hashing.is_by_order() {
            // The order in a file means nothing.
            said.nodes.sort_by(|one, other| one.name.cmp(&other.name));
            let at = said.nodes.iter().position(|node: &RingNode| node.name == own);
            said.own = at.and_then(|at| u16::try_from(at).ok()).unwrap_or_default();
        }
        Ok(Place { ring: Ring::new(said.hashing, &said.nodes)?, said })
    }
}

/// Adds rings of which every key must be; unless narrower ones are there.
fn remember(all: &mut Vec<Rings>, rings: Rings) {
    if all.iter().any(|before| is_within(before, &rings)) {
        return;
    }
    if all.len() == PENDING_MAX {
        all.clear();
        all.push(Rings::from([]));
    } else {
        all.push(rings);
    }
}

fn owns(rings: &[Place], key: &[u8]) -> bool {
    rings.iter().any(|place| place.ring.owner_of(key) == usize::from(place.said.own))
}

/// Whether each of these is among those.
fn is_within(these: &[Place], those: &[Place]) -> bool {
    these.iter().all(|place| those.iter().any(|other| other.said == place.said))
}
