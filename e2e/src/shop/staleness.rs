//! When each row version was superseded, so that a reader can tell how old the news is that it missed.
//!
//! Writers report every acknowledged commit. A version counts as superseded from the moment at which
//! the COMMIT of its successor was *acknowledged*: a read that began before that may rightly see it.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::rows::Entity;

/// How many versions of one row are remembered. An older one is taken for superseded by the oldest
/// that is remembered: its age comes out too small, never too large.
const VERSIONS_MAX: usize = 16;
const SHARDS: u64 = 64;

/// The versions of all rows.
#[derive(Debug)]
pub(super) struct Staleness {
    hasher: RandomState,
    // Each guards a share of the rows; never held across an await, never two at once.
    shards: Vec<Mutex<HashMap<Entity, Row>>>,
}

#[derive(Debug, Default)]
struct Row {
    /// Version, and when its COMMIT was acknowledged; ascending.
    versions: VecDeque<(u64, Instant)>,
    /// Somebody deletes it, or has done so, or wanted to.
    leaving: bool,
}

impl Default for Staleness {
    fn default() -> Staleness {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Staleness { hasher: RandomState::new(), shards }
    }
}

impl Staleness {
    /// `entity` is at `version` as of `acknowledged`. A deleted row is at `u64::MAX`.
    pub(super) fn committed(&self, entity: Entity, version: u64, acknowledged: Instant) {
        self.with(entity, |Row { versions, .. }| {
            // Two writers of one row report in any order.
            let at = versions.partition_point(|&(known, _)| known < version);
            versions.insert(at, (version, acknowledged));
            if versions.len() > VERSIONS_MAX {
                versions.pop_front();
            }
        });
    }

    /// `entity` is about to be deleted. That it is not there is then as good a thing to show as it was before it came, and from a moment
    /// on that nobody knows exactly.
    pub(super) fn leaves(&self, entity: Entity) {
        self.with(entity, |row| row.leaving = true);
    }

    /// As if nothing had been committed.
    pub(super) fn forget(&self) {
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// For how long `version` (0: not there) had been superseded when a read began that returned it; `None` if it had
    /// not been.
    pub(super) fn age(
        &self,
        entity: Entity,
        version: u64,
        read_began: Instant,
    ) -> Option<Duration> {
        self.with(entity, |Row { versions, leaving }| {
            if version == 0 && *leaving {
                return None;
            }
            let newer = versions.iter().find(|&&(known, _)| known > version);
            newer.and_then(|&(_, acknowledged)| read_began.checked_duration_since(acknowledged))
        })
    }

    fn with<T>(&self, entity: Entity, then: impl FnOnce(&mut Row) -> T) -> T {
        let shard = usize::try_from(self.hasher.hash_one(entity) % SHARDS).unwrap_or(0);
        let mut rows = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        then(rows.entry(entity).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let staleness = Staleness::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let row = Entity::User(1);
        assert_eq!(staleness.age(row, 1, at(5)), None);
        staleness.committed(row, 3, at(30));
        staleness.committed(row, 2, at(20));
        assert_eq!(staleness.age(row, 1, at(19)), None, "not yet acknowledged");
        assert_eq!(staleness.age(row, 1, at(25)), Some(Duration::from_millis(5)));
        assert_eq!(staleness.age(row, 2, at(35)), Some(Duration::from_millis(5)));
        assert_eq!(staleness.age(row, 3, at(99)), None);
        staleness.committed(row, u64::MAX, at(40));
        assert_eq!(staleness.age(row, 3, at(99)), Some(Duration::from_millis(59)));
        // That it was not there is old news until somebody takes it away.
        assert_eq!(staleness.age(row, 0, at(99)), Some(Duration::from_millis(79)));
        staleness.leaves(row);
        assert_eq!(staleness.age(row, 0, at(99)), None);
    }
}
