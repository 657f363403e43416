//! A ring that changes: what a node keeps, refuses and drops.

use expect_test::expect;

use super::{
    session::Session,
    sweep::{Step, Sweep},
    tests::{STREAM, Stage},
};
use crate::snapshot::Copied;

/// The ring of one node, and that of two; the node is the first one.
const ONE: &str = "ring crc32 0 1\n1 a\n";
const TWO: &str = "ring crc32 0 2\n1 a\n1 b\n";
/// By crc32, these stay with the first of two nodes, and these go to the other.
const STAYS: &str = "key:1";
const GOES: &str = "key:4";

fn hello(ring: u64, rings: &str) -> String {
    let count = rings.matches("ring ").count();
    format!("hello 1 {STREAM} 2 {ring} -\nrings {count}\n{rings}heads 0=1:6 1=1:7\n")
}

/// The next record of both partitions, of which `at` went before: the source had everything then, up to this version.
fn progress(at: u64, sequence: u64) -> String {
    let batch = |partition: u64| {
        let from = 6 + partition + at;
        let to = from + 1;
        format!("batch {partition} 1:{from} 1:{to} 1 1.{sequence}\np 1000000000000\n")
    };
    batch(0) + &batch(1)
}

/// A node that lanes have told its ring.
fn told(rings: &str) -> (Stage, Session) {
    let (stage, mut lane) = Stage::attached();
    assert!(stage.say(&mut lane, &hello(1, rings)).starts_with("greeting "));
    stage.say(&mut lane, &progress(0, 9));
    assert_eq!(swept(&stage), 0);
    (stage, lane)
}

/// A fill by one who has read at this version.
fn fill(stage: &Stage, key: &str, sequence: u64) -> String {
    let version = (1_u64 << 48) + sequence;
    stage.ask(&format!("ms {key} 1 V{version}\r\na\r\n"))
}

fn swept(stage: &Stage) -> u64 {
    let (mut sweep, mut dropped) = (Sweep::default(), 0);
    while let Step::More(more) = sweep.step(&stage.node, stage.now) {
        dropped += more;
    }
    dropped
}

#[test]
fn entries_whose_keys_stay_survive_and_those_that_go_are_dropped() {
    let (stage, _lane) = told(ONE);
    let read = format!("get {STAYS} {GOES}\r\n");
    for key in [STAYS, GOES] {
        assert_eq!(fill(&stage, key, 9), "HD|");
    }
    let both = format!("VALUE {STAYS} 0 1|a|VALUE {GOES} 0 1|a|END|");
    let only = format!("VALUE {STAYS} 0 1|a|END|");
    assert_eq!(stage.ask(&read), both);

    // While some client uses the former ring, both are served.
    let mut next = stage.connect();
    stage.say(&mut next, &hello(2, &format!("{TWO}{ONE}")));
    assert_eq!((stage.ask(&read), swept(&stage)), (both, 0));
    stage.say(&mut next, &progress(1, 9));
    // When none does, what has gone is a miss before it is dropped, and is not stored again.
    stage.say(&mut next, &hello(2, TWO));
    assert_eq!(stage.ask(&read), only);
    assert_eq!((fill(&stage, GOES, 9), fill(&stage, STAYS, 9)), ("NS|".into(), "HD|".into()));
    // A lane that has not heard it changes nothing.
    let mut late = stage.connect();
    stage.say(&mut late, &hello(2, &format!("{TWO}{ONE}")));
    assert_eq!(stage.ask(&read), only);
    assert_eq!((swept(&stage), swept(&stage)), (1, 0));
    assert_eq!(stage.node.totals().entries, 1);
}

#[test]
fn what_has_left_and_comes_back_is_a_miss() {
    for sweeps in [true, false] {
        let (stage, mut lane) = told(ONE);
        for key in [STAYS, GOES] {
            fill(&stage, key, 9);
        }
        for (version, ring) in [(2, TWO), (3, ONE)] {
            stage.say(&mut lane, &hello(version, ring));
            if sweeps {
                swept(&stage);
            }
        }
        let read = format!("get {STAYS} {GOES}\r\n");
        assert_eq!(stage.ask(&read), format!("VALUE {STAYS} 0 1|a|END|"), "{sweeps}");
        assert_eq!(swept(&stage), u64::from(!sweeps));
        // What was read before the key was back is refused: its delete may have gone to the other node.
        assert_eq!(fill(&stage, GOES, 12), "NS|", "nobody knows yet what the other node got");
        stage.say(&mut lane, &progress(1, 12));
        assert_eq!(fill(&stage, GOES, 11), "NS|");
        assert_eq!(fill(&stage, GOES, 12), "HD|");
        assert_eq!(stage.ask(&format!("get {GOES}\r\n")), format!("VALUE {GOES} 0 1|a|END|"));
    }
}

#[test]
fn a_ring_that_was_missed_is_no_reason_to_forget() {
    let (stage, mut lane) = told(TWO);
    assert_eq!(fill(&stage, STAYS, 9), "HD|");
    stage.say(&mut lane, &hello(7, "ring crc32 0 2\n1 a\n1 c\n"));
    assert_eq!(stage.ask(&format!("get {STAYS}\r\n")), format!("VALUE {STAYS} 0 1|a|END|"));
}

#[test]
fn the_order_of_nodes_counts_only_where_keys_are_spread_by_it() {
    let (stage, mut lane) = told("ring ketama 0 2\n1 a\n1 b\n");
    let said = stage.say(&mut lane, &hello(1, "ring ketama 1 2\n1 b\n1 a\n"));
    assert!(said.starts_with("greeting ") && !said.contains("error"), "{said}");
}

#[test]
fn rings_that_make_no_sense_close_and_change_nothing() {
    let (stage, _lane) = told(TWO);
    let refused = |rings: &str| {
        let said = stage.say(&mut stage.connect(), &hello(1, rings));
        said.split_once('\n').expect("a greeting").1.to_owned()
    };
    expect![[r"
        error ring version 1 is that of another ring: raise ring_version
        closed
    "]]
    .assert_eq(&refused("ring crc32 1 2\n1 a\n1 b\n"));
    expect![[r#"
        error node "a" is listed twice
        closed
    "#]]
    .assert_eq(&refused("ring crc32 0 2\n1 a\n1 a\n"));
    assert_eq!((fill(&stage, GOES, 9), fill(&stage, STAYS, 9)), ("NS|".into(), "HD|".into()));
}

#[test]
fn nothing_is_kept_for_another_life_while_keys_come() {
    let (stage, mut lane) = told(TWO);
    assert!(stage.control.keep(stage.now.moment).is_some());
    stage.say(&mut lane, &hello(2, ONE));
    assert!(stage.control.keep(stage.now.moment).is_none());
}

#[test]
fn who_has_kept_what_it_had_gets_those_keys_anew_that_were_anothers() {
    let (stage, _lane) = told(TWO);
    assert_eq!(fill(&stage, STAYS, 9), "HD|");
    for (rings, anew) in [(TWO.to_owned(), false), (format!("{TWO}{ONE}"), true)] {
        let again = stage.restarted(Copied::Exactly);
        let mut lane = again.connect();
        let said = again.say(&mut lane, &hello(1, &rings));
        assert!(said.starts_with("greeting ") && said.ends_with(" 1:7 1:8\n"), "{said}");
        assert_eq!(again.control.keep(again.now.moment).is_none(), anew, "{rings}");
    }
}
