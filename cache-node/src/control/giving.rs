//! [`Giving`]: copies for other nodes, at a bounded cost. What may be copied is `Rules::copy_version`'s to say.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use protocol::control::wire::{Copied, GiverState, ToLane, encode_answer};
use schemas::{key::Key, moment::Moment};

use super::{budget::Budget, random};
use crate::{
    commands::{Turn, Walk},
    copies::add,
    node::Node,
    now::Now,
};

/// Walks that are remembered; the one that was not used for longest is forgotten.
const WALKS_MAX: usize = 16;
/// Entries that one answer to `walk` looks at.
const LOOKS_MAX: u32 = 2000;
/// An answer that is longer than this ends: the rest is not given, or comes with the next one.
const ANSWER_BYTES_MAX: usize = 2 << 20;
/// Share of one processor, in percent, unless somebody says otherwise.
pub const PERCENT_DEFAULT: u8 = 10;

/// What all connections of other nodes share.
#[derive(Debug)]
pub(super) struct Giving {
    budget: Mutex<Budget>,
    /// By name; the newest is the last.
    walks: Mutex<Vec<(u64, Walk)>>,
    /// As of the last walk.
    entries: AtomicU64,
}

impl Giving {
    pub(super) fn new(percent: u8) -> Giving {
        let (budget, walks) = (Mutex::new(Budget::new(percent)), Mutex::default());
        Giving { budget, walks, entries: AtomicU64::new(0) }
    }

    /// Work for others took so long.
    pub(super) fn spend(&self, node: &Node, now: Moment, took: Duration, bytes: usize) {
        let cost = lock(&self.budget).spend(now, took, bytes);
        add(&node.copies().spent_micros, u64::try_from(cost.as_micros()).unwrap_or(u64::MAX));
    }

    /// How long a walk must rest.
    pub(super) fn rest(&self, now: Moment) -> Duration {
        lock(&self.budget).rest(now)
    }

    /// How this node is.
    pub(super) fn greet(&self, node: &Node, now: Now, out: &mut BytesMut) {
        self.count(node);
        let copied = self.copied(node, state(node, now), None, 0);
        encode_answer(&ToLane::Copied(copied), out);
    }

    /// Copies of these keys.
    pub(super) fn copies(&self, node: &Node, now: Now, keys: &[Key], out: &mut BytesMut) {
        let mut state = state(node, now);
        if lock(&self.budget).is_exhausted(now.moment) && state == GiverState::Gives {
            state = GiverState::Busy;
        }
        let begin = out.len();
        if state == GiverState::Gives {
            let turn = Turn::new(node, 0, now, 0);
            for key in keys {
                if out.len().saturating_sub(begin) > ANSWER_BYTES_MAX {
                    break;
                }
                if let Some(copy) = turn.copy(key) {
                    add(&node.copies().given, 1);
                    encode_answer(&ToLane::Copy(copy), out);
                }
            }
        }
        let looked = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        encode_answer(&ToLane::Copied(self.copied(node, state, None, looked)), out);
    }

    /// The next entries of a walk.
    pub(super) fn walk(
        &self,
        node: &Node,
        now: Now,
        (name, looks): (Option<u64>, u32),
        out: &mut BytesMut,
    ) {
        let state = state(node, now);
        if state != GiverState::Gives || looks == 0 {
            let copied = self.copied(node, state, name, 0);
            return encode_answer(&ToLane::Copied(copied), out);
        }
        let known = name.and_then(|name| self.take(name).map(|walk| (name, walk)));
        let begun = || random().ok().map(|name| (name, Walk::default()));
        let Some((name, mut walk)) = known.or_else(begun) else { return };
        self.count(node);
        let (looks, begin) = (looks.min(LOOKS_MAX), out.len());
        let (mut looked, mut given) = (0_u32, 0_u64);
        // The rules are given back now and then.
        while looked < looks
            && !walk.is_over()
            && out.len().saturating_sub(begin) <= ANSWER_BYTES_MAX
        {
            let page = usize::try_from(looks.saturating_sub(looked).min(200)).unwrap_or(1);
            let seen = Turn::new(node, 0, now, 0).walk(&mut walk, page, |copy| {
                given = given.saturating_add(1);
                encode_answer(&ToLane::Copy(copy), out);
            });
            looked = looked.saturating_add(u32::try_from(seen).unwrap_or(u32::MAX));
        }
        add(&node.copies().given, given);
        let over = walk.is_over();
        if !over {
            self.put_back(name, walk);
        }
        let copied = self.copied(node, state, (!over).then_some(name), looked);
        encode_answer(&ToLane::Copied(copied), out);
    }

    fn take(&self, name: u64) -> Option<Walk> {
        let mut walks = lock(&self.walks);
        let at = walks.iter().position(|(known, _)| *known == name)?;
        Some(walks.remove(at).1)
    }

    fn put_back(&self, name: u64, walk: Walk) {
        let mut walks = lock(&self.walks);
        if walks.len() >= WALKS_MAX {
            walks.remove(0);
        }
        walks.push((name, walk));
    }

    fn count(&self, node: &Node) {
        let entries = u64::try_from(node.totals().entries).unwrap_or(u64::MAX);
        self.entries.store(entries, Ordering::Relaxed);
    }

    fn copied(&self, node: &Node, state: GiverState, walk: Option<u64>, looked: u32) -> Copied {
        let (gets, hits) = node.reads();
        let entries = self.entries.load(Ordering::Relaxed);
        Copied { state, walk, looked, entries, gets, hits }
    }
}

fn state(node: &Node, now: Now) -> GiverState {
    match node.rules_shared() {
        Some(rules) if rules.is_quarantined() => GiverState::Quarantined,
        Some(rules) if rules.is_fresh(now.moment) => GiverState::Gives,
        _ => GiverState::Degraded,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
