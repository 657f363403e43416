//! Rows that become no key, or the wrong one.

use cache_node::rules::{Ask, Served};
use schemas::cure::Cure;
use sim::database::KeyId;

use crate::{
    events::{Body, rules_with},
    race::{Promise, broken_if, promise, race},
    stage::{A, B, PRIMARY, Stage, Wire},
};

#[test]
fn r13_absent_row_is_inserted() {
    race(&[&[Cure::MapsInserts]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        assert_eq!(s.get(0, A), Some(None), "cached as absent");
        let txn = s.commit(A);
        s.publish_as(txn, &Body::Insert(A));
        s.ends_honest(0, A)
    });
}

#[test]
fn r14_row_moves_from_list_to_list() {
    race(&[&[Cure::MapsBothImages]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.cache(0, B, PRIMARY);
        let txn = s.commit_all([A, B]);
        s.publish_as(txn, &Body::Move(A, B));
        s.ends_honest(0, A)?;
        s.honest(0, B)
    });
}

#[test]
fn r25_transaction_with_too_many_keys() {
    const LAST: KeyId = 12;
    race(&[&[Cure::UnlistedKeysRaiseFloor]], || {
        let mut s = Stage::with(|plan| plan.limits.transaction_keys_max = 10);
        s.cache(0, LAST, PRIMARY);
        s.commit_all(1..=LAST);
        s.ends_honest(0, LAST)
    });
}

#[test]
fn r30_keys_get_another_name() {
    // The application names its keys anew; the rules know both names, or the old one alone.
    promise(|rules| {
        let keys = match rules {
            Promise::Kept => r#"["user-{id}", "k{id}"]"#,
            Promise::Broken => r#"["user-{id}"]"#,
        };
        let mut s = Stage::with(|plan| plan.rules = rules_with(keys));
        s.cache(0, A, PRIMARY);
        s.commit(A);
        s.ends_honest(0, A)
    });
}

#[test]
fn r31_event_that_nobody_can_read() {
    race(&[&[Cure::UndecodableRaisesFloor]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let txn = s.commit(A);
        s.publish_as(txn, &Body::Unknown);
        s.ends_honest(0, A)
    });
}

#[test]
fn r32_truncate() {
    let needed: [&[Cure]; 3] =
        [&[Cure::StatementRaisesFloor], &[Cure::ServeAsksFloor], &[Cure::ServeAsksPrefixFloor]];
    race(&needed, || {
        let mut s = Stage::new();
        s.commit(A);
        s.settle();
        s.cache(0, A, PRIMARY);
        s.truncate();
        s.ends_honest(0, A)
    });
}

#[test]
fn r33_row_without_what_the_rules_need() {
    race(&[&[Cure::UnreadableRowsRaiseFloor]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let txn = s.commit(A);
        s.publish_as(txn, &Body::Nameless(A));
        s.ends_honest(0, A)
    });
}

#[test]
fn r38_columns_change_places() {
    race(&[&[Cure::MapsWithOwnTableMap]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let before = s.commit(B);
        s.publish_as(before, &Body::Wide(["id", "rank"], B));
        let after = s.commit(A);
        s.publish_as(after, &Body::Wide(["rank", "id"], A));
        s.ends_honest(0, A)
    });
}

#[test]
fn r39_half_of_a_transaction() {
    const LAST: KeyId = 40;
    race(&[&[Cure::AppliedWithLastPart]], || {
        let mut s = Stage::with(|plan| {
            (plan.limits.transaction_keys_max, plan.limits.record_bytes_max) = (100, 120);
        });
        s.cache(0, LAST, PRIMARY);
        let txn = s.commit_all(1..=LAST);
        s.publish();
        let at_least = s.version(txn);
        s.nodes[0].wire = Wire::LosesAnswers; // Of several batches, only the first one comes.
        s.deliver(0);
        let read = s.served(0, LAST, Ask { at_least, ..Ask::default() });
        broken_if!(read != Served::Miss, "who has seen the transaction reads a key from before it")
    });
}

#[test]
fn r68_xa_transaction_prepared_long_ago() {
    race(&[&[Cure::StatementRaisesFloor]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let txn = s.commit(A);
        // Its rows were logged when it was prepared, before this tailer's checkpoint.
        s.publish_as(txn, &Body::Statement("XA COMMIT X'78',X'',1"));
        s.ends_honest(0, A)
    });
}
