//! A table that remembers every delete.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::{check, version};
use crate::rules::tombstones::Tombstones;
use schemas::{cure::Cure, version::Version};

/// A delete of a key at a version; what lapses rises by so much before.
type Delete = (u64, u64, u64);

#[test]
fn a_delete_is_remembered_or_covered() {
    let deletes = (1..5_usize, vec((0..6_u64, 1..30_u64, 0..3_u64), 0..60));
    check(&deletes, &[Cure::TombstoneKeepsHighest], |(entries_max, deletes)| {
        agrees(entries_max, &deletes)
    });
}

fn agrees(entries_max: usize, deletes: &[Delete]) -> Result<(), TestCaseError> {
    let mut table = Tombstones::new(entries_max);
    let mut all: BTreeMap<u64, Version> = BTreeMap::new();
    let (mut lapsed, mut evicted, mut evictions) = (0, Version::ZERO, 0);
    for (key, at, rise) in deletes {
        lapsed += rise;
        let newest = all.entry(*key).or_default();
        *newest = version(*at).max(*newest);
        let gone = table.add(*key, version(*at), version(lapsed));
        evicted = evicted.max(gone.unwrap_or_default());
        evictions += usize::from(gone.is_some());
        prop_assert!(table.len() <= entries_max);
        for (key, newest) in &all {
            let known = table.get(*key);
            let covered = known.max(evicted).max(version(lapsed));
            prop_assert!(covered >= *newest, "{key} was deleted at {newest}: {known}");
            prop_assert!(known <= *newest, "{key} was never deleted at {known}");
            if evictions == 0 && *newest > version(lapsed) {
                prop_assert_eq!(known, *newest, "forgotten without need");
            }
        }
    }
    Ok(())
}
