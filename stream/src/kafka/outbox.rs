//! [`Outbox`]: batches that the brokers have not acknowledged, in order. Pure.
//!
//! A batch is done when each of its records and every batch before it is. What is not done can be sent again, whole and
//! in order, in another term.

use std::collections::VecDeque;

use schemas::{
    cursor::{Partition, Place},
    record::Checkpoint,
};
use tokio::sync::oneshot;

use crate::StreamError;

/// Told once that the batch is durable, or that it never will be.
pub(super) type Ack = oneshot::Sender<Result<(), StreamError>>;

/// A batch, encoded.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) records: Vec<(Partition, Vec<u8>)>,
    pub(super) checkpoint: Option<Checkpoint>,
    /// Whether its checkpoint must be there before the batch is acknowledged.
    pub(super) must_save: bool,
    /// Room that it takes, in KiB.
    pub(super) kib: u32,
    pub(super) ack: Ack,
}

/// Invariant: the number of `parcels[i]` is `first + i`.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    parcels: VecDeque<Waiting>,
    first: u64,
}

#[derive(Debug)]
struct Waiting {
    parcel: Parcel,
    /// Records that are not acknowledged.
    open: usize,
    /// Where the partitions end behind it.
    ends: Vec<Place>,
}

/// A batch that is done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) parcel: Parcel,
    pub(super) ends: Vec<Place>,
}

impl Outbox {
    /// Takes a batch; returns its number.
    pub(super) fn push(&mut self, parcel: Parcel) -> u64 {
        let open = parcel.records.len();
        self.parcels.push_back(Waiting { parcel, open, ends: Vec::new() });
        self.last().unwrap_or(self.first)
    }

    /// The records of a batch, to be sent; nothing if there is no such batch.
    pub(super) fn records_mut(&mut self, number: u64) -> Option<&mut Vec<(Partition, Vec<u8>)>> {
        self.waiting_mut(number).map(|waiting| &mut waiting.parcel.records)
    }

    /// A batch was sent, and the partitions end like this behind it.
    pub(super) fn sent(&mut self, number: u64, ends: Vec<Place>) {
        if let Some(waiting) = self.waiting_mut(number) {
            waiting.ends = ends;
        }
    }

    /// Whether a batch has a checkpoint.
    pub(super) fn has_checkpoint(&self, number: u64) -> bool {
        self.waiting(number).is_some_and(|waiting| waiting.parcel.checkpoint.is_some())
    }

    /// One record of a batch was acknowledged.
    pub(super) fn delivered(&mut self, number: u64) {
        if let Some(waiting) = self.waiting_mut(number) {
            waiting.open = waiting.open.saturating_sub(1);
        }
    }

    /// The oldest batch, if it is done.
    pub(super) fn pop_done(&mut self) -> Option<Done> {
        if self.parcels.front()?.open > 0 {
            return None;
        }
        let Waiting { parcel, ends, .. } = self.parcels.pop_front()?;
        self.first = self.first.saturating_add(1);
        Some(Done { parcel, ends })
    }

    /// Nothing of what waits was ever sent.
    pub(super) fn unsend(&mut self) {
        for waiting in &mut self.parcels {
            waiting.open = waiting.parcel.records.len();
        }
    }

    /// All numbers that wait, oldest first.
    pub(super) fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.last().map_or(self.first, |last| last.saturating_add(1))
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// Hands out everything that waits, to be refused.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Parcel> {
        self.first = self.numbers().end;
        std::mem::take(&mut self.parcels).into_iter().map(|waiting| waiting.parcel)
    }

    fn last(&self) -> Option<u64> {
        let more = u64::try_from(self.parcels.len().checked_sub(1)?).unwrap_or(u64::MAX);
        Some(self.first.saturating_add(more))
    }

    fn waiting(&self, number: u64) -> Option<&Waiting> {
        self.parcels.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn waiting_mut(&mut self, number: u64) -> Option<&mut Waiting> {
        self.parcels.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(records: usize) -> Parcel {
        let records = vec![(Partition(0), Vec::new()); records];
        Parcel { records, checkpoint: None, must_save: false, kib: 1, ack: oneshot::channel().0 }
    }

    #[test]
    fn batches_are_done_in_order_whatever_is_acknowledged_first() {
        let mut outbox = Outbox::default();
        let numbers: Vec<u64> = [2, 1, 0, 1].map(|records| outbox.push(parcel(records))).into();
        assert_eq!(numbers, [0, 1, 2, 3]);
        outbox.delivered(1);
        outbox.delivered(0);
        assert!(outbox.pop_done().is_none());
        outbox.delivered(0);
        let done = std::iter::from_fn(|| outbox.pop_done()).count();
        assert_eq!((done, outbox.numbers()), (3, 3..4));
        outbox.delivered(3);
        outbox.unsend();
        outbox.delivered(1); // Of another life.
        assert!(outbox.pop_done().is_none());
        assert_eq!(outbox.drain().count(), 1);
        assert_eq!((outbox.is_empty(), outbox.push(parcel(0))), (true, 4));
    }
}
