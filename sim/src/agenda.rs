//! [`Agenda`]: what happens next.

use crate::world::{Event, MS};

/// When an event happens, its number, and where it is kept.
type Scheduled = (u64, u64, usize);

/// Events by time; of two at the same time, the one that was scheduled first comes first.
///
/// A bucket holds what happens within one millisecond, in no order. When its time comes it is sorted, the last event
/// first; what is added to it from then on goes where it belongs. There are few events in a millisecond, so this is
/// faster than a heap.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    buckets: Vec<Vec<Scheduled>>,
    /// The bucket whose time has come.
    current: usize,
    /// Buckets that are done, to be used again.
    done: Vec<Vec<Scheduled>>,
    /// Events, which are large, stay where they are.
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    scheduled: u64,
}

impl Agenda {
    /// Schedules an event; not before the one that was taken last.
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        let slot = self.free.pop().unwrap_or(self.events.len());
        if slot == self.events.len() {
            self.events.push(Some(event));
        } else {
            self.events[slot] = Some(event);
        }
        let bucket = usize::try_from(at / MS).unwrap_or(usize::MAX).max(self.current);
        if bucket >= self.buckets.len() {
            self.buckets.resize_with(bucket + 1, Vec::new);
        }
        let new = (at, self.scheduled, slot);
        let bucket_is_current = bucket == self.current;
        let bucket = &mut self.buckets[bucket];
        if bucket.capacity() == 0 {
            *bucket = self.done.pop().unwrap_or_default();
        }
        let place =
            if bucket_is_current { bucket.partition_point(|of| *of > new) } else { bucket.len() };
        bucket.insert(place, new);
    }

    /// When the next event happens.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        loop {
            if let Some((at, ..)) = self.buckets.get(self.current)?.last() {
                return Some(*at);
            }
            let empty = std::mem::take(&mut self.buckets[self.current]);
            if empty.capacity() > 0 {
                self.done.push(empty);
            }
            self.current += 1;
            self.buckets.get_mut(self.current)?.sort_unstable_by(|one, other| other.cmp(one));
        }
    }

    /// Takes the next event.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.next_at()?;
        let (.., slot) = self.buckets.get_mut(self.current)?.pop()?;
        self.free.push(slot);
        self.events[slot].take()
    }
}
