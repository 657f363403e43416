//! The messages of the control port as bytes: lines, as `protocol/CONTROL.md` describes them.
//!
//! A line ends with LF; its words are separated by one space. Numbers are decimal. Places are `TERM:SEQUENCE`, versions
//! `EPOCH.SEQUENCE`; `-` stands for nothing. A batch is a line that says how many items follow, and the items. Nothing of a
//! batch is handed out before all of it is there, so what is malformed changes nothing.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)
)]

mod decode;
mod encode;
mod rings;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use schemas::{
    cursor::{Partition, Place, StreamId},
    key::Key,
    version::Version,
};

pub use self::{
    decode::{Decoder, Malformed, decode_answer},
    encode::{encode, encode_answer},
};
use super::{Answer, Batch, EpochNews, Finding, Greeting, Push, RingPlace};

/// What both sides say first; another number is another grammar.
pub const PROTOCOL: u64 = 1;
/// Longest line, in bytes: a place for each of 1,024 partitions.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Most items of a batch.
pub const BATCH_ITEMS_MAX: usize = 1 << 20;
/// Most bytes of a batch's items.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Most partitions of a stream.
pub const PARTITIONS_MAX: u16 = 1024;
/// Most keys that are asked for at once; they fit into a line.
pub const COPIES_MAX: usize = 200;
/// Largest value that is copied from one node to another.
pub const COPY_BYTES_MAX: usize = 8 << 20;
/// Most rings by which clients of one cluster spread keys: that of now, and the one before.
pub const RINGS_MAX: usize = 2;
/// Most prefixes that one floor lists; one with more covers all keys.
pub const FLOOR_PREFIXES_MAX: usize = 200;

const _: () =
    assert!((FLOOR_PREFIXES_MAX + 1) * (schemas::key::KEY_BYTES_MAX + 1) <= LINE_BYTES_MAX);

const _: () = assert!((COPIES_MAX + 1) * (schemas::key::KEY_BYTES_MAX + 1) <= LINE_BYTES_MAX);

/// Drawn at random by the node for each connection; a proof is good for this one alone.
pub type Nonce = [u8; 16];
/// HMAC-SHA-256 of the node's nonce, under the secret that both know.
pub type Proof = [u8; 32];

/// What a lane says to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToNode {
    /// Must come first.
    Hello(Hello),
    /// The rings by which the lane spreads keys, those of which the node is a part: the one of the version that `Hello` named first. Must come
    /// before `Heads`.
    Rings(Vec<RingPlace>),
    /// Where partitions end now.
    Heads(Vec<(Partition, Place)>),
    /// What is before will not come.
    Begin { partition: Partition, at: Place },
    /// An epoch began.
    Epoch(EpochNews),
    /// A poll of the region's instances.
    Push(Push),
    /// Whether the clocks agree.
    Clocks(Finding),
    /// Records of a partition.
    Apply(Batch),
    /// Serve nothing until every lane has connected again and has named its heads.
    Quarantine,
    /// How are you?
    Statistics,
    /// In place of `Hello`: a node that wants copies of what this one holds. It gets nothing else.
    Peer(Peer),
    /// Copies of these keys, please; of those that are there and good.
    Copies(Vec<Key>),
    /// Of all keys, hottest first: what comes next, after looking at so many. `None`: from the beginning.
    Walk { walk: Option<u64>, looks: u32 },
}

/// A node that wants copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The log that it holds cursors of: versions of another one cannot be compared.
    pub stream: StreamId,
    /// How many partitions that has.
    pub partitions: u16,
    /// That it knows the secret; `None` where there is none.
    pub proof: Option<Proof>,
}

/// Who the lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The log that it reads.
    pub stream: StreamId,
    /// How many partitions that has.
    pub partitions: u16,
    /// The version of the ring by which it spreads keys.
    pub ring: u64,
    /// That it knows the secret; `None` where there is none.
    pub proof: Option<Proof>,
}

/// What a node says to a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToLane {
    /// As soon as the connection is there.
    Challenge(Nonce),
    /// After `Hello`.
    Greeting(Introduction),
    /// After `Apply`.
    Answer { partition: Partition, answer: Answer },
    /// After `Statistics`: one of several.
    Statistic { name: String, value: u64 },
    /// After the last one.
    End,
    /// After `Copies` or `Walk`: one of several.
    Copy(Copy),
    /// After the last one; also after `Peer`.
    Copied(Copied),
    /// The node does not go on; the connection is closed.
    Refused(String),
}

/// Who the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Drawn at random when the process began.
    pub incarnation: u64,
    /// Whether it serves.
    pub state: NodeState,
    /// The newest version of the ring that it was told of.
    pub ring: u64,
    /// Its cursors.
    pub greeting: Greeting,
}

/// An entry, for another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    pub key: Key,
    /// The value contains every change of its key up to here.
    pub version: Version,
    /// The client's.
    pub flags: u32,
    /// What is left of its life; `None`: it has no end.
    pub ttl_s: Option<u64>,
    pub value: Bytes,
}

/// How the node is that was asked for copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    pub state: GiverState,
    /// By what name the walk goes on; `None` at its end, and where there is none.
    pub walk: Option<u64>,
    /// Entries that this answer has looked at.
    pub looked: u32,
    /// Entries in all.
    pub entries: u64,
    /// Reads of its own clients so far, and how many found a value.
    pub gets: u64,
    pub hits: u64,
}

/// Whether a node gives copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiverState {
    /// It is up to date.
    Gives,
    /// It has spent what it may on others.
    Busy,
    /// It is behind: nobody can rely on what it has.
    Degraded,
    /// It serves nothing itself until it has caught up.
    Quarantined,
}

/// Whether a node serves what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It is up to date.
    Fresh,
    /// It is not, and does what it was configured to do then.
    Degraded,
    /// It serves nothing until it has caught up.
    Quarantined,
}
