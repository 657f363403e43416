//! What a node gives to another one that becomes warm from it.

use expect_test::expect;

use super::{
    tests::{STREAM, Stage, rules_settings},
    *,
};
use crate::commands::Turn;

#[test]
fn another_node_gets_copies_and_nothing_else() {
    let (stage, mut lane) = Stage::attached();
    stage.ask("set user:1 7 0 1\r\na\r\nset user:2 0 60 2\r\nbb\r\nget user:1 no\r\n");
    let mut peer = stage.connect();
    stage.check(
        &mut peer,
        &format!("peer 1 {STREAM} 2 -\ncopies user:1 user:2 user:3\n"),
        expect![[r"
            copied gives - 0 2 2 1
            copy user:1 1.9 7 - 1
            a
            copy user:2 1.9 0 60 2
            bb
            copied gives - 3 2 2 1
        "]],
    );
    // What the partition has applied counts, too: no delete of the key was among it.
    stage.say(&mut lane, "batch 0 1:6 1:7 1 1.12\na\nbatch 1 1:7 1:8 1 1.13\na\n");
    let said = stage.say(&mut peer, "walk - 0\n");
    assert_eq!(said, "copied gives - 0 2 2 1\n");
    let said = stage.say(&mut peer, "walk - 500\n");
    assert!(
        said.contains("copy user:1 1.1") && said.ends_with("copied gives - 2 2 2 1\n"),
        "{said}"
    );
    // An outdated value is not handed on.
    stage.say(&mut lane, "batch 0 1:7 1:8 2 1.14\nd user:1\na\n");
    let said = stage.say(&mut peer, "copies user:1\n");
    assert_eq!(said, "copied gives - 1 2 2 1\n");
    for wrong in ["stats\n", "quarantine\n", "begin 0 1:99\n", "heads 0=1:9\n"] {
        let mut peer = stage.connect();
        let hello = format!("peer 1 {STREAM} 2 -\n");
        let said = stage.say(&mut peer, &(hello + wrong));
        assert!(
            said.contains("error a node may ask for copies") && said.ends_with("closed\n"),
            "{said}"
        );
    }
    for (wrong, why) in [
        ("peer 1 00000000000000ab 2 -\n", "no cursors of that stream"),
        ("peer 1 00000000000000aa 3 -\n", "no cursors of that stream"),
        ("copies user:1\n", "say hello first"),
    ] {
        let said = stage.say(&mut stage.connect(), wrong);
        assert!(said.contains(why) && said.ends_with("closed\n"), "{said}");
    }
    let said = stage.say(&mut lane, "copies user:1\n");
    assert!(said.contains("only a node that said so"), "{said}");
}

#[test]
fn a_peer_must_know_the_secret() {
    let secret = Secret::new(b"0123456789abcdef").expect("long enough");
    let stage = Stage::new(Some(secret));
    let said = stage.say(&mut stage.connect(), &format!("peer 1 {STREAM} 2 -\n"));
    assert_eq!(said, "error the secret is not ours\nclosed\n");
}

#[test]
fn a_walk_goes_on_by_its_name() {
    let (stage, _lane) = Stage::attached();
    for key in 0..300 {
        stage.ask(&format!("set key:{key} 0 0 1\r\na\r\n"));
    }
    let (mut walk, mut seen) = ("-".to_owned(), std::collections::BTreeSet::new());
    loop {
        // Each time on another connection.
        let mut peer = stage.connect();
        stage.say(&mut peer, &format!("peer 1 {STREAM} 2 -\n"));
        let said = stage.say(&mut peer, &format!("walk {walk} 100\n"));
        seen.extend(
            said.lines()
                .filter_map(|it| it.strip_prefix("copy ")?.split(' ').next())
                .map(str::to_owned),
        );
        let last = said.lines().last().expect("an answer");
        walk = last.split(' ').nth(2).expect("a name").to_owned();
        if walk == "-" {
            break;
        }
    }
    assert_eq!(seen.len(), 300);
}

#[test]
fn a_node_that_is_not_up_to_date_gives_nothing() {
    let (stage, mut lane) = Stage::attached();
    stage.ask("set user:1 7 0 1\r\na\r\n");
    let mut peer = stage.connect();
    stage.say(&mut peer, &format!("peer 1 {STREAM} 2 -\n"));
    stage.say(&mut lane, "clocks apart 0\n");
    assert_eq!(stage.say(&mut peer, "copies user:1\n"), "copied degraded - 1 1 0 0\n");
    assert_eq!(stage.say(&mut peer, "walk - 9\n"), "copied degraded - 0 1 0 0\n");
    stage.say(&mut lane, "clocks close 0\nquarantine\n");
    assert_eq!(stage.say(&mut peer, "copies user:1\n"), "error begin anew\nclosed\n");
    let mut peer = stage.connect();
    let said = stage.say(&mut peer, &format!("peer 1 {STREAM} 2 -\ncopies user:1\n"));
    assert!(said.starts_with("copied quarantined") && !said.contains("copy "), "{said}");
}

#[test]
fn the_rules_say_which_copies_are_kept() {
    use crate::{
        commands::Kept,
        rules::{Fill, Refused},
    };
    let settings = rules::Settings { unsourced: vec![(*b"session:").into()], ..rules_settings() };
    let (stage, mut lane) = Stage::attached_with(settings);
    stage.say(&mut lane, "batch 0 1:6 1:7 2 1.12\nd user:2\na\nbatch 1 1:7 1:8 1 1.12\na\n");
    let copy = |key: &'static str, ttl_s| protocol::control::wire::Copy {
        key: schemas::key::Key::new(key).expect("a key"),
        version: schemas::version::Version::ZERO,
        flags: 3,
        ttl_s,
        value: "old".into(),
    };
    let keep = |key, number| {
        let version = schemas::version::Version::new(1, number).expect("small");
        let mut turn = Turn::new(&stage.node, 0, stage.now, 0);
        turn.keep(&copy(key, Some(50)), Fill::Copy(version))
    };
    assert_eq!(keep("user:1", 8), Kept::Refused(Refused::TooOld));
    assert_eq!(keep("user:1", 9), Kept::Yes);
    assert_eq!(keep("user:1", 12), Kept::There);
    assert_eq!(keep("user:2", 11), Kept::Refused(Refused::Deleted));
    assert_eq!(keep("user:2", 12), Kept::Yes);
    assert_eq!(keep("session:1", 12), Kept::Refused(Refused::Unsourced));
    assert_eq!(stage.ask("mg user:1 f t v\r\n"), "VA 3 f3 t50|old|");
    // What is outdated makes room, unless somebody renews it already.
    stage.say(&mut lane, "batch 0 1:7 1:8 2 1.13\nd user:1\na\nbatch 1 1:8 1:9 1 1.13\na\n");
    assert_eq!(keep("user:1", 12), Kept::Refused(Refused::Deleted));
    assert_eq!(keep("user:1", 13), Kept::Yes);
    // Whoever fetches a value keeps his place.
    stage.ask("mg user:3 N30 v\r\n");
    assert_eq!(keep("user:3", 13), Kept::There);
    // What comes from no source is not given, either.
    stage.ask("set session:1 0 0 1\r\na\r\n");
    let mut peer = stage.connect();
    let said = stage.say(&mut peer, &format!("peer 1 {STREAM} 2 -\ncopies session:1\n"));
    assert!(!said.contains("copy "), "{said}");
}
