//! A node that comes back with what it had, as its lanes see it.

use expect_test::{Expect, expect};

use super::tests::{Stage, rules_settings};
use crate::snapshot::Copied;

const HELLO: &str = "hello 1 00000000000000aa 2 0 -\n";
const GOT: &str = "get user:1 user:2 session:1\r\n";

/// A node that has stored three values, of which one has no version, and deleted one of the others.
fn told() -> Stage {
    let unsourced = vec![b"session:".as_slice().into()];
    let settings = crate::rules::Settings { unsourced, ..rules_settings() };
    let (stage, mut lane) = Stage::attached_with(settings);
    for key in ["user:1", "user:2", "session:1"] {
        assert_eq!(stage.ask(&format!("set {key} 0 0 1\r\na\r\n")), "STORED|");
    }
    let deletes = "batch 0 1:6 1:7 2 1.10\nd user:2\na\nbatch 1 1:7 1:8 1 1.10\na\n";
    stage.say(&mut lane, deletes);
    assert_eq!(stage.ask(GOT), "VALUE user:1 0 1|a|VALUE session:1 0 1|a|END|");
    stage
}

fn check(said: String, expect: Expect) {
    expect.assert_eq(&said);
}

#[test]
fn it_serves_once_its_lanes_have_said_what_it_missed() {
    let mut stage = told().restarted(Copied::Exactly);
    // What has no version was not changed by anybody.
    check(stage.ask(GOT), expect!["VALUE session:1 0 1|a|END|"]);
    let mut lane = stage.connect();
    check(
        stage.say(&mut lane, HELLO),
        expect![[r"
        greeting 0000000000000001 quarantined 0 1.9 1:7 1:8
    "]],
    );
    stage.say(&mut lane, "heads 0=1:8 1=1:8\nepoch 1 0.0 lossless 0.0\n");
    check(stage.ask(GOT), expect!["VALUE session:1 0 1|a|END|"]);
    // The delete of the other value comes again, or is not known here; a new one comes too.
    stage.say(&mut lane, "clocks close 0\n");
    stage.pass(1);
    let missed = "batch 0 1:7 1:8 2 1.11\nd user:3\np 1000000000000\nbatch 1 1:8 1:9 1 1.11\np 1000000000000\n";
    check(
        stage.say(&mut lane, missed),
        expect![[r"
            ok 0 1:8 1.9 1000007000000 0
            ok 1 1:9 1.9 1000007000000 0
        "]],
    );
    check(stage.ask(GOT), expect!["VALUE user:1 0 1|a|VALUE session:1 0 1|a|END|"]);
    // What was refused before is refused again.
    check(stage.ask("ms user:2 1 V281474976710665\r\nb\r\n"), expect!["NS|"]);
    check(stage.ask("ms user:2 1 V281474976710667\r\nb\r\n"), expect!["HD|"]);
}

#[test]
fn a_delete_that_came_meanwhile_is_said_before_anything_is_served() {
    let stage = told().restarted(Copied::WhileServing);
    // Nobody knows what became of it.
    check(stage.ask(GOT), expect!["END|"]);
    let mut lane = stage.connect();
    stage.say(&mut lane, &format!("{HELLO}heads 0=1:8 1=1:8\nepoch 1 0.0 lossless 0.0\n"));
    stage.say(&mut lane, "batch 0 1:7 1:8 2 1.11\nd user:1\np 1000000000000\n");
    check(stage.ask(GOT), expect!["END|"]);
    stage.say(&mut lane, "batch 1 1:8 1:9 1 1.11\np 1000000000000\n");
    check(stage.ask(GOT), expect!["END|"]);
}

#[test]
fn a_stream_that_does_not_reach_back_becomes_a_floor() {
    let stage = told().restarted(Copied::Exactly);
    let mut lane = stage.connect();
    stage.say(&mut lane, &format!("{HELLO}heads 0=1:20 1=1:8\nepoch 1 0.0 lossless 0.0\n"));
    stage.say(&mut lane, "begin 0 1:19\nbatch 1 1:8 1:9 1 1.30\np 1000000000000\n");
    stage.say(&mut lane, "batch 0 1:19 1:20 1 1.30\np 1000000000000\n");
    check(stage.ask(GOT), expect!["VALUE session:1 0 1|a|END|"]);
    check(stage.ask("ms user:1 1 V281474976710685\r\nb\r\n"), expect!["NS|"]);
}

#[test]
fn another_ring_or_another_stream_is_another_life() {
    for hello in [
        "hello 1 00000000000000aa 2 1 -\n",
        "hello 1 00000000000000bb 2 0 -\n",
        "hello 1 00000000000000aa 3 0 -\n",
    ] {
        let stage = told().restarted(Copied::Exactly);
        let mut lane = stage.connect();
        let greeting = stage.say(&mut lane, hello);
        assert!(
            greeting.contains(" degraded ") && greeting.trim_end().ends_with(" - -"),
            "{greeting}"
        );
        assert_eq!(stage.ask(GOT), "END|");
    }
}
