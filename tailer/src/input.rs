//! What a [`Tailer`](crate::tailer::Tailer) is made of, and what it takes.

use std::sync::Arc;

use binlog::{assemble::Part, dump::Piece, frame::Event};
use schemas::{
    gtid::{Dialect, GtidSet},
    record::{Checkpoint, FilePosition, Origin, UnixMicros},
    rules::Rules,
};

use crate::{
    cascades::Cascade,
    metrics::Metrics,
    settings::{Limits, Order, StatementKeys},
};

/// What happens to a tailer.
#[derive(Debug)]
pub enum Input<'a> {
    /// The next event of the connection.
    Binlog(Event<'a>),
    /// The next part of a compressed transaction that is too large to be held.
    Part(Part<'a>),
    /// The source said how far it is.
    Observed(Observation),
    /// Everything was handed over that the binlog had when we connected.
    PastEnd,
    /// No more events are here at the moment: publish what is complete.
    Idle,
    /// Time passed: publish the checkpoint, if it moved.
    Tick,
}

impl<'a> From<&'a Piece> for Input<'a> {
    fn from(piece: &'a Piece) -> Input<'a> {
        match piece {
            Piece::Event { header, body } => Input::Binlog(Event { header: *header, body }),
            Piece::Begin(header) => Input::Part(Part::Begin(*header)),
            Piece::Bytes(bytes) => Input::Part(Part::Bytes(bytes)),
            Piece::End => Input::Part(Part::End),
        }
    }
}

/// How far the source was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Our clock, before the source was asked.
    pub at: UnixMicros,
    /// Everything that it had executed; empty without GTIDs.
    pub executed: GtidSet,
    /// The end of its binlog; `None` where it may not be asked.
    pub end: Option<FilePosition>,
}

/// How the resume point is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the set of executed transactions.
    Gtid,
    /// By file and offset: does not survive a failover.
    Position,
}

/// The server that a tailer is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Who numbers the transactions that it writes itself.
    pub origin: Origin,
    /// The lowest number that its next own transaction can have.
    pub next_number: u64,
    /// What it had executed when we connected.
    pub executed: GtidSet,
    /// What of that it does not have in its binlog any more.
    pub purged: GtidSet,
    /// The last set of the primary before it, if that is known for certain: a switchover.
    pub predecessor: Option<GtidSet>,
}

impl Server {
    /// Whether it is known to have everything that its predecessor had.
    pub(crate) fn is_proven(&self) -> bool {
        self.predecessor.as_ref().is_some_and(|of| self.executed.contains_all(of))
    }
}

/// What a tailer is made of.
#[derive(Debug)]
pub struct Start {
    /// Which server family.
    pub dialect: Dialect,
    /// How the resume point is named.
    pub mode: Mode,
    /// `server_id` of the server that we are connected to.
    pub server_id: u32,
    /// Where to begin.
    pub checkpoint: Checkpoint,
    /// Partitions of the stream.
    pub partitions: u16,
    /// Bounds of batches.
    pub limits: Limits,
    /// Which row feeds which keys.
    pub rules: Arc<Rules>,
    /// Whether statements may name keys.
    pub statement_keys: StatementKeys,
    /// What the order of transactions is.
    pub order: Order,
    /// Foreign keys that change rows unseen; `None` if the server logs what they do.
    pub cascades: Option<Vec<Cascade>>,
    /// Where counts go.
    pub metrics: Metrics,
}
