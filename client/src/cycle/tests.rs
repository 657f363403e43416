//! What a reader does with each answer, as a table.

use expect_test::{Expect, expect};

use super::*;
use crate::reading::{Isolation, Snapshot, Writes};

const FIT: Reading = Reading::Autocommit(Isolation::RepeatableRead);
const WROTE: Reading = Reading::Transaction {
    isolation: Isolation::ReadCommitted,
    writes: Writes::Some,
    snapshot: Snapshot::Opened,
};
const TERMS: Terms = Terms {
    lease_s: 10,
    renew_s: 5,
    patience: Patience {
        first: Duration::from_millis(10),
        longest: Duration::from_millis(30),
        whole: Duration::from_millis(50),
    },
};

fn want(reading: Reading) -> Want {
    Want { reading, token: None, old: OldValues::Refuse }
}

/// Feeds answers of a node, as it writes them, and shows every decision. `=` ends a database read.
fn check(want: Want, kind: NodeKind, inputs: &[&str], expect: Expect) {
    let (mut cycle, mut action) = Cycle::begin(want, kind, TERMS);
    let mut out = vec![format!("{action:?}")];
    for input in inputs {
        action = match *input {
            "waited" => cycle.waited(),
            "unreachable" => cycle.unreachable(),
            "marked" => cycle.peeked(Some(true)),
            "unmarked" => cycle.peeked(Some(false)),
            "fetched" => {
                out.push(format!("{:?}", cycle.fetched(Ok(()))));
                continue;
            }
            "failed" => {
                out.push(format!("{:?}", cycle.failed()));
                continue;
            }
            answer => {
                let mut buf = bytes::BytesMut::from(answer);
                cycle.answered(crate::wire::decode(&mut buf).unwrap().unwrap())
            }
        };
        out.push(format!("{action:?}"));
    }
    expect.assert_eq(&out.join("\n"));
}

#[test]
fn a_hit_is_served() {
    check(
        want(FIT),
        NodeKind::Versioned,
        &["VA 3 c7 f0 V9\r\nAnn\r\n"],
        expect![[r#"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Serve(Value { data: Some(b"Ann"), age: Current, version: Some(Version(9)) })"#]],
    );
    check(
        want(FIT),
        NodeKind::Versioned,
        &["VA 0 c7 f1 V9 D\r\n\r\n"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Serve(Value { data: None, age: Unknown, version: Some(Version(9)) })"]],
    );
}

#[test]
fn a_lease_is_for_filling() {
    check(
        want(FIT),
        NodeKind::Versioned,
        &["VA 0 c7 f0 W\r\n\r\n", "fetched"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Read(Place { database: Any, at_least: None })
        Store(Lease(7))"]],
    );
    check(
        want(FIT),
        NodeKind::Versioned,
        &["VA 0 c7 f0 W G\r\n\r\n", "failed"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Read(Place { database: Primary, at_least: None })
        (None, Some(Lease(7)))"]],
    );
    check(
        want(FIT),
        NodeKind::Versioned,
        &["EN G\r\n", "fetched"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Read(Place { database: Primary, at_least: None })
        NoLease"]],
    );
}

#[test]
fn who_has_written_gets_no_lease() {
    check(
        want(WROTE),
        NodeKind::Versioned,
        &["EN\r\n", "fetched"],
        expect![[r"
        Ask(Get { lease_s: None, renew_s: None, versions: Some(AtLeast(Version(0))) })
        Read(Place { database: Any, at_least: None })
        Nothing(Wrote)"]],
    );
    // A stock memcached gives one to the first who finds an old value.
    check(
        want(WROTE),
        NodeKind::Stock,
        &["VA 1 c7 f0 X W\r\na\r\n", "unmarked", "fetched"],
        expect![[r"
            Ask(Get { lease_s: None, renew_s: None, versions: None })
            PeekMarker
            Read(Place { database: Any, at_least: None })
            GiveBack(Lease(7), Wrote)"]],
    );
}

#[test]
fn others_wait_and_then_read_the_primary() {
    let theirs = "VA 0 c7 f0 Z\r\n\r\n";
    let inputs = [theirs, "waited", theirs, "waited", theirs, "waited", theirs, "fetched"];
    check(
        want(FIT),
        NodeKind::Versioned,
        &inputs,
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Wait(10ms)
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Wait(20ms)
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Wait(20ms)
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Read(Place { database: Primary, at_least: None })
        NoLease"]],
    );
    check(
        want(FIT),
        NodeKind::Versioned,
        &[theirs, "unreachable"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Wait(10ms)
        Read(Place { database: Primary, at_least: None })"]],
    );
}

#[test]
fn an_old_value_is_for_who_wants_it() {
    let old = "VA 1 c7 f0 Z X\r\na\r\n";
    let at_once = Want { old: OldValues::AtOnce, ..want(FIT) };
    check(
        at_once,
        NodeKind::Versioned,
        &[old],
        expect![[r#"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Serve(Value { data: Some(b"a"), age: Old, version: None })"#]],
    );
    let at_last = Want { old: OldValues::AtLast, ..want(FIT) };
    let inputs = [old, "waited", old, "waited", old, "waited", old];
    check(
        at_last,
        NodeKind::Versioned,
        &inputs,
        expect![[r#"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Wait(10ms)
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Wait(20ms)
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Wait(20ms)
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Serve(Value { data: Some(b"a"), age: Old, version: None })"#]],
    );
    check(
        at_last,
        NodeKind::Versioned,
        &["VA 1 c7 f0 X W\r\na\r\n", "failed"],
        expect![[r#"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Read(Place { database: Any, at_least: None })
        (Some(Value { data: Some(b"a"), age: Old, version: None }), None)"#]],
    );
    check(
        want(FIT),
        NodeKind::Versioned,
        &["VA 1 c7 f0 X W\r\na\r\n", "failed"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Read(Place { database: Any, at_least: None })
        (None, Some(Lease(7)))"]],
    );
}

#[test]
fn one_reader_renews_early_and_has_the_value_if_he_cannot() {
    let soon_over = "VA 1 c7 f0 W\r\na\r\n";
    check(
        want(FIT),
        NodeKind::Versioned,
        &[soon_over, "fetched"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Read(Place { database: Any, at_least: None })
        Store(Lease(7))"]],
    );
    check(
        want(FIT),
        NodeKind::Versioned,
        &[soon_over, "failed"],
        expect![[r#"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Read(Place { database: Any, at_least: None })
        (Some(Value { data: Some(b"a"), age: Current, version: None }), None)"#]],
    );
    check(
        want(FIT),
        NodeKind::Versioned,
        &["VA 1 c7 f0 Z\r\na\r\n"],
        expect![[r#"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Serve(Value { data: Some(b"a"), age: Current, version: None })"#]],
    );
}

#[test]
fn a_token_is_asked_for_and_else_read_at_the_primary() {
    let token = Some(Token::AtLeast(Version::new(1, 5).unwrap()));
    let asks = Want { token, ..want(FIT) };
    check(
        asks,
        NodeKind::Versioned,
        &["EN\r\n", "fetched"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(281474976710661))) })
        Read(Place { database: Primary, at_least: Some(Version(281474976710661)) })
        NoLease"]],
    );
    check(
        asks,
        NodeKind::Versioned,
        &["VA 0 c7 f0 W\r\n\r\n", "fetched"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(281474976710661))) })
        Read(Place { database: Primary, at_least: Some(Version(281474976710661)) })
        Store(Lease(7))"]],
    );
    check(
        asks,
        NodeKind::Stock,
        &["fetched"],
        expect![[r"
        Read(Place { database: Primary, at_least: Some(Version(281474976710661)) })
        NoLease"]],
    );
    let blind = Want { token: Some(Token::Primary), ..want(FIT) };
    check(
        blind,
        NodeKind::Versioned,
        &["fetched"],
        expect![[r"
        Read(Place { database: Primary, at_least: None })
        NoLease"]],
    );
}

#[test]
fn a_marked_key_of_a_stock_memcached_is_read_at_the_primary_and_not_stored() {
    let lease = "VA 0 c7 f0 W\r\n\r\n";
    check(
        want(FIT),
        NodeKind::Stock,
        &[lease, "marked", "fetched"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: None })
        PeekMarker
        Read(Place { database: Primary, at_least: None })
        GiveBack(Lease(7), Marked)"]],
    );
    check(
        want(FIT),
        NodeKind::Stock,
        &[lease, "unmarked", "fetched"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: None })
        PeekMarker
        Read(Place { database: Any, at_least: None })
        Store(Lease(7))"]],
    );
}

#[test]
fn a_node_that_is_away_or_refuses_is_done_without() {
    check(
        want(FIT),
        NodeKind::Versioned,
        &["unreachable", "fetched"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: Some(AtLeast(Version(0))) })
        Read(Place { database: Any, at_least: None })
        NoLease"]],
    );
    check(
        want(FIT),
        NodeKind::Stock,
        &["CLIENT_ERROR invalid flag\r\n"],
        expect![[r"
        Ask(Get { lease_s: Some(10), renew_s: Some(5), versions: None })
        Read(Place { database: Any, at_least: None })"]],
    );
}
