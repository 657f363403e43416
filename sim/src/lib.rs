//! The whole of mcsqueal in a simulated world: the real cores of tailer, stream, invalidator and cache
//! node, between a database, a broker, networks, clocks and clients that are made up. One seed is one
//! history, on any machine.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the world is small, and a panic here is a bug in the test"
)]

mod agenda;
pub mod binlog;
pub mod broker;
mod chains;
mod check;
mod client;
pub mod database;
mod faults;
mod node;
mod operator;
mod recognise;
mod region;
pub mod report;
mod settled;
mod source;
mod stats;
mod trace;
mod world;

use std::sync::Arc;

use crate::world::{MS, World};
pub use crate::{
    check::Violation,
    node::OnDisk,
    stats::Stats,
    world::{Size, Weather},
};

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the history contained.
    pub stats: Stats,
    /// The first broken promise, if one was.
    pub violation: Option<Violation>,
    /// Who did what when, if that was asked for: microseconds, and a line.
    pub trace: Vec<(u64, String)>,
}

/// Whether a history is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// No: much faster.
    Off,
    /// Yes.
    On,
}

/// Which history: the same on every machine.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// What everything random comes from.
    pub seed: u64,
    /// What may go wrong.
    pub weather: Weather,
    /// When everything calms down, in microseconds; as [`Size`] says if `None`.
    pub until: Option<u64>,
}

/// How long faults happen in a whole history, in milliseconds.
pub fn chaos_ms() -> u64 {
    Size::default().chaos / MS
}

/// Runs a history until everything has settled, or a promise is broken.
pub fn run(history: History, trace: Trace) -> Outcome {
    let rules = schemas::rules::Rules::parse("rules.toml", binlog::RULES).expect("they are right");
    let mut world = World::new(history.seed, Size::default(), history.weather, &Arc::new(rules));
    world.trace = (trace == Trace::On).then(Vec::new);
    world.chaos_until = history.until.unwrap_or(world.chaos_until);
    let violation = world.run().err();
    Outcome { stats: world.stats, violation, trace: world.trace.unwrap_or_default() }
}
