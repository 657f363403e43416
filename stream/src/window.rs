//! [`Window`]: the newest records of one partition, in memory. Pure.
//!
//! Everybody who reads at the head reads from here, so that each record is sent once per process.

use std::collections::VecDeque;

use protocol::relay::Raw;
use schemas::cursor::Place;

use crate::{
    ReadLimit,
    follow::{Step, follow_place},
    raw::{before, previous},
};

/// Invariants: `entries` follow `base` without a hole, and `last` is the newest of them, or `base`.
#[derive(Debug)]
pub(crate) struct Window {
    base: Place,
    last: Place,
    entries: VecDeque<Raw>,
    bytes: usize,
    bytes_max: usize,
}

/// What a window has for a reader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// What follows; empty at the head.
    Entries(Vec<Raw>),
    /// The reader stands before everything that is here.
    Before,
    /// The reader stands behind everything that is here.
    Beyond,
}

/// What a record was to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// One that everybody has passed.
    Late,
    /// The record that follows.
    Record,
    /// A record; some before it are missing.
    Hole,
}

impl Window {
    /// Empty: what is behind `base` comes next.
    pub(crate) fn new(base: Place, bytes_max: usize) -> Window {
        Window { base, last: base, entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// The newest record.
    pub(crate) fn last(&self) -> Place {
        self.last
    }

    /// The place before the oldest record that is here.
    pub(crate) fn base(&self) -> Place {
        self.base
    }

    /// The next record arrived.
    pub(crate) fn push(&mut self, raw: Raw) -> Pushed {
        let mut pushed = Pushed::Record;
        match follow_place(self.last, raw.place, || previous(&raw)) {
            Step::Late => return Pushed::Late,
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
        self.bytes = self.bytes.saturating_add(raw.payload.len());
        self.entries.push_back(raw);
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            if let Some(gone) = self.entries.pop_front() {
                self.bytes = self.bytes.saturating_sub(gone.payload.len());
                self.base = gone.place;
            }
        }
        pushed
    }

    /// The records after `after`.
    pub(crate) fn after(&self, after: Place, limit: ReadLimit) -> Found {
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
            bytes = bytes.saturating_add(raw.payload.len());
            fits
        };
        let found = self.entries.range(from..).take(limit.records_max.max(1)).take_while(within);
        Found::Entries(found.cloned().collect())
    }
}
