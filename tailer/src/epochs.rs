//! [`Epochs`]: versions for transactions. Pure.
//!
//! A transaction's sequence is the number in its GTID. The epoch rises when the origin of the numbers changes, or when
//! a number is not above the last one. An epoch is announced, with a checkpoint that knows it, before the first
//! invalidation of it: so a tailer that starts never gives one number to two epochs.
//!
//! Without GTIDs the number is made of the binlog position where the transaction starts: the number of its file (16
//! bits) and the low 32 bits of offset + 1. With the 1, a reader that has seen everything up to an offset is below the
//! transaction that starts there. When files grow beyond 4 GiB, or after 65,536 of them, numbers start anew, and the
//! epoch rises.
//!
//! Where several servers write at the same time ([`Order::Binlog`]), their numbers have no common order, and transactions are
//! counted as they come. Another connection may bring them in another order, so each one opens an epoch.

use std::sync::Arc;

use schemas::{
    cure::Cure,
    gtid::{Gtid, GtidSet},
    record::{EpochStart, FilePosition, Origin},
    version::Version,
};

use crate::settings::Order;

/// Which epoch is current, and how far it is.
///
/// Invariant: without an epoch, `last` is 0.
#[derive(Clone, Debug)]
pub struct Epochs {
    source: Arc<str>,
    order: Order,
    current: Option<EpochStart>,
    /// Number of the last transaction of the current epoch.
    last: u64,
    /// After a gap that hides who wrote last: the next transaction opens an epoch.
    forced: bool,
    /// The id of the server that we read from, once a transaction was read on this connection.
    continuous_with: Option<u32>,
    connected_to: u32,
    /// The server that is known to have everything that readers can have seen of others.
    vouched: Option<(u32, GtidSet)>,
}

/// What is known of the transactions that came before an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The server that writes now has every one that readers can have seen.
    Lossless,
    /// It may lack some.
    Missing,
}

/// A transaction that has got its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its version.
    pub version: Version,
    /// The epoch that it opens, if it does: to be published before its keys.
    pub opens: Option<EpochStart>,
}

/// Numbers that versions cannot hold: only an operator can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// 65,535 epochs were opened.
    #[error("the source has used up all epochs; begin a new stream")]
    Exhausted,
    /// A transaction number beyond 48 bits.
    #[error("transaction number {number} does not fit into 48 bits")]
    NumberTooLarge { number: u64 },
}

impl Epochs {
    /// Goes on where a checkpoint left off (`current` and `version` as in it), or begins.
    pub fn resume(source: Arc<str>, current: Option<EpochStart>, version: Version) -> Epochs {
        let last = match &current {
            Some(start) if version.epoch() == start.epoch => version.sequence(),
            // Announced, and none of its transactions is published yet.
            Some(start) => start.first.saturating_sub(1),
            None => 0,
        };
        // A gap ended the epoch, and no transaction came since.
        let forced = version.epoch() > current.as_ref().map_or(0, |start| start.epoch);
        Epochs {
            source,
            order: Order::Numbers,
            current,
            last,
            forced,
            continuous_with: None,
            connected_to: 0,
            vouched: None,
        }
    }

    /// The same, with another order of transactions.
    #[must_use]
    pub fn ordered(self, order: Order) -> Epochs {
        Epochs { order, ..self }
    }

    /// What the order of transactions is.
    pub fn order(&self) -> Order {
        self.order
    }

    /// A connection was made, to the server with this id.
    pub fn connected(&mut self, server_id: u32) {
        self.connected_to = server_id;
        self.continuous_with = None;
        self.vouched = None;
    }

    /// The server with this id has all that its predecessor ever showed to a reader, which was `had`: its epoch loses nothing,
    /// unless somebody else has written in between.
    pub fn vouch(&mut self, server_id: u32, had: GtidSet) {
        self.vouched = Some((server_id, had));
    }

    /// The version of transaction `number` of `origin`; `before` is everything executed before it.
    pub fn number(
        &mut self,
        origin: &Origin,
        number: u64,
        before: &GtidSet,
    ) -> Result<Numbered, EpochError> {
        let is_counted = self.order == Order::Binlog;
        let number = if is_counted { self.last.saturating_add(1) } else { number };
        let same = |current: &EpochStart| {
            is_counted || current.origin == *origin || !Cure::EpochOnNewOrigin.works()
        };
        let goes_on = !self.forced
            && (number > self.last || !Cure::EpochOnLowerNumber.works())
            && self.current.as_ref().is_some_and(same);
        let opens = if goes_on {
            None
        } else {
            Some(self.open(origin.clone(), number, before.clone(), self.proof(origin, before))?)
        };
        let version =
            Version::new(self.epoch(), number).ok_or(EpochError::NumberTooLarge { number })?;
        self.last = number;
        self.continuous_with = Some(self.connected_to);
        Ok(Numbered { version, opens })
    }

    /// The version of a transaction that was published before and is read again: its own in the current epoch; for one
    /// of an older epoch, the beginning of this one, which is above it.
    pub fn again(&self, origin: &Origin, number: u64) -> Version {
        let current = self.current.as_ref();
        let first = current.map_or(1, |current| current.first);
        let own = current.is_some_and(|current| current.origin == *origin) && number >= first;
        let number = if own { number } else { first.saturating_sub(1) };
        Version::new(self.epoch(), number).unwrap_or(Version::MAX)
    }

    /// Opens the next epoch: `first` is the lowest number that its transactions can have, `before` everything that was
    /// executed before them.
    pub fn open(
        &mut self,
        origin: Origin,
        first: u64,
        before: GtidSet,
        proof: Proof,
    ) -> Result<EpochStart, EpochError> {
        let epoch = match &self.current {
            Some(current) => current.epoch.checked_add(1).ok_or(EpochError::Exhausted)?,
            None => 1,
        };
        let lossless = proof == Proof::Lossless || !Cure::EpochNotProven.works();
        let source = Arc::clone(&self.source);
        let start = EpochStart { source, epoch, origin, first, before, lossless };
        self.current = Some(start.clone());
        self.last = first.saturating_sub(1);
        self.forced = false;
        Ok(start)
    }

    /// Transactions were lost to us: the server now has `executed`, and we had `ours`. Returns the version below
    /// which every fill may be stale.
    ///
    /// If only transactions of the current origin are missing, the newest of them is that version. In every other
    /// case it is the start of an epoch that the next transaction opens.
    pub fn gap(&mut self, ours: &GtidSet, executed: &GtidSet) -> Version {
        if let Some(newest) = self.newest_missing(ours, executed)
            && let Some(version) = Version::new(self.epoch(), newest)
        {
            self.last = newest;
            return version;
        }
        self.force();
        Version::new(self.epoch().saturating_add(1), 0).unwrap_or(Version::MAX)
    }

    /// The current epoch has ended, whoever writes next.
    pub fn force(&mut self) {
        self.forced = true;
        self.continuous_with = None;
    }

    /// Whether the next transaction opens an epoch, whoever wrote it.
    pub fn must_open(&self) -> bool {
        self.forced
    }

    /// The current epoch, as it was announced.
    pub fn current(&self) -> Option<&EpochStart> {
        self.current.as_ref()
    }

    /// The version that a transaction has whose number nobody could read: the one after the last.
    pub fn unread(&self) -> Version {
        Version::new(self.epoch(), self.last.saturating_add(1)).unwrap_or(Version::MAX)
    }

    fn epoch(&self) -> u16 {
        self.current.as_ref().map_or(0, |current| current.epoch)
    }

    /// Nothing can be lost before the first epoch, nor when the server that wrote the epoch before is the one that
    /// we are still connected to: then it still has everything that it ever showed to a reader; nor when somebody
    /// vouches for the one that writes now.
    fn proof(&self, next: &Origin, before: &GtidSet) -> Proof {
        let proven = match &self.current {
            None => true,
            Some(current) => {
                let continuous = self.continuous_with == Some(writer(&current.origin));
                let vouched = self.vouched.as_ref().is_some_and(|(server, had)| {
                    *server == writer(next) && had.contains_all(before)
                });
                !self.forced && (continuous || vouched)
            }
        };
        if proven { Proof::Lossless } else { Proof::Missing }
    }

    /// The highest number of the current origin in `executed`, if `executed` has all of `ours`, and what it has
    /// beyond `ours` is of that origin alone.
    fn newest_missing(&self, ours: &GtidSet, executed: &GtidSet) -> Option<u64> {
        let current = self.current.as_ref()?;
        let mut missing = executed.clone();
        if !executed.contains_all(ours) || !missing.subtract(ours) {
            return None;
        }
        let newest = match (&missing, &current.origin) {
            _ if self.order == Order::Binlog => return None,
            (GtidSet::Mysql(missing), Origin::Mysql { uuid, tag, .. }) => {
                let mut pieces = missing.iter();
                let (of, its_tag, ranges) = pieces.next()?;
                let alone = pieces.next().is_none() && of == *uuid && its_tag == &**tag;
                ranges.last().filter(|_| alone).map(|range| *range.end())?
            }
            (GtidSet::MariaDb(missing), Origin::MariaDb { domain, server_id }) => {
                let mut pieces = missing.iter();
                let (of, by, sequence) = pieces.next()?;
                (pieces.next().is_none() && of == *domain && by == *server_id)
                    .then_some(sequence)?
            }
            _ => return None,
        };
        (newest > self.last).then_some(newest)
    }
}

/// The server that writes under `origin`.
pub(crate) fn writer(origin: &Origin) -> u32 {
    match origin {
        Origin::Mysql { server_id, .. }
        | Origin::MariaDb { server_id, .. }
        | Origin::Positions { server_id } => *server_id,
    }
}

/// Who numbered a transaction, and its number: from the GTID, or from where it starts.
pub fn origin_of(
    gtid: Option<&Gtid>,
    server_id: u32,
    start: Option<&FilePosition>,
) -> (Origin, u64) {
    match gtid {
        Some(Gtid::Mysql { uuid, tag, number }) => {
            (Origin::Mysql { uuid: *uuid, tag: Arc::clone(tag), server_id }, *number)
        }
        Some(Gtid::MariaDb { domain, server_id, sequence }) => {
            (Origin::MariaDb { domain: *domain, server_id: *server_id }, *sequence)
        }
        None => (Origin::Positions { server_id }, start.map_or(1, position_number)),
    }
}

fn position_number(start: &FilePosition) -> u64 {
    let file = crate::position::file_number(&start.file) & 0xffff;
    (file << 32) | (start.offset.wrapping_add(1) & 0xffff_ffff)
}

#[cfg(test)]
mod tests;
