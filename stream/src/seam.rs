//! The seam between those who write and read the log and the backends that keep it: embedded (SQLite,
//! one machine) and Kafka.
//!
//! Invariants of every backend (the conformance suite holds each to them):
//! - Acknowledged is durable. Batches are acknowledged in the order in which they were appended.
//! - A checkpoint is there only if every record before it is. After a crash it may be an older one than the last that
//!   was acknowledged; never is there none where one was acknowledged.
//! - Of a batch that was not acknowledged, each partition may have a beginning. (Embedded: all of it or nothing.)
//! - An epoch is in the table of epochs before any record behind its announcement can be read. The first announcement
//!   of a number stands; one by a writer that was replaced is none.
//! - Sequences are dense from 1 in each (partition, term); the first record of a term in a partition
//!   is a `TermStart` that names the last record of the term before.
//! - A reader sees a partition's records in order, without holes; what retention removed is reported
//!   as a gap, never skipped in silence.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use schemas::{
    cursor::{Cursor, Partition, Place, StreamId, Term},
    record::{Checkpoint, EpochStart, Record, UnixMicros},
    version::Version,
};
use tokio::sync::oneshot;

use crate::Desk;

/// What is appended as one: records for any partitions, in order, and a checkpoint after them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In the order in which each partition must show them.
    pub records: Vec<(Partition, Record)>,
    /// Where the tailer resumes once this batch is durable.
    pub checkpoint: Option<Checkpoint>,
}

/// A record and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands in its partition.
    pub place: Place,
    /// When it was appended, by the writer's clock.
    pub appended_at: UnixMicros,
    /// What it says.
    pub record: Record,
}

/// What [`Reader::read_after`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The records that follow, oldest first; empty at the head.
    Entries(Vec<Entry>),
    /// The records right after the place that was asked for are gone (retention), or the place is not of this log.
    /// `resume` is the place to go on from: everything up to and with it is lost to this reader.
    Gap { resume: Place },
}

/// How much to read at once.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Most records.
    pub records_max: usize,
    /// Most bytes of records; at least one record is returned.
    pub bytes_max: usize,
}

/// The writing side: one leader at a time. Opening it begins a new term.
pub trait Writer: Send + Sync + 'static {
    /// The log's name.
    fn stream_id(&self) -> StreamId;
    /// How many partitions it has.
    fn partitions(&self) -> u16;
    /// This leadership.
    fn term(&self) -> Term;
    /// The newest checkpoint of `source` when this term began. Its epoch is the newest that was announced, whether or
    /// not a checkpoint came behind it.
    fn checkpoint(&self, source: &str) -> Option<Checkpoint>;
    /// Queues `batch`, waiting while the queue is full; the inner future resolves when it is durable. While the log
    /// takes nothing, it waits: later batches never overtake earlier ones.
    fn append(&self, batch: Batch) -> impl Future<Output = Result<Pending, StreamError>> + Send;
    /// Where people leave what only the tailer can do; `None`: nowhere.
    fn desk(&self) -> Option<Desk> {
        None
    }
}

/// The reading side; any number, in any process.
pub trait Reader: Send + Sync + 'static {
    /// The log's name.
    fn stream_id(&self) -> StreamId;
    /// How many partitions it has.
    fn partitions(&self) -> u16;
    /// The records after `after`.
    fn read_after(
        &self,
        partition: Partition,
        after: Place,
        limit: ReadLimit,
    ) -> impl Future<Output = Result<Read, StreamError>> + Send;
    /// The place of the newest record; [`Place::START`] if there is none.
    fn head(&self, partition: Partition)
    -> impl Future<Output = Result<Place, StreamError>> + Send;
    /// The place after which the records appended at or after `at` begin.
    fn seek(
        &self,
        partition: Partition,
        at: UnixMicros,
    ) -> impl Future<Output = Result<Place, StreamError>> + Send;
    /// Every epoch that was ever announced, of all sources, in the order of their announcements; also those whose records
    /// retention has removed, or a reader has skipped.
    fn epochs(&self) -> impl Future<Output = Result<Vec<EpochStart>, StreamError>> + Send;
    /// Returns when there may be records after the last ones read; wakes without need now and then.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// Where consumers that cannot hold their own cursor (stock memcached) keep it.
pub trait CursorStore: Send + Sync + 'static {
    /// The cursors that `consumer` stored last, one for each partition that it ever stored.
    fn load(&self, consumer: &str)
    -> impl Future<Output = Result<Vec<Cursor>, StreamError>> + Send;
    /// Replaces those of the same partitions, and leaves the others as they are; durable when it returns.
    fn store(
        &self,
        consumer: &str,
        cursors: Vec<Cursor>,
    ) -> impl Future<Output = Result<(), StreamError>> + Send;
}

/// `checkpoint` as a tailer must resume from it: an epoch that was announced was opened, whether or not a checkpoint
/// came behind it. `epochs` are those of its source, the newest last.
pub(crate) fn with_epochs(mut checkpoint: Checkpoint, epochs: &[EpochStart]) -> Checkpoint {
    let known = checkpoint.epoch.as_ref().map_or(0, |start| start.epoch);
    let newest = epochs.iter().rfind(|start| start.source == checkpoint.source);
    if let Some(newest) = newest.filter(|newest| newest.epoch > known) {
        let begins = Version::new(newest.epoch, 0).unwrap_or(Version::MAX);
        checkpoint.version = checkpoint.version.max(begins);
        checkpoint.epoch = Some(newest.clone());
    }
    checkpoint
}

/// An appended batch on its way to the disk; await it to know that it is durable.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<(), StreamError>>);

impl Pending {
    /// Acknowledged by whoever has the other end.
    pub fn new(acked: oneshot::Receiver<Result<(), StreamError>>) -> Pending {
        Pending(acked)
    }
}

impl Future for Pending {
    type Output = Result<(), StreamError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|acked| acked.unwrap_or(Err(StreamError::Closed)))
    }
}

/// What went wrong, by what the caller does about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Another process writes this log. Wait, or stop it.
    #[error("{path} is written by process {holder} already; stop that one first")]
    Locked { path: String, holder: String },
    /// The log cannot be opened or made (a missing folder, a full disk, no permission). Once it is open, appends
    /// wait while the disk refuses, and nothing is lost.
    #[error("write the stream")]
    Append {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Reading failed; nothing was skipped. Try again later.
    #[error("read the stream")]
    Read {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another writer has taken over: whoever wants to write must become the leader again.
    #[error("another writer leads since term {term}")]
    Deposed { term: Term },
    /// The log is not kept as it must be; only an operator can mend that.
    #[error("the stream cannot be used as it is: {what}")]
    Refused { what: String },
    /// The log is damaged: halt, and let an operator look.
    #[error("the stream is damaged: {what}")]
    Damaged { what: String },
    /// The writer was shut down.
    #[error("the stream is closed")]
    Closed,
}
