//! [`Copies`]: what a node has given to others and kept from others, for metrics, logs and `/health`.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// See the module. Counts only ever rise.
#[derive(Debug, Default)]
pub struct Copies {
    /// Entries that other nodes were given, and the processor time for it, in microseconds.
    pub given: AtomicU64,
    pub spent_micros: AtomicU64,
    /// Kept because somebody asked for the key.
    pub kept_by_miss: AtomicU64,
    /// Kept on the walk through everything that the others have.
    pub kept_by_walk: AtomicU64,
    /// The rules did not allow it.
    pub refused: AtomicU64,
    /// The walk: entries that were looked at, and how many there are.
    pub looked: AtomicU64,
    pub entries: AtomicU64,
    /// Nodes of the warm cluster that give copies now.
    pub sources_up: AtomicU64,
    /// Seconds until the walk ends, as far as can be told; 0 if it cannot.
    pub seconds_left: AtomicU64,
    state: AtomicU8,
}

/// How far a node's warm-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none.
    None,
    /// It begins once this node is up to date itself.
    Waiting,
    Warming,
    /// It has ended.
    Ended,
}

impl State {
    /// As `/health` says it.
    pub fn name(self) -> &'static str {
        match self {
            State::None => "none",
            State::Waiting => "waiting",
            State::Warming => "warming",
            State::Ended => "ended",
        }
    }

    /// As a metric says it: 0 to 3.
    pub fn number(self) -> u8 {
        match self {
            State::None => 0,
            State::Waiting => 1,
            State::Warming => 2,
            State::Ended => 3,
        }
    }
}

impl Copies {
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            1 => State::Waiting,
            2 => State::Warming,
            3 => State::Ended,
            _ => State::None,
        }
    }

    pub fn set_state(&self, state: State) {
        self.state.store(state.number(), Ordering::Relaxed);
    }
}

/// Adds to a count.
pub(crate) fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
