//! [`Stats`]: what a history contained.

use std::{collections::BTreeMap, ops::AddAssign};

/// Counts of one history, or the sum of several.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Events.
    pub steps: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Fills that were stored.
    pub fills_accepted: u64,
    /// Fills that the rules refused.
    pub fills_refused: u64,
    /// Reads of readers with leases, at nodes that are not told to refuse everything while they do not know their age.
    pub reads: u64,
    /// Those that got a value that is not flagged.
    pub hits: u64,
    /// Those that a cache would have answered that knows the database's present state.
    pub hits_oracle: u64,
    /// How often each interleaving of the catalogue came up.
    pub races: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// An interleaving of the catalogue came up.
    pub fn race(&mut self, name: &'static str) {
        *self.races.entry(name).or_default() += 1;
    }
}

impl AddAssign<Stats> for Stats {
    fn add_assign(&mut self, other: Stats) {
        self.steps += other.steps;
        self.faults += other.faults;
        self.fills_accepted += other.fills_accepted;
        self.fills_refused += other.fills_refused;
        self.reads += other.reads;
        self.hits += other.hits;
        self.hits_oracle += other.hits_oracle;
        for (name, count) in other.races {
            *self.races.entry(name).or_default() += count;
        }
    }
}
