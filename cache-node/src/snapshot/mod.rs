//! What a node has, as bytes: to a file when it stops, or to the process that takes over; and back.
//!
//! [`format`] is the form, pure. [`write`] makes it of a [`Node`], [`Loading`] a node of it again. [`file`] keeps it on disk so that
//! there is always a whole one, and [`Times`] are the clocks that say how old it is.
//!
//! # Why a node may come back with it
//!
//! What the rules know is taken first, as a whole, then the entries, which may be newer. The cursors are as old as the rules: every
//! delete after them is said again by the stream. An entry that such a delete concerns is older than it, and goes; until the lanes have
//! said them all, the node is in quarantine. A stream that does not reach back to a cursor becomes a serve floor, as for any node.
//! Tombstones, floors and cuts come along, so what was refused before is refused again; leases do not, and so no reader who asked
//! before can fill. Entries that carry a stale mark keep it.
//!
//! Keys without versions have nothing of that. They come back only if nothing could change after they were copied ([`Copied`]), and
//! only once: the file of a process that has served again is [`file::used`].
//!
//! Whoever is in doubt starts cold: [`Refused`] says why.

mod cut;
pub mod file;
pub mod format;
mod load;
mod times;
mod write;

#[cfg(test)]
mod tests;

use std::io;

pub use self::{
    cut::Malformed,
    format::{Copied, Header, Source, Times},
    load::{Loaded, Loading, Versions, Wanted, check},
    write::{About, Written, write},
};

/// Why a snapshot is not taken, and the node starts with nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    #[error("read it")]
    Read(#[from] io::Error),
    #[error("it is no snapshot of a node")]
    NoSnapshot,
    #[error("its format is another one: it says {says:?}")]
    OtherFormat { says: String },
    #[error("it ends too early")]
    Truncated,
    #[error("it is damaged: {0}")]
    Damaged(#[from] Malformed),
    #[error("it is of the node {of:?}, and this is {this:?} (snapshot.node)")]
    OtherNode { of: String, this: String },
    #[error(
        "it is {age_seconds} s old, and at most {age_seconds_max} are allowed (snapshot.age_seconds_max)"
    )]
    TooOld { age_seconds: u64, age_seconds_max: u64 },
    #[error(
        "the machine has restarted and its clock shows an earlier time, so its age is not known"
    )]
    AgeUnknown,
    #[error("it is of a node with versions, and this one has no control port")]
    HasVersions,
    #[error("it is of a node without versions, and this one has a control port")]
    NoVersions,
    #[error(
        "it was taken while the node served, or has served before, and nobody knows what changed since: there are no versions"
    )]
    NotExact,
}
