//! [`Progress`]: how far the stream has been applied here, partition by partition, and whether that is
//! recent enough.

use std::time::Duration;

use protocol::control::{Agreement, Finding, Rewind};
use schemas::{
    cure::Cure,
    cursor::{Partition, Place},
    moment::Moment,
    record::UnixMicros,
    version::Version,
};

use super::{Kept, KeptMissing, KeptPartition, clock::WallClock};

/// One partition as this node has it.
#[derive(Clone, Debug, Default)]
struct State {
    /// The last record that was applied; `None` before the first lane.
    cursor: Option<Place>,
    /// Every invalidation of this partition up to here was applied.
    applied: Version,
    /// Fresh until then.
    deadline: Option<Moment>,
    /// What is missing: the next `Progress` behind it says up to which version.
    missing: Missing,
    /// Keys came when the cursor was here: others got their deletes before it. The next `Progress` behind it says up to which version.
    gained: Option<Place>,
    quarantine: Quarantine,
}

/// What a `Progress` says the end of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Covers {
    /// Records were missing.
    pub(super) missing: bool,
    /// Keys have come.
    pub(super) gained: bool,
}

/// Why a partition keeps the node from serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quarantine {
    /// It does not.
    #[default]
    None,
    /// The node came back with data; no lane has said yet where the head is.
    HeadUnknown,
    /// Until the cursor is here.
    Until(Place),
}

/// Records that were not applied here, and are not covered by a floor yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Missing {
    /// There are none.
    #[default]
    Nothing,
    /// Those up to this place, from before this node had a cursor.
    Before(Place),
    /// Some before this place: the stream did not reach back to the cursor.
    Hole(Place),
}

/// See the module. Partitions that a node was not told of are ignored.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    partitions: Vec<State>,
    staleness_max: Duration,
    clock_skew_max: Duration,
    clock: WallClock,
    together: Together,
}

/// What all partitions come to. Every read asks, so it is summed up when one of them changes.
#[derive(Clone, Copy, Debug)]
struct Together {
    /// `None`: not fresh.
    fresh_until: Option<Moment>,
    quarantined: bool,
}

impl Together {
    fn of(partitions: &[State]) -> Together {
        let fresh_until =
            |state: &State| state.deadline.filter(|_| state.missing == Missing::Nothing);
        let held = |state: &State| {
            state.quarantine != Quarantine::None || matches!(state.missing, Missing::Hole(_))
        };
        let fresh = partitions.iter().map(fresh_until);
        Together {
            fresh_until: if Cure::FreshEveryPartition.works() {
                // `None` is the least.
                fresh.min().flatten()
            } else {
                fresh.max().flatten()
            },
            quarantined: if Cure::QuarantineEveryPartition.works() {
                partitions.iter().any(held)
            } else {
                partitions.iter().all(held)
            },
        }
    }
}

impl Progress {
    /// Nothing applied.
    pub(super) fn new(
        partitions: u16,
        staleness_max: Duration,
        clock_skew_max: Duration,
    ) -> Progress {
        let partitions = vec![State::default(); usize::from(partitions.max(1))];
        Progress {
            together: Together::of(&partitions),
            partitions,
            staleness_max,
            clock_skew_max,
            clock: WallClock::new(clock_skew_max),
        }
    }

    /// How many partitions there are.
    pub(super) fn partitions(&self) -> u16 {
        u16::try_from(self.partitions.len()).unwrap_or(u16::MAX)
    }

    /// The cursor of a partition.
    pub(super) fn cursor(&self, partition: Partition) -> Option<Place> {
        self.state(partition).and_then(|state| state.cursor)
    }

    /// Every invalidation of the partition up to this version was applied.
    pub(super) fn applied(&self, partition: Partition) -> Version {
        self.state(partition).map_or(Version::ZERO, |state| state.applied)
    }

    /// Every invalidation up to this version was applied; `None` until every partition has said so.
    pub(super) fn applied_everywhere(&self) -> Option<Version> {
        let all = self.partitions.iter().all(|state| state.deadline.is_some());
        let reported = self.partitions.iter().filter(|state| state.deadline.is_some());
        let lowest = reported.map(|state| state.applied).min();
        lowest.filter(|_| all || !Cure::AppliedAsksEveryPartition.works())
    }

    /// Whether every partition is at most `staleness_max` behind.
    pub(super) fn is_fresh(&self, now: Moment) -> bool {
        self.clock.is_right() && self.together.fresh_until.is_some_and(|until| now < until)
    }

    /// How long ago the stream had no more than what was applied here; `None` while that is not known.
    pub(super) fn age(&self, now: Moment) -> Option<Duration> {
        let until = self.together.fresh_until.filter(|_| self.clock.is_right())?;
        let (left, over) = (until.since(now), now.since(until));
        Some(self.staleness_max.saturating_sub(left).saturating_add(over))
    }

    /// Whether some partition has not yet reached the head that its lane named, or has a hole that no floor covers.
    pub(super) fn is_quarantined(&self) -> bool {
        self.together.quarantined
    }

    /// A lane has connected, and names where the partition ends. A node that is not fresh, or in quarantine because of any
    /// partition, is in quarantine until it is there.
    pub(super) fn named_head(&mut self, now: Moment, partition: Partition, head: Place) {
        let held = if Cure::QuarantineTakesEveryHead.works() {
            self.is_quarantined()
        } else {
            self.state(partition).is_some_and(|state| state.quarantine != Quarantine::None)
        };
        let returning = held || !self.is_fresh(now);
        if !returning || !Cure::QuarantineOnReturn.works() {
            return;
        }
        self.change(partition, |state| {
            let head = match state.quarantine {
                // A connection that is gone may still deliver what it had sampled.
                Quarantine::Until(before) => before.max(head),
                Quarantine::None | Quarantine::HeadUnknown => head,
            };
            state.quarantine = Quarantine::Until(head);
            state.leave_quarantine();
        });
    }

    /// What is before `at` was not seen here, and will not be.
    pub(super) fn begin(&mut self, partition: Partition, at: Place) {
        self.change(partition, |state| {
            let place = state.cursor.map_or(at, |cursor| cursor.max(at));
            state.missing = match (state.cursor, state.missing) {
                (None, _) | (_, Missing::Before(_)) => Missing::Before(place),
                (Some(_), Missing::Nothing | Missing::Hole(_)) => Missing::Hole(place),
            };
            state.cursor = Some(place);
            state.leave_quarantine();
        });
    }

    /// The records in `(from, to]` were applied. Refused, and nothing moves, if there is a hole before them.
    pub(super) fn advance(
        &mut self,
        partition: Partition,
        from: Place,
        to: Place,
    ) -> Result<Place, Rewind> {
        let cursor = self.cursor(partition);
        let joins = cursor.is_some_and(|cursor| from <= cursor) || !Cure::BatchAsksFrom.works();
        if !joins {
            return Err(Rewind { cursor });
        }
        let moved = if Cure::CursorNeverFalls.works() {
            cursor.map_or(to, |cursor| cursor.max(to))
        } else {
            to
        };
        let known = self.change(partition, |state| {
            state.cursor = Some(moved);
            state.leave_quarantine();
        });
        known.map(|()| moved).ok_or(Rewind { cursor: None })
    }

    /// Every invalidation of the partition up to `version` was applied; unless some before the cursor were not.
    pub(super) fn raise_applied(&mut self, partition: Partition, version: Version) {
        // Neither freshness nor quarantine asks for it.
        let state = self.partitions.get_mut(usize::from(partition.0));
        if let Some(state) = state.filter(|state| state.missing == Missing::Nothing) {
            state.applied = state.applied.max(version);
        }
    }

    /// Keys have come whose deletes went to others until now.
    pub(super) fn gains(&mut self) {
        for state in &mut self.partitions {
            state.gained = state.cursor;
        }
    }

    /// Whether nobody knows yet up to where others got the deletes of keys of this partition.
    pub(super) fn is_gaining(&self, partition: Partition) -> bool {
        self.state(partition).is_some_and(|state| state.gained.is_some())
    }

    /// Likewise, of any partition.
    pub(super) fn gains_any(&self) -> bool {
        self.partitions.iter().any(|state| state.gained.is_some())
    }

    /// The partition has everything that the source had at `at`, as a batch says that begins after `from`; `wall` is this
    /// node's clock. Returns what was not applied here before it, up to the version that this `Progress` names.
    pub(super) fn progressed(
        &mut self,
        now: Moment,
        wall: UnixMicros,
        (partition, from): (Partition, Place),
        at: UnixMicros,
    ) -> Covers {
        let age =
            Duration::from_micros(wall.0.saturating_sub(at.0)).saturating_add(self.clock_skew_max);
        let left = self.staleness_max.checked_sub(age);
        let deadline = left.map_or(Moment::START, |left| now.later(left));
        let covered = self.change(partition, |state| {
            state.deadline = Some(state.deadline.map_or(deadline, |before| before.max(deadline)));
            let covered = match state.missing {
                Missing::Nothing => false,
                Missing::Before(place) | Missing::Hole(place) => {
                    place <= from || !Cure::BeginAsksLaterProgress.works()
                }
            };
            if covered {
                state.missing = Missing::Nothing;
            }
            let gained = state.gained.take_if(|place| *place <= from).is_some();
            Covers { missing: covered, gained }
        });
        covered.unwrap_or_default()
    }

    /// Our wall clock shows this.
    pub(super) fn read_clock(&mut self, now: Moment, wall: UnixMicros) {
        let before = self.clock.agreement();
        if self.clock.read(now, wall) && before != Some(Agreement::Close) {
            self.forget_ages();
        }
    }

    /// What lanes have found of our wall clock.
    pub(super) fn clocks(&mut self, finding: Finding) {
        let before = self.clock.agreement();
        self.clock.found(finding);
        if before == Some(Agreement::Apart) && self.clock.is_right() {
            self.forget_ages();
        }
    }

    /// How often our wall clock has jumped back in this life.
    pub(super) fn clock_steps(&self) -> u32 {
        self.clock.steps()
    }

    /// What was taken from a clock that was wrong, or at which nobody had looked, means nothing now that it is another.
    fn forget_ages(&mut self) {
        if !Cure::AgeAsksAgreement.works() {
            return;
        }
        for state in &mut self.partitions {
            state.deadline = state.deadline.map(|_| Moment::START);
        }
        self.together = Together::of(&self.partitions);
    }

    /// Somebody knows that something may have been missed here: nothing is served until lanes have named their heads again.
    pub(super) fn quarantine(&mut self) {
        for state in &mut self.partitions {
            state.quarantine = Quarantine::HeadUnknown;
        }
        self.together = Together::of(&self.partitions);
    }

    /// What is kept over a restart: cursors and what was applied, but neither ages nor quarantine, nor what was found of our clock.
    #[must_use]
    pub(super) fn kept(&self) -> Progress {
        let clock = WallClock::new(self.clock_skew_max);
        let mut kept = Progress { clock, ..self.clone() };
        for state in &mut kept.partitions {
            state.deadline = None;
            state.quarantine = Quarantine::HeadUnknown;
        }
        kept.together = Together::of(&kept.partitions);
        kept
    }

    /// The partitions, as [`Progress::kept`] keeps them.
    pub(super) fn to_kept(&self) -> Vec<KeptPartition> {
        let kept = self.partitions.iter().map(|state| KeptPartition {
            cursor: state.cursor,
            applied: state.applied,
            missing: match state.missing {
                Missing::Nothing => KeptMissing::Nothing,
                Missing::Before(place) => KeptMissing::Before(place),
                Missing::Hole(place) => KeptMissing::Hole(place),
            },
        });
        kept.collect()
    }

    /// From what was kept: in quarantine.
    pub(super) fn of_kept(
        kept: &Kept,
        staleness_max: Duration,
        clock_skew_max: Duration,
    ) -> Progress {
        let count = u16::try_from(kept.partitions.len()).unwrap_or(u16::MAX);
        let mut progress = Progress::new(count, staleness_max, clock_skew_max);
        for (state, kept) in progress.partitions.iter_mut().zip(&kept.partitions) {
            (state.cursor, state.applied) = (kept.cursor, kept.applied);
            state.missing = match kept.missing {
                KeptMissing::Nothing => Missing::Nothing,
                KeptMissing::Before(place) => Missing::Before(place),
                KeptMissing::Hole(place) => Missing::Hole(place),
            };
        }
        progress.kept()
    }

    fn state(&self, partition: Partition) -> Option<&State> {
        self.partitions.get(usize::from(partition.0))
    }

    /// Changes a partition; `None` if there is none.
    fn change<T>(&mut self, partition: Partition, by: impl FnOnce(&mut State) -> T) -> Option<T> {
        let done = self.partitions.get_mut(usize::from(partition.0)).map(by);
        self.together = Together::of(&self.partitions);
        done
    }
}

impl State {
    fn leave_quarantine(&mut self) {
        if let Quarantine::Until(head) = self.quarantine
            && self.cursor.is_some_and(|cursor| cursor >= head)
        {
            self.quarantine = Quarantine::None;
        }
    }
}
