//! Streams for measuring: one that takes everything at once, and one that watches another.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use schemas::{
    cursor::{StreamId, Term},
    gtid::GtidSet,
    record::{Checkpoint, Record},
    version::Version,
};
use stream::{Batch, Pending, StreamError, Writer};
use tokio::sync::{oneshot, watch};

/// Acknowledges each batch when it is handed over, and tells how far it is.
#[derive(Debug)]
pub(super) struct Null {
    checkpoint: Checkpoint,
    executed: watch::Sender<GtidSet>,
    keys: Arc<AtomicU64>,
}

impl Null {
    /// The tailer begins behind `executed`.
    pub(super) fn new(source: &str, executed: GtidSet) -> Null {
        let checkpoint = Checkpoint {
            source: source.into(),
            executed: executed.clone(),
            position: None,
            epoch: None,
            version: Version::ZERO,
            recent: Vec::new(),
        };
        Null { checkpoint, executed: watch::Sender::new(executed), keys: Arc::default() }
    }

    /// What is behind the last batch.
    pub(super) fn executed(&self) -> watch::Receiver<GtidSet> {
        self.executed.subscribe()
    }

    /// How many keys came.
    pub(super) fn keys(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.keys)
    }
}

impl Writer for Null {
    fn stream_id(&self) -> StreamId {
        StreamId(0)
    }

    fn partitions(&self) -> u16 {
        16
    }

    fn term(&self) -> Term {
        Term(1)
    }

    fn checkpoint(&self, _: &str) -> Option<Checkpoint> {
        Some(self.checkpoint.clone())
    }

    async fn append(&self, batch: Batch) -> Result<Pending, StreamError> {
        self.keys.fetch_add(keys(&batch), Ordering::Relaxed);
        if let Some(checkpoint) = batch.checkpoint {
            self.executed.send_replace(checkpoint.executed);
        }
        let (acked, pending) = oneshot::channel();
        drop(acked.send(Ok(()))); // The other end is in this function.
        Ok(Pending::new(pending))
    }
}

/// How many keys a batch carries.
fn keys(batch: &Batch) -> u64 {
    let of = |record: &Record| match record {
        Record::Invalidations(some) => {
            some.transactions.iter().map(|one| one.keys.len() as u64).sum()
        }
        _ => 0,
    };
    batch.records.iter().map(|(_, record)| of(record)).sum()
}
