//! What is said between the rules and those who use them: settings, marks, what readers ask and fillers bring, and
//! every answer.

use std::time::Duration;

use schemas::{key::Key, moment::Moment, version::Version};
use xxhash_rust::xxh64::xxh64;

use super::Token;

/// Bounds and times of one node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Partitions of the stream.
    pub partitions: u16,
    /// Longest time between a reader's snapshot and its plain set.
    pub fill_age_max: Duration,
    /// How long a key is leased to one reader.
    pub lease: Duration,
    /// Behind by more than this, a node is not fresh.
    pub staleness_max: Duration,
    /// How far apart clocks of different machines may be.
    pub clock_skew_max: Duration,
    /// What a node that is not fresh does.
    pub on_stale: OnStale,
    /// Longest life of what is stored, and oldest entry that is served, while not fresh.
    pub degraded_ttl: Duration,
    /// Longest time between a mark and the version of its write.
    pub marker_ttl_max: Duration,
    /// Most tombstones.
    pub tombstones_max: usize,
    /// Most leases.
    pub leases_max: usize,
    /// Most marks.
    pub markers_max: usize,
    /// What a promotion that is not proven lossless makes a miss.
    pub lossy: Lossy,
    /// Keys that begin with one of these come from no source, and obey no rule.
    pub unsourced: Vec<Box<[u8]>>,
}

/// What a node that is not fresh does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStale {
    /// Serves what is younger than `degraded_ttl`, flagged.
    Ttl,
    /// Serves everything, flagged.
    Flag,
    /// Serves nothing.
    Miss,
}

/// What a promotion that is not proven lossless makes a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lossy {
    /// Every entry of the epochs before.
    Flush,
    /// Those that may hold lost values, as far as that can be proven; else every one.
    Cut,
}

/// What the rules keep with each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// `F`.
    pub filled: Version,
    /// Whether a delete has found it.
    pub condition: Condition,
    /// When it was stored; `None` if that was before a restart.
    pub since: Option<Moment>,
}

/// Whether a delete has found an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// None has.
    Good,
    /// Served only flagged, to readers that allow it; never good again.
    Stale,
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub(super) key: &'a [u8],
}

/// What a reader asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// The change that the value must contain; [`Version::ZERO`] for none.
    pub at_least: Version,
    /// Whether a flagged old value is better than none.
    pub stale: Stale,
}

/// Whether a flagged old value is better than none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stale {
    /// No.
    #[default]
    Refuse,
    /// Yes.
    Allow,
}

/// What a reader gets of an entry that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The value.
    Hit,
    /// The value, flagged: this node does not know how old it is.
    Degraded,
    /// The value, flagged: it is old. Never to be stored again.
    Stale,
    /// Nothing.
    Miss,
}

/// Where a reader can read what is not cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// At any instance of the region.
    Anywhere,
    /// At the primary, if it is told to.
    CanReadPrimary,
}

/// The answer to a reader who wants to fill a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leased {
    /// Read anywhere in the region, then fill.
    Fill(Token),
    /// Read the primary, then fill.
    FillFromPrimary(Token),
    /// Somebody else is filling it.
    Wait,
    /// The region does not have the last change yet: read the primary, and do not fill.
    ReadPrimary,
    /// What can be read now is too old to be stored: read anywhere in the region, and do not fill.
    Read,
}

/// A value on its way into the cache: where its `F` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Its reader took a lease.
    Lease(Token),
    /// Its reader knows his snapshot.
    Version(Version),
    /// A peer gave it, with what [`Rules::copy_version`] said there.
    Copy(Version),
    /// A plain `set`, `add`, `replace` or `cas`.
    Plain,
    /// `incr`, `append` and the like, from an entry with this fill version.
    Derived(Version),
}

/// A fill that may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What to keep with the entry.
    pub mark: Mark,
    /// The longest time to live, if there is one.
    pub ttl_max: Option<Duration>,
}

/// Why a fill may not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The lease is void, superseded, or of another life of this node.
    #[error("the lease is gone")]
    NoLease,
    /// The key was changed since it was read.
    #[error("the key was changed since")]
    Deleted,
    /// It is older than something that this node has forgotten.
    #[error("it is below the fill floor")]
    BelowFillFloor,
    /// It was read longer than `fill_age_max` ago.
    #[error("it was read too long ago")]
    TooOld,
    /// It is older than a change whose keys nobody could list.
    #[error("it is below the serve floor")]
    BelowServeFloor,
    /// Nothing is known here of its epoch yet, so it cannot be compared with what came before.
    #[error("its epoch is not known here yet")]
    EpochUnknown,
    /// Its epoch has ended.
    #[error("its epoch has ended")]
    EpochEnded,
    /// The ring gives it to another node: nobody would delete it here.
    #[error("the key is another node's")]
    OtherNode,
    /// It is a copy of a key that comes from no source: nothing would ever delete it.
    #[error("a copy of what no source feeds would stay for ever")]
    Unsourced,
}

/// Where the storage lets the rules look at the marks of its entries.
pub trait Entries {
    /// Hands the mark of `key`, if there is an entry, to `judge`; then does what it says.
    fn judge(&mut self, key: &Key, judge: &mut dyn FnMut(&mut Mark) -> Fate);
}

/// What becomes of an entry that a delete has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is as new as the delete, or newer.
    Keep,
    /// It is older, and has been marked: keep it for readers that allow stale values, or drop it.
    Stale,
}

impl<'a> Subject<'a> {
    /// A key of 1 to 250 bytes.
    pub fn new(key: &'a [u8]) -> Subject<'a> {
        Subject { key }
    }

    /// The hash that spreads keys over partitions. Most reads need none.
    pub(super) fn hash(&self) -> u64 {
        xxh64(self.key, 0)
    }
}
