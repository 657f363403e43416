//! What the invalidator and a cache node say to each other, on the control port: the messages.
//!
//! ```text
//! lane                                      node
//!   Hello                              ->
//!                                      <-   Greeting: its cursors
//!   RingPlace: which keys are its own  ->
//!   Heads: where each partition ends   ->        in quarantine until there, if it was away
//!   Begin: what is before will not come ->       where it has no cursor, or the stream has a gap
//!   EpochNews, Push, Agreement         ->        at any time
//!   Batch (from, to]                   ->        the deletes are applied in any case
//!                                      <-   Answer: its cursor; behind `from`, if it has a hole
//! ```
//!
//! Every message may come twice, late, or from a lane that does not know that it was replaced: versions
//! and cursors make that harmless.

mod proof;
pub mod wire;

use schemas::{
    cursor::{Partition, Place},
    key::Key,
    record::{Scope, UnixMicros},
    ring::{Hashing, RingNode},
    version::Version,
};

pub use self::proof::Secret;

/// What the stream says, in the order of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A key became stale at `version`.
    Delete { key: Key, version: Version },
    /// Every key in `scope` became stale at `version`.
    Floor { scope: Scope, version: Version },
    /// The last record of a transaction: every delete up to `version` is before.
    Applied { version: Version },
    /// Everything that the source had at `at`, up to `version`, is before.
    Progress { version: Version, at: UnixMicros },
}

/// Records of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Which one.
    pub partition: Partition,
    /// It begins after this place.
    pub from: Place,
    /// And ends with this one.
    pub to: Place,
    /// What the records say.
    pub items: Vec<Item>,
}

/// An epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochNews {
    /// Which.
    pub epoch: u16,
    /// The newest version before it that survived.
    pub last: Version,
    /// What is known of the transactions before it.
    pub continuity: Continuity,
    /// The last version that its server gave before, in an epoch that has ended; [`Version::ZERO`] if it gave none.
    pub resumed: Version,
}

/// What became of the transactions before an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// None was lost.
    Lossless,
    /// Some may be lost, with the server that wrote them.
    NewServer,
    /// Some may be lost by the very server that goes on: what it showed before cannot be told from what it shows now.
    SameServer,
}

/// What an invalidator's poll of the region's instances found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Push {
    /// Visible on every instance that fills may read from.
    pub region: Version,
    /// Visible on everything that readers may take for the primary.
    pub primary: Version,
    /// Nothing above this was visible on any instance, the primary included; [`Version::MAX`] if that
    /// is not known.
    pub highest: Version,
    /// The age floor that this node reported in the last answer that came before the poll began.
    pub echo: Version,
    /// The newest epoch that the poller knew.
    pub epoch: u16,
}

/// What a lane has found of the node's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    pub agreement: Agreement,
    /// How often the clock had jumped back, as the answer said that was looked at.
    pub steps: u32,
}

/// Whether clocks are at most `clock_skew_max` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They are.
    Close,
    /// They are not: ages that are computed from them mean nothing.
    Apart,
}

/// A ring by which clients spread keys, and the place that the node has in it: it gets deletes of the keys that are its own there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingPlace {
    pub hashing: Hashing,
    /// In the order of the region file, which is what some hashings go by.
    pub nodes: Vec<RingNode>,
    /// Which of them the node is, from 0.
    pub own: u16,
}

/// A batch that begins beyond the cursor: the lane must go back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch begins beyond the cursor")]
pub struct Rewind {
    /// The node's cursor; `None` if it has none.
    pub cursor: Option<Place>,
}

/// What a node says of itself when a lane connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The cursor of each partition; `None` where the node has never been told of one.
    pub cursors: Vec<Option<Place>>,
    /// See [`Answer::age_floor`].
    pub age_floor: Version,
}

/// What a node says after a batch, or when it is asked how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where its cursor is now.
    pub cursor: Result<Place, Rewind>,
    /// Every fill that it accepts from now on is at least this new.
    pub age_floor: Version,
    /// Its wall clock.
    pub wall: UnixMicros,
    /// How often that has jumped back.
    pub steps: u32,
}
