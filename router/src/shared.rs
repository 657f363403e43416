//! What the workers of a router share: facts of nodes and counters. Each is an atomic that one worker seldom sees another change.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What is known of a node by its address, whoever asks it.
#[derive(Debug)]
pub struct NodeFacts {
    pub address: Arc<str>,
    /// Changes that it has missed and that are kept for it. While there are any, nobody reads from it.
    pub owed: AtomicU64,
    /// Workers for which it is out of use.
    pub down_workers: AtomicU64,
    /// How often it went out of use for a worker.
    pub tkos: AtomicU64,
    pub timeouts: AtomicU64,
    pub requests: AtomicU64,
}

/// Facts of all nodes that there are or have been.
#[derive(Debug, Default)]
pub struct AllFacts(Mutex<HashMap<Arc<str>, Arc<NodeFacts>>>);

impl AllFacts {
    /// Those of one node.
    pub fn of(&self, address: &str) -> Arc<NodeFacts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(address) {
            return Arc::clone(known);
        }
        let address: Arc<str> = address.into();
        let facts = Arc::new(NodeFacts {
            address: Arc::clone(&address),
            owed: AtomicU64::new(0),
            down_workers: AtomicU64::new(0),
            tkos: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        });
        all.insert(address, Arc::clone(&facts));
        facts
    }

    /// All of them, in the order of their addresses.
    pub fn all(&self) -> Vec<Arc<NodeFacts>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = all.values().cloned().collect();
        all.sort_by(|a, b| a.address.cmp(&b.address));
        all
    }
}

/// What one worker counts; it alone writes.
#[derive(Debug, Default)]
pub struct Counters {
    pub reads: Counter,
    pub keys: Counter,
    pub hits: Counter,
    pub updates: Counter,
    pub deletes: Counter,
    pub errors: Counter,
    /// Requests for which one answer was not enough.
    pub errands: Counter,
    /// Requests that went on to another node after one had not answered in time, and those that did not, because of the budget.
    pub retries: Counter,
    pub retries_refused: Counter,
    /// Changes that were kept for a node, and those that could not be.
    pub kept: Counter,
    pub not_kept: Counter,
    pub bytes_read: Counter,
    pub bytes_written: Counter,
    pub connections: Counter,
    pub connections_ended: Counter,
    pub refused: Counter,
}

/// A number that one thread writes and all read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
