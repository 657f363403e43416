//! Fills against deletes: an old value on its way into the cache while its row changes.

use cache_node::rules::{Ask, Fill, Leased, Reader, Served, Stale};
use schemas::cure::Cure;

use crate::{
    race::{Promise, broken_if, promise, race},
    stage::{A, B, Keeps, PRIMARY, REPLICA, Stage},
};

#[test]
fn r01_slow_reader() {
    race(&[&[Cure::DeleteVoidsLease, Cure::AcceptAsksTombstone]], || {
        let mut s = Stage::new();
        let token = s.lease(0, A);
        let old = s.read(PRIMARY, A);
        s.commit(A);
        s.settle();
        s.fill(0, A, old, Fill::Lease(token));
        s.ends_honest(0, A)
    });
    // The same without a lease.
    race(&[&[Cure::TombstoneWhenAbsent], &[Cure::AcceptAsksTombstone]], || {
        let mut s = Stage::new();
        s.pass_fill_age();
        let old = s.read(PRIMARY, A);
        s.commit(A);
        s.settle();
        s.fill(0, A, old, Fill::Plain);
        s.ends_honest(0, A)
    });
}

#[test]
fn r01_fill_overtakes_the_delete() {
    // The region has the change, the node has not heard of it yet, and the value is from before.
    let story = |leases: bool| {
        let mut s = Stage::new();
        let fill = if leases { Fill::Lease(s.lease(0, A)) } else { Fill::Plain };
        let old = s.read(PRIMARY, A);
        s.commit(A);
        s.replicate(REPLICA);
        s.poll();
        s.fill(0, A, old, fill);
        s.ends_honest(0, A)
    };
    race(&[&[Cure::LeaseTakesPositionAtIssue]], || story(true));
    race(&[&[Cure::PlainSetTakesOldPosition]], || story(false));
}

#[test]
fn r02_delete_arrives_before_replication() {
    // A lease takes the position of the replica, though the primary is ahead.
    race(&[&[Cure::LeasePositionByReader]], || {
        let mut s = Stage::new();
        s.commit(A);
        s.poll();
        let token = s.lease(0, A);
        s.publish();
        s.deliver(0);
        let old = s.read(REPLICA, A);
        s.fill(0, A, old, Fill::Lease(token));
        s.ends_honest(0, A)
    });
    // After the delete nobody is sent to the replica.
    race(&[&[Cure::TombstoneWhenAbsent]], || {
        let mut s = Stage::new();
        s.commit(A);
        s.publish();
        s.deliver(0);
        s.poll();
        let leased = s.ask_lease(0, A, Reader::CanReadPrimary);
        broken_if!(!matches!(leased, Leased::FillFromPrimary(_)), "sent to a replica that lags")
    });
}

#[test]
fn r03_binlog_before_commit() {
    race(&[&[Cure::PositionAsksVisible]], || {
        let mut s = Stage::new();
        let txn = s.flush(A);
        s.publish();
        s.deliver(0);
        s.poll_only(&[PRIMARY]);
        s.cache_by(Reader::CanReadPrimary, 0, A, PRIMARY);
        s.visible(PRIMARY, txn);
        s.ends_honest(0, A)
    });
}

#[test]
fn r04_evicted_evidence() {
    race(&[&[Cure::EvictionRaisesFillFloor], &[Cure::AcceptAsksFillFloor]], || {
        let mut s = Stage::with(|plan| plan.settings.tombstones_max = 1);
        let (old, seen) = (s.read(PRIMARY, A), s.snapshot_version(PRIMARY));
        s.commit(A);
        s.commit(B);
        s.settle();
        s.fill(0, A, old, Fill::Version(seen));
        s.ends_honest(0, A)
    });
}

#[test]
fn r05_fill_from_an_old_snapshot() {
    promise(|reader| {
        let mut s = Stage::new();
        let (snapshot, seen) = (s.read(PRIMARY, A), s.snapshot_version(PRIMARY));
        s.commit(A);
        s.settle();
        // He may fill with the version of his snapshot, or take a lease and begin a new one.
        let fill = match reader {
            Promise::Kept => Fill::Version(seen),
            Promise::Broken => Fill::Lease(s.lease(0, A)),
        };
        s.fill(0, A, snapshot, fill);
        s.ends_honest(0, A)
    });
}

#[test]
fn r06_delete_before_commit() {
    race(&[&[Cure::DeleteDropsOlder]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        // The application deletes inside of its transaction; another reader fills again; then it commits.
        s.nodes[0].shelf.0.remove(&A);
        s.cache(0, A, PRIMARY);
        s.commit(A);
        s.ends_honest(0, A)
    });
}

#[test]
fn r07_lease_outlives_its_time() {
    race(&[&[Cure::LeaseNewestOnly]], || {
        let mut s = Stage::new();
        let slow = s.lease(0, A);
        let old = s.read(PRIMARY, A);
        s.commit(A);
        s.pass(10_001);
        s.settle();
        s.lease(0, A);
        s.fill(0, A, old, Fill::Lease(slow));
        s.ends_honest(0, A)
    });
}

#[test]
fn r08_lease_of_a_former_life() {
    race(&[&[Cure::LeaseNewestOnly]], || {
        let mut s = Stage::new();
        let before = s.lease(0, A);
        let old = s.read(PRIMARY, A);
        s.commit(A);
        s.settle();
        s.restart_empty(0);
        s.no_marks(0);
        s.settle();
        s.lease(0, A);
        s.fill(0, A, old, Fill::Lease(before));
        s.ends_honest(0, A)
    });
}

#[test]
fn r08_plain_fill_from_a_former_life() {
    race(&[&[Cure::HistoryStartsUnknown]], || {
        let mut s = Stage::new();
        let old = s.read(PRIMARY, A);
        s.commit(A);
        s.settle();
        s.restart_empty(0);
        s.no_marks(0);
        s.settle();
        s.fill(0, A, old, Fill::Plain);
        s.ends_honest(0, A)
    });
}

#[test]
fn r09_lease_of_another_node() {
    race(&[&[Cure::LeaseNewestOnly]], || {
        let mut s = Stage::with(|plan| plan.nodes = 2);
        let elsewhere = s.lease(1, A);
        let old = s.read(PRIMARY, A);
        s.commit(A);
        s.settle();
        s.lease(0, A);
        s.fill(0, A, old, Fill::Lease(elsewhere));
        s.ends_honest(0, A)
    });
}

#[test]
fn r10_stale_value_becomes_good_again() {
    // The tombstone lapses; the mark on the entry stays.
    race(&[&[Cure::StaleMarkSticks]], || {
        let mut s = Stage::with(|plan| plan.shelf = Keeps::Stale);
        s.cache(0, A, PRIMARY);
        s.commit(A);
        s.pass_fill_age();
        s.commit(B);
        s.settle();
        let flagged = s.served(0, A, Ask { stale: Stale::Allow, ..Ask::default() });
        broken_if!(flagged == Served::Hit, "an old value, unflagged")?;
        s.ends_honest(0, A)
    });
    // A peer does not hand it on.
    race(&[&[Cure::CopyOnlyServable]], || {
        let mut s = Stage::with(|plan| (plan.nodes, plan.shelf) = (2, Keeps::Stale));
        s.cache(0, A, PRIMARY);
        s.commit(A);
        s.settle();
        if let Some((value, version)) = s.copy(0, A) {
            s.fill(1, A, value, Fill::Copy(version));
        }
        s.ends_honest(1, A)
    });
}

#[test]
fn r11_old_value_is_written_back() {
    race(&[&[Cure::ServeAsksToken]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let txn = s.commit(A);
        s.publish();
        let at_least = s.version(txn);
        // Who is about to write names the version that he must have seen.
        let read = s.served(0, A, Ask { at_least, ..Ask::default() });
        broken_if!(read != Served::Miss, "a write is derived from an old value")
    });
}

#[test]
fn r12_two_writers_store_what_they_wrote() {
    let story = |last_first: bool| {
        let mut s = Stage::new();
        let (first, second) = (s.commit(A), s.commit(A));
        if last_first {
            s.settle();
        }
        s.publish();
        let (one, two) = (s.version(first), s.version(second));
        s.fill(0, A, Some(second), Fill::Version(two));
        s.fill(0, A, Some(first), Fill::Version(one));
        s.ends_honest(0, A)
    };
    race(&[&[Cure::AcceptAsksTombstone]], || story(true));
    race(&[&[Cure::DeleteDropsOlder]], || story(false));
}

#[test]
fn r12_value_is_derived_from_an_old_one() {
    // By an increment, say, when the region has the change and the delete is still on its way.
    race(&[&[Cure::DerivedKeepsOlder]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let (from, old) = (s.filled(0, A), s.read(PRIMARY, A));
        s.commit(A);
        s.replicate(REPLICA);
        for _ in 0..12 {
            s.pass(1000);
            s.poll();
        }
        s.fill(0, A, old, Fill::Derived(from));
        s.ends_honest(0, A)
    });
}

#[test]
fn r20_delivered_out_of_order() {
    race(&[&[Cure::TombstoneKeepsHighest]], || {
        let mut s = Stage::new();
        let first = s.commit(A);
        s.settle();
        let late = s.batch(0);
        let (old, seen) = (s.read(PRIMARY, A), s.snapshot_version(PRIMARY));
        assert_eq!(old, Some(first));
        s.commit(A);
        s.settle();
        s.apply(0, &late);
        s.fill(0, A, old, Fill::Version(seen));
        s.ends_honest(0, A)
    });
}

#[test]
fn r04_tombstone_lapses_with_the_position() {
    race(&[&[Cure::LapseBelowAgeFloor]], || {
        let mut s = Stage::new();
        let (old, seen) = (s.read(REPLICA, A), s.snapshot_version(REPLICA));
        s.commit(A);
        s.settle();
        s.commit(B); // Its delete sweeps what has lapsed.
        s.settle();
        s.fill(0, A, old, Fill::Version(seen));
        s.ends_honest(0, A)
    });
}

#[test]
fn r04_tombstone_lapses_before_an_old_fill_lands() {
    let story = || {
        let mut s = Stage::new();
        let (old, seen) = (s.read(REPLICA, A), s.snapshot_version(REPLICA));
        s.commit(A);
        s.pass_fill_age();
        s.commit(B); // Its delete sweeps what has lapsed.
        s.settle();
        s.fill(0, A, old, Fill::Version(seen));
        s.ends_honest(0, A)
    };
    race(&[&[Cure::AcceptAsksAgeFloor]], story);
}
