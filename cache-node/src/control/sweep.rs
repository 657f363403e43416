//! [`Sweep`]: a walk through all entries that drops those of keys that have left, a few at a time. The rules say which, and serve none of
//! them meanwhile.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::Control;
use crate::{node::Node, now::Now, rules::Subject, server::Clock, store::Cursor};

/// Entries that are looked at while a shard is held.
const LOOKS: usize = 200;
/// Between two looks: clients come first.
const REST: Duration = Duration::from_millis(1);

/// How far a walk has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// What it was begun for; another one begins anew.
    round: Option<u64>,
    shard: usize,
    at: Option<Cursor>,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many entries were dropped; there may be more.
    More(u64),
    /// There is nothing to sweep.
    Over,
}

/// Sweeps whenever there is something to sweep, for ever.
pub(super) async fn run(control: Arc<Control>, clock: Clock) {
    let mut sweep = Sweep::default();
    loop {
        match sweep.step(&control.node, clock.read().0) {
            Step::More(dropped) => {
                control.counts.swept.fetch_add(dropped, Ordering::Relaxed);
                tokio::time::sleep(REST).await;
            }
            Step::Over => control.sweep.notified().await,
        }
    }
}

impl Sweep {
    /// Looks at a few entries more.
    pub(super) fn step(&mut self, node: &Node, now: Now) -> Step {
        let Some(rules) = node.rules_shared() else { return Step::Over };
        let Some(round) = rules.sweeping() else { return Step::Over };
        if self.round != Some(round) {
            *self = Sweep { round: Some(round), ..Sweep::default() };
        }
        let Some(mut shard) = node.shard_at(self.shard) else {
            drop(rules);
            if let Some(mut rules) = node.rules() {
                rules.swept(round);
            }
            tracing::debug!("keys that have left are swept");
            return Step::More(0);
        };
        let from = self.at.unwrap_or_else(|| shard.walk(now));
        let mut left = Vec::new();
        self.at = shard.page(from, LOOKS, now, |key, _, _| {
            if !rules.is_kept(&Subject::new(key)) {
                left.push(key.to_vec());
            }
        });
        for key in &left {
            let hash = shard.hash(key);
            shard.remove(hash, key, now);
        }
        if self.at.is_none() {
            self.shard = self.shard.saturating_add(1);
        }
        Step::More(u64::try_from(left.len()).unwrap_or(u64::MAX))
    }
}
