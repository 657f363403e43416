//! [`Positions`]: what this node knows of its region's position, and for how long it has known it.
//!
//! Everything here is a lower bound that was true when the region was asked, and stays one: positions
//! that come late or twice, or that go back, are safe. The history of the last `fill_age_max` is kept
//! in steps; a step counts with its lowest position.

use std::{collections::VecDeque, time::Duration};

use protocol::control::Push;
use schemas::{cure::Cure, moment::Moment, version::Version};

use super::Kept;

/// `fill_age_max` is kept in this many steps.
const STEPS: u32 = 64;
/// Most proofs kept; beyond it every second one is dropped, oldest included.
const PROOFS_MAX: usize = 512;

/// At a moment when the age floor was `floor`, nobody had seen anything above `highest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Proof {
    highest: Version,
    floor: Version,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    first: Moment,
    last: Moment,
    lowest: Version,
}

/// Positions, their history, and the proofs for a cut.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    fill_age_max: Duration,
    region: Version,
    primary: Version,
    steps: VecDeque<Step>,
    /// The newest step that is older than `fill_age_max`: its position.
    old: Version,
    age_floor: Version,
    /// The highest that anybody has seen since the last epoch began.
    highest: Version,
    /// The highest that was visible anywhere in the newest round of questions; [`Version::MAX`] if that is not known.
    visible: Version,
    proofs: VecDeque<Proof>,
}

impl Positions {
    /// Nothing is known.
    pub(super) fn new(fill_age_max: Duration) -> Positions {
        Positions {
            fill_age_max,
            region: Version::ZERO,
            primary: Version::ZERO,
            steps: VecDeque::new(),
            old: Version::ZERO,
            age_floor: Version::ZERO,
            highest: Version::ZERO,
            visible: Version::MAX,
            proofs: VecDeque::new(),
        }
    }

    /// Visible on every instance of the region.
    pub(super) fn region(&self) -> Version {
        self.region
    }

    /// Visible on the primary.
    pub(super) fn primary(&self) -> Version {
        self.primary
    }

    /// The highest that is visible anywhere; [`Version::MAX`] if that is not known.
    pub(super) fn visible(&self) -> Version {
        self.visible
    }

    /// What is older was read longer than `fill_age_max` ago. Never falls.
    pub(super) fn age_floor(&self) -> Version {
        self.age_floor
    }

    /// The fill version of a value that a client read in the last `fill_age_max`, nobody knows when.
    pub(super) fn lowest_in_window(&self) -> Version {
        if !Cure::PlainSetTakesOldPosition.works() {
            return self.region;
        }
        self.steps.iter().map(|step| step.lowest).fold(self.old, Version::min)
    }

    /// Time passed.
    pub(super) fn advance(&mut self, now: Moment) {
        while let Some(step) = self.steps.front() {
            if now.since(step.last) < self.fill_age_max {
                break;
            }
            self.old = step.lowest;
            self.age_floor = if Cure::AgeFloorNeverFalls.works() {
                self.age_floor.max(self.old)
            } else {
                self.old
            };
            self.steps.pop_front();
        }
    }

    /// News from an invalidator. The newest push counts, also when it is lower. What is highest counts only if the
    /// poller knew `epoch`, the newest: else it took new transactions for foreign ones.
    pub(super) fn push(&mut self, now: Moment, push: &Push, epoch: u16) {
        self.advance(now);
        if !Cure::HistoryStartsUnknown.works() && self.steps.is_empty() && self.old == Version::ZERO
        {
            self.old = push.region;
            self.age_floor = push.region;
        }
        let lowest = if Cure::PositionMayFall.works() { Version::ZERO } else { self.region };
        (self.region, self.primary) = (push.region.max(lowest), push.primary);
        let width = self.fill_age_max.checked_div(STEPS).unwrap_or_default();
        match self.steps.back_mut() {
            Some(step) if now.since(step.first) < width => {
                step.last = now;
                step.lowest = step.lowest.min(push.region);
            }
            _ => self.steps.push_back(Step { first: now, last: now, lowest: push.region }),
        }
        if push.epoch < epoch {
            return;
        }
        self.visible = push.highest;
        self.highest = self.highest.max(push.highest);
        let highest = if Cure::ProofAsksHighest.works() { self.highest } else { push.region };
        let floor = if Cure::ProofTakesEchoedFloor.works() { push.echo } else { self.region };
        self.prove(Proof { highest, floor });
    }

    /// The age floor at the last moment when nobody had seen anything above `last`: whoever has seen more was
    /// accepted later, with a fill version that is not below it. Zero if that moment is not known.
    pub(super) fn floor_before(&self, last: Version) -> Version {
        let good = self.proofs.iter().filter(|proof| proof.highest <= last);
        good.map(|proof| proof.floor).max().unwrap_or(Version::ZERO)
    }

    /// An epoch began: what was seen above its beginning is dealt with.
    pub(super) fn forget_highest(&mut self) {
        self.highest = self.region.max(self.primary);
        self.visible = Version::MAX;
        self.proofs.clear();
    }

    /// What is kept over a restart: the age floor and the proofs, which are versions alone. The history is not: how long
    /// the node was away is not known.
    #[must_use]
    pub(super) fn kept(&self) -> Positions {
        Positions {
            steps: VecDeque::new(),
            region: Version::ZERO,
            primary: Version::ZERO,
            old: Version::ZERO,
            visible: Version::MAX,
            ..self.clone()
        }
    }

    /// Adds what is kept over a restart, as [`Positions::kept`] does.
    pub(super) fn keep(&self, kept: &mut Kept) {
        (kept.age_floor, kept.highest) = (self.age_floor, self.highest);
        kept.proofs = self.proofs.iter().map(|proof| (proof.highest, proof.floor)).collect();
    }

    /// From what was kept; bounded as always.
    pub(super) fn of_kept(kept: &Kept, fill_age_max: Duration) -> Positions {
        let mut positions = Positions::new(fill_age_max);
        (positions.age_floor, positions.highest) = (kept.age_floor, kept.highest);
        for &(highest, floor) in &kept.proofs {
            positions.prove(Proof { highest, floor });
        }
        positions
    }

    fn prove(&mut self, proof: Proof) {
        match self.proofs.back_mut() {
            Some(last) if last.highest == proof.highest => last.floor = last.floor.max(proof.floor),
            _ if proof.highest == Version::MAX => {}
            _ => self.proofs.push_back(proof),
        }
        if self.proofs.len() > PROOFS_MAX {
            let mut at = 0_usize;
            self.proofs.retain(|_| {
                at = at.saturating_add(1);
                at.is_multiple_of(2)
            });
        }
    }
}
