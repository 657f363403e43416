//! Sources that forget: promotions, errant transactions, purged binlogs, numbers that begin anew.

use cache_node::rules::{Ask, Fill, Reader, Served};
use schemas::{cure::Cure, epochs::EpochTable};
use sim::database::{KeyId, TxnId};

use crate::{
    race::{Ending, Promise, broken_if, promise, race},
    stage::{A, B, LAST, OTHER, PRIMARY, REPLICA, Stage},
};

#[test]
fn r34_binlog_is_purged_before_it_is_read() {
    race(&[&[Cure::PurgeRaisesFloor]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.commit(A);
        s.db.instances[PRIMARY].purged = s.db.instances[PRIMARY].log.len();
        s.repoint();
        s.ends_honest(0, A)
    });
}

#[test]
fn r35_lost_transaction_is_cached() {
    let needed: [&[Cure]; 3] =
        [&[Cure::ServeAsksCuts], &[Cure::EpochNotProven], &[Cure::EpochOpensWithoutTransaction]];
    race(&needed, || {
        let mut s = Stage::new();
        s.commit(A);
        s.poll();
        s.cache(0, A, PRIMARY); // Older than what it contains: the region stands at 1.1.
        s.fail_over(PRIMARY, REPLICA);
        s.ends_honest(0, A)
    });
    // It was published, and its reader knew the primary's position.
    race(&[&[Cure::ServeAsksCuts]], || {
        let mut s = Stage::new();
        s.commit(A);
        s.publish();
        s.deliver(0);
        s.poll();
        s.cache_by(Reader::CanReadPrimary, 0, A, PRIMARY);
        s.fail_over(PRIMARY, REPLICA);
        s.ends_honest(0, A)
    });
}

#[test]
fn r35_slow_reader_of_a_lost_transaction() {
    // He has his lease from before the last proof, and reads after it.
    race(&[&[Cure::ProofTakesEchoedFloor]], || {
        let mut s = Stage::new();
        let slow = s.lease(0, A);
        s.commit(B);
        s.settle();
        s.commit(A);
        let doomed = s.read(PRIMARY, A);
        s.fill(0, A, doomed, Fill::Lease(slow));
        s.fail_over(PRIMARY, REPLICA);
        s.ends_honest(0, A)
    });
}

#[test]
fn r35_lost_transaction_was_there_for_long() {
    // The region's position was low for longer than a fill may take; the primary's was not.
    race(&[&[Cure::ProofAsksHighest]], || {
        let mut s = Stage::new();
        let before = s.commit(B);
        s.publish();
        s.commit(A);
        s.poll();
        s.cache(0, A, PRIMARY);
        s.receive(REPLICA);
        s.visible(REPLICA, before);
        s.forget_received(REPLICA);
        for _ in 0..12 {
            s.pass(1000);
            s.poll();
        }
        s.cut(0);
        s.connect(0);
        s.poll();
        s.fail_over(PRIMARY, REPLICA);
        s.ends_honest(0, A)
    });
    // The primary did not say how far it was.
    race(&[&[Cure::HighestAsksEveryInstance]], || {
        let mut s = Stage::new();
        let slow = s.lease(0, A);
        s.commit(B);
        s.settle();
        s.commit(A);
        let doomed = s.read(PRIMARY, A);
        s.fill(0, A, doomed, Fill::Lease(slow));
        for _ in 0..12 {
            s.pass(1000);
            s.poll_only(&[REPLICA]);
        }
        s.cut(0);
        s.connect(0);
        s.poll_only(&[REPLICA]);
        s.fail_over(PRIMARY, REPLICA);
        s.ends_honest(0, A)
    });
}

#[test]
fn r35_second_promotion() {
    // A value with a lost transaction of the second epoch has a version of the first.
    race(&[&[Cure::CutReachesOlderEpochs]], || {
        let mut s = Stage::with(|plan| plan.servers = 3);
        let slow = s.lease(0, A);
        s.tail.predecessor = Some(s.db.executed(PRIMARY).clone());
        s.fail_over(PRIMARY, REPLICA);
        s.publish();
        s.commit(A);
        let doomed = s.read(REPLICA, A);
        s.fill(0, A, doomed, Fill::Lease(slow));
        s.deliver(0);
        s.tail.predecessor = None;
        s.fail_over(REPLICA, OTHER);
        s.ends_honest(0, A)
    });
    // The first one lost it before anybody read that server, which then handed over all that it had.
    race(&[&[Cure::ProofAsksPublished]], || {
        let mut s = Stage::with(|plan| plan.servers = 3);
        s.commit(A);
        s.publish();
        s.deliver(0);
        s.poll();
        s.cache_by(Reader::CanReadPrimary, 0, A, PRIMARY);
        s.promote(REPLICA);
        s.fence(PRIMARY);
        s.tail.predecessor = Some(s.db.executed(REPLICA).clone());
        s.fail_over(REPLICA, OTHER);
        s.ends_honest(0, A)
    });
}

#[test]
fn r35_primary_comes_back() {
    // The tailer reads of its first reign, and of the one between, when it has its post again.
    race(&[&[Cure::EpochAsksPresentReign]], || {
        let mut s = Stage::new();
        s.fail_over(PRIMARY, REPLICA);
        s.commit(B);
        s.publish();
        follows(&mut s, PRIMARY, REPLICA);
        for (from, to) in [(REPLICA, PRIMARY), (PRIMARY, REPLICA)] {
            s.promote(to);
            s.fence(from);
            s.commit(B);
            follows(&mut s, from, to);
        }
        s.commit(A);
        s.promote(PRIMARY);
        s.repoint();
        s.publish();
        s.deliver(0);
        s.poll();
        s.cache_by(Reader::CanReadPrimary, 0, A, REPLICA);
        s.fence(REPLICA);
        s.ends_honest(0, A)
    });
    // Nobody writes when it has its post again, and the tailer was connected all the time.
    race(&[&[Cure::ReturnIsAskedAnew]], || {
        let mut s = Stage::new();
        s.promote(REPLICA);
        s.commit(B);
        follows(&mut s, PRIMARY, REPLICA);
        s.publish();
        s.progress();
        s.commit(A);
        s.promote(PRIMARY);
        s.progress();
        s.deliver(0);
        s.poll();
        s.cache_by(Reader::CanReadPrimary, 0, A, REPLICA);
        s.fence(REPLICA);
        s.ends_honest(0, A)
    });
}

#[test]
fn r35_former_primary_is_still_read() {
    // A fill with what is lost comes after the cut.
    race(&[&[Cure::ServeAsksCuts]], || {
        let mut s = Stage::new();
        s.commit(A);
        let slow = s.lease(0, A);
        s.promote(REPLICA);
        s.repoint();
        s.publish();
        s.deliver(0);
        let doomed = s.read(PRIMARY, A);
        s.fill(0, A, doomed, Fill::Lease(slow));
        s.fence(PRIMARY);
        s.ends_honest(0, A)
    });
    // A reader who was sent to the primary asks the former one.
    race(&[&[Cure::PrimaryPositionAsksFormer]], || {
        let mut s = Stage::new();
        s.promote(REPLICA);
        s.repoint();
        s.commit(A);
        s.publish();
        s.deliver(0);
        s.poll();
        s.cache_by(Reader::CanReadPrimary, 0, A, PRIMARY);
        s.ends_honest(0, A)
    });
    // It said how far it was when the epoch had begun, and shows only then what was lost.
    race(&[&[Cure::FormerPrimaryHoldsEpoch]], || {
        let mut s = Stage::new();
        let late = s.flush(A);
        s.promote(REPLICA);
        s.repoint();
        s.publish();
        s.deliver(0);
        s.poll();
        s.visible(PRIMARY, late);
        s.cache_by(Reader::CanReadPrimary, 0, A, PRIMARY);
        s.ends_honest(0, A)
    });
    // A replica that has received it is away when the epoch begins; its last answer is from before.
    race(&[&[Cure::AnswerAfterEpoch]], || {
        let mut s = Stage::with(|plan| plan.servers = 3);
        let late = s.commit(A);
        s.receive(OTHER);
        s.fail_over(PRIMARY, REPLICA);
        s.publish();
        s.deliver(0);
        s.poll_only(&[REPLICA]);
        s.visible(OTHER, late);
        s.cache_by(Reader::Anywhere, 0, A, OTHER);
        s.ends_honest(0, A)
    });
}

#[test]
fn r36_replica_has_a_transaction_of_its_own() {
    race(&[&[Cure::ForeignHoldsPosition]], || {
        let mut s = Stage::new();
        s.errant(REPLICA, A);
        s.poll();
        s.cache_by(Reader::Anywhere, 0, A, REPLICA);
        s.ends_honest(0, A)
    });
    // A reader was faster than the next poll. Whoever rebuilds the replica then opens an epoch by hand.
    promise(|operator| {
        let mut s = Stage::new();
        s.errant(REPLICA, A);
        s.cache(0, A, REPLICA);
        s.poll();
        let all = s.db.instances[PRIMARY].log.len();
        s.db.rebuild(REPLICA, PRIMARY, all);
        if operator == Promise::Kept {
            s.tail.force_epoch(&s.db, &mut s.log);
        }
        s.ends_honest(0, A)
    });
}

#[test]
fn r37_new_origin_after_a_failover() {
    // Its numbers are below those of the origin before: the entry's version is 1.2.
    let story = |connects_at_once: bool| {
        let mut s = Stage::new();
        s.commit(B);
        s.settle();
        s.cache(0, A, PRIMARY);
        s.tail.predecessor = Some(s.db.executed(PRIMARY).clone());
        s.fail_over(PRIMARY, REPLICA);
        if connects_at_once {
            s.publish();
        }
        s.commit(A); // Number 1.
        s.ends_honest(0, A)
    };
    race(&[&[Cure::EpochOnNewOrigin, Cure::EpochOnLowerNumber]], || story(false));
    let together: &[Cure] =
        &[Cure::EpochOpensWithoutTransaction, Cure::EpochOnNewOrigin, Cure::EpochOnLowerNumber];
    race(&[together], || story(true));
}

#[test]
fn r37_new_origin_is_silent() {
    // Nothing was written since the promotion, and the cache must be of use.
    race(&[&[Cure::PositionEntersEmptyEpoch]], || {
        let mut s = Stage::new();
        s.fail_over(PRIMARY, REPLICA);
        s.ends_useful(0, A)
    });
}

#[test]
fn r37_number_is_used_again() {
    // A primary lost a transaction with its post, and wrote another one under the same number when it had returned.
    let together: &[Cure] =
        &[Cure::VersionAsksSurvival, Cure::VersionAsksWholeSet, Cure::AskedVersionAsksEnd];
    race(&[together], || {
        let mut s = Stage::new();
        s.commit(B);
        s.poll();
        returns(&mut s);
        s.poll();
        s.cache(0, A, PRIMARY);
        let txn = s.commit(A); // Its epoch is not announced yet.
        let knows = s.knows();
        reads_own_write(&s, &knows, txn)
    });
    // Whoever writes has not heard of the epochs since.
    let together: &[Cure] =
        &[Cure::VersionAsksWholeSet, Cure::AskedVersionIsRaised, Cure::AskedVersionAsksEnd];
    race(&[together], || {
        let mut s = Stage::new();
        let knows = s.knows();
        returns(&mut s);
        s.settle();
        s.cache(0, A, PRIMARY);
        let txn = s.commit(A);
        reads_own_write(&s, &knows, txn)
    });
}

#[test]
fn r37_numbers_are_given_out_anew() {
    // A server loses the end of its binlog, and gives its numbers to others before a tailer has come back.
    race(&[&[Cure::PublishedIsCompared]], || {
        let mut s = loses_last(A, B);
        s.commit(A);
        s.ends_honest(0, B)?;
        s.ends_honest(0, A)
    });
    // The other way round: what was read is of what it has lost, and nobody writes any more.
    race(&[&[Cure::PublishedMustCome]], || {
        let mut s = loses_last(A, A);
        s.ends_honest(0, A)
    });
    // Another server has the numbers, of what was written anew, and hands over everything that it was given.
    race(&[&[Cure::PublishedIsCompared]], || {
        let mut s = loses_last(A, B);
        s.commit(A);
        let all = s.db.instances[PRIMARY].log.len();
        s.db.rebuild(OTHER, PRIMARY, all);
        s.joins(OTHER);
        s.tail.predecessor = Some(s.db.executed(PRIMARY).clone());
        s.fail_over(PRIMARY, OTHER);
        s.ends_honest(0, A)
    });
}

/// A server whose newest transaction, of `lost`, is published and gone; `cached` was read before.
fn loses_last(cached: KeyId, lost: KeyId) -> Stage {
    let mut s = Stage::with(|plan| plan.servers = 3);
    s.fence(REPLICA);
    s.fence(OTHER);
    s.commit(B);
    s.commit(lost);
    s.publish();
    s.deliver(0);
    s.poll();
    s.cache_by(Reader::CanReadPrimary, 0, cached, PRIMARY);
    let kept = s.db.instances[PRIMARY].log.len() - 1;
    s.db.rebuild(PRIMARY, PRIMARY, kept);
    s.repoint();
    s
}

#[test]
fn r37_epoch_had_ended_when_the_version_was_named() {
    // The server has become the primary again, nobody wrote in the meantime, and the writer has heard of nothing.
    race(&[&[Cure::AskedVersionIsRaised, Cure::AskedVersionAsksEnd]], || {
        let mut s = Stage::new();
        let knows = s.knows();
        s.fail_over(PRIMARY, REPLICA);
        rejoins(&mut s);
        s.fail_over(REPLICA, PRIMARY);
        s.settle();
        s.cache(0, A, PRIMARY);
        let txn = s.commit(A);
        reads_own_write(&s, &knows, txn)
    });
    // The same, and nobody has announced yet that it is the primary again.
    race(&[&[Cure::AskedVersionAsksEnd]], || {
        let mut s = Stage::new();
        let knows = s.knows();
        s.fail_over(PRIMARY, REPLICA);
        rejoins(&mut s);
        s.cache(0, A, REPLICA);
        s.fail_over(REPLICA, PRIMARY);
        let txn = s.commit(A);
        reads_own_write(&s, &knows, txn)
    });
    // An operator ended it, and the writer has not heard of that.
    race(&[&[Cure::AskedVersionIsRaised, Cure::AskedVersionAsksEnd]], || {
        let mut s = Stage::new();
        s.commit(B);
        s.settle();
        let knows = s.knows();
        s.tail.force_epoch(&s.db, &mut s.log);
        s.commit(B);
        s.settle();
        s.cache(0, A, PRIMARY);
        let txn = s.commit(A);
        reads_own_write(&s, &knows, txn)
    });
    // The node itself has not heard of the end, and a reader who has fills the key.
    race(&[&[Cure::AcceptAsksEpochKnown]], || {
        let mut s = Stage::new();
        s.commit(B);
        s.settle();
        let knows = s.knows();
        s.tail.force_epoch(&s.db, &mut s.log);
        let (value, version) = (s.read(PRIMARY, A), s.snapshot_version(PRIMARY));
        s.fill(0, A, value, Fill::Version(version));
        let txn = s.commit(A);
        reads_own_write(&s, &knows, txn)
    });
}

/// The primary loses its post, another server writes, and the first one has its post again.
fn returns(s: &mut Stage) {
    s.fail_over(PRIMARY, REPLICA);
    s.commit(B);
    rejoins(s);
    s.fail_over(REPLICA, PRIMARY);
}

/// The server that was the primary follows the new one.
fn rejoins(s: &mut Stage) {
    s.settle();
    follows(s, PRIMARY, REPLICA);
}

/// A server has all that another one has, follows it, and is read from.
fn follows(s: &mut Stage, server: usize, primary: usize) {
    let all = s.db.instances[primary].log.len();
    s.db.rebuild(server, primary, all);
    s.joins(server);
}

/// A writer names the version of what he has written, or goes to the primary if he cannot.
fn reads_own_write(s: &Stage, knows: &EpochTable, txn: TxnId) -> Ending {
    let at_least = knows.version_of(&s.db.txn(txn).gtid(), s.db.executed(PRIMARY));
    let read = at_least.map(|at_least| s.served(0, A, Ask { at_least, ..Ask::default() }));
    broken_if!(read == Some(Served::Hit), "the write has a version that is long passed")
}

#[test]
fn r67_replica_is_ahead_of_the_promoted_one() {
    race(&[&[Cure::ForeignHoldsPosition]], || {
        let mut s = Stage::with(|plan| plan.servers = 3);
        s.commit(A);
        s.replicate(REPLICA);
        s.fail_over(PRIMARY, OTHER);
        s.settle();
        s.cache_by(Reader::Anywhere, 0, A, REPLICA);
        s.ends_honest(0, A)
    });
    // And still is after a second promotion, which loses nothing.
    race(&[&[Cure::LostHoldsItsEpoch]], || {
        let mut s = Stage::with(|plan| plan.servers = 4);
        s.commit(A);
        s.replicate(REPLICA);
        s.fail_over(PRIMARY, OTHER);
        s.commit(B);
        s.settle();
        follows(&mut s, LAST, OTHER);
        s.tail.predecessor = Some(s.db.executed(OTHER).clone());
        s.fail_over(OTHER, LAST);
        s.commit(B);
        s.settle();
        s.cache_by(Reader::Anywhere, 0, A, REPLICA);
        s.ends_honest(0, A)
    });
}
