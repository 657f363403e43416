//! Reading one's own writes: marks, tokens, and readers that do not keep to the rules.

use cache_node::rules::{Ask, Fill, Leased, MarkersFull, Named, Reader, Served};
use schemas::cure::Cure;

use crate::{
    race::{Promise, broken_if, promise, race},
    stage::{A, B, PRIMARY, REPLICA, Stage},
};

/// The region's replica lags behind a write; a reader there must not be sent to it.
fn goes_to_primary(s: &mut Stage) -> crate::race::Ending {
    let leased = s.ask_lease(0, A, Reader::Anywhere);
    broken_if!(leased != Leased::ReadPrimary, "a reader is sent to a replica that lags")
}

#[test]
fn r52_no_room_for_a_mark() {
    // The writer is told; who reads after him shows the write's version instead.
    race(&[&[Cure::ServeAsksToken]], || {
        let mut s = Stage::with(|plan| plan.settings.markers_max = 1);
        s.cache(0, A, PRIMARY);
        assert_eq!(s.mark(0, B, 1), Ok(()));
        assert_eq!(s.mark(0, A, 2), Err(MarkersFull));
        let txn = s.commit(A);
        s.publish();
        let at_least = s.version(txn);
        let read = s.served(0, A, Ask { at_least, ..Ask::default() });
        broken_if!(read != Served::Miss, "a writer does not see his write")
    });
}

#[test]
fn r52_mark_outlives_a_slow_replica() {
    race(&[&[Cure::ServeAsksMarker]], || {
        let mut s = Stage::new();
        s.mark(0, A, 1).unwrap();
        let txn = s.commit(A);
        s.publish();
        let version = s.version(txn);
        s.poll();
        assert_eq!(s.name(0, A, 1, version), Named::InTime);
        s.pass(31_000);
        s.poll();
        goes_to_primary(&mut s)?;
        // Somebody puts into the cache what he found at the replica, and the delete is still on its way.
        s.nodes[0].shelf.put_unasked(A, s.db.read(REPLICA, A));
        broken_if!(s.get(0, A).is_some(), "a marked key is served")
    });
}

#[test]
fn r53_two_writers_mark_a_key() {
    // The second names his write; the first is still writing.
    race(&[&[Cure::MarkerPerWriter]], || {
        let mut s = Stage::new();
        s.mark(0, A, 1).unwrap();
        s.mark(0, A, 2).unwrap();
        let txn = s.commit(A);
        s.publish();
        let version = s.version(txn);
        s.replicate(REPLICA);
        s.poll();
        s.name(0, A, 2, version);
        s.deliver(0);
        s.commit(A); // By the first writer, who has not named it yet.
        goes_to_primary(&mut s)
    });
    // The older write is named last.
    race(&[&[Cure::MarkerKeepsHighest]], || {
        let mut s = Stage::new();
        s.mark(0, A, 1).unwrap();
        s.mark(0, A, 2).unwrap();
        let first = s.commit(A);
        s.replicate(REPLICA);
        let second = s.commit(A);
        s.publish();
        s.poll();
        let (older, newer) = (s.version(first), s.version(second));
        s.name(0, A, 2, newer);
        s.name(0, A, 1, older);
        goes_to_primary(&mut s)
    });
}

#[test]
fn r54_mark_is_lifted_too_early() {
    // By the delete, which is faster than the replica, and whose tombstone is gone.
    race(&[&[Cure::MarkerLiftsAtPosition]], || {
        let mut s = Stage::with(|plan| plan.settings.tombstones_max = 1);
        s.mark(0, A, 1).unwrap();
        let txn = s.commit(A);
        s.commit(B);
        s.publish();
        s.progress();
        s.deliver(0);
        s.poll();
        let version = s.version(txn);
        s.name(0, A, 1, version);
        goes_to_primary(&mut s)
    });
    // By the replica, which is faster than the delete.
    race(&[&[Cure::MarkerDeletes]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.mark(0, A, 1).unwrap();
        let txn = s.commit(A);
        s.replicate(REPLICA);
        s.publish();
        let version = s.version(txn);
        s.poll();
        s.name(0, A, 1, version);
        s.honest(0, A)
    });
    // And then a fill from before comes.
    race(&[&[Cure::AcceptAsksMarker]], || {
        let mut s = Stage::new();
        let (old, seen) = (s.read(PRIMARY, A), s.snapshot_version(PRIMARY));
        s.mark(0, A, 1).unwrap();
        let txn = s.commit(A);
        s.replicate(REPLICA);
        s.publish();
        let version = s.version(txn);
        s.poll();
        s.name(0, A, 1, version);
        s.fill(0, A, old, Fill::Version(seen));
        s.honest(0, A)
    });
}

#[test]
fn r55_write_goes_on_without_its_mark() {
    // The node did not answer. The writer hands his version on, or forgets it.
    promise(|writer| {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let txn = s.commit(A);
        s.publish();
        let at_least = match writer {
            Promise::Kept => s.version(txn),
            Promise::Broken => Ask::default().at_least,
        };
        let read = s.served(0, A, Ask { at_least, ..Ask::default() });
        broken_if!(read == Served::Hit, "a writer does not see his write")
    });
}

#[test]
fn r56_reader_goes_to_another_region() {
    // Its node is behind; the token goes with the reader, or does not.
    promise(|reader| {
        let mut s = Stage::with(|plan| plan.nodes = 2);
        s.cache(1, A, PRIMARY);
        let txn = s.commit(A);
        s.publish();
        s.deliver(0);
        let at_least = match reader {
            Promise::Kept => s.version(txn),
            Promise::Broken => Ask::default().at_least,
        };
        let read = s.served(1, A, Ask { at_least, ..Ask::default() });
        broken_if!(read == Served::Hit, "a reader does not see what he has seen")
    });
}

#[test]
fn r57_token_of_another_key() {
    race(&[&[Cure::TokenAsksApplied]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let txn = s.commit(B);
        s.settle();
        let at_least = s.version(txn);
        let read = s.served(0, A, Ask { at_least, ..Ask::default() });
        broken_if!(read != Served::Hit, "every key looks too old to whoever has seen a new one")
    });
}

#[test]
fn r59_reader_fills_what_he_wrote_himself() {
    promise(|reader| {
        let mut s = Stage::new();
        let token = s.lease(0, A);
        // His transaction sees its own change. It is rolled back, so nobody will ever delete it.
        let own = s.flush(A);
        s.roll_back(own);
        if reader == Promise::Broken {
            s.fill(0, A, Some(own), Fill::Lease(token));
        }
        s.ends_honest(0, A)
    });
}

#[test]
fn r65_mark_is_lost_with_its_node() {
    race(&[&[Cure::MarkersUnknownAfterStart]], || {
        let mut s = Stage::new();
        s.mark(0, A, 1).unwrap();
        s.restart_empty(0);
        s.settle();
        s.commit(A);
        goes_to_primary(&mut s)
    });
}

#[test]
fn r65_mark_in_one_cluster_alone() {
    // Another cluster of the region has the key, too: the writer marks it there, or does not.
    promise(|writer| {
        let mut s = Stage::with(|plan| plan.nodes = 2);
        s.cache(0, A, PRIMARY);
        s.mark(1, A, 1).unwrap();
        if writer == Promise::Kept {
            s.mark(0, A, 1).unwrap();
        }
        s.commit(A);
        s.honest(0, A)
    });
}
