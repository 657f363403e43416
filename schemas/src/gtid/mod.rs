//! GTIDs and sets of them, for both dialects.
//!
//! | | MySQL | MariaDB |
//! |---|---|---|
//! | one transaction | `uuid[:tag]:number` | `domain-server-sequence` |
//! | a set | numbers per UUID and tag, as intervals | for each domain, everything up to a sequence |
//! | numbers | 1 to 2^63 - 2 ([`NUMBER_MAX`]) | sequences 1 to 2^64 - 1 |
//! | may have gaps | yes | no |
//!
//! Grammars: MySQL Reference Manual, "GTID Format and Storage", under "GTID Sets"; MariaDB
//! documentation, "Global Transaction ID". What the manuals leave open was asked of MySQL 9.7 and
//! MariaDB 11.8; the modules of the two dialects say where.
//!
//! Sets of different dialects never mix: operations that would mix them change nothing and say so.
//! Memory and time are in proportion to the text (intervals or domains), not to the numbers within.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod intervals;
mod mariadb;
mod mysql;
mod uuid;

use std::{fmt, sync::Arc};

pub use mariadb::MariaDbGtidSet;
pub use mysql::{MysqlGtidSet, NUMBER_MAX, TAG_BYTES_MAX, is_tag};
pub use uuid::Uuid;

/// Which server family: what a binlog's bytes mean depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// MySQL 8.0 and newer, Percona Server.
    Mysql,
    /// MariaDB 10.6 and newer.
    MariaDb,
}

/// One transaction's global identifier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gtid {
    /// `uuid[:tag]:number`; the tag is empty where there is none, else lower-case ([`is_tag`]).
    Mysql { uuid: Uuid, tag: Arc<str>, number: u64 },
    /// `domain-server-sequence`.
    MariaDb { domain: u32, server_id: u32, sequence: u64 },
}

/// A set of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GtidSet {
    /// Intervals per UUID and tag (empty without one).
    Mysql(MysqlGtidSet),
    /// For each domain, everything up to a sequence.
    MariaDb(MariaDbGtidSet),
}

/// Text that is no GTID or GTID set, and which part of it is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} in a GTID or GTID set: {reason}")]
pub struct GtidError {
    /// The offending part, cut to [`PART_CHARS_MAX`].
    part: String,
    reason: &'static str,
}

/// How much of the offending part an error repeats, in characters.
const PART_CHARS_MAX: usize = 80;

// === impl Gtid ===

impl Gtid {
    /// Parses the text form of `dialect`.
    pub fn parse(dialect: Dialect, text: &str) -> Result<Gtid, GtidError> {
        match dialect {
            Dialect::Mysql => mysql::parse_gtid(text),
            Dialect::MariaDb => mariadb::parse_gtid(text),
        }
    }

    /// Which family wrote it.
    pub fn dialect(&self) -> Dialect {
        match self {
            Gtid::Mysql { .. } => Dialect::Mysql,
            Gtid::MariaDb { .. } => Dialect::MariaDb,
        }
    }

    /// Of MariaDB's, the domain.
    pub fn domain(&self) -> Option<u32> {
        match self {
            Gtid::Mysql { .. } => None,
            Gtid::MariaDb { domain, .. } => Some(*domain),
        }
    }

    /// The number (MySQL) or sequence (MariaDB): what a version is made of.
    pub fn number(&self) -> u64 {
        match self {
            Gtid::Mysql { number, .. } => *number,
            Gtid::MariaDb { sequence, .. } => *sequence,
        }
    }
}

// === impl GtidSet ===

impl GtidSet {
    /// No transactions.
    pub fn empty(dialect: Dialect) -> GtidSet {
        match dialect {
            Dialect::Mysql => GtidSet::Mysql(MysqlGtidSet::default()),
            Dialect::MariaDb => GtidSet::MariaDb(MariaDbGtidSet::default()),
        }
    }

    /// Parses the text form of `dialect`; line ends and spaces are allowed around every part, and
    /// text of nothing else is the empty set.
    pub fn parse(dialect: Dialect, text: &str) -> Result<GtidSet, GtidError> {
        match dialect {
            Dialect::Mysql => MysqlGtidSet::parse(text).map(GtidSet::Mysql),
            Dialect::MariaDb => MariaDbGtidSet::parse(text).map(GtidSet::MariaDb),
        }
    }

    /// Which family's transactions it holds.
    pub fn dialect(&self) -> Dialect {
        match self {
            GtidSet::Mysql(_) => Dialect::Mysql,
            GtidSet::MariaDb(_) => Dialect::MariaDb,
        }
    }

    /// Adds one transaction, for MariaDB with all before it in its domain. False, and nothing is
    /// added, if the dialects differ or no server can have such a transaction (number 0, a number
    /// above the dialect's highest, a tag that is none).
    #[must_use = "false means that the transaction is not in the set"]
    pub fn insert(&mut self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (GtidSet::Mysql(set), Gtid::Mysql { uuid, tag, number }) => {
                set.insert(*uuid, tag, *number)
            }
            (GtidSet::MariaDb(set), Gtid::MariaDb { domain, server_id, sequence }) => {
                set.insert(*domain, *server_id, *sequence)
            }
            _ => false,
        }
    }

    /// Whether the transaction is in the set; never, if the dialects differ.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (GtidSet::Mysql(set), Gtid::Mysql { uuid, tag, number }) => {
                set.contains(*uuid, tag, *number)
            }
            (GtidSet::MariaDb(set), Gtid::MariaDb { domain, sequence, .. }) => {
                set.contains(*domain, *sequence)
            }
            _ => false,
        }
    }

    /// Whether every transaction of `other` is in `self`. Of another dialect, only the empty set is.
    pub fn contains_all(&self, other: &GtidSet) -> bool {
        match (self, other) {
            (GtidSet::Mysql(set), GtidSet::Mysql(other)) => set.contains_all(other),
            (GtidSet::MariaDb(set), GtidSet::MariaDb(other)) => set.contains_all(other),
            _ => other.is_empty(),
        }
    }

    /// Adds all of `other`; false, and nothing is added, if the dialects differ.
    #[must_use = "false means that nothing was added"]
    pub fn union(&mut self, other: &GtidSet) -> bool {
        match (self, other) {
            (GtidSet::Mysql(set), GtidSet::Mysql(other)) => set.union(other),
            (GtidSet::MariaDb(set), GtidSet::MariaDb(other)) => set.union(other),
            _ => return false,
        }
        true
    }

    /// Removes all of `other`; false, and nothing is removed, if the dialects differ. A MariaDB set
    /// cannot hold the end of a domain without its beginning: a domain goes if `other` has all of
    /// it, and stays whole if not. For both dialects the result is empty exactly if `other` had
    /// everything that `self` had.
    #[must_use = "false means that nothing was removed"]
    pub fn subtract(&mut self, other: &GtidSet) -> bool {
        match (self, other) {
            (GtidSet::Mysql(set), GtidSet::Mysql(other)) => set.subtract(other),
            (GtidSet::MariaDb(set), GtidSet::MariaDb(other)) => set.subtract(other),
            _ => return false,
        }
        true
    }

    /// Keeps what is in both; false, and nothing changes, if the dialects differ.
    #[must_use = "false means that nothing changed"]
    pub fn intersect(&mut self, other: &GtidSet) -> bool {
        match (self, other) {
            (GtidSet::Mysql(set), GtidSet::Mysql(other)) => set.intersect(other),
            (GtidSet::MariaDb(set), GtidSet::MariaDb(other)) => set.intersect(other),
            _ => return false,
        }
        true
    }

    /// Takes out `last`, its newest transaction, so that whoever asks for what is not in the set gets it once more. In
    /// MariaDB that is all of the domain behind `previous`, its transaction before. False, and nothing changes, if that
    /// cannot be: it is not the newest of its domain, or the one before is not known.
    #[must_use = "false means that nothing changed"]
    pub fn take_back(&mut self, last: &Gtid, previous: Option<&Gtid>) -> bool {
        match (self, last, previous) {
            (GtidSet::Mysql(set), Gtid::Mysql { uuid, tag, number }, _) => {
                let mut alone = MysqlGtidSet::default();
                let taken = set.contains(*uuid, tag, *number) && alone.insert(*uuid, tag, *number);
                set.subtract(&alone);
                taken
            }
            (
                GtidSet::MariaDb(set),
                Gtid::MariaDb { domain, sequence, .. },
                Some(Gtid::MariaDb { domain: of, server_id, sequence: before }),
            ) if domain == of && before < sequence && set.up_to(*domain) >= *sequence => {
                set.lower(*domain, *server_id, *before);
                true
            }
            _ => false,
        }
    }

    /// Whether there is nothing in the set.
    pub fn is_empty(&self) -> bool {
        match self {
            GtidSet::Mysql(set) => set.is_empty(),
            GtidSet::MariaDb(set) => set.is_empty(),
        }
    }
}

// === impl GtidError ===

impl GtidError {
    fn new(part: &str, reason: &'static str) -> GtidError {
        GtidError { part: part.trim_ascii().chars().take(PART_CHARS_MAX).collect(), reason }
    }
}

// === Display ===

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gtid::Mysql { uuid, tag, number } if tag.is_empty() => write!(f, "{uuid}:{number}"),
            Gtid::Mysql { uuid, tag, number } => write!(f, "{uuid}:{tag}:{number}"),
            Gtid::MariaDb { domain, server_id, sequence } => {
                write!(f, "{domain}-{server_id}-{sequence}")
            }
        }
    }
}

/// The canonical text form: sorted, merged, without spaces. Servers of the dialect accept it.
impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GtidSet::Mysql(set) => set.fmt(f),
            GtidSet::MariaDb(set) => set.fmt(f),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::Mysql => "MySQL",
            Dialect::MariaDb => "MariaDB",
        })
    }
}

/// A decimal number without a sign, which `str::parse` would let pass.
fn parse_decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
