//! The control port without its sockets: what lanes say, and what the node answers and then serves.

use std::time::Duration;

use bytes::BytesMut;
use expect_test::{Expect, expect};
use protocol::{
    control::wire::{ToNode, encode},
    server::{Limits, Parser, Step, Versions},
};
use schemas::{moment::Moment, record::UnixMicros};

use super::*;
use crate::{
    commands::Turn,
    node::{Allowed, Placeholders, Settings},
    rules::{Lossy, OnStale, Rules},
    server::Clock,
    snapshot::{self, About, Copied, Loading, Times, Wanted, write},
    store::Eviction,
};

const NONCE: Nonce = [7; 16];
pub(super) const STREAM: &str = "00000000000000aa";

pub(super) struct Stage {
    pub(super) node: Arc<Node>,
    pub(super) control: Arc<Control>,
    pub(super) now: Now,
}

pub(super) fn rules_settings() -> rules::Settings {
    rules::Settings {
        partitions: 1,
        fill_age_max: Duration::from_secs(1),
        lease: Duration::from_secs(10),
        staleness_max: Duration::from_secs(3600),
        clock_skew_max: Duration::from_secs(1),
        on_stale: OnStale::Miss,
        degraded_ttl: Duration::from_secs(10),
        marker_ttl_max: Duration::ZERO,
        tombstones_max: 100,
        leases_max: 100,
        markers_max: 100,
        lossy: Lossy::Cut,
        unsourced: Vec::new(),
    }
}

impl Stage {
    pub(super) fn new(secret: Option<Secret>) -> Stage {
        Stage::with(secret, rules_settings())
    }

    fn with(secret: Option<Secret>, rules_settings: rules::Settings) -> Stage {
        let settings = Settings {
            memory_bytes_max: 1 << 20,
            item_bytes_max: 1 << 16,
            eviction: Eviction::S3Fifo,
            workers: 1,
            placeholders: Placeholders::Hidden,
            prefix_delimiter: b':',
            allowed: Allowed::NOTHING,
        };
        let rules = Rules::new(Moment::START, rules_settings.clone());
        let node = Arc::new(Node::new(settings, Some(rules), 100));
        let mut control =
            Control::new(Arc::clone(&node), rules_settings, secret).expect("random numbers");
        control.incarnation = 1;
        let now = Now { moment: Moment::after_start(Duration::from_secs(100)), unix: 1_000_000 };
        Stage { node, control: Arc::new(control), now }
    }

    /// Another process, with what this one would take along.
    pub(super) fn restarted(&self, copied: Copied) -> Stage {
        let (source, kept) = self.control.keep(self.now.moment).expect("a lane was here");
        let about = About {
            copied,
            node: "n".to_owned(),
            taken: Times::default(),
            source: Some((source, kept.clone())),
        };
        let mut bytes = Vec::new();
        write(&self.node, &about, self.now, &mut bytes, |_| {}).expect("memory takes it all");
        let settings = rules::Settings { partitions: 2, ..self.control.settings.clone() };
        let stage = Stage::with(None, settings.clone());
        let now = Now { moment: Moment::START, ..self.now };
        let (unsourced, times) = (settings.unsourced.clone(), Times::default());
        let versions = snapshot::Versions::Unless(&unsourced);
        let (node, age_max) = ("n", Duration::from_secs(1));
        let wanted = Wanted { node, age_max, now: &times, versions, copied };
        let length = u64::try_from(bytes.len()).expect("small");
        let loading = Loading::begin(bytes.as_slice(), length, wanted).expect("it is good");
        let kept = rules::Snapshot::of(settings.clone(), loading.kept().expect("rules"));
        *stage.node.rules().expect("a source") = Rules::restore(now.moment, settings, kept);
        loading.fill(&stage.node, now, versions, |_| {}).expect("it is good");
        stage.control.resume(source, 2);
        Stage { now, ..stage }
    }

    pub(super) fn connect(&self) -> Session {
        let mut session = Session::new(Arc::clone(&self.control), NONCE);
        session.output.clear();
        session
    }

    /// What the node answers to lines, and whether it closes.
    pub(super) fn say(&self, session: &mut Session, lines: &str) -> String {
        session.input.extend_from_slice(lines.as_bytes());
        let next = session.execute(self.now, UnixMicros(self.now.unix * 1_000_000));
        let mut said = String::from_utf8(session.output.to_vec()).expect("text");
        session.output.clear();
        if next == Next::Close {
            said.push_str("closed\n");
        }
        said
    }

    /// On both clocks.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.now.moment = self.now.moment.later(Duration::from_secs(seconds));
        self.now.unix += seconds;
    }

    pub(super) fn check(&self, session: &mut Session, lines: &str, expect: Expect) {
        expect.assert_eq(&self.say(session, lines));
    }

    /// A fresh node that is at version 1.9, and its lane.
    pub(super) fn attached() -> (Stage, Session) {
        Stage::attached_with(rules_settings())
    }

    pub(super) fn attached_with(settings: rules::Settings) -> (Stage, Session) {
        let mut stage = Stage::with(None, settings);
        let mut lane = stage.connect();
        stage.say(&mut lane, &format!("hello 1 {STREAM} 2 0 -\nheads 0=1:5 1=1:6\n"));
        stage.say(&mut lane, "begin 0 1:5\nbegin 1 1:6\nepoch 1 0.0 lossless 0.0\n");
        stage.say(
            &mut lane,
            "batch 0 1:5 1:6 1 1.9\np 1000000000000\nbatch 1 1:6 1:7 1 1.9\np 1000000000000\nclocks close 0\n",
        );
        for _ in 0..3 {
            stage.say(&mut lane, "push 1.9 1.9 1.9 0.0 1\n");
            stage.pass(2);
        }
        (stage, lane)
    }

    /// The side port.
    fn side(&self) -> axum::Router {
        let (users, clock) = (crate::access::Users::default(), Clock::new(Arc::clone(&self.node)));
        crate::http::router(Arc::clone(&self.node), users, clock)
    }

    /// What a client is answered.
    pub(super) fn ask(&self, request: &str) -> String {
        let mut turn = Turn::new(&self.node, 0, self.now, 0);
        let limits = Limits { value_bytes_max: 100, versions: Versions::Accept };
        let (mut parser, mut out) = (Parser::new(limits), Vec::new());
        let mut rest = request.as_bytes();
        while let Step::Command(command, bytes) = parser.next(rest) {
            turn.run(&command, 0, &mut out);
            rest = &rest[bytes..];
        }
        String::from_utf8(out).expect("text").replace("\r\n", "|")
    }
}

#[test]
fn a_lane_attaches_and_deletes() {
    let (stage, mut lane) = Stage::attached();
    assert_eq!(
        stage.ask("set user:1 0 0 1\r\na\r\nget user:1\r\n"),
        "STORED|VALUE user:1 0 1|a|END|"
    );
    // Both keys are of this partition, or not: a delete is applied wherever it is said.
    stage.check(
        &mut lane,
        "batch 0 1:6 1:7 2 1.10\nd user:1\na\n",
        expect![[r"
            ok 0 1:7 1.9 1000006000000 0
        "]],
    );
    assert_eq!(stage.ask("get user:1\r\nset user:1 0 0 1\r\nb\r\n"), "END|NOT_STORED|");
    stage.check(
        &mut lane,
        "batch 0 1:9 1:10 1 1.12\nd user:2\n",
        expect![[r"
            rewind 0 1:7 1.9 1000006000000 0
        "]],
    );
}

#[test]
fn malformed_input_closes_and_changes_nothing() {
    for wrong in [
        "batch 0 1:6 1:7 3 1.10\nd user:1\nd user:1 x\n",
        "batch 0 1:6 1:7 3 1.10\nd user:1\nstats\n",
        "delete user:1\n",
        "batch 0 1:6 1:7 2 1.10\nd user:1\nset user:1 0 0 1\nb\n",
    ] {
        let (stage, mut lane) = Stage::attached();
        stage.ask("set user:1 0 0 1\r\na\r\n");
        let said = stage.say(&mut lane, wrong);
        assert!(said.starts_with("error not a message") && said.ends_with("closed\n"), "{said}");
        assert_eq!(stage.ask("get user:1\r\n"), "VALUE user:1 0 1|a|END|", "{wrong}");
        let mut again = stage.connect();
        let said = stage.say(&mut again, &format!("hello 1 {STREAM} 2 0 -\n"));
        assert_eq!(said, "greeting 0000000000000001 fresh 0 1.9 1:6 1:7\n");
    }
}

#[test]
fn half_a_batch_changes_nothing() {
    let (stage, mut lane) = Stage::attached();
    stage.ask("set user:1 0 0 1\r\na\r\n");
    assert_eq!(stage.say(&mut lane, "batch 0 1:6 1:7 2 1.10\nd user:1\n"), "");
    assert_eq!(stage.ask("get user:1\r\n"), "VALUE user:1 0 1|a|END|");
    assert_eq!(stage.say(&mut lane, "a\n"), "ok 0 1:7 1.9 1000006000000 0\n");
    assert_eq!(stage.ask("get user:1\r\n"), "END|");
}

/// What the page of the grammar tells is what is said.
#[test]
fn the_conversation_of_the_page() {
    let page = include_str!("../../../protocol/CONTROL.md");
    let (_, told) = page.split_once("## A conversation").expect("a conversation");
    let lines: Vec<&str> = told.lines().filter(|it| it.starts_with(['<', '>'])).collect();
    let mut stage = Stage::new(None);
    let greeting = lines.iter().find_map(|line| line.strip_prefix("< greeting ")).expect("one");
    let incarnation = greeting.split(' ').next().expect("a word");
    let incarnation = u64::from_str_radix(incarnation, 16).expect("hexadecimal digits");
    Arc::get_mut(&mut stage.control).expect("nobody else has it").incarnation = incarnation;
    let mut lane = stage.connect();
    let (mut says, mut answers) = (String::new(), 0);
    for line in lines {
        if let Some(said) = line.strip_prefix("> ") {
            says.extend([said, "\n"]);
            continue;
        }
        let expected = line.strip_prefix("< ").expect("an answer");
        if expected.starts_with("mcsqueal 1 ") {
            continue; // Random.
        }
        let wall = expected.rsplit(' ').nth(1).and_then(|word| word.parse().ok());
        lane.input.extend_from_slice(std::mem::take(&mut says).as_bytes());
        assert_eq!(lane.execute(stage.now, UnixMicros(wall.unwrap_or(0))), Next::Read, "{line}");
        assert_eq!(String::from_utf8_lossy(&lane.output), format!("{expected}\n"));
        lane.output.clear();
        answers += 1;
    }
    assert!(answers >= 3 && says.is_empty(), "the page tells {answers} answers");
}

#[test]
fn nothing_is_said_before_hello() {
    let stage = Stage::new(None);
    let mut lane = stage.connect();
    stage.check(
        &mut lane,
        "push 1.9 1.9 1.9 0.0 1\n",
        expect![[r"
            error say hello first
            closed
        "]],
    );
}

#[test]
fn a_secret_is_asked_for() {
    let secret = || Secret::new(b"an open secret, but long").expect("long enough");
    let stage = Stage::new(Some(secret()));
    let hello = |proof| {
        let stream = StreamId(0xaa);
        let mut line = BytesMut::new();
        encode(&ToNode::Hello(Hello { stream, partitions: 1, ring: 0, proof }), &mut line);
        String::from_utf8(line.to_vec()).expect("text")
    };
    for wrong in [None, Some(secret().prove(&[8; 16])), Some([0; 32])] {
        let said = stage.say(&mut stage.connect(), &hello(wrong));
        assert_eq!(said, "error the secret is not ours\nclosed\n");
    }
    let said = stage.say(&mut stage.connect(), &hello(Some(secret().prove(&NONCE))));
    assert_eq!(said, "greeting 0000000000000001 degraded 0 0.0 -\n");
}

#[test]
fn another_stream_is_another_life() {
    let (stage, mut lane) = Stage::attached();
    stage.ask("set user:1 0 0 1\r\na\r\n");
    let mut other = stage.connect();
    let said = stage.say(&mut other, "hello 1 00000000000000bb 1 0 -\n");
    assert_eq!(said, "greeting 0000000000000001 degraded 0 0.0 -\n");
    assert_eq!(stage.ask("get user:1\r\n"), "END|");
    // What the first lane says is of a stream that counts no more.
    let said = stage.say(&mut lane, "push 1.9 1.9 1.9 0.0 1\n");
    assert_eq!(said, "error begin anew\nclosed\n");
}

#[test]
fn quarantine_lasts_until_the_lane_has_come_again() {
    let (stage, mut lane) = Stage::attached();
    stage.ask("set user:1 0 0 1\r\na\r\n");
    let mut operator = stage.connect();
    let hello = format!("hello 1 {STREAM} 2 0 -\n");
    let said = stage.say(&mut operator, &format!("{hello}quarantine\n"));
    assert!(said.ends_with("error begin anew\nclosed\n"), "{said}");
    assert_eq!(stage.ask("get user:1\r\n"), "END|");
    assert_eq!(stage.say(&mut lane, "push 1.9 1.9 1.9 0.0 1\n"), "error begin anew\nclosed\n");
    let mut lane = stage.connect();
    let said = stage.say(&mut lane, &hello);
    assert_eq!(said, "greeting 0000000000000001 quarantined 0 1.9 1:6 1:7\n");
    stage.say(&mut lane, "heads 0=1:6 1=1:8\n");
    assert_eq!(stage.ask("get user:1\r\n"), "END|");
    stage.say(&mut lane, "batch 1 1:7 1:8 0 0.0\n");
    assert_eq!(stage.ask("get user:1\r\n"), "VALUE user:1 0 1|a|END|");
}

#[test]
fn a_lane_with_an_old_ring_is_sent_away() {
    let (stage, mut old) = Stage::attached();
    stage.ask("set user:1 0 0 1\r\na\r\n");
    let mut new = stage.connect();
    let said = stage.say(&mut new, &format!("hello 1 {STREAM} 2 1 -\n"));
    assert_eq!(said, "greeting 0000000000000001 quarantined 1 1.9 1:6 1:7\n");
    // Until the new lane has brought the node to where the stream ends now.
    assert_eq!(stage.ask("get user:1\r\n"), "END|");
    let batch = "batch 0 1:6 1:7 2 1.10\nd user:2\na\n";
    assert_eq!(stage.say(&mut old, batch), "error begin anew\nclosed\n");
    let mut again = stage.connect();
    stage.check(
        &mut again,
        &format!("hello 1 {STREAM} 2 0 -\n"),
        expect![[r"
            error ring version 0 is old: 1 is known
            closed
        "]],
    );
    stage.say(&mut new, "heads 0=1:7 1=1:7\n");
    assert_eq!(stage.ask("get user:1\r\n"), "END|");
    stage.say(&mut new, batch);
    assert_eq!(stage.ask("get user:1\r\n"), "VALUE user:1 0 1|a|END|");
    // The same ring again is no news.
    let mut other = stage.connect();
    let said = stage.say(&mut other, &format!("hello 1 {STREAM} 2 1 -\n"));
    assert_eq!(said, "greeting 0000000000000001 fresh 1 1.9 1:7 1:7\n");
}

#[test]
fn a_node_that_was_out_of_the_ring_forgets_what_it_held() {
    let (stage, _) = Stage::attached();
    stage.ask("set user:1 0 0 1\r\na\r\n");
    let mut back = stage.connect();
    let said = stage.say(&mut back, &format!("hello 1 {STREAM} 2 2 -\n"));
    // It has no cursors any more, so the lane begins where the stream ends.
    assert_eq!(said, "greeting 0000000000000001 degraded 2 0.0 - -\n");
    assert_eq!(stage.ask("get user:1\r\n"), "END|");
    assert_eq!(stage.ask("mn\r\n"), "MN|");
}

#[test]
fn one_lane_that_finds_the_clocks_apart_is_enough() {
    let (stage, mut first) = Stage::attached();
    stage.ask("set user:1 0 0 1\r\na\r\n");
    let mut second = stage.connect();
    stage.say(&mut second, &format!("hello 1 {STREAM} 2 0 -\n"));
    let served = || stage.ask("get user:1\r\n") != "END|";
    for (who, says, expected) in [
        (1, "clocks close 0\n", true),
        (2, "clocks apart 0\n", false),
        (1, "clocks close 0\n", false),
        (2, "clocks close 0\n", false), // Ages that were taken meanwhile mean nothing.
        (
            1,
            "batch 0 1:6 1:7 1 1.9\np 1000000000000\nbatch 1 1:7 1:8 1 1.9\np 1000000000000\n",
            true,
        ),
        (1, "clocks apart 0\n", false),
        (1, "clocks apart 0\n", false),
        (2, "clocks close 0\n", false),
    ] {
        let lane = if who == 1 { &mut first } else { &mut second };
        stage.say(lane, says);
        assert_eq!(served(), expected, "{who} says {says}");
    }
    drop(first);
    stage.say(
        &mut second,
        "batch 0 1:7 1:8 1 1.9\np 1000000000000\nbatch 1 1:8 1:9 1 1.9\np 1000000000000\n",
    );
    assert!(served(), "the other one still says that they are close");
    stage.say(&mut second, "clocks apart 0\n");
    drop(second);
    assert!(!served(), "nobody says otherwise");
}

#[test]
fn what_was_found_of_a_clock_that_has_jumped_back_since_says_nothing() {
    let (mut stage, mut first) = Stage::attached();
    stage.ask("set user:1 0 0 1\r\na\r\n");
    let mut second = stage.connect();
    stage.say(&mut second, &format!("hello 1 {STREAM} 2 0 -\nclocks close 0\n"));
    stage.now.unix -= 60;
    let said = stage.say(&mut first, "batch 0 1:6 1:7 1 1.9\np 1000000000000\n");
    assert_eq!(said, "ok 0 1:7 1.9 999946000000 1\n");
    let served = |stage: &Stage| stage.ask("get user:1\r\n") != "END|";
    assert!(!served(&stage), "nobody has looked at it");
    stage.say(&mut first, "clocks close 0\n");
    assert!(!served(&stage), "it was on its way");
    stage.say(&mut first, "clocks apart 1\n");
    drop(first);
    assert!(!served(&stage), "the other one has not looked since");
    stage.say(
        &mut second,
        "clocks close 1\nbatch 0 1:7 1:8 1 1.9\np 1000000000000\nbatch 1 1:7 1:8 1 1.9\np 1000000000000\n",
    );
    assert!(served(&stage), "it has");
}

#[test]
fn statistics() {
    let (stage, mut lane) = Stage::attached();
    stage.check(
        &mut lane,
        "stats\n",
        expect![[r"
        stat fresh 1
        stat quarantined 0
        stat epoch 1
        stat position 281474976710665
        stat primary_position 281474976710665
        stat applied 281474976710665
        stat fill_floor 0
        stat age_floor 281474976710665
        stat tombstones 0
        stat marks 0
        stat ring 0
        stat sweeping 0
        stat swept 0
        stat connections 1
        stat batches 2
        stat deletes 0
        stat rewinds 0
        stat refused 0
        end
    "]],
    );
}

/// What operators see of versions.
#[tokio::test]
async fn metrics() {
    let (stage, mut lane) = Stage::attached();
    stage.say(&mut lane, "batch 0 1:6 1:7 2 1.10\nd user:1\na\n");
    let request = axum::http::Request::builder().uri("/metrics").body(axum::body::Body::empty());
    let answer = tower::ServiceExt::oneshot(stage.side(), request.expect("a request")).await;
    let body = axum::body::to_bytes(answer.expect("an answer").into_body(), 1 << 20).await;
    let text = String::from_utf8(body.expect("a body").to_vec()).expect("text");
    let names = ["fresh", "quarantined", "tombstones", "marks", "version_"];
    let shown =
        |line: &&str| names.iter().any(|name| line.starts_with(&format!("mcsqueal_node_{name}")));
    let shown: Vec<&str> = text.lines().filter(shown).collect();
    expect![[r#"
        mcsqueal_node_fresh 1
        mcsqueal_node_quarantined 0
        mcsqueal_node_tombstones 1
        mcsqueal_node_marks 0
        mcsqueal_node_version_epoch{of="position"} 1
        mcsqueal_node_version_epoch{of="primary_position"} 1
        mcsqueal_node_version_epoch{of="applied"} 1
        mcsqueal_node_version_epoch{of="age_floor"} 1
        mcsqueal_node_version_epoch{of="fill_floor"} 0
        mcsqueal_node_version_epoch{of="serve_floor"} 1
        mcsqueal_node_version_sequence{of="position"} 9
        mcsqueal_node_version_sequence{of="primary_position"} 9
        mcsqueal_node_version_sequence{of="applied"} 9
        mcsqueal_node_version_sequence{of="age_floor"} 9
        mcsqueal_node_version_sequence{of="fill_floor"} 0
        mcsqueal_node_version_sequence{of="serve_floor"} 9
    "#]]
    .assert_eq(&(shown.join("\n") + "\n"));
}

/// The REST API's word for a fill that the rules refuse.
#[tokio::test]
async fn what_may_be_old_is_not_put() {
    let (stage, mut lane) = Stage::attached();
    stage.say(&mut lane, "batch 0 1:6 1:7 2 1.10\nd user:1\na\n");
    let side = stage.side();
    let put = |key: &str| {
        let request = axum::http::Request::builder().method("PUT").uri(format!("/cache/{key}"));
        let request = request.body(axum::body::Body::from("v")).expect("a request");
        tower::ServiceExt::oneshot(side.clone(), request)
    };
    for (key, status) in [("user:1", 409), ("user:2", 200)] {
        let answer = put(key).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{key}");
    }
}
