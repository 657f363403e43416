//! [`Leases`]: who may fill a key, and how old what he read can be. Bounded.
//!
//! A lease that is gone (evicted, void, of a node before its restart) is refused, which costs a fill
//! and is never wrong.

use std::collections::VecDeque;

use foldhash::HashMap;
use schemas::{cure::Cure, moment::Moment, version::Version};

/// Names one lease: drawn at random from 64 bits, so a token from before a restart names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// The right to fill one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What its holder must show.
    pub token: Token,
    /// A lower bound of the position that its holder reads at.
    pub filled: Version,
    /// From here on the key may be leased to somebody else.
    pub deadline: Moment,
}

/// The newest lease of each key, by key hash.
///
/// Invariant: each key of `held` is in `queue` with its token.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    held: HashMap<u64, Lease>,
    queue: VecDeque<(u64, Token)>,
    entries_max: usize,
}

impl Leases {
    /// None; at most `entries_max` (at least 1).
    pub(super) fn new(entries_max: usize) -> Leases {
        Leases { held: HashMap::default(), queue: VecDeque::new(), entries_max: entries_max.max(1) }
    }

    /// Whether somebody holds the key, and still has time.
    pub(super) fn is_held(&self, hash: u64, now: Moment) -> bool {
        self.held.get(&hash).is_some_and(|lease| now < lease.deadline)
    }

    /// Gives the key to a new holder; the one before, if any, has lost it.
    pub(super) fn issue(&mut self, hash: u64, lease: Lease) {
        self.held.insert(hash, lease);
        self.queue.push_back((hash, lease.token));
        while self.held.len() > self.entries_max {
            self.drop_oldest();
        }
        // Taken and void leases leave their place in the queue behind.
        if self.queue.len() > self.entries_max.saturating_mul(2) {
            let held = &self.held;
            self.queue
                .retain(|(hash, token)| held.get(hash).is_some_and(|lease| lease.token == *token));
        }
    }

    /// Takes the lease, if `token` is the newest of the key.
    pub(super) fn take(&mut self, hash: u64, token: Token) -> Option<Lease> {
        let newest = *self.held.get(&hash)?;
        if newest.token != token && Cure::LeaseNewestOnly.works() {
            return None;
        }
        self.held.remove(&hash)
    }

    /// What was read for this lease is older than `version`: it is void.
    pub(super) fn void_below(&mut self, hash: u64, version: Version) {
        if self.held.get(&hash).is_some_and(|lease| lease.filled < version) {
            self.held.remove(&hash);
        }
    }

    fn drop_oldest(&mut self) {
        while let Some((hash, token)) = self.queue.pop_front() {
            if self.held.get(&hash).is_some_and(|lease| lease.token == token) {
                self.held.remove(&hash);
                return;
            }
        }
    }
}
