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
#[cfg(test)]
mod tests;

use schemas::{cursor::Partition, cursor::Place, cursor::StreamId};

pub use self::{
    decode::{Decoder, Malformed, decode_answer},
    encode::{encode, encode_answer},
};
use super::{Agreement, Answer, Batch, EpochNews, Greeting, Push};

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
/// Most prefixes that one floor lists; one with more covers all keys.
pub const FLOOR_PREFIXES_MAX: usize = 200;

const _: () =
    assert!((FLOOR_PREFIXES_MAX + 1) * (schemas::key::KEY_BYTES_MAX + 1) <= LINE_BYTES_MAX);

/// Drawn at random by the node for each connection; a proof is good for this one alone.
pub type Nonce = [u8; 16];
/// HMAC-SHA-256 of the node's nonce, under the secret that both know.
pub type Proof = [u8; 32];

/// What a lane says to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToNode {
    /// Must come first.
    Hello(Hello),
    /// Where partitions end now.
    Heads(Vec<(Partition, Place)>),
    /// What is before will not come.
    Begin { partition: Partition, at: Place },
    /// An epoch began.
    Epoch(EpochNews),
    /// A poll of the region's instances.
    Push(Push),
    /// How far apart the clocks are.
    Clocks(Agreement),
    /// Records of a partition.
    Apply(Batch),
    /// Serve nothing until every lane has connected again and has named its heads.
    Quarantine,
    /// How are you?
    Statistics,
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
