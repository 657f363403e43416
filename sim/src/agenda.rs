//! [`Agenda`]: what happens next.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::world::Event;

/// Events by time; of two at the same time, the one that was scheduled first comes first.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    /// Times and numbers are what is sorted; events, which are large, stay where they are.
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    scheduled: u64,
}

impl Agenda {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        let slot = self.free.pop().unwrap_or(self.events.len());
        if slot == self.events.len() {
            self.events.push(Some(event));
        } else {
            self.events[slot] = Some(event);
        }
        self.queue.push(Reverse((at, self.scheduled, slot)));
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        let Reverse((.., slot)) = self.queue.pop()?;
        self.free.push(slot);
        self.events[slot].take()
    }
}
