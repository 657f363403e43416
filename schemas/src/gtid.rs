//! GTIDs and sets of them, for both dialects. (Skeleton.)

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

/// A MySQL server UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// One transaction's global identifier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gtid {
    /// `uuid[:tag]:number`.
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

/// `uuid[:tag]:1-5:7,...`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MysqlGtidSet {
    intervals: BTreeMap<(Uuid, Arc<str>), Vec<std::ops::RangeInclusive<u64>>>,
}

/// `domain-server-sequence,...`: one per domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaDbGtidSet {
    domains: BTreeMap<u32, (u32, u64)>,
}

/// Text that is no GTID or GTID set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a GTID set: {text:?}")]
pub struct GtidError {
    text: String,
}

/// Which server family: what a binlog's bytes mean depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// MySQL 8.0 and newer, Percona Server.
    Mysql,
    /// MariaDB 10.6 and newer.
    MariaDb,
}

impl GtidSet {
    /// No transactions.
    pub fn empty(dialect: Dialect) -> GtidSet {
        match dialect {
            Dialect::Mysql => GtidSet::Mysql(MysqlGtidSet::default()),
            Dialect::MariaDb => GtidSet::MariaDb(MariaDbGtidSet::default()),
        }
    }
    /// Parses the text form of `dialect`; newlines and spaces after commas are allowed.
    pub fn parse(_dialect: Dialect, _text: &str) -> Result<GtidSet, GtidError> {
        todo!()
    }
    /// Adds one transaction; false if the dialects differ.
    pub fn insert(&mut self, _gtid: &Gtid) -> bool {
        todo!()
    }
    /// Whether the transaction is in the set.
    pub fn contains(&self, _gtid: &Gtid) -> bool {
        todo!()
    }
    /// Whether every transaction of `other` is in `self`.
    pub fn contains_all(&self, _other: &GtidSet) -> bool {
        todo!()
    }
    /// Adds all of `other`.
    pub fn union(&mut self, _other: &GtidSet) {
        todo!()
    }
    /// Removes all of `other`.
    pub fn subtract(&mut self, _other: &GtidSet) {
        todo!()
    }
    /// Whether there is nothing in the set.
    pub fn is_empty(&self) -> bool {
        todo!()
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
impl fmt::Display for Gtid {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
impl fmt::Display for Uuid {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
impl FromStr for Uuid {
    type Err = GtidError;
    fn from_str(text: &str) -> Result<Uuid, GtidError> {
        Err(GtidError { text: text.to_owned() })
    }
}
