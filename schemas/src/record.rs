//! The stream's records, as the parts of mcsqueal see them. Their wire form is in `record/wire.rs`
//! and, for everybody else, described in `proto/mcsqueal/stream/v1.proto`.

#[rustfmt::skip]
#[allow(clippy::pedantic, unreachable_pub, reason = "generated")]
mod generated;
mod wire;

use std::{fmt, sync::Arc};

pub use wire::{FORMAT_VERSION, WireError, decode, decode_checkpoint, encode, encode_checkpoint};

use crate::{
    cursor::Place,
    gtid::{Gtid, GtidSet},
    key::Key,
    version::Version,
};

/// Microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMicros(pub u64);

/// One record of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The first record of a term in its partition.
    TermStart(TermStart),
    /// Keys that committed transactions made stale.
    Invalidations(Invalidations),
    /// Everything up to a point of the source is before this record.
    Progress(Progress),
    /// Keys that cannot be listed became stale.
    Floor(Floor),
    /// Transaction numbers start anew from here.
    Epoch(EpochStart),
}

/// A new leadership begins, and names where the one before ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermStart {
    /// Last record of the term before, in this partition; [`Place::START`] if there is none.
    pub previous: Place,
}

/// Keys of one or more transactions of one source, in commit order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidations {
    /// Name of the source.
    pub source: Arc<str>,
    /// Never empty; versions never fall.
    pub transactions: Vec<Transaction>,
}

/// One transaction's keys, or a part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The commit that made the keys stale.
    pub version: Version,
    /// When the source committed, if it says so to the microsecond (MySQL does).
    pub committed_at: Option<UnixMicros>,
    /// When the tailer had read the transaction's first event.
    pub received_at: UnixMicros,
    /// Whether this is the last part of the transaction in this partition: only then is its
    /// version applied.
    pub last: bool,
    /// The keys, in no particular order; each at most once.
    pub keys: Vec<Invalidation>,
}

/// One key, and why it is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// The cache key.
    pub key: Key,
    /// `schema.table` that changed.
    pub table: Arc<str>,
    /// The rule that made the key.
    pub rule: Arc<str>,
    /// What happened to the row.
    pub operation: Operation,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A new row: only an after image.
    Insert,
    /// A changed row: both images.
    Update,
    /// A removed row: only a before image.
    Delete,
}

/// Everything that the source had executed at `at` is in `executed`, and every invalidation of that is
/// before this record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Name of the source.
    pub source: Arc<str>,
    /// What was read from the source's binlog. A number that is missing below its highest was never used.
    pub executed: GtidSet,
    /// The newest version that is covered.
    pub version: Version,
    /// The tailer's clock, read *before* the source was asked.
    pub at: UnixMicros,
}

/// Every entry in `scope` whose fill is older than `version` is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Name of the source.
    pub source: Arc<str>,
    /// Which keys.
    pub scope: Scope,
    /// Up to where.
    pub version: Version,
    /// For people: what happened.
    pub reason: Arc<str>,
}

/// Which keys a floor covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All keys of the source.
    All,
    /// Keys that begin with one of these; never empty.
    Prefixes(Vec<Arc<str>>),
}

/// From here on, transaction numbers belong to `epoch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// Name of the source.
    pub source: Arc<str>,
    /// The new epoch.
    pub epoch: u16,
    /// Who numbers the transactions.
    pub origin: Origin,
    /// Number of the epoch's first transaction.
    pub first: u64,
    /// Everything that was executed before the epoch's first transaction.
    pub before: GtidSet,
    /// Whether it is proven that no transaction of the epoch before was lost.
    pub lossless: bool,
}

/// Who gives transactions their numbers: when it changes, an epoch begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// MySQL: the UUID and tag of the GTID, and the server that wrote.
    Mysql {
        /// Server UUID of the GTID.
        uuid: crate::gtid::Uuid,
        /// Tag of the GTID; empty without one.
        tag: Arc<str>,
        /// `server_id` of the event.
        server_id: u32,
    },
    /// MariaDB: the domain of the GTID, and the server that wrote.
    MariaDb {
        /// Domain of the GTID.
        domain: u32,
        /// `server_id` of the GTID.
        server_id: u32,
    },
    /// A source without GTIDs: numbers are made of file and position.
    Positions {
        /// `server_id` of the event.
        server_id: u32,
    },
}

/// Where a tailer resumes: written only after everything before it is durable in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the source.
    pub source: Arc<str>,
    /// Every transaction whose keys are in the stream.
    pub executed: GtidSet,
    /// The same place by file and position, for sources without GTIDs; the end of a transaction.
    pub position: Option<FilePosition>,
    /// The epoch that was current, with its origin; `None` before the first transaction.
    pub epoch: Option<EpochStart>,
    /// The newest version in the stream.
    pub version: Version,
    /// The newest transactions whose keys are in the stream, oldest first; fewer, or none, if nobody kept them.
    pub recent: Vec<Witness>,
}

/// A transaction that was published, and what tells it from another one that got the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its number.
    pub gtid: Gtid,
    /// When it was committed, as its first event says: to the microsecond (MySQL), or to the second (MariaDB).
    pub committed_at: UnixMicros,
}

/// A binlog file and an offset in bytes: the end of an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePosition {
    /// File name as the server says it, without a directory.
    pub file: Arc<str>,
    /// Offset in bytes; 64 bits, files grow beyond 4 GiB.
    pub offset: u64,
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
        })
    }
}
