//! What the auditor asks for, what it is told, and what it says.

use std::{sync::Arc, time::Duration};

use schemas::{key::Key, version::Version};

use crate::{mapping::ValueOf, placement::NodeId};

/// A key under watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// What is to be done, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look at a node; answered by `Seen`, always.
    Look { watch: WatchId, node: NodeId, key: Key, value: Option<ValueOf> },
    /// Ask the database; answered by `Answered`, always.
    Ask { watch: WatchId, value: ValueOf },
    /// Say so.
    Found(Finding),
    /// One key on one node has been watched to the end.
    Judged { node: NodeId },
    /// Likewise, and nothing can be said.
    Unjudged { node: NodeId, why: Unjudged },
    /// A change is not watched: too many are.
    Skipped,
}

/// An entry, as a look finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The look is under way.
    Awaited,
    /// The node did not answer.
    Unknown,
    /// Nothing is there, or nothing that would be served without saying that it is old.
    Absent,
    /// An entry: the number of its last change, a digest of what a value rule compares, and the version that it
    /// contains, where the node knows versions.
    Entry { cas: u64, value: Option<u64>, filled: Option<Version> },
}

impl Sight {
    pub(crate) fn cas(self) -> Option<u64> {
        match self {
            Sight::Entry { cas, .. } => Some(cas),
            Sight::Awaited | Sight::Unknown | Sight::Absent => None,
        }
    }
}

/// What the database says that a key should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was not asked, or did not answer.
    None,
    /// A digest of the value.
    Value(u64),
    /// There is no row, so nothing should be cached.
    NoRow,
}

impl Answer {
    /// Whether a value that could be read is what the database says.
    pub(crate) fn is(self, value: Option<u64>) -> bool {
        value.is_some_and(|value| self == Answer::Value(value))
    }

    /// Whether it is not; false while one of the two is unknown.
    pub(crate) fn differs_from(self, value: Option<u64>) -> bool {
        match self {
            Answer::None => false,
            Answer::NoRow => true,
            Answer::Value(_) => value.is_some() && !self.is(value),
        }
    }
}

/// What became of a change on one node; worse is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Not yet deleted at the first look.
    InFlight,
    /// Not yet deleted at the second look.
    Late,
    /// Never deleted.
    Lost,
    /// Changed without a rule that says so.
    WrongRule,
    /// Deleted, and then there again as it was before.
    Resurrected,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 5] =
        [Verdict::InFlight, Verdict::Late, Verdict::Lost, Verdict::WrongRule, Verdict::Resurrected];

    /// As in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::InFlight => "in_flight",
            Verdict::Late => "late",
            Verdict::Lost => "lost",
            Verdict::WrongRule => "wrong_rule",
            Verdict::Resurrected => "resurrected",
        }
    }

    /// Whether the promise is broken.
    pub fn is_red(self) -> bool {
        self > Verdict::InFlight
    }
}

/// Why a key on a node was not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unjudged {
    /// The node did not answer.
    Unreachable,
    /// An entry is there, and the auditor did not watch the node when the change was committed.
    NotWatched,
}

impl Unjudged {
    /// All of them.
    pub const ALL: [Unjudged; 2] = [Unjudged::Unreachable, Unjudged::NotWatched];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Unjudged::Unreachable => "unreachable",
            Unjudged::NotWatched => "not_watched",
        }
    }
}

/// A verdict, and whom it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    pub key: Key,
    pub node: NodeId,
    /// The rule that makes the key of the change; `None` if none does.
    pub rule: Option<Arc<str>>,
    pub transaction: Arc<str>,
    /// How long after the change it was seen.
    pub age: Duration,
    /// Of the entry.
    pub cas: Option<u64>,
    /// The version that it says it contains.
    pub filled: Option<Version>,
    /// What the database says of it.
    pub database: Agreement,
}

/// A cached value beside the database's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    NotAsked,
    Same,
    Differs,
}

impl Agreement {
    /// As in logs.
    pub fn name(self) -> &'static str {
        match self {
            Agreement::NotAsked => "not asked",
            Agreement::Same => "the same",
            Agreement::Differs => "another value",
        }
    }
}
