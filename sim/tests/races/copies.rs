//! Entries that come from a peer, from a file, or with a node that was away.

use cache_node::rules::{Fill, Reader};
use schemas::{
    cure::Cure,
    cursor::{Partition, Place},
};

use crate::{
    race::{broken_if, race},
    stage::{A, B, Keeps, PRIMARY, Stage, Wire},
};

#[test]
fn r44_key_leaves_and_comes_back() {
    // Nobody has had the time to drop its entry, and its delete went to the other node.
    race(&[&[Cure::ServeAsksSweep], &[Cure::SweepRemembersRings]], || {
        let mut s = Stage::new();
        s.ring(0, 1, None);
        s.pass_fill_age();
        s.cache_by(Reader::Anywhere, 0, A, PRIMARY);
        s.ring(0, 2, Some(A));
        s.commit(A);
        s.settle();
        s.ring(0, 3, None);
        s.ends_honest(0, A)
    });
}

#[test]
fn r45_reader_has_the_old_ring() {
    race(&[&[Cure::AcceptAsksRing]], || {
        let mut s = Stage::new();
        s.ring(0, 1, Some(A));
        s.sweep(0);
        s.settle();
        let (value, seen) = (s.read(PRIMARY, A), s.snapshot_version(PRIMARY));
        s.fill(0, A, value, Fill::Version(seen));
        s.commit(A);
        s.ends_honest(0, A)
    });
}

#[test]
fn r42_node_comes_back() {
    // A reader asks before the batch is there; the old value would be served, if only with a flag.
    race(
        &[&[Cure::QuarantineOnReturn], &[Cure::ServeAsksQuarantine], &[Cure::LaneNamesHeads]],
        || {
            let mut s = Stage::new();
            s.cache(0, A, PRIMARY);
            s.cut(0);
            s.commit(A);
            s.publish();
            s.pass(6000);
            s.nodes[0].wire = Wire::LosesBatches;
            s.reconnect(0);
            s.honest(0, A)
        },
    );
    race(&[&[Cure::QuarantineEveryPartition]], || {
        let mut s = Stage::with(|plan| plan.settings.partitions = 2);
        let id = s.key_in(Partition(1), 1);
        s.cache(0, id, PRIMARY);
        s.cut(0);
        s.commit(id);
        s.publish();
        s.pass(6000);
        s.nodes[0].wire = Wire::LosesBatchesOf(Partition(1));
        s.reconnect(0);
        s.honest(0, id)
    });
    // Another partition's lane names its head when the node has fresh news, but is still held by the first one.
    race(&[&[Cure::QuarantineTakesEveryHead]], || {
        let mut s = Stage::with(|plan| plan.settings.partitions = 2);
        let id = s.key_in(Partition(1), 1);
        s.cache(0, id, PRIMARY);
        s.pass(6000);
        s.progress();
        let end = s.log.ends()[0];
        s.names_head(0, Partition(0), Place { sequence: end.sequence + 2, ..end });
        s.deliver(0);
        s.commit(id);
        s.publish();
        s.names_head(0, Partition(1), s.log.ends()[1]);
        s.progress();
        s.progress();
        s.deliver_partition(0, Partition(0));
        s.honest(0, id)
    });
}

#[test]
fn r46_copy_lands_after_its_tombstone_lapsed() {
    race(&[&[Cure::AcceptAsksAgeFloor, Cure::CopyOnlyServable]], || {
        let mut s = Stage::with(|plan| plan.nodes = 2);
        s.cache(1, A, PRIMARY);
        s.cut(1);
        s.commit(A);
        s.pass_fill_age();
        s.commit(B); // Its delete sweeps what has lapsed.
        s.settle();
        if let Some((value, version)) = s.copy(1, A) {
            s.fill(0, A, value, Fill::Copy(version));
        }
        s.ends_honest(0, A)
    });
}

#[test]
fn r46_copy_takes_the_applied_version_of_others() {
    // The peer applied a delete between giving the value and saying what it had applied.
    race(&[&[Cure::CopyAppliedWithValue]], || {
        let mut s = Stage::with(|plan| plan.nodes = 2);
        s.cache(1, A, PRIMARY);
        let asked = s.copy_begins(1, A);
        s.commit(A);
        s.settle();
        let (value, version) = s.copy_ends(1, A, asked);
        s.fill(0, A, value, Fill::Copy(version));
        s.ends_honest(0, A)
    });
    // The peer has applied the other partition up to there, but not the key's.
    race(&[&[Cure::CopyAppliedOfPartition]], || {
        let mut s = Stage::with(|plan| (plan.nodes, plan.settings.partitions) = (2, 2));
        let id = s.key_in(Partition(1), 1);
        s.cache(1, id, PRIMARY);
        s.commit(id);
        s.publish();
        s.progress();
        s.deliver(0);
        s.deliver_partition(1, Partition(0));
        if let Some((value, version)) = s.copy(1, id) {
            s.fill(0, id, value, Fill::Copy(version));
        }
        s.ends_honest(0, id)
    });
}

#[test]
fn r47_peer_is_wrong_itself() {
    // What the peer would not serve, it would still have with a version that is high enough.
    race(&[&[Cure::CopyOnlyServable]], || {
        let mut s = Stage::with(|plan| plan.nodes = 2);
        s.cache(1, A, PRIMARY);
        s.truncate();
        s.settle();
        if let Some((value, version)) = s.copy(1, A) {
            s.fill(0, A, value, Fill::Copy(version));
        }
        s.ends_honest(0, A)
    });
}

#[test]
fn r48_restart_with_entries_of_before() {
    // It saved, lived on, and died.
    let story = |connects: bool| {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let saved = s.save(0);
        s.commit(A);
        s.settle();
        s.restore(0, saved);
        s.no_marks(0);
        if !connects {
            return s.honest(0, A);
        }
        s.connect(0);
        s.ends_honest(0, A)
    };
    race(&[&[Cure::ServeAsksQuarantine]], || story(false));
    race(&[&[Cure::LaneResumesAtNodeCursor, Cure::BatchAsksFrom]], || story(true));
}

#[test]
fn r48_restart_without_what_was_deleted() {
    // A fill that a tombstone refuses comes after the restart.
    race(&[&[Cure::SnapshotKeepsTombstones]], || {
        let mut s = Stage::new();
        let (old, seen) = (s.read(PRIMARY, A), s.snapshot_version(PRIMARY));
        s.commit(A);
        s.settle();
        let saved = s.save(0);
        s.restore(0, saved);
        s.no_marks(0);
        s.connect(0);
        s.fill(0, A, old, Fill::Version(seen));
        s.ends_honest(0, A)
    });
    // Cursors that are newer than the entries.
    race(&[&[Cure::SnapshotCursorsFirst]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let first = s.save(0);
        s.commit(A);
        s.settle();
        let then = s.save(0);
        let rules = if Cure::SnapshotCursorsFirst.works() { first.0 } else { then.0 };
        s.restore(0, (rules, first.1));
        s.no_marks(0);
        s.connect(0);
        s.ends_honest(0, A)
    });
}

#[test]
fn r48_stale_marks_survive_a_restart() {
    race(&[&[Cure::StaleMarkSticks]], || {
        let mut s = Stage::with(|plan| plan.shelf = Keeps::Stale);
        s.cache(0, A, PRIMARY);
        s.commit(A);
        s.pass_fill_age();
        s.commit(B);
        s.settle();
        let saved = s.save(0);
        s.restore(0, saved);
        s.no_marks(0);
        s.connect(0);
        broken_if!(s.get(0, A).is_some(), "a marked entry is good again")
    });
}
