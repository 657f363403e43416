//! Commands on a node with a source: leases, outdated values, refused fills. What a node without one answers is held to
//! memcached by the differential test.

use std::time::Duration;

use expect_test::{Expect, expect};
use protocol::{
    control::{Agreement, Batch, Continuity, EpochNews, Finding, Item, Push},
    server::{Limits, Parser, Step, Versions},
};
use schemas::{
    cursor::{Partition, Place, Term},
    key::Key,
    moment::Moment,
    record::UnixMicros,
    version::Version,
};

use super::*;
use crate::{
    node::{Allowed, Judged, Settings},
    rules::{Lossy, OnStale, Rules, Settings as RulesSettings},
    store::Eviction,
};

const SECOND: Duration = Duration::from_secs(1);

/// A node, its lane, and their clock.
struct Stage {
    node: Node,
    now: Now,
    sequence: u64,
    position: Version,
}

fn rules_settings() -> RulesSettings {
    RulesSettings {
        partitions: 1,
        fill_age_max: SECOND,
        lease: 10 * SECOND,
        staleness_max: 3600 * SECOND,
        clock_skew_max: SECOND,
        on_stale: OnStale::Ttl,
        degraded_ttl: 10 * SECOND,
        marker_ttl_max: SECOND,
        tombstones_max: 100,
        leases_max: 100,
        markers_max: 100,
        lossy: Lossy::Cut,
        unsourced: vec![(*b"session:").into()],
    }
}

fn version(number: u64) -> Version {
    Version::new(1, number).expect("a small number")
}

impl Stage {
    /// A fresh node at version 10.
    fn new() -> Stage {
        let settings = Settings {
            memory_bytes_max: 1 << 20,
            item_bytes_max: 1 << 16,
            eviction: Eviction::S3Fifo,
            workers: 1,
            placeholders: Placeholders::Hidden,
            prefix_delimiter: b':',
            allowed: Allowed::NOTHING,
        };
        let now = Now { moment: Moment::START, unix: 1_000_000 };
        let mut rules = Rules::new(now.moment, rules_settings());
        rules.no_marks_lost(now.moment);
        rules.begin(Partition(0), Place { term: Term(1), sequence: 0 });
        rules.clocks(Finding { agreement: Agreement::Close, steps: 0 });
        let (last, resumed) = (Version::ZERO, Version::ZERO);
        rules.epoch(&EpochNews { epoch: 1, last, continuity: Continuity::Lossless, resumed });
        let node = Node::new(settings, Some(rules), 100);
        let mut stage = Stage { node, now, sequence: 0, position: version(0) };
        stage.reach(10);
        stage.wait(60);
        stage
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now.unix += 1;
            self.now.moment = self.now.moment.later(SECOND);
            self.push();
        }
    }

    fn push(&mut self) {
        let (region, epoch) = (self.position, self.position.epoch());
        let push = Push { region, primary: region, highest: region, echo: Version::ZERO, epoch };
        self.node.rules().expect("a source").push(self.now.moment, &push);
    }

    /// The primary shows this, and the region what it did before.
    fn push_primary(&mut self, number: u64) {
        let (region, primary) = (self.position, version(number));
        let epoch = region.epoch();
        let push = Push { region, primary, highest: primary, echo: Version::ZERO, epoch };
        self.node.rules().expect("a source").push(self.now.moment, &push);
    }

    fn apply(&mut self, items: Vec<Item>) {
        let place = |sequence| Place { term: Term(1), sequence };
        let (from, to) = (place(self.sequence), place(self.sequence + 1));
        self.sequence += 1;
        let batch = Batch { partition: Partition(0), from, to, items };
        let mut judged = Judged { node: &self.node, now: self.now };
        let wall = UnixMicros(self.now.unix * 1_000_000);
        let mut rules = self.node.rules().expect("a source");
        rules.apply(self.now.moment, wall, &batch, &mut judged).expect("no hole");
    }

    /// The source changed a key.
    fn change(&mut self, key: &str, number: u64) {
        let key = Key::new(key.as_bytes().to_vec()).expect("a key");
        self.apply(vec![Item::Delete { key, version: version(number) }]);
    }

    /// Everything up to this is visible everywhere, and was applied here.
    fn reach(&mut self, number: u64) {
        self.position = version(number);
        let at = UnixMicros(self.now.unix * 1_000_000);
        self.apply(vec![Item::Progress { version: self.position, at }]);
        self.push();
    }

    fn ask(&mut self, request: &str) -> String {
        let mut turn = Turn::new(&self.node, 0, self.now, 0);
        let mut out = Vec::new();
        let mut commands = Vec::new();
        read(&[request.as_bytes()], |command| {
            commands.push(format!("{command:?}"));
            assert_eq!(turn.run(command, 0, &mut out), After::Next);
        });
        for at in 0..request.len() {
            let (first, second) = request.as_bytes().split_at(at);
            let mut cut = Vec::new();
            read(&[first, second], |command| cut.push(format!("{command:?}")));
            assert_eq!(cut, commands, "cut at {at}: {request}");
        }
        String::from_utf8(out).expect("text")
    }

    fn check(&mut self, request: &str, expect: Expect) {
        expect.assert_eq(&self.ask(request).replace("\r\n", "|"));
    }
}

/// Takes the commands off reads that hold nothing else.
fn read(reads: &[&[u8]], mut take: impl FnMut(&Command<'_>)) {
    let limits = Limits { value_bytes_max: 1 << 16, versions: Versions::Accept };
    let (mut parser, mut buf) = (Parser::new(limits), Vec::new());
    for bytes in reads {
        buf.extend_from_slice(bytes);
        while let Step::Command(command, used) = parser.next(&buf) {
            take(&command);
            buf.drain(..used);
        }
    }
    assert!(buf.is_empty(), "no whole command: {}", buf.escape_ascii());
}

#[test]
fn a_change_takes_a_value_away() {
    let mut stage = Stage::new();
    stage.check("set a 0 0 1\r\n1\r\nget a\r\n", expect!["STORED|VALUE a 0 1|1|END|"]);
    stage.change("a", 11);
    stage.check(
        "get a\r\nmg a v\r\ntouch a 5\r\nincr a 1\r\nappend a 0 0 1\r\n2\r\n",
        expect!["END|EN|NOT_FOUND|NOT_FOUND|NOT_STORED|"],
    );
}

#[test]
fn what_was_read_before_a_change_is_not_stored_after_it() {
    let mut stage = Stage::new();
    stage.change("a", 11);
    stage.check("set a 0 0 1\r\n1\r\nms a 1\r\n1\r\nget a\r\n", expect!["NOT_STORED|NS|END|"]);
    stage.reach(11);
    // Somebody may have read it just before.
    stage.check("add a 0 0 1\r\n1\r\n", expect!["NOT_STORED|"]);
    stage.wait(2);
    stage.check("set a 0 0 1\r\n2\r\nget a\r\n", expect!["STORED|VALUE a 0 1|2|END|"]);
}

#[test]
fn a_lease_fills() {
    let mut stage = Stage::new();
    stage.check("mg a v c N30\r\n", expect!["VA 0 c101 W||"]);
    stage.check("mg a v c N30\r\nget a\r\nmg a v\r\n", expect!["VA 0 c101 Z||END|EN|"]);
    stage.check("ms a 1 C101\r\n1\r\nget a\r\n", expect!["HD|VALUE a 0 1|1|END|"]);
    // It fills once.
    stage.check("mg a v N30\r\nms a 1 C101\r\n2\r\n", expect!["VA 1|1|EX|"]);
}

#[test]
fn a_change_ends_a_lease() {
    let mut stage = Stage::new();
    stage.check("mg a c N30\r\n", expect!["HD c101 W|"]);
    stage.change("a", 11);
    stage.check("ms a 1 C101\r\n1\r\nget a\r\n", expect!["NS|END|"]);
    // As long as the region has not got the change, nobody gets a lease.
    stage.check("mg b c N30\r\nmg a c N30\r\n", expect!["HD c103 W|HD c101 Z|"]);
    stage.reach(11);
    stage.check("mg a c N30\r\n", expect!["HD c105 W|"]);
    stage.check(
        "ms a 1 C101\r\n1\r\nms a 1 C105\r\n2\r\nget a\r\n",
        expect!["EX|HD|VALUE a 0 1|2|END|"],
    );
}

#[test]
fn lease_words_obey_the_rules() {
    let mut stage = Stage::new();
    stage.check(
        "lease-get a\r\nlease-get a\r\nget a\r\n",
        expect!["LVALUE a 101 0 0||END|LVALUE a 1 0 0||END|END|"],
    );
    stage.change("a", 11);
    stage.check(
        "lease-set a 101 0 0 1\r\n1\r\nlease-get a\r\n",
        expect!["NOT_STORED|LVALUE a 1 0 0||END|"],
    );
    stage.reach(11);
    stage.wait(2);
    stage.check("lease-get a\r\n", expect!["LVALUE a 105 0 0||END|"]);
    stage.check(
        "lease-set a 105 0 0 1\r\n2\r\nlease-get a\r\n",
        expect!["STORED|VALUE a 0 1|2|END|"],
    );
}

#[test]
fn a_delete_by_a_client_ends_a_lease() {
    let mut stage = Stage::new();
    stage.check(
        "mg a c N30\r\ndelete a\r\nms a 1 C101\r\n1\r\n",
        expect!["HD c101 W|NOT_FOUND|NF|"],
    );
    stage.check("mg a c N30\r\nmd a\r\nmg a c N30\r\n", expect!["HD c103 W|HD|HD c104 W|"]);
}

#[test]
fn a_lease_ends_with_its_time() {
    let mut stage = Stage::new();
    stage.check("mg a c N30\r\n", expect!["HD c101 W|"]);
    stage.wait(9);
    stage.check("mg a c N30\r\n", expect!["HD c101 Z|"]);
    stage.wait(2);
    stage.check("mg a c N30\r\nms a 1 C101\r\n1\r\n", expect!["HD c103 W|EX|"]);
}

#[test]
fn an_outdated_value_is_shown_to_who_knows_leases() {
    let mut stage = Stage::new();
    stage.check("set a 0 0 3\r\nold\r\n", expect!["STORED|"]);
    stage.change("a", 11);
    stage.reach(11);
    stage.check("mg a v\r\nget a\r\n", expect!["EN|END|"]);
    stage.check("mg a v N30\r\nmg a v N30\r\n", expect!["VA 3 X W|old|VA 3 Z X|old|"]);
    let cas = stage.ask("mg a c N30\r\n");
    let cas = cas.split([' ', 'c']).nth(2).expect("a CAS").to_owned();
    stage.check(&format!("ms a 3 C{cas}\r\nnew\r\nget a\r\n"), expect!["HD|VALUE a 0 3|new|END|"]);
}

#[test]
fn versions_are_told_and_kept() {
    let mut stage = Stage::new();
    stage.change("a", 11);
    let (old, new) = (version(10).bits(), version(11).bits());
    stage.check(&format!("ms a 1 V{old}\r\n1\r\nms a 1 V{new}\r\n2\r\n"), expect!["NS|HD|"]);
    assert_eq!(stage.ask("mg a V v\r\n"), format!("VA 1 V{new}\r\n2\r\n"));
    // Whoever must see a later change than the value has, and than this node has applied, gets nothing.
    let later = version(12).bits();
    stage.check(&format!("mg a v V{later}\r\n"), expect!["EN|"]);
    stage.reach(12);
    assert_eq!(stage.ask(&format!("mg a v V{later}\r\n")), format!("VA 1 V{new}\r\n2\r\n"));
}

#[test]
fn who_can_read_the_primary_fills_what_the_region_lacks() {
    let mut stage = Stage::new();
    stage.change("a", 11);
    // The region is at 10: nobody can fill from there.
    stage.check("mg a v N30\r\nmg a v\r\n", expect!["EN|EN|"]);
    // The primary shows nothing newer either, as far as this node knows.
    stage.check("mg a v N30 G\r\n", expect!["EN G|"]);
    stage.push_primary(11);
    stage.check("mg a v G\r\n", expect!["EN G|"]);
    stage.check("mg a v N30\r\n", expect!["EN|"]);
    stage.check("mg a c v N30 G\r\n", expect!["VA 0 c104 W G||"]);
    // Everybody else waits, wherever he can read.
    stage.check("mg a v N30 G\r\nmg a v N30\r\n", expect!["VA 0 Z||VA 0 Z||"]);
    stage.check("ms a 3 C104\r\nnew\r\nmg a v N30\r\n", expect!["HD|VA 3|new|"]);
}

#[test]
fn one_reader_at_a_time_renews_what_is_not_served() {
    let mut stage = Stage::new();
    stage.check("set a 0 0 3\r\nold\r\n", expect!["STORED|"]);
    stage.node.rules().expect("a source").quarantine();
    stage.check("mg a v\r\n", expect!["EN|"]);
    stage.check("mg a c v N30\r\nmg a v N30\r\n", expect!["VA 0 c102 W||VA 0 Z||"]);
    stage.check("ms a 3 C102\r\nnew\r\n", expect!["HD|"]);
}

/// Routers read that of a node that was away.
#[test]
fn stats_say_whether_it_has_caught_up() {
    let mut stage = Stage::new();
    stage.reach(10);
    let of_versions = |stage: &mut Stage| {
        let said = stage.ask("stats\r\n");
        let lines =
            said.lines().filter(|line| line.contains("quarantined") || line.contains("stream"));
        lines.collect::<Vec<_>>().join("|")
    };
    assert_eq!(of_versions(&mut stage), "STAT quarantined 0|STAT stream_age_ms 1000");
    stage.now.moment = stage.now.moment.later(2 * SECOND);
    assert_eq!(of_versions(&mut stage), "STAT quarantined 0|STAT stream_age_ms 3000");
    stage.now.moment = stage.now.moment.later(3600 * SECOND);
    assert_eq!(of_versions(&mut stage), "STAT quarantined 0|STAT stream_age_ms 3603000");
    stage.node.rules().expect("a source").quarantine();
    stage.node.rules().expect("a source").clocks(Finding { agreement: Agreement::Apart, steps: 0 });
    assert_eq!(of_versions(&mut stage), "STAT quarantined 1");
}

/// A writer marks, writes at 11, and says so; meanwhile, and until the region shows 11, nobody is served what was before.
#[test]
fn a_writer_marks_what_he_writes() {
    let mut stage = Stage::new();
    stage.check("set a 0 0 3\r\nold\r\nmd a m7\r\n", expect!["STORED|HD|"]);
    stage.check("get a\r\nmg a v\r\nmg a v G\r\n", expect!["END|EN|EN G|"]);
    let written = version(11).bits();
    stage.check(&format!("md a m7 V{written}\r\nmg a v G\r\n"), expect!["HD|EN G|"]);
    // Who reads the primary may fill; the region's readers may not, and what the region shows is refused.
    stage.check("mg a v N30\r\nset a 0 0 3\r\nold\r\n", expect!["EN|NOT_STORED|"]);
    stage.push_primary(11);
    stage.check("mg a c N30 G\r\nms a 3 C105\r\nnew\r\n", expect!["HD c105 W G|HD|"]);
    stage.check("mg a v\r\n", expect!["EN|"]);
    stage.reach(11);
    stage.check("mg a v\r\n", expect!["VA 3|new|"]);
}

#[test]
fn marks_stand_by_themselves() {
    let mut stage = Stage::new();
    stage.check("set a 0 0 3\r\nold\r\nmd a m7\r\nmd a m8\r\n", expect!["STORED|HD|HD|"]);
    // What the region has already lifts its own mark, and no other.
    let (shown, later) = (version(10).bits(), version(12).bits());
    stage.check(&format!("md a m7 V{shown}\r\nmg a v\r\n"), expect!["HD|EN|"]);
    stage.check(&format!("md a m8 V{later} q\r\nmg a v\r\n"), expect!["EN|"]);
    stage.reach(12);
    // It was a delete.
    stage.check("mg a v\r\n", expect!["EN|"]);
}

#[test]
fn a_mark_ends_with_its_time() {
    let mut stage = Stage::new();
    stage.check("set a 0 0 3\r\nold\r\nmd a m7\r\nmg a v\r\n", expect!["STORED|HD|EN|"]);
    stage.wait(2);
    stage.check("mg a v\r\n", expect!["VA 3|old|"]);
    // Its version comes too late for reads in between, and counts all the same.
    let written = version(11).bits();
    stage.check(&format!("md a m7 V{written}\r\nmg a v\r\n"), expect!["NF|EN|"]);
}

#[test]
fn marks_are_words_of_nodes_with_a_source() {
    let mut stage = Stage::new();
    stage.check(
        "md a mx\r\nmd YSBi b m7\r\n",
        expect!["CLIENT_ERROR bad token in command line format|NS|"],
    );
    for at in 0..150 {
        let answer = stage.ask(&format!("md key{at} m1\r\n"));
        assert_eq!(answer, if at < 100 { "HD\r\n" } else { "NS\r\n" }, "mark {at}");
    }
}

#[test]
fn counters_without_a_source_obey_nothing() {
    let mut stage = Stage::new();
    stage.check("set session:1 0 0 1\r\n1\r\n", expect!["STORED|"]);
    stage.change("session:1", 11);
    stage.check("incr session:1 1\r\nget session:1\r\n", expect!["2|VALUE session:1 0 1|2|END|"]);
}

#[test]
fn a_long_answer_comes_in_parts() {
    let stage = Stage::new();
    let mut turn = Turn::new(&stage.node, 0, stage.now, 0);
    let value = "v".repeat(60_000);
    let set = format!("set a 0 0 60000\r\n{value}\r\n");
    let get = format!("get{}\r\n", " a".repeat(100));
    let limits = Limits { value_bytes_max: 1 << 16, versions: Versions::Refuse };
    let mut parser = Parser::new(limits);
    let mut out = Vec::new();
    for request in [&set, &get] {
        let Step::Command(command, _) = parser.next(request.as_bytes()) else {
            panic!("no command")
        };
        let (mut done, mut bytes) = (0, 0);
        while let After::Keys(keys) = turn.run(&command, done, &mut out) {
            assert!(keys > done && out.len() < REPLY_BYTES_MAX + 70_000);
            bytes += out.len();
            out.clear();
            done = keys;
        }
        bytes += out.len();
        out.clear();
        assert!(
            request.starts_with("set") || bytes == 100 * ("VALUE a 0 60000\r\n".len() + 60_002) + 5
        );
    }
}
