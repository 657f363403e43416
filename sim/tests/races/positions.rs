//! What a position says about instances that lag, lie, or went back.

use cache_node::rules::{Fill, Reader};
use schemas::cure::Cure;

use crate::{
    race::{Promise, promise, race},
    stage::{A, B, OTHER, PRIMARY, REPLICA, Stage},
};

#[test]
fn r16_another_replica_lags() {
    race(&[&[Cure::PositionIsLowest]], || {
        let mut s = Stage::with(|plan| plan.servers = 3);
        s.commit(A);
        s.replicate(REPLICA);
        s.publish();
        s.deliver(0);
        s.poll();
        s.cache_by(Reader::Anywhere, 0, A, OTHER);
        s.ends_honest(0, A)
    });
    // The invalidator does not reach it; readers do.
    race(&[&[Cure::UnreachableHolds]], || {
        let mut s = Stage::new();
        s.commit(A);
        s.publish();
        s.deliver(0);
        s.pass(10);
        s.poll_only(&[PRIMARY]);
        s.cache_by(Reader::Anywhere, 0, A, REPLICA);
        s.ends_honest(0, A)
    });
}

#[test]
fn r17_replica_goes_back() {
    // Everybody knows it.
    race(&[&[Cure::PositionMayFall]], || {
        let mut s = Stage::new();
        s.commit(A);
        s.settle();
        s.db.rebuild(REPLICA, PRIMARY, 1);
        s.poll();
        s.cache_by(Reader::Anywhere, 0, A, REPLICA);
        s.ends_honest(0, A)
    });
    // It is read before it was asked.
    promise(|operator| {
        let mut s = Stage::new();
        s.commit(A);
        s.settle();
        s.db.rebuild(REPLICA, PRIMARY, 1);
        if operator == Promise::Kept {
            s.poll();
        }
        s.cache_by(Reader::Anywhere, 0, A, REPLICA);
        s.ends_honest(0, A)
    });
}

#[test]
fn r18_replica_applies_with_gaps() {
    race(&[&[Cure::PositionIsContiguous]], || {
        let mut s = Stage::new();
        s.commit(A);
        let second = s.commit(B);
        s.publish();
        s.deliver(0);
        s.receive(REPLICA);
        s.visible(REPLICA, second);
        s.poll();
        s.cache_by(Reader::Anywhere, 0, A, REPLICA);
        s.ends_honest(0, A)
    });
}

#[test]
fn r60_position_is_ahead_of_what_is_visible() {
    race(&[&[Cure::PositionAsksVisible]], || {
        let mut s = Stage::new();
        let txn = s.flush(A);
        s.receive(REPLICA);
        s.poll();
        let token = s.lease(0, A);
        let old = s.read(PRIMARY, A);
        s.visible(PRIMARY, txn);
        s.fill(0, A, old, Fill::Lease(token));
        s.ends_honest(0, A)
    });
}

#[test]
fn r61_position_falls() {
    // A tombstone lapsed; then a replica joins that is behind it.
    let story = |again: bool| {
        let mut s = Stage::with(|plan| plan.servers = 3);
        s.fence(OTHER);
        s.commit(A);
        s.pass_fill_age();
        s.commit(B); // Its delete sweeps what has lapsed.
        s.settle();
        s.joins(OTHER);
        s.poll();
        if again {
            s.pass_fill_age();
        }
        s.cache_by(Reader::Anywhere, 0, A, OTHER);
        s.db.instances[OTHER].follows = Some(PRIMARY);
        s.ends_honest(0, A)
    };
    race(&[&[Cure::AcceptAsksAgeFloor]], || story(false));
    race(&[&[Cure::AgeFloorNeverFalls], &[Cure::AcceptAsksAgeFloor]], || story(true));
}

#[test]
fn r63_node_gets_keys_without_their_tombstones() {
    // A node joins, and owns a key from now on whose delete only the former owner has seen.
    race(&[&[Cure::AttachRaisesServeFloor]], || {
        let mut s = Stage::new();
        let (old, seen) = (s.read(PRIMARY, A), s.snapshot_version(PRIMARY));
        s.commit(A);
        s.settle();
        s.restart_empty(0);
        s.no_marks(0);
        s.settle();
        s.fill(0, A, old, Fill::Version(seen));
        s.ends_honest(0, A)
    });
    // It was a part of the ring all the time, and gets one key more.
    race(&[&[Cure::GainHasFillFloor]], || {
        let mut s = Stage::new();
        s.ring(0, 1, Some(A));
        s.sweep(0);
        s.pass_fill_age();
        let (old, seen) = (s.read(PRIMARY, A), s.snapshot_version(PRIMARY));
        s.commit(A);
        s.settle();
        s.ring(0, 2, None);
        s.settle();
        s.fill(0, A, old, Fill::Version(seen));
        s.ends_honest(0, A)
    });
    // What it took before it was attached has no version.
    race(&[&[Cure::AttachRaisesServeFloor]], || {
        let mut s = Stage::new();
        s.start_empty(0);
        s.no_marks(0);
        let old = s.read(PRIMARY, A);
        s.fill(0, A, old, Fill::Plain);
        s.commit(A);
        s.publish();
        s.connect(0);
        s.ends_honest(0, A)
    });
}
