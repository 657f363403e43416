//! [`EpochTable`]: what the sets of transactions that servers report mean as versions.
//!
//! A server says which transactions it has as a GTID set; a cache compares versions. The stream's
//! `Epoch` records say how the two belong together, and this table, fed with them, is the only place
//! where one becomes the other. Three questions are answered of a set:
//!
//! - *position*: up to which version is everything there? What fills may rely on.
//! - *highest*: which is the newest version that is there? What proves that nobody has seen more.
//! - *foreign*: is there anything that the source does not have? Lost in a promotion, written on a
//!   replica, or of an epoch that this table does not know yet; it cannot tell which, and need not.
//!
//! A server with foreign transactions never stands in the newest epoch, nor in any after the one in which
//! they were written: its readers may see what the source does not have, so it holds everybody back until it
//! is fenced from readers or rebuilt.

mod listed;

use std::collections::BTreeMap;

pub use self::listed::ListedEpoch;

use crate::{
    cure::Cure,
    gtid::{Gtid, GtidSet},
    record::{EpochStart, Origin},
    version::Version,
};

/// The epochs of one source that are known, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochTable {
    starts: BTreeMap<u16, EpochStart>,
}

/// Where a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Everything up to this version is there.
    pub position: Version,
    /// Nothing above this version is there; [`Version::MAX`] with foreign transactions.
    pub highest: Version,
    /// Whether it has transactions that the source does not have.
    pub foreign: bool,
}

impl EpochTable {
    /// Takes an `Epoch` record; false if it was known. The first record of an epoch stands: a tailer
    /// never announces one number twice.
    pub fn learn(&mut self, start: EpochStart) -> bool {
        let known = self.starts.contains_key(&start.epoch);
        self.starts.entry(start.epoch).or_insert(start);
        !known
    }

    /// The newest epoch, if any is known.
    pub fn newest(&self) -> Option<&EpochStart> {
        self.starts.values().next_back()
    }

    /// Each epoch, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &EpochStart> {
        self.starts.values()
    }

    /// Where a server stands that has `has`. `source` is what the source itself was last known to
    /// have: a number that it never used is no gap.
    pub fn standing(&self, has: &GtidSet, source: &GtidSet) -> Standing {
        self.standing_up_to(u16::MAX, has, source)
    }

    /// The same for a server of which nothing is known about epochs after `epoch`: it may have lost its place there, and
    /// go on with what they do not have.
    pub fn standing_up_to(&self, epoch: u16, has: &GtidSet, source: &GtidSet) -> Standing {
        let holds = self.holds(has);
        let foreign = holds.is_some();
        let highest = if foreign { Version::MAX } else { self.highest(has) };
        let holds = holds.filter(|_| Cure::ForeignHoldsPosition.works()).unwrap_or(u16::MAX);
        let mut until: Option<&GtidSet> = None;
        for start in self.starts.values().rev() {
            if start.epoch <= epoch.min(holds) && has.contains_all(&start.before) {
                let number = covered(start, has, until, source);
                if number >= start.first || Cure::PositionEntersEmptyEpoch.works() {
                    let number = number.max(start.first.saturating_sub(1));
                    let position = Version::new(start.epoch, number).unwrap_or(Version::ZERO);
                    return Standing { position, highest, foreign };
                }
            }
            until = Some(&start.before);
        }
        Standing { position: Version::ZERO, highest, foreign }
    }

    /// The newest epoch in which a server may stand that has something foreign, in `has` or elsewhere: older than the newest one, and
    /// than the one that lost it. `None` if nothing is foreign.
    pub fn holds(&self, has: &GtidSet) -> Option<u16> {
        let newest = self.newest();
        let mut strangers = newest.map_or_else(|| lowest(has), |newest| strangers(newest, has));
        if Cure::LostHoldsItsEpoch.works() {
            strangers.extend(self.passed_by(has));
        }
        let written = strangers.iter().filter_map(|gtid| self.epoch_of(gtid));
        let written = written.filter(|_| Cure::LostHoldsItsEpoch.works()).min();
        let before = newest.map_or(0, |newest| newest.epoch.saturating_sub(1));
        (!strangers.is_empty()).then_some(written.unwrap_or(before).min(before))
    }

    /// The version of a transaction, as a client names it that has just committed; `executed` is everything that its
    /// server had then. `None` if it belongs to no epoch that is known: it was lost, or its epoch is not announced yet. A
    /// number of an origin that wrote before is not one of its old epoch, unless that is known to have survived; nor if
    /// another server has written since, in an epoch that is still to come.
    pub fn version_of(&self, gtid: &Gtid, executed: &GtidSet) -> Option<Version> {
        let explained = self.newest().is_some_and(|newest| is_of(newest, executed));
        if !explained && Cure::VersionAsksWholeSet.works() {
            return None;
        }
        for start in self.starts.values().rev() {
            if is_numbered(start, gtid) {
                return Version::new(start.epoch, gtid.number());
            }
            if !start.before.contains(gtid) && Cure::VersionAsksSurvival.works() {
                return None;
            }
        }
        None
    }

    /// The newest version before `epoch` that survived into it; [`Version::ZERO`] if none did.
    pub fn last_before(&self, epoch: u16) -> Version {
        self.starts
            .get(&epoch)
            .map_or(Version::ZERO, |start| self.highest_below(epoch, &start.before))
    }

    /// What in `has` was numbered by another server than that of the epoch to which the number belongs. Of a domain MariaDB's sets say
    /// the newest transaction, and by its sequence alone what was lost counts as there as soon as the domain is past it.
    fn passed_by(&self, has: &GtidSet) -> Vec<Gtid> {
        let GtidSet::MariaDb(set) = has else { return Vec::new() };
        let others = set.iter().filter(|(domain, server_id, sequence)| {
            let wrote =
                self.starts.values().rev().find_map(|start| match (&start.origin, &start.before) {
                    (Origin::MariaDb { domain: of, server_id }, GtidSet::MariaDb(before)) => {
                        (of == domain && before.up_to(*of) < *sequence).then_some(*server_id)
                    }
                    _ => None,
                });
            wrote.is_some_and(|wrote| wrote != *server_id)
        });
        others.map(mariadb).collect()
    }

    /// The newest epoch in which a transaction of this number may have been written.
    fn epoch_of(&self, gtid: &Gtid) -> Option<u16> {
        let of = self.starts.values().rev().find(|start| is_numbered(start, gtid));
        of.map(|start| start.epoch)
    }

    fn highest(&self, has: &GtidSet) -> Version {
        self.highest_below(u16::MAX, has)
    }

    fn highest_below(&self, epoch: u16, has: &GtidSet) -> Version {
        let mut older = self.starts.range(..epoch).rev().map(|(_, start)| start);
        let of = |start: &EpochStart| {
            let number = highest_number(&start.origin, has);
            if number >= start.first { Version::new(start.epoch, number) } else { None }
        };
        older.find_map(of).unwrap_or(Version::ZERO)
    }
}

/// Whether a transaction of this number is of the epoch, if that has not ended before.
fn is_numbered(start: &EpochStart, gtid: &Gtid) -> bool {
    let of = match (&start.origin, gtid) {
        (Origin::Mysql { uuid, tag, .. }, Gtid::Mysql { uuid: by, tag: tagged, .. }) => {
            uuid == by && tag == tagged
        }
        (
            Origin::MariaDb { domain, server_id },
            Gtid::MariaDb { domain: of, server_id: by, .. },
        ) => domain == of && server_id == by,
        _ => false,
    };
    of && gtid.number() >= start.first
}

/// Whether everything in `has` was there before `start`, or belongs to its epoch.
fn is_of(start: &EpochStart, has: &GtidSet) -> bool {
    strangers(start, has).is_empty()
}

/// What in `has` was neither there before `start` nor belongs to its epoch: the lowest of each origin.
fn strangers(start: &EpochStart, has: &GtidSet) -> Vec<Gtid> {
    let mut rest = has.clone();
    if !matches!(start.origin, Origin::Positions { .. }) && rest.subtract(&start.before) {
        return lowest(&rest).into_iter().filter(|gtid| !is_numbered(start, gtid)).collect();
    }
    lowest(has)
}

fn mariadb((domain, server_id, sequence): (u32, u32, u64)) -> Gtid {
    Gtid::MariaDb { domain, server_id, sequence }
}

/// The lowest transaction of each origin, as far as the set tells them apart.
fn lowest(has: &GtidSet) -> Vec<Gtid> {
    match has {
        GtidSet::Mysql(set) => {
            let lowest = set.iter().filter_map(|(uuid, tag, ranges)| {
                let number = *ranges.first()?.start();
                Some(Gtid::Mysql { uuid, tag: tag.into(), number })
            });
            lowest.collect()
        }
        GtidSet::MariaDb(set) => {
            let all = set.iter();
            let gtid =
                |(domain, server_id, sequence)| Gtid::MariaDb { domain, server_id, sequence };
            all.map(gtid).collect()
        }
    }
}

/// The highest number of `start`'s origin up to which `has` has everything that counts: all that
/// survived into the next epoch (`until`), or, in the newest, all that the source has.
fn covered(start: &EpochStart, has: &GtidSet, until: Option<&GtidSet>, source: &GtidSet) -> u64 {
    let limit = until.unwrap_or(source);
    match (&start.origin, has, limit) {
        (Origin::Mysql { uuid, tag, .. }, GtidSet::Mysql(has), GtidSet::Mysql(limit)) => {
            if !Cure::PositionIsContiguous.works() {
                return has.highest(*uuid, tag);
            }
            let covered = has.covered_up_to(limit, *uuid, tag);
            let complete = covered >= limit.highest(*uuid, tag);
            match until {
                // Beyond what the source was last known to have, only an unbroken run counts.
                None if complete => {
                    has.run_after(*uuid, tag, covered.max(start.first.saturating_sub(1)))
                }
                _ => covered,
            }
        }
        (Origin::MariaDb { domain, .. }, GtidSet::MariaDb(has), GtidSet::MariaDb(limit)) => {
            let has = has.up_to(*domain);
            if until.is_some() { has.min(limit.up_to(*domain)) } else { has }
        }
        _ => 0,
    }
}

/// The highest number of an origin in a set; 0 if it has none.
pub fn highest_number(origin: &Origin, has: &GtidSet) -> u64 {
    match (origin, has) {
        (Origin::Mysql { uuid, tag, .. }, GtidSet::Mysql(has)) => has.highest(*uuid, tag),
        (Origin::MariaDb { domain, .. }, GtidSet::MariaDb(has)) => has.up_to(*domain),
        _ => 0,
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
