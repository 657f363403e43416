//! A node before and after: it has the same entries, its rules answer the same, and what is no good is refused.

use std::{collections::BTreeMap, io::Read, time::Duration};

use expect_test::{Expect, expect};
use proptest::{collection::vec, prelude::*};
use schemas::{
    cursor::{Partition, Place, StreamId, Term},
    key::Key,
    moment::Moment,
    record::{Scope, UnixMicros},
    version::Version,
};

use super::{format::MAGIC, *};
use crate::{
    node::{Allowed, Judged, Node, Placeholders, Settings},
    now::{Expiry, Now},
    rules::{
        self, Batch, Condition, EpochNews, Fill, Item, Lossy, Mark, OnStale, Push, Rules, Snapshot,
        Subject,
    },
    store::{Entry, Eviction, Traits},
};

const NODE: &str = "n1";
const UNIX: u64 = 1_800_000_000;
const PARTITIONS: u16 = 2;

fn now(seconds: u64) -> Now {
    let moment = Moment::after_start(Duration::from_secs(100 + seconds));
    Now { moment, unix: UNIX + seconds }
}

fn times(seconds: u64) -> Times {
    let micros = (UNIX + seconds) * 1_000_000;
    Times { wall: micros, uptime: micros, boot: "a".to_owned() }
}

fn rules_settings() -> rules::Settings {
    rules::Settings {
        partitions: PARTITIONS,
        fill_age_max: Duration::from_secs(1),
        lease: Duration::from_secs(10),
        staleness_max: Duration::from_secs(3600),
        clock_skew_max: Duration::from_secs(1),
        on_stale: OnStale::Miss,
        degraded_ttl: Duration::from_secs(10),
        marker_ttl_max: Duration::from_secs(30),
        tombstones_max: 20,
        leases_max: 100,
        markers_max: 100,
        lossy: Lossy::Cut,
        unsourced: vec![b"session:".as_slice().into()],
    }
}

fn node(memory: usize, rules: Option<Rules>) -> Node {
    let settings = Settings {
        memory_bytes_max: memory,
        item_bytes_max: 1 << 20,
        eviction: Eviction::S3Fifo,
        workers: 2,
        placeholders: Placeholders::Hidden,
        prefix_delimiter: b':',
        allowed: Allowed::NOTHING,
    };
    Node::new(settings, rules, 77)
}

fn key(number: u8) -> Key {
    let prefix = if number.is_multiple_of(5) { "session" } else { "key" };
    Key::new(format!("{prefix}:{number}").into_bytes()).expect("a key")
}

fn version(number: u64) -> Version {
    Version::new(1, number).expect("small")
}

fn put(node: &Node, name: &[u8], value: &[u8], entry: &Entry, now: Now) {
    node.shard(name).put(name, &[value], entry, now).expect("there is room");
}

fn saved(node: &Node, copied: Copied, at: u64) -> Vec<u8> {
    let source = node.rules_shared().map(|rules| {
        let source = Source { stream: StreamId(0xaa), ring: 3 };
        (source, rules.snapshot().kept(now(at).moment))
    });
    let about = About { copied, node: NODE.to_owned(), taken: times(at), source };
    let mut bytes = Vec::new();
    let written = write(node, &about, now(at), &mut bytes, |_| {}).expect("memory takes it all");
    let whole = check(bytes.as_slice(), bytes.len() as u64).expect("it is whole");
    assert_eq!(written.entries, whole);
    bytes
}

fn wanted<'a>(now: &'a Times, versions: Versions<'a>) -> Wanted<'a> {
    let (age_max, copied) = (Duration::from_secs(1000), Copied::Exactly);
    Wanted { node: NODE, age_max, now, versions, copied }
}

/// A node that starts with it after so many seconds.
fn loaded(bytes: &[u8], at: u64, memory: usize) -> Result<(Node, Loaded), Refused> {
    let (settings, times) = (rules_settings(), times(at));
    let has_source = Loading::begin(bytes, bytes.len() as u64, wanted(&times, Versions::None))
        .is_err_and(|err| matches!(err, Refused::HasVersions));
    let unsourced = settings.unsourced.clone();
    let versions = if has_source { Versions::Unless(&unsourced) } else { Versions::None };
    let loading = Loading::begin(bytes, bytes.len() as u64, wanted(&times, versions))?;
    let rules = loading.kept().map(|kept| {
        let snapshot = Snapshot::of(settings.clone(), kept);
        let mut rules = Rules::restore(now(at).moment, settings.clone(), snapshot);
        if loading.copied() == Copied::Exactly {
            rules.restore_marks(now(at).moment, &kept.marks, loading.age());
        }
        rules
    });
    let node = node(memory, rules);
    let loaded = loading.fill(&node, now(at), versions, |_| {})?;
    Ok((node, loaded))
}

/// What is there, without those that are over.
fn contents(node: &Node, at: u64) -> BTreeMap<Vec<u8>, (Vec<u8>, Entry)> {
    let mut all = BTreeMap::new();
    for shard in 0..node.shard_count() {
        let mut shard = node.shard_at(shard).expect("a shard");
        let mut cursor = Some(shard.walk(now(at)));
        while let Some(from) = cursor {
            cursor = shard.page(from, 10, now(at), |key, entry, value| {
                let entry = Entry { mark: Mark { since: None, ..entry.mark }, ..*entry };
                all.insert(key.to_vec(), (value.to_vec(), entry));
            });
        }
    }
    all
}

fn entry(number: u64, at: u64) -> Entry {
    let condition = if number.is_multiple_of(7) { Condition::Stale } else { Condition::Good };
    let mark = Mark { filled: version(number), condition, since: Some(now(at).moment) };
    let expiry = if number.is_multiple_of(3) { Expiry::after(20, now(at)) } else { Expiry::NEVER };
    let mut entry =
        Entry::new(u32::try_from(number).expect("small"), expiry, number * 3, mark, now(at));
    if number.is_multiple_of(2) {
        entry.traits = entry.traits.with(Traits::FETCHED);
    }
    if condition == Condition::Stale {
        entry.traits = entry.traits.with(Traits::STALE);
    }
    entry
}

#[test]
fn entries_are_as_they_were() {
    let before = node(64 << 20, None);
    for number in 0..3000_u64 {
        let bytes = if number.is_multiple_of(500) {
            300_000
        } else {
            usize::try_from(number % 900).expect("small")
        };
        let name = format!("key:{number}");
        put(
            &before,
            name.as_bytes(),
            &vec![number.to_le_bytes()[0]; bytes],
            &entry(number, 0),
            now(0),
        );
    }
    let placeholder = Entry { traits: Traits::PLACEHOLDER, ..entry(1, 0) };
    put(&before, b"fetched:by:somebody", b"", &placeholder, now(0));
    before.flush(UNIX + 500, now(0));
    let bytes = saved(&before, Copied::Exactly, 3);
    let (after, loaded_of) = loaded(&bytes, 10, 64 << 20).expect("it is good");
    assert_eq!((loaded_of.entries, loaded_of.left_out), (3000, 0));
    let mut expected = contents(&before, 10);
    expected.remove(b"fetched:by:somebody".as_slice());
    assert_eq!(contents(&after, 10), expected);
    assert!(after.next_cas() > before.last_cas());
    // What was over in the meantime is not there, and a flush that was told comes.
    let (late, loaded_of) = loaded(&bytes, 21, 64 << 20).expect("it is good");
    assert_eq!((loaded_of.entries, loaded_of.left_out), (2000, 1000));
    assert_eq!(contents(&late, 21).len(), 2000);
    assert_eq!(contents(&late, 499).len(), 2000);
    assert_eq!(contents(&late, 500).len(), 0);
    // In less memory there is less.
    let (small, _) = loaded(&bytes, 10, 2 << 20).expect("it is good");
    assert!((100..3000).contains(&contents(&small, 10).len()));
}

#[test]
fn a_clock_that_was_set_back_lengthens_no_life() {
    let before = node(1 << 20, None);
    put(&before, b"k", b"v", &entry(3, 0), now(0));
    let bytes = saved(&before, Copied::Exactly, 0);
    // Twelve seconds passed, and the wall clock was set back by a minute: eight seconds are left.
    let times = Times { wall: (UNIX - 48) * 1_000_000, ..times(12) };
    let loading =
        Loading::begin(bytes.as_slice(), bytes.len() as u64, wanted(&times, Versions::None));
    let after = node(1 << 20, None);
    let clock = |passed: u64| Now { unix: UNIX - 60 + passed, ..now(passed) };
    let loaded = loading.expect("it is good").fill(&after, clock(12), Versions::None, |_| {});
    assert_eq!(loaded.expect("it is good").entries, 1);
    assert!(after.shard(b"k").get(b"k", clock(19)).is_some());
    assert!(after.shard(b"k").get(b"k", clock(20)).is_none());
}

fn check_refused(bytes: &[u8], wanted: Wanted<'_>, expect: Expect) {
    let begun = Loading::begin(bytes, bytes.len() as u64, wanted);
    let fresh = node(1 << 20, None);
    let refused = begun.and_then(|it| it.fill(&fresh, now(0), wanted.versions, |_| {}));
    expect.assert_eq(&refused.map_or_else(|err| err.to_string(), |loaded| format!("{loaded:?}")));
}

#[test]
fn what_is_no_good_is_refused() {
    let rules = Rules::new(now(0).moment, rules_settings());
    let (plain, sourced) = (node(1 << 20, None), node(1 << 20, Some(rules)));
    put(&plain, b"k", b"v", &entry(1, 0), now(0));
    let good = saved(&plain, Copied::Exactly, 0);
    let (soon, late, before) = (times(1), times(1001), Times { wall: 5, ..Times::default() });
    let of = |now, versions| wanted(now, versions);
    let plainly = of(&soon, Versions::None);
    check_refused(&good, plainly, expect!["Loaded { entries: 1, left_out: 0 }"]);
    check_refused(b"", plainly, expect!["it is no snapshot of a node"]);
    check_refused(&[b'x'; 100], plainly, expect!["it is no snapshot of a node"]);
    check_refused(&good[..good.len() - 1], plainly, expect!["it ends too early"]);
    check_refused(&good[..40], plainly, expect!["it ends too early"]);
    check_refused(
        &[good.as_slice(), b"x"].concat(),
        plainly,
        expect!["it is damaged: something follows its end"],
    );
    let other = String::from_utf8_lossy(MAGIC).replace('2', "3").into_bytes();
    check_refused(
        &[&other, &good[MAGIC.len()..]].concat(),
        plainly,
        expect![[r#"its format is another one: it says "3""#]],
    );
    let mut damaged = good.clone();
    damaged[100] ^= 64;
    check_refused(&damaged, plainly, expect!["it is damaged: a block does not match its checksum"]);
    check_refused(
        &good,
        Wanted { node: "n2", ..plainly },
        expect![[r#"it is of the node "n1", and this is "n2" (snapshot.node)"#]],
    );
    check_refused(
        &good,
        of(&late, Versions::None),
        expect!["it is 1001 s old, and at most 1000 are allowed (snapshot.age_seconds_max)"],
    );
    check_refused(
        &good,
        of(&before, Versions::None),
        expect![
            "the machine has restarted and its clock shows an earlier time, so its age is not known"
        ],
    );
    check_refused(
        &good,
        of(&soon, Versions::Unless(&[])),
        expect!["it is of a node without versions, and this one has a control port"],
    );
    check_refused(
        &good,
        Wanted { copied: Copied::WhileServing, ..plainly },
        expect![
            "it was taken while the node served, or has served before, and nobody knows what changed since: there are no versions"
        ],
    );
    check_refused(
        &saved(&plain, Copied::WhileServing, 0),
        plainly,
        expect![
            "it was taken while the node served, or has served before, and nobody knows what changed since: there are no versions"
        ],
    );
    check_refused(
        &saved(&sourced, Copied::Exactly, 0),
        plainly,
        expect!["it is of a node with versions, and this one has no control port"],
    );
}

/// However it is damaged or cut, it is refused; and nothing that is announced takes memory.
#[test]
fn every_byte_counts() {
    let before = node(1 << 20, None);
    for number in 1..6_u64 {
        put(&before, format!("key:{number}").as_bytes(), b"value", &entry(number, 0), now(0));
    }
    let good = saved(&before, Copied::Exactly, 0);
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x10;
        assert!(check(damaged.as_slice(), good.len() as u64).is_err(), "byte {at}");
        assert!(check(&good[..at], at as u64).is_err(), "cut at {at}");
    }
    // A file that shrinks while it is read.
    assert!(check(good[..60].chain(&b""[..]), good.len() as u64).is_err());
}

/// What happens to a node.
#[derive(Clone, Debug)]
enum Op {
    Store(u8, u64),
    Delete(u8, u64),
    Floor(u64, Option<u8>),
    Push(u64),
    Epoch(u16),
    Mark(u8, u64),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let number = || 1..60_u64;
    prop_oneof![
        8 => (any::<u8>(), number()).prop_map(|(key, at)| Op::Store(key % 40, at)),
        8 => (any::<u8>(), number()).prop_map(|(key, at)| Op::Delete(key % 40, at)),
        1 => (0..20_u64, proptest::option::of(0..10_u8)).prop_map(|(at, of)| Op::Floor(at, of)),
        3 => number().prop_map(Op::Push),
        1 => (1..4_u16).prop_map(Op::Epoch),
        1 => (any::<u8>(), 0..3_u64).prop_map(|(key, nonce)| Op::Mark(key % 40, nonce)),
        2 => (0..3_u64).prop_map(Op::Pass),
    ]
}

/// A node, its lane and its time.
struct World {
    node: Node,
    at: u64,
    sequence: u64,
}

impl World {
    fn new(node: Node) -> World {
        let mut world = World { node, at: 0, sequence: 1 };
        {
            let mut rules = world.node.rules().expect("a source");
            rules.no_marks_lost(now(0).moment);
            for partition in (0..PARTITIONS).map(Partition) {
                rules.begin(partition, place(0));
            }
        }
        world.progress();
        world
    }

    fn apply(&mut self, items: &[Item]) {
        for partition in (0..PARTITIONS).map(Partition) {
            let (from, to) = (place(self.sequence - 1), place(self.sequence));
            let batch = Batch { partition, from, to, items: items.to_vec() };
            let mut entries = Judged { node: &self.node, now: now(self.at) };
            let wall = UnixMicros((UNIX + self.at) * 1_000_000);
            let mut rules = self.node.rules().expect("a source");
            rules.apply(now(self.at).moment, wall, &batch, &mut entries).expect("it joins");
        }
        self.sequence += 1;
    }

    fn progress(&mut self) {
        let at = UnixMicros((UNIX + self.at) * 1_000_000);
        self.apply(&[Item::Progress { version: Version::ZERO, at }]);
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Store(number, at) => {
                let (name, moment) = (key(*number), now(self.at).moment);
                let fill = Fill::Version(version(*at));
                let mut rules = self.node.rules().expect("a source");
                let accepted = rules.accept(moment, &Subject::new(name.as_bytes()), fill);
                drop(rules);
                if let Ok(accepted) = accepted {
                    let entry = Entry { mark: accepted.mark, ..entry(*at, self.at) };
                    put(&self.node, name.as_bytes(), b"value", &entry, now(self.at));
                }
            }
            Op::Delete(number, at) => {
                let (key, version) = (key(*number), version(*at));
                self.apply(&[Item::Delete { key, version }, Item::Applied { version }]);
            }
            Op::Floor(at, prefix) => {
                let prefix = prefix.map(|number| format!("key:{number}").into());
                let scope = prefix.map_or(Scope::All, |prefix| Scope::Prefixes(vec![prefix]));
                self.apply(&[Item::Floor { scope, version: version(*at) }]);
            }
            Op::Push(at) => {
                let (region, highest) = (version(*at), version(*at + 3));
                let echo = self.node.rules().expect("a source").age_floor();
                let push = Push { region, primary: highest, highest, echo, epoch: 1 };
                self.node.rules().expect("a source").push(now(self.at).moment, &push);
            }
            Op::Epoch(epoch) => self.node.rules().expect("a source").epoch(&EpochNews {
                epoch: *epoch,
                last: version(30),
                continuity: rules::Continuity::NewServer,
                resumed: Version::ZERO,
            }),
            Op::Mark(number, nonce) => {
                let (name, moment) = (key(*number), now(self.at).moment);
                let mut rules = self.node.rules().expect("a source");
                let marked =
                    rules.mark(moment, &Subject::new(name.as_bytes()), rules::Nonce(*nonce));
                marked.expect("there is room");
            }
            Op::Pass(seconds) => {
                self.at += seconds;
                self.progress();
            }
        }
    }

    /// What every reader and every filler is answered, of all keys.
    fn answers(&self) -> Vec<String> {
        let mut all = Vec::new();
        for number in 0..40 {
            let (name, moment) = (key(number), now(self.at).moment);
            let subject = Subject::new(name.as_bytes());
            let found =
                self.node.shard(name.as_bytes()).get(name.as_bytes(), now(self.at)).map(|it| *it);
            let rules = self.node.rules().expect("a source");
            let served = found.map(|entry| {
                [0, 10, 30, 50].map(|at| {
                    let stale = if at == 10 { rules::Stale::Allow } else { rules::Stale::Refuse };
                    let ask = rules::Ask { at_least: version(at), stale };
                    rules.serve(moment, &subject, &entry.mark, ask)
                })
            });
            let marked = rules.hints_primary(moment, &subject);
            let fills: Vec<String> = [5, 15, 25, 45]
                .map(|at| rules.clone().accept(moment, &subject, Fill::Version(version(at))))
                .map(|fill| {
                    format!("{:?}", fill.map(|it| it.mark.filled).map_err(|err| err.to_string()))
                })
                .into();
            all.push(format!("{name:?} {served:?} marked {marked} fills {fills:?}"));
        }
        all
    }
}

fn place(sequence: u64) -> Place {
    Place { term: Term(1), sequence }
}

proptest! {
    /// Once its lanes have said that nothing is missing, a node that comes back answers as if it had never been away. Before, nothing
    /// that comes from a source is served.
    #[test]
    fn a_node_that_comes_back_answers_as_before(ops in vec(op(), 0..60), down in 0..3_u64) {
        let rules = Rules::new(now(0).moment, rules_settings());
        let mut before = World::new(node(1 << 20, Some(rules)));
        for op in &ops {
            before.run(op);
        }
        let bytes = saved(&before.node, Copied::Exactly, before.at);
        before.at += down;
        let (after, _) = loaded(&bytes, before.at, 1 << 20).expect("it is good");
        prop_assert_eq!(contents(&after, before.at), contents(&before.node, before.at));
        let mut after = World { node: after, at: before.at, sequence: before.sequence };
        let quarantined = after.answers();
        for (number, answer) in (0..40_u8).zip(&quarantined) {
            let sourced = !number.is_multiple_of(5);
            prop_assert!(!(sourced && (answer.contains("Hit") || answer.contains("Stale,"))), "{}", answer);
        }
        let heads: Vec<_> = (0..PARTITIONS).map(|at| (Partition(at), place(after.sequence - 1))).collect();
        for world in [&mut before, &mut after] {
            let push = Push { region: version(5), primary: version(5), highest: version(8), echo: Version::ZERO, epoch: 1 };
            let mut rules = world.node.rules().expect("a source");
            rules.hello(now(world.at).moment, &heads);
            rules.push(now(world.at).moment, &push);
            drop(rules);
            world.progress();
        }
        let (after, before) = (after.answers(), before.answers());
        if down == 0 {
            prop_assert_eq!(&after, &before);
        }
        // Who was there all the time knows what has become too old to be stored; but readers get the same.
        let read = |answers: &[String]| -> Vec<String> {
            answers.iter().filter_map(|it| Some(it.split_once(" fills")?.0.to_owned())).collect()
        };
        prop_assert_eq!(read(&after), read(&before));
    }

    /// What was copied while the node served has nothing that has no version.
    #[test]
    fn what_was_copied_while_serving_has_versions(ops in vec(op(), 0..40)) {
        let rules = Rules::new(now(0).moment, rules_settings());
        let mut before = World::new(node(1 << 20, Some(rules)));
        for op in &ops {
            before.run(op);
        }
        let bytes = saved(&before.node, Copied::WhileServing, before.at);
        let (after, _) = loaded(&bytes, before.at, 1 << 20).expect("it is good");
        let mut expected = contents(&before.node, before.at);
        expected.retain(|key, _| !key.starts_with(b"session:"));
        prop_assert_eq!(contents(&after, before.at), expected);
        let rules = after.rules_shared().expect("a source");
        prop_assert!(rules.hints_primary(now(before.at + 29).moment, &Subject::new(b"key:1")));
    }
}
