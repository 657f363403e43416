//! Between the binlog and the nodes: records that are lost, late, doubled, or of somebody who was replaced.

use cache_node::rules::{Agreement, Ask, Finding, OnStale, Served};
use schemas::{
    cure::Cure,
    cursor::{Partition, partition_of},
    record::UnixMicros,
};

use crate::{
    race::{AGAINST_LOST_BATCHES, Ending, broken_if, race},
    stage::{A, B, PRIMARY, REPLICA, Stage, Wire, key},
};

#[test]
fn r19_delivered_twice() {
    race(&[&[Cure::DeleteSparesNewer]], || {
        let mut s = Stage::new();
        s.commit(A);
        s.settle();
        s.cache(0, A, PRIMARY);
        let batch = s.batch(0);
        s.apply(0, &batch);
        broken_if!(s.get(0, A).is_none(), "a fresh entry is gone")
    });
}

#[test]
fn r21_lane_that_was_replaced_goes_on() {
    race(&[&[Cure::BatchAsksFrom]], || {
        let mut s = Stage::with(|plan| plan.nodes = 2);
        s.cache(0, A, PRIMARY);
        let saved = s.save(0);
        s.commit(A);
        s.settle();
        s.restore(0, saved);
        s.no_marks(0);
        // What comes after the hole, sent by the lane of before.
        s.commit(B);
        s.publish();
        s.deliver(1);
        let batch = s.batch(1);
        s.apply(0, &batch);
        s.connect(0);
        s.ends_honest(0, A)
    });
}

#[test]
fn r21_lane_that_lags_confirms_again() {
    race(&[&[Cure::CursorNeverFalls]], || {
        let mut s = Stage::new();
        s.commit(A);
        s.settle();
        let old = s.batch(0);
        s.commit(A);
        s.settle();
        let before = s.cursor(0);
        s.apply(0, &old);
        broken_if!(s.cursor(0) < before, "what was confirmed is not any more")
    });
    // What is said behind a hole counts only when the hole is filled.
    race(&[&[Cure::AppliedMovesWithCursor]], || {
        let mut s = Stage::with(|plan| plan.nodes = 2);
        s.cache(0, A, PRIMARY);
        let txn = s.commit(A);
        s.publish();
        s.deliver(1);
        s.commit(B);
        s.publish();
        s.deliver(1);
        let batch = s.batch(1);
        s.apply(0, &batch);
        let at_least = s.version(txn);
        let read = s.served(0, A, Ask { at_least, ..Ask::default() });
        broken_if!(read == Served::Hit, "the delete is not applied, and counts as applied")
    });
}

#[test]
fn r22_checkpoint_ahead_of_its_records() {
    race(&[&[Cure::CheckpointAfterRecords, Cure::TermStartSeesLostTail]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.commit(A);
        s.tail.dies = true;
        s.publish();
        s.take_over();
        s.ends_honest(0, A)
    });
}

#[test]
fn r23_batch_is_lost_and_nobody_says_so() {
    race(&AGAINST_LOST_BATCHES, || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.commit(A);
        s.publish();
        s.nodes[0].wire = Wire::LosesBatches;
        s.deliver(0);
        s.cut(0);
        s.connect(0);
        s.ends_honest(0, A)
    });
}

#[test]
fn r24_invalidator_dies_with_what_it_had_to_send() {
    race(&AGAINST_LOST_BATCHES, || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.cut(0);
        s.commit(A);
        s.publish();
        s.replace_invalidator(0);
        s.ends_honest(0, A)
    });
}

#[test]
fn r26_partition_without_changes() {
    race(&[&[Cure::ProgressEverywhere]], || {
        let mut s = Stage::with(|plan| plan.settings.partitions = 2);
        let (busy, quiet) = (s.key_in(Partition(0), 1), s.key_in(Partition(1), 1));
        for _ in 0..10 {
            s.pass(1000);
            s.commit(busy);
            s.settle();
        }
        s.ends_useful(0, quiet)
    });
}

#[test]
fn r27_region_is_cut_off() {
    race(&[&[Cure::ServeAsksFreshness]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.cut(0);
        s.commit(A);
        s.pass(6000);
        s.not_late(0, A)
    });
    // What it serves all the same is young.
    race(&[&[Cure::DegradedAgeBounded]], || {
        let mut s = Stage::with(|plan| plan.settings.on_stale = OnStale::Ttl);
        s.cache(0, A, PRIMARY);
        s.cut(0);
        s.commit(A);
        s.pass(10_001);
        broken_if!(s.get(0, A).is_some(), "an old value, long after the last news")
    });
}

#[test]
fn r27_progress_says_too_much() {
    // The tailer has not read the change.
    race(&[&[Cure::ProgressAfterRecords]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.commit(A);
        for _ in 0..6 {
            s.pass(1000);
            s.progress();
            s.deliver(0);
        }
        s.not_late(0, A)
    });
    // The source's answer was on its way for long.
    race(&[&[Cure::ProgressClockBeforeSource]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let asked = s.wall(0);
        let answered = UnixMicros(asked.0 + 6_000_000);
        s.tail.observe(&s.db, &mut s.log, asked, answered);
        s.commit(A);
        s.pass(6000);
        s.deliver(0);
        s.not_late(0, A)
    });
}

#[test]
fn r28_stream_is_shorter_than_an_outage() {
    race(&[&[Cure::GapRaisesServeFloor], &[Cure::LaneReportsGap]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.cut(0);
        s.commit(A);
        s.publish();
        s.log.retain(0, 0);
        s.connect(0);
        s.ends_honest(0, A)
    });
    // An old progress, of a lane that was replaced, must not say how much is missing.
    race(&[&[Cure::BeginAsksLaterProgress]], || {
        let mut s = Stage::with(|plan| plan.nodes = 2);
        let old = s.batch(1);
        s.cache(0, A, PRIMARY);
        s.cut(0);
        s.commit(A);
        s.publish();
        s.log.retain(0, 0);
        s.connect(0);
        s.apply(0, &old);
        s.ends_honest(0, A)
    });
}

#[test]
fn r28_stream_has_a_hole() {
    race(&[&[Cure::FollowerSeesHole]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let before = s.log.ends()[0].sequence;
        s.commit(A);
        s.publish();
        let lost = s.log.ends()[0].sequence - before;
        s.log.lose_tail(0, usize::try_from(lost).unwrap());
        s.commit(B);
        s.ends_honest(0, A)
    });
}

#[test]
fn r28_stream_loses_its_end() {
    let story = |again: bool| {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let before = s.log.ends()[0].sequence;
        s.commit(A);
        s.publish();
        let lost = s.log.ends()[0].sequence - before;
        s.log.lose_tail(0, usize::try_from(lost).unwrap());
        s.take_over();
        if again {
            s.log.lose_tail(0, 1); // What the new tailer said about it never arrived.
            s.take_over();
        }
        s.ends_honest(0, A)
    };
    race(&[&[Cure::TermStartSeesLostTail]], || story(false));
    race(&[&[Cure::TermStartSeesLostTail]], || story(true));
}

#[test]
fn r29_tailer_of_a_former_primary() {
    // It still leads, and asks the server that it knows.
    race(&[&[Cure::ProgressAsksWriter]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.promote(REPLICA);
        s.commit(A);
        for _ in 0..6 {
            s.pass(1000);
            s.progress();
            s.deliver(0);
        }
        s.not_late(0, A)
    });
    // It was replaced, and goes on with an epoch of its own.
    race(&[&[Cure::LateRecordSkipped, Cure::AppliedAsksEpoch]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let mut former = s.take_over();
        former.force_epoch(&s.db, &mut s.log);
        s.commit(B);
        s.commit(B);
        let wall = s.wall(0);
        former.publish(&s.db, &mut s.log, wall);
        s.deliver(0);
        s.promote(REPLICA);
        let txn = s.commit(A);
        s.publish();
        let at_least = s.version(txn);
        let read = s.served(0, A, Ask { at_least, ..Ask::default() });
        broken_if!(read != Served::Miss, "the node takes numbers of another epoch for its own")
    });
    // The same, and the record is lost that says so.
    race(&[&[Cure::AppliedAsksEpoch]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let mut former = s.take_over();
        s.log.lose_tail(0, 1);
        former.force_epoch(&s.db, &mut s.log);
        s.commit(B);
        s.commit(B);
        let wall = s.wall(0);
        former.publish(&s.db, &mut s.log, wall);
        s.deliver(0);
        s.promote(REPLICA);
        let txn = s.commit(A);
        s.publish();
        let at_least = s.version(txn);
        let read = s.served(0, A, Ask { at_least, ..Ask::default() });
        broken_if!(read != Served::Miss, "the node takes numbers of another epoch for its own")
    });
}

#[test]
fn r40_clock_jumps_back() {
    // What comes then is old, and the lane has not heard yet what the clock shows.
    race(&[&[Cure::AgeAsksBothClocks]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        news_late_on_a_slow_clock(&mut s);
        s.not_late(0, A)
    });
}

#[test]
fn r40_clocks_apart() {
    race(&[&[Cure::LaneMeasuresSkew]], || behind_the_others().not_late(0, A));
}

#[test]
fn r40_clocks_were_apart() {
    race(&[&[Cure::AgeAsksAgreement]], || {
        let mut s = behind_the_others();
        s.nodes[0].clock_ahead = 0;
        s.take_over();
        s.deliver(0); // A new term and nothing else: the lane sees that the clocks agree.
        s.not_late(0, A)
    });
}

#[test]
fn r40_clock_that_nobody_has_looked_at() {
    // It is behind already when the first batch comes.
    race(&[&[Cure::FreshAsksFinding]], || {
        let mut s = Stage::new();
        s.start_empty(0);
        s.nodes[0].clock_ahead = -20_000;
        s.nodes[0].wire = Wire::LosesAnswers;
        s.reconnect(0);
        s.no_marks(0);
        s.settle();
        s.cache(0, A, PRIMARY);
        s.progress();
        s.commit(A);
        s.pass(15_000);
        s.reconnect(0);
        s.not_late(0, A)
    });
}

#[test]
fn r40_clock_has_jumped_since_somebody_looked() {
    // What a lane had found before is on its way.
    race(&[&[Cure::FindingAsksSteps]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        news_late_on_a_slow_clock(&mut s);
        let found = Finding { agreement: Agreement::Close, steps: 0 };
        s.nodes[0].rules.clocks(found);
        s.not_late(0, A)
    });
}

#[test]
fn r40_clock_was_behind_when_it_was_read() {
    // It is right when the lane looks, and behind again when late news comes.
    race(&[&[Cure::ClockReadForEveryBatch]], || {
        let mut s = clock_is_behind();
        s.progress();
        s.deliver(0);
        s.nodes[0].clock_ahead = 0;
        s.take_over();
        s.deliver(0);
        s.publish();
        news_late_on_a_slow_clock(&mut s);
        s.not_late(0, A)
    });
}

/// What a node hears last is old, and its clock is behind by more; nobody learns that.
fn news_late_on_a_slow_clock(s: &mut Stage) {
    s.progress();
    s.commit(A);
    s.pass(15_000);
    s.nodes[0].clock_ahead = -20_000;
    s.nodes[0].wire = Wire::LosesAnswers;
    s.deliver(0);
}

fn clock_is_behind() -> Stage {
    let mut s = Stage::new();
    s.nodes[0].clock_ahead = -20_000;
    s.restart_empty(0);
    s.no_marks(0);
    s.settle();
    s.cache(0, A, PRIMARY);
    s
}

/// A node whose clock is behind has heard late how far the stream is.
fn behind_the_others() -> Stage {
    let mut s = clock_is_behind();
    s.progress();
    s.commit(A);
    s.pass(15_000);
    s.deliver(0); // By the node's clock, the progress is of the future.
    s
}

#[test]
fn r62_numbers_begin_anew() {
    race(&[&[Cure::PlaceHasTerm]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.take_over();
        s.commit(A);
        s.ends_honest(0, A)
    });
}

#[test]
fn r64_one_of_two_partitions_has_reported() {
    let with = |late: fn(&mut Stage, usize) -> Ending| {
        let mut s = Stage::with(|plan| plan.settings.partitions = 2);
        let id = s.key_in(Partition(1), 1);
        assert_eq!(partition_of(&key(id), 2), Partition(1));
        s.cache(0, id, PRIMARY);
        s.commit(id);
        late(&mut s, id)
    };
    race(&[&[Cure::FreshEveryPartition]], || {
        with(|s, id| {
            for _ in 0..6 {
                s.pass(1000);
                s.publish();
                s.progress();
                s.deliver_partition(0, Partition(0));
            }
            s.not_late(0, id)
        })
    });
    race(&[&[Cure::AppliedAsksEveryPartition]], || {
        with(|s, _| {
            let saved = s.save(0);
            s.restore(0, saved);
            s.publish();
            s.progress();
            s.connect_partition(0, Partition(0));
            let (of, all) = (s.applied(0, Partition(1)), s.applied_everywhere(0));
            broken_if!(all.is_some_and(|all| all > of), "a partition has not applied that much")
        })
    });
}
