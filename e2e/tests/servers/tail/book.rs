//! [`Book`]: a stream that keeps everything in memory, and acknowledges at once.

use std::sync::{Arc, Mutex, PoisonError};

use schemas::{
    cursor::{Partition, StreamId, Term},
    record::{Checkpoint, EpochStart, FilePosition, Floor, Record, Scope},
};
use stream::{Batch, Pending, StreamError, Writer};
use tokio::sync::{oneshot, watch};

/// What was written since the last look.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub(super) keys: Vec<String>,
    pub(super) floors: Vec<Floor>,
    pub(super) epochs: Vec<EpochStart>,
    pub(super) progress: u64,
}

/// Clones share it; it outlives the tailers that write it.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    shared: Arc<Mutex<(Written, Option<Checkpoint>)>>,
    changed: watch::Sender<()>,
}

impl Book {
    /// The newest checkpoint.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// The next tailer begins there.
    pub(super) fn resume_at(&self, position: FilePosition) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(checkpoint) = &mut shared.1 {
            checkpoint.position = Some(position);
        }
    }

    /// Waits until `enough` is written, and takes everything.
    pub(super) async fn take_when(&self, enough: impl Fn(&Written) -> bool) -> Written {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                if enough(&shared.0) {
                    return std::mem::take(&mut shared.0);
                }
            }
            changed.changed().await.expect("the book is here");
        }
    }
}

impl Writer for Book {
    fn stream_id(&self) -> StreamId {
        StreamId(1)
    }

    fn partitions(&self) -> u16 {
        1
    }

    fn term(&self) -> Term {
        Term(1)
    }

    fn checkpoint(&self, _: &str) -> Option<Checkpoint> {
        Book::checkpoint(self)
    }

    async fn append(&self, batch: Batch) -> Result<Pending, StreamError> {
        {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let (written, checkpoint) = &mut *shared;
            for (partition, record) in batch.records {
                assert_eq!(partition, Partition(0), "there is one");
                match record {
                    Record::Invalidations(some) => {
                        let keys = some.transactions.iter().flat_map(|one| &one.keys);
                        written.keys.extend(keys.map(|one| one.key.to_string()));
                    }
                    Record::Floor(floor) => written.floors.push(floor),
                    Record::Epoch(start) => written.epochs.push(start),
                    Record::Progress(_) => written.progress += 1,
                    Record::TermStart(_) => {}
                }
            }
            if batch.checkpoint.is_some() {
                *checkpoint = batch.checkpoint;
            }
        }
        self.changed.send_replace(());
        let (acked, pending) = oneshot::channel();
        drop(acked.send(Ok(()))); // The other end is in this function.
        Ok(Pending::new(pending))
    }
}

/// `user: order:`, or `*` for everything.
pub(super) fn shown(scope: &Scope) -> String {
    match scope {
        Scope::All => "*".to_owned(),
        Scope::Prefixes(prefixes) => prefixes.join(" "),
    }
}
