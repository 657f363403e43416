//! [`Requests`]: which request the leader appends next, and what became of the one before. Pure.

use std::{collections::BTreeMap, sync::Arc};

use schemas::record::{self, Checkpoint};
use tokio::sync::oneshot;

use super::outbox::Parcel;
use crate::{
    StreamError,
    request::{Newest, Request},
};

/// What becomes of a request's batch.
type Acked = oneshot::Receiver<Result<(), StreamError>>;

/// One request is under way at a time.
#[derive(Debug, Default)]
pub(super) struct Requests {
    newest: Newest,
    under_way: Option<(Box<str>, Acked)>,
    /// Appended, or no request at all; its note may be there for a moment longer.
    finished: Option<Box<str>>,
}

impl Requests {
    /// A term begins, with these checkpoints.
    pub(super) fn begin(&mut self, checkpoints: &[Checkpoint]) {
        self.newest = Newest::of(checkpoints);
    }

    /// This checkpoint goes to the log now; what comes behind it may have its version.
    pub(super) fn learn(&mut self, checkpoint: &Checkpoint) {
        self.newest.learn(checkpoint);
    }

    /// The request that is durable now, if there is one.
    pub(super) fn done(&mut self) -> Option<Box<str>> {
        let (_, acked) = self.under_way.as_mut()?;
        match acked.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => None,
            Ok(Ok(())) => {
                let id = self.under_way.take().map(|(id, _)| id);
                self.finished.clone_from(&id);
                id
            }
            // It waits for another try.
            _ => {
                self.under_way = None;
                None
            }
        }
    }

    /// The next one to append.
    pub(super) fn next(
        &mut self,
        waiting: &BTreeMap<Box<str>, Arc<[u8]>>,
        partitions: u16,
    ) -> Option<Parcel> {
        if self.under_way.is_some() {
            return None;
        }
        let mut fresh = waiting.iter().filter(|(id, _)| self.finished.as_ref() != Some(id));
        let (id, records) = fresh.find_map(|(id, bytes)| match Request::decode(bytes) {
            Some(request) => Some((id, request.records(&self.newest.0, partitions)?)),
            None => Some((id, Vec::new())),
        })?;
        let (ack, acked) = oneshot::channel();
        self.under_way = Some((id.clone(), acked));
        let encode = |(partition, record)| {
            let mut encoded = Vec::new();
            record::encode(&record, &mut encoded);
            (partition, encoded)
        };
        let records = records.into_iter().map(encode).collect();
        // It takes no room: it is one, and small.
        Some(Parcel { records, checkpoint: None, must_save: false, kib: 0, ack })
    }
}
