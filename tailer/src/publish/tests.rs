//! Random transactions against a list of what must come out.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use schemas::record::Operation;

use super::*;

const LIMITS: Limits = Limits {
    batch_keys_max: 5,
    batch_bytes_max: 2000,
    record_bytes_max: 250,
    batches_in_flight_max: 1,
    transaction_keys_max: 12,
};

fn invalidation(number: u8) -> Invalidation {
    let key = Key::new(format!("key:{number}")).unwrap();
    Invalidation { key, table: "s.t".into(), rule: "r".into(), operation: Operation::Insert }
}

fn scope() -> Scope {
    Scope::Prefixes(vec!["key:".into()])
}

/// One transaction: its keys, and before which of them batches are cut in addition to the limits.
#[derive(Clone, Debug)]
struct Step {
    keys: Vec<u8>,
    cuts: BTreeSet<usize>,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec(0..40_u8, 0..30);
    (keys, prop::collection::btree_set(0..30_usize, 0..3))
        .prop_map(|(keys, cuts)| Step { keys, cuts })
}

/// What a reader of one partition has seen of one version.
#[derive(Debug, Default)]
struct Seen {
    keys: BTreeSet<Vec<u8>>,
    parts: usize,
    ended: bool,
    floored: bool,
}

/// Checks the order in each partition while it reads.
fn read(batches: &[Batch], partitions: u16) -> BTreeMap<(u16, Version), Seen> {
    let mut all: BTreeMap<(u16, Version), Seen> = BTreeMap::new();
    for partition in 0..partitions {
        let mut newest = Version::ZERO;
        let records =
            batches.iter().flat_map(|batch| &batch.records).filter(|(at, _)| at.0 == partition);
        for (_, record) in records {
            match record {
                Record::Floor(floor) => {
                    let seen = all.entry((partition, floor.version)).or_default();
                    assert!(
                        !seen.ended && !seen.floored,
                        "one floor, before the transaction's last part"
                    );
                    seen.floored = true;
                }
                Record::Invalidations(invalidations) => {
                    assert!(!invalidations.transactions.is_empty());
                    let keys = invalidations
                        .transactions
                        .iter()
                        .flat_map(|transaction| &transaction.keys)
                        .count();
                    assert!(keys <= 10, "records are bounded: {keys}");
                    for transaction in &invalidations.transactions {
                        assert!(transaction.version >= newest, "versions never fall");
                        newest = transaction.version;
                        let seen = all.entry((partition, transaction.version)).or_default();
                        assert!(!seen.ended, "nothing follows the last part");
                        seen.ended = transaction.last;
                        seen.parts += 1;
                        let mut of_part = BTreeSet::new();
                        for key in &transaction.keys {
                            assert_eq!(partition_of(&key.key, partitions).0, partition);
                            assert!(of_part.insert(key.key.clone()), "twice in one part");
                            seen.keys.insert(key.key.as_bytes().to_vec());
                        }
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn nothing_is_lost(steps in prop::collection::vec(step(), 1..20), partitions in 1..4_u16) {
        let mut publisher = Publisher::new("s".into(), partitions, LIMITS);
        let mut batches = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            publisher.begin(Version::from_bits(number as u64 + 1), None, UnixMicros(0));
            for (at, key) in step.keys.iter().enumerate() {
                if step.cuts.contains(&at) || publisher.is_full() {
                    batches.push(publisher.take(None));
                    prop_assert!(publisher.is_empty());
                }
                publisher.key((&invalidation(*key)).into(), &scope());
            }
            publisher.commit();
        }
        batches.push(publisher.take(None));
        prop_assert!(publisher.is_empty() && publisher.take(None).records.is_empty());
        for batch in &batches {
            let keys: usize = batch.records.iter().map(|(_, record)| match record {
                Record::Invalidations(of) => of.transactions.iter().map(|transaction| transaction.keys.len()).sum(),
                _ => 0,
            }).sum();
            prop_assert!(keys <= LIMITS.batch_keys_max, "batches are bounded: {}", keys);
        }
        let seen = read(&batches, partitions);
        prop_assert!(seen.values().all(|seen| seen.ended || seen.parts == 0), "a last part everywhere: {:?}", seen);
        for (number, step) in steps.iter().enumerate() {
            let version = Version::from_bits(number as u64 + 1);
            let distinct: BTreeSet<u8> = step.keys.iter().copied().collect();
            for key in &distinct {
                let key = invalidation(*key).key;
                let there = seen.get(&(partition_of(&key, partitions).0, version));
                let listed = there.is_some_and(|seen| seen.keys.contains(key.as_bytes()));
                prop_assert!(listed || there.is_some_and(|seen| seen.floored), "lost {:?}", key);
            }
            // Keys that come again in a later batch count again, so fewer than the limit can never floor.
            let floored = seen.get(&(0, version)).is_some_and(|seen| seen.floored);
            prop_assert!(!floored || step.keys.len() > LIMITS.transaction_keys_max);
            prop_assert!(floored || distinct.len() <= LIMITS.transaction_keys_max);
        }
    }
}

#[test]
fn the_last_part_may_be_empty() {
    let mut publisher = Publisher::new("s".into(), 1, LIMITS);
    publisher.begin(Version::from_bits(1), None, UnixMicros(0));
    assert!(publisher.key((&invalidation(1)).into(), &scope()));
    assert!(!publisher.key((&invalidation(1)).into(), &scope()));
    let first = publisher.take(None);
    publisher.commit();
    let second = publisher.take(None);
    let parts = |batch: &Batch| match &batch.records[..] {
        [(_, Record::Invalidations(of))] => {
            of.transactions.iter().map(|part| (part.keys.len(), part.last)).collect()
        }
        other => panic!("unexpected {other:?}"),
    };
    let (first, second): (Vec<_>, Vec<_>) = (parts(&first), parts(&second));
    assert_eq!((first, second), (vec![(1, false)], vec![(0, true)]));
}

#[test]
fn a_floor_is_said_once_in_a_transaction() {
    let mut publisher = Publisher::new("s".into(), 2, LIMITS);
    let version = Version::from_bits(7);
    publisher.begin(version, None, UnixMicros(0));
    assert!(publisher.floor(&scope(), version, "because"));
    assert!(!publisher.floor(&scope(), version, "because"));
    publisher.commit();
    publisher.begin(Version::from_bits(8), None, UnixMicros(0));
    assert!(publisher.floor(&scope(), Version::from_bits(8), "again"));
    assert_eq!(publisher.take(None).records.len(), 4, "on both partitions");
}

#[test]
fn a_transaction_without_keys_is_silent() {
    let mut publisher = Publisher::new("s".into(), 2, LIMITS);
    publisher.begin(Version::from_bits(1), None, UnixMicros(0));
    publisher.commit();
    assert!(publisher.is_empty());
}
