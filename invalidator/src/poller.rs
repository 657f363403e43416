//! [`Poller`]: how far the instances of a region are, as versions. Pure.
//!
//! Every few milliseconds each instance that applications read from is asked which transactions are
//! visible there. From the answers come `P`, the lowest position of all of them; `PP`, the lowest of
//! those that a reader may take for the primary; and the highest version that anybody can have seen.
//!
//! Whatever is not known lowers a position, never raises it: an instance that does not answer counts
//! with its last answer, one that never answered holds everything back, and one with transactions that
//! the source does not have stays out of the newest epoch until it is fenced from readers. So does one
//! that was asked before the epoch was known: it may have lost its place since. And while a former
//! primary is not fenced, only a transaction of a lossy epoch proves that an instance belongs to it: the
//! former one may still show what was lost.

mod watching;

use std::{collections::BTreeMap, time::Duration};

use protocol::control::{Continuity, EpochNews};
use schemas::{
    cure::Cure,
    epochs::{EpochTable, Standing, highest_number},
    gtid::{Dialect, GtidSet},
    moment::Moment,
    record::{EpochStart, Origin},
    version::Version,
};

pub use self::watching::{Hold, InstanceState};

/// Names one database instance of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u16);

/// What readers use an instance for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads that may lag.
    Replica,
    /// Also reads that need the last change; and so is each former primary until it is fenced from readers.
    Primary,
}

/// What one round of questions found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Visible on every instance.
    pub region: Version,
    /// Visible on everything that readers may take for the primary.
    pub primary: Version,
    /// Nothing above it is visible anywhere; [`Version::MAX`] if that is not known.
    pub highest: Version,
    /// The newest epoch that was known.
    pub epoch: u16,
}

/// What is not known holds everything back.
const NOWHERE: Standing =
    Standing { position: Version::ZERO, highest: Version::MAX, foreign: true };

#[derive(Clone, Debug)]
struct Instance {
    role: Role,
    executed: GtidSet,
    /// What it has written itself, where `executed` does not say so.
    wrote: GtidSet,
    /// When it answered last; `None` if it never did.
    answered: Option<Moment>,
    added: Moment,
    /// Since which round it has had transactions that the source does not have.
    foreign_since: Option<Moment>,
    /// Where it stands by that answer, and by what is known otherwise; `None` when any of it has changed.
    stands: Option<Standing>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Poller {
    dialect: Dialect,
    epochs: EpochTable,
    /// When each epoch was learned.
    learned: BTreeMap<u16, Moment>,
    /// What the source had when the newest `Progress` was written.
    source: GtidSet,
    instances: BTreeMap<InstanceId, Instance>,
    /// An instance that has not answered for so long is not waited for; `None`: for ever.
    exclude_after: Option<Duration>,
}

impl Poller {
    /// No instance, no epoch.
    pub fn new(dialect: Dialect, exclude_after: Option<Duration>) -> Poller {
        Poller {
            dialect,
            epochs: EpochTable::default(),
            learned: BTreeMap::new(),
            source: GtidSet::empty(dialect),
            instances: BTreeMap::new(),
            exclude_after,
        }
    }

    /// An `Epoch` record. Returns what nodes must hear of it, if it is new; before any position in it.
    pub fn learn(&mut self, now: Moment, start: EpochStart) -> Option<EpochNews> {
        let epoch = start.epoch;
        if !self.epochs.learn(start) {
            return None;
        }
        self.learned.insert(epoch, now);
        self.forget_standings();
        self.news(epoch)
    }

    /// What nodes must hear of every epoch that is known, oldest first: for a node that may have missed some.
    pub fn all_news(&self) -> Vec<EpochNews> {
        self.epochs.iter().filter_map(|start| self.news(start.epoch)).collect()
    }

    /// What the source had, as a `Progress` record says.
    pub fn source_executed(&mut self, executed: &GtidSet) {
        if self.source != *executed {
            self.source.clone_from(executed);
            self.forget_standings();
        }
    }

    /// Readers may read from this instance, or its role has changed. To be said before they do.
    pub fn add(&mut self, now: Moment, id: InstanceId, role: Role) {
        let nothing = GtidSet::empty(self.dialect);
        let fresh = Instance {
            role,
            executed: nothing.clone(),
            wrote: nothing,
            answered: None,
            added: now,
            foreign_since: None,
            stands: None,
        };
        self.instances.entry(id).or_insert(fresh).role = role;
        self.forget_standings();
    }

    /// No reader reads from this instance any more: it is fenced, or out of service.
    pub fn remove(&mut self, id: InstanceId) {
        self.instances.remove(&id);
        self.forget_standings();
    }

    /// An instance answered what it was asked at `asked`: what is visible there. An answer that comes late counts for the
    /// round in which it was asked.
    pub fn answered(&mut self, asked: Moment, id: InstanceId, executed: &GtidSet) {
        let newer = |instance: &&mut Instance| instance.answered.is_none_or(|last| last <= asked);
        let Some(instance) = self.instances.get_mut(&id).filter(newer) else { return };
        let learned = |since: Option<Moment>| {
            self.learned.values().any(|at| *at < asked && since.is_none_or(|since| *at >= since))
        };
        if instance.executed != *executed || learned(instance.answered) {
            instance.executed.clone_from(executed);
            instance.stands = None;
        }
        instance.answered = Some(asked);
    }

    /// What an instance has written itself, asked together with what is visible there: MariaDB's replicas leave it out of that. It moves
    /// no position; it may be foreign.
    pub fn wrote(&mut self, id: InstanceId, wrote: &GtidSet) {
        if let Some(instance) = self.instances.get_mut(&id).filter(|of| of.wrote != *wrote) {
            instance.wrote.clone_from(wrote);
            instance.stands = None;
        }
    }

    /// Where an instance stands, if it has ever answered.
    pub fn standing(&mut self, id: InstanceId) -> Option<Standing> {
        self.instances.get(&id)?.answered?;
        self.place();
        self.instances.get(&id)?.stands
    }

    /// What a round of questions that began at `began` and is over at `now` found.
    pub fn poll(&mut self, began: Moment, now: Moment) -> Poll {
        self.place();
        self.note_foreign(now);
        let standing = |instance: &Instance| instance.stands.unwrap_or(NOWHERE);
        let counted = |instance: &&Instance| {
            let last = instance.answered.unwrap_or(instance.added);
            let excluded = self.exclude_after.is_some_and(|after| now.since(last) >= after);
            let held = Cure::UnreachableHolds.works() || instance.answered >= Some(began);
            !excluded && held
        };
        let all: Vec<(Role, Version)> = self
            .instances
            .values()
            .filter(counted)
            .map(|instance| (instance.role, standing(instance).position))
            .collect();
        let positions = all.iter().map(|(_, position)| *position);
        let region = if Cure::PositionIsLowest.works() { positions.min() } else { positions.max() };
        let primaries = all.iter().filter(|(role, _)| *role == Role::Primary);
        let primaries = primaries.map(|(_, position)| *position);
        let primary =
            if Cure::PrimaryPositionAsksFormer.works() { primaries.min() } else { primaries.max() };
        Poll {
            region: region.unwrap_or(Version::ZERO),
            primary: primary.unwrap_or(Version::ZERO),
            highest: self.highest(began),
            epoch: self.epochs.newest().map_or(0, |start| start.epoch),
        }
    }

    fn forget_standings(&mut self) {
        for instance in self.instances.values_mut() {
            instance.stands = None;
        }
    }

    /// Finds out where those stand of which something has changed.
    fn place(&mut self) {
        let changed = |(id, instance): (&InstanceId, &Instance)| {
            instance.stands.is_none().then(|| (*id, self.stands(instance)))
        };
        let placed: Vec<(InstanceId, Standing)> =
            self.instances.iter().filter_map(changed).collect();
        for (id, standing) in placed {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.stands = Some(standing);
            }
        }
    }

    /// Where an instance stands by its last answer.
    fn stands(&self, instance: &Instance) -> Standing {
        let known = |at: &Moment| instance.answered.is_some_and(|asked| *at < asked);
        let newest = self.learned.iter().rev().find(|(_, at)| known(at)).map_or(0, |(of, _)| *of);
        let newest = if Cure::AnswerAfterEpoch.works() { newest } else { u16::MAX };
        let standing = self.epochs.standing_up_to(newest, &instance.executed, &self.source);
        let holds = self.epochs.holds(&instance.wrote);
        if let Some(epoch) = holds.filter(|_| Cure::ForeignHoldsPosition.works()) {
            let held = self.epochs.standing_up_to(epoch, &instance.executed, &self.source);
            return Standing { position: held.position, ..NOWHERE };
        }
        match self.epochs.newest() {
            Some(start) if self.may_be_lost(start, standing) => {
                let before = start.epoch.saturating_sub(1);
                self.epochs.standing_up_to(before, &instance.executed, &self.source)
            }
            _ => standing,
        }
    }

    /// Whether an instance may stand at the beginning of an epoch only because it has not shown yet what was lost there.
    fn may_be_lost(&self, start: &EpochStart, standing: Standing) -> bool {
        let primaries = self.instances.values().filter(|of| of.role == Role::Primary).count();
        let position = standing.position;
        let empty = position.epoch() == start.epoch && position.sequence() < start.first;
        empty && !start.lossless && primaries > 1 && Cure::FormerPrimaryHoldsEpoch.works()
    }

    /// Known only if every instance answered in this round.
    fn highest(&self, began: Moment) -> Version {
        let strict = Cure::HighestAsksEveryInstance.works();
        let answered = |instance: &&Instance| instance.answered >= Some(began);
        if strict && !self.instances.values().all(|instance| answered(&instance)) {
            return Version::MAX;
        }
        let highest = |instance: &Instance| {
            let standing = instance.stands.unwrap_or(NOWHERE);
            if strict { standing.highest } else { standing.position }
        };
        self.instances.values().filter(answered).map(highest).max().unwrap_or(Version::MAX)
    }

    /// What the server of an epoch had given before.
    fn resumed(&self, this: &EpochStart) -> Version {
        let wrote = |start: &&EpochStart| {
            start.epoch < this.epoch && server(&start.origin) == server(&this.origin)
        };
        let number = highest_number(&this.origin, &this.before);
        let before = self.epochs.iter().filter(wrote).last();
        before.and_then(|start| Version::new(start.epoch, number)).unwrap_or(Version::ZERO)
    }

    fn news(&self, epoch: u16) -> Option<EpochNews> {
        let mut until = self.epochs.iter().take_while(|start| start.epoch <= epoch);
        let (mut before, mut this) = (None, until.next()?);
        for start in until {
            before = Some(this);
            this = start;
        }
        let last = self.epochs.last_before(epoch);
        let continuity = match before {
            _ if this.lossless => Continuity::Lossless,
            Some(before) if server(&before.origin) == server(&this.origin) => {
                Continuity::SameServer
            }
            Some(before) if before.epoch.checked_add(1) == Some(epoch) => Continuity::NewServer,
            _ => Continuity::SameServer, // Nothing is known of the epoch before: the widest cut.
        };
        Some(EpochNews { epoch, last, continuity, resumed: self.resumed(this) })
    }
}

/// The server that writes under an origin.
fn server(origin: &Origin) -> u32 {
    match origin {
        Origin::Mysql { server_id, .. }
        | Origin::MariaDb { server_id, .. }
        | Origin::Positions { server_id } => *server_id,
    }
}

#[cfg(test)]
mod model;
