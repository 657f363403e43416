//! [`Window`]: the newest records of one partition, in memory. Pure.
//!
//! Everybody who reads at the head reads from here, so that the brokers send each record once per process.

use std::collections::VecDeque;

use schemas::cursor::Place;

use super::wire::{Raw, before};
use crate::{
    ReadLimit,
    follow::{Step, follow_place},
};

/// Invariants: `entries` follow `base` without a hole, and `last` is the newest of them, or `base`.
#[derive(Debug)]
pub(super) struct Window {
    base: Place,
    last: Place,
    entries: VecDeque<Raw>,
    bytes: usize,
    bytes_max: usize,
    /// The offset that is read next.
    next_offset: i64,
}

/// What a window has for a reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// What follows; empty at the head.
    Entries(Vec<Raw>),
    /// The reader stands before everything that is here.
    Before,
    /// The reader stands behind everything that is here.
    Beyond,
}

/// What a message was to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Nothing for readers.
    Nothing,
    /// The record that follows.
    Record,
    /// A record; some before it are missing.
    Hole,
}

impl Window {
    /// Empty, at the end of the partition.
    pub(super) fn new(end: Place, next_offset: i64, bytes_max: usize) -> Window {
        let entries = VecDeque::new();
        Window { base: end, last: end, entries, bytes: 0, bytes_max, next_offset }
    }

    /// The newest record.
    pub(super) fn last(&self) -> Place {
        self.last
    }

    /// The place before the oldest record that is here.
    pub(super) fn base(&self) -> Place {
        self.base
    }

    /// The offset that is read next.
    pub(super) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The message at `offset` arrived; `raw`, if it is a record.
    pub(super) fn push(&mut self, offset: i64, raw: Option<Raw>) -> Pushed {
        self.next_offset = offset.saturating_add(1);
        let Some(raw) = raw else { return Pushed::Nothing };
        let mut pushed = Pushed::Record;
        match follow_place(self.last, raw.place, || raw.previous()) {
            Step::Late => return Pushed::Nothing,
            Step::Next => {}
            Step::Hole => {
                // What is before the hole cannot be told from what is lost; its readers find out for themselves.
                self.entries.clear();
                self.bytes = 0;
                self.base = before(raw.place);
                pushed = Pushed::Hole;
            }
        }
        self.last = raw.place;
        self.bytes = self.bytes.saturating_add(raw.bytes());
        self.entries.push_back(raw);
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            if let Some(gone) = self.entries.pop_front() {
                self.bytes = self.bytes.saturating_sub(gone.bytes());
                self.base = gone.place;
            }
        }
        pushed
    }

    /// The records after `after`.
    pub(super) fn after(&self, after: Place, limit: ReadLimit) -> Found {
        if after < self.base {
            return Found::Before;
        }
        if after > self.last {
            return Found::Beyond;
        }
        let from = self.entries.partition_point(|raw| raw.place <= after);
        let mut bytes = 0_usize;
        let within = |raw: &&Raw| {
            let fits = bytes < limit.bytes_max;
            bytes = bytes.saturating_add(raw.bytes());
            fits
        };
        let found = self.entries.range(from..).take(limit.records_max.max(1)).take_while(within);
        Found::Entries(found.cloned().collect())
    }
}
