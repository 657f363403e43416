//! The lane against a model of one node that loses connections, and answers late.

use proptest::{collection::vec, prelude::*};
use schemas::cursor::Term;

use super::*;

const LIMITS: Limits = Limits {
    fill_age_max: Duration::from_millis(100),
    keys_max: 6,
    unanswered_max: 4,
    cover: Cover::Unknown,
};
/// Databases are waited for, and writers set markers.
const COVERED: Limits = Limits {
    cover: Cover::Asked { wait_max: Duration::from_millis(500), markers: Markers::Deleted },
    ..LIMITS
};

#[derive(Clone, Debug)]
enum Op {
    /// A record with so many keys; `None` is a flush.
    Take(Option<usize>),
    /// Something was lost; and it is known how far that reached.
    Lose,
    Reach,
    Send(usize),
    Answer(usize),
    Reconnect,
    /// Somebody else has the partition; then it is ours again.
    Release,
    /// The databases show so many of the records that were taken.
    Cover(u64),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => proptest::option::weighted(0.9, 0..4_usize).prop_map(Op::Take),
        1 => Just(Op::Lose),
        1 => Just(Op::Reach),
        4 => (1..5_usize).prop_map(Op::Send),
        4 => (1..5_usize).prop_map(Op::Answer),
        1 => Just(Op::Reconnect),
        1 => Just(Op::Release),
        2 => (0..10_u64).prop_map(Op::Cover),
        3 => (1..60_u64).prop_map(Op::Advance),
    ]
}

/// What the node saw of one request of one record, if it answered.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// When each answered delete had been sent.
    answered: Vec<Instant>,
}

struct World {
    lane: Lane,
    limits: Limits,
    position: u64,
    /// When a key of each record was last sent while the databases showed it.
    shown: BTreeMap<u64, Instant>,
    now: Instant,
    taken: u64,
    /// The last record that does not move the cursor any more.
    released: u64,
    /// By record and request.
    seen: BTreeMap<(u64, usize), Seen>,
    sizes: BTreeMap<u64, usize>,
    on_the_way: VecDeque<((u64, usize), Instant)>,
}

impl World {
    fn new(limits: Limits) -> World {
        let mut lane = Lane::new(limits);
        lane.connected();
        let (seen, sizes) = (BTreeMap::new(), BTreeMap::new());
        World {
            lane,
            limits,
            position: 0,
            shown: BTreeMap::new(),
            now: Instant::now(),
            taken: 0,
            released: 0,
            seen,
            sizes,
            on_the_way: VecDeque::new(),
        }
    }

    fn take(&mut self, keys: Option<usize>) {
        self.taken += 1;
        let work = match keys {
            None => Work::Flush,
            Some(keys) => {
                let key = |at| Key::new(format!("{}:{at}", self.taken)).unwrap();
                Work::Delete((0..keys).map(key).collect())
            }
        };
        self.give(taken(self.taken, work));
    }

    fn lose(&mut self) {
        self.taken += 1;
        self.give(lost());
    }

    fn give(&mut self, taken: Taken) {
        self.sizes.insert(self.taken, taken.work.size());
        self.lane.take(Partition(0), place(self.taken), taken);
    }

    fn send(&mut self, max: usize) {
        for request in self.lane.send(self.now, max) {
            let id = match request {
                Request::Delete(key) => {
                    let text = String::from_utf8(key.as_bytes().to_vec()).unwrap();
                    let (record, at) = text.split_once(':').unwrap();
                    if let Some(record) = record.strip_prefix("r_") {
                        let record: u64 = record.parse().unwrap();
                        assert!(record <= self.position, "the marker of {record} went too early");
                        // It is no delete of the key.
                        (record, usize::MAX)
                    } else {
                        (record.parse().unwrap(), at.parse().unwrap())
                    }
                }
                // Flushes have no name; the oldest that lacks an answer is the one.
                Request::Flush => (0, 0),
            };
            if id.0 <= self.position {
                self.shown.insert(id.0, self.now);
            }
            self.on_the_way.push_back((id, self.now));
        }
        assert!(self.on_the_way.len() <= LIMITS.unanswered_max);
    }

    fn answer(&mut self, count: usize) {
        for _ in 0..count {
            let Some((id, sent)) = self.on_the_way.pop_front() else { return };
            assert!(self.lane.answered().is_some(), "an answer to a request that it sent");
            self.seen.entry(id).or_default().answered.push(sent);
            self.check();
        }
    }

    /// A cursor is never past a record that lacks two answered deletes, `fill_age_max` apart.
    fn check(&self) {
        let passed = self.lane.cursors().get(&Partition(0)).map_or(0, |place| place.sequence);
        assert!(passed == 0 || passed > self.released, "{passed} was somebody else's");
        for (&record, &size) in self.sizes.range(..=passed) {
            for at in 0..size {
                let Some(seen) = self.seen.get(&(record, at)) else {
                    assert!(
                        self.flushes() > 0,
                        "record {record} passed, and its key {at} never deleted"
                    );
                    continue;
                };
                let first = seen.answered.iter().min().unwrap();
                let last = seen.answered.iter().max().unwrap();
                assert!(
                    *last >= *first + self.limits.fill_age_max,
                    "record {record} passed after {:?}",
                    *last - *first
                );
                let waited = self.limits.cover == Cover::Unknown || self.lane.given_up() > 0;
                assert!(waited || self.shown.contains_key(&record), "{record} was not shown");
            }
        }
    }

    fn flushes(&self) -> usize {
        self.seen.get(&(0, 0)).map_or(0, |seen| seen.answered.len())
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Take(keys) => {
                if self.lane.wants_records() {
                    self.take(*keys);
                }
            }
            Op::Lose => {
                if self.lane.wants_records() {
                    self.lose();
                }
            }
            Op::Reach => self.lane.reached(Partition(0), Version::from_bits(self.taken)),
            Op::Send(max) => self.send(*max),
            Op::Answer(count) => self.answer(*count),
            Op::Reconnect => {
                self.lane.disconnected();
                assert!(
                    self.lane.send(self.now, 10).is_empty(),
                    "nothing is sent without a connection"
                );
                self.on_the_way.clear();
                self.lane.connected();
            }
            Op::Release => {
                self.lane.release(Partition(0));
                self.released = self.taken;
            }
            Op::Cover(records) => {
                self.position = *records;
                self.lane.covered(Version::from_bits(*records));
            }
            Op::Advance(ms) => self.now += Duration::from_millis(*ms),
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Safety after every step; and with a healthy node everything drains, first deletes without delay.
    #[test]
    fn agrees_with_model(ops in vec(op(), 0..60), covered in any::<bool>()) {
        let mut world = World::new(if covered { COVERED } else { LIMITS });
        for op in &ops {
            world.apply(op);
        }
        let mut rounds = 0;
        while world.lane.backlog() > 0 {
            rounds += 1;
            prop_assert!(rounds < 1000, "it never drains: {:?}", world.lane);
            world.send(10);
            world.answer(10);
            if world.lane.send(world.now, 0).is_empty() && world.on_the_way.is_empty() {
                // Only later deletes wait for a time.
                world.now = world.lane.due(world.now).unwrap_or(world.now);
            }
        }
        let passed = world.lane.cursors().get(&Partition(0)).map_or(0, |place| place.sequence);
        prop_assert_eq!(passed, if world.taken > world.released { world.taken } else { 0 });
        prop_assert!(world.lane.wants_records());
    }
}

fn keys(count: usize) -> Work {
    Work::Delete((0..count).map(|at| Key::new(format!("k{at}")).unwrap()).collect())
}

/// Of one version for each record.
fn taken(number: u64, work: Work) -> Taken {
    Taken { work, since: UnixMicros(number), version: Some(Version::from_bits(number)) }
}

/// Nobody knows how far it reached.
fn lost() -> Taken {
    Taken { work: Work::Flush, since: UnixMicros(0), version: None }
}

fn place(sequence: u64) -> Place {
    Place { term: Term(1), sequence }
}

#[test]
fn first_deletes_go_at_once_and_second_ones_later() {
    let now = Instant::now();
    let mut lane = Lane::new(LIMITS);
    lane.connected();
    lane.take(Partition(0), place(1), taken(1, keys(2)));
    assert_eq!(lane.send(now, 10).len(), 2);
    assert_eq!(lane.due(now), None, "nothing is due before the first deletes are answered");
    assert_eq!(lane.answered().map(|answered| answered.pass), Some(Pass::First));
    lane.answered();
    assert_eq!(lane.due(now), Some(now + LIMITS.fill_age_max));
    assert!(lane.send(now, 10).is_empty() && lane.cursors().is_empty());
    let later = now + LIMITS.fill_age_max;
    // A record that comes meanwhile is not held up.
    lane.take(Partition(0), place(2), taken(2, keys(1)));
    assert_eq!(lane.send(later, 10).len(), 3);
    assert_eq!(lane.answered().map(|answered| answered.pass), Some(Pass::Second));
    lane.answered();
    assert_eq!(lane.cursors().get(&Partition(0)), Some(&place(1)));
}

#[test]
fn a_full_window_takes_no_more() {
    let mut lane = Lane::new(LIMITS);
    for sequence in 1..=3 {
        assert!(lane.wants_records());
        lane.take(Partition(0), place(sequence), taken(0, keys(2)));
    }
    assert!(!lane.wants_records());
}

#[test]
fn an_answer_to_nothing_is_noticed() {
    assert_eq!(Lane::new(LIMITS).answered(), None);
}

/// What is sent, and answered at once.
fn sent(lane: &mut Lane, now: Instant) -> Vec<String> {
    let requests = lane.send(now, 10);
    for _ in &requests {
        assert!(lane.answered().is_some());
    }
    let text = |request| match request {
        Request::Delete(key) => Key::to_string(&key),
        Request::Flush => "flush".to_owned(),
    };
    requests.into_iter().map(text).collect()
}

#[test]
fn a_marker_goes_when_every_database_shows_all_changes_of_its_key() {
    let now = Instant::now();
    let mut lane = Lane::new(COVERED);
    lane.connected();
    for number in 1..=2 {
        lane.take(Partition(0), place(number), taken(number, keys(1)));
        assert_eq!(sent(&mut lane, now), ["k0"]);
    }
    assert!(lane.waits_for_databases());
    lane.covered(Version::from_bits(1));
    // Somebody has written the key again, and needs the marker.
    assert_eq!(sent(&mut lane, now), ["k0", "k0"]);
    assert_eq!(lane.due(now), Some(now + COVERED.fill_age_max));
    let later = now + Duration::from_millis(400);
    assert_eq!(sent(&mut lane, later), ["k0"], "the last delete of the first change");
    lane.covered(Version::from_bits(2));
    assert_eq!(sent(&mut lane, later), ["k0", "r_k0"]);
    assert!(!lane.waits_for_databases());
    let end = later + COVERED.fill_age_max;
    assert!(sent(&mut lane, end - Duration::from_millis(1)).is_empty());
    assert_eq!(sent(&mut lane, end), ["k0"], "a reader who was slow behind the slow replica");
    assert_eq!((lane.cursors().get(&Partition(0)), lane.given_up()), (Some(&place(2)), 0));
}

#[test]
fn a_database_that_is_too_far_behind_is_not_waited_for_and_markers_stay() {
    let now = Instant::now();
    let mut lane = Lane::new(COVERED);
    lane.connected();
    lane.take(Partition(0), place(1), taken(1, keys(1)));
    assert_eq!(sent(&mut lane, now), ["k0"]);
    let late = now + Duration::from_millis(500);
    assert_eq!(lane.due(now), Some(late));
    assert_eq!(sent(&mut lane, late), ["k0", "k0"]);
    // Nor is it where others would have to wait for their first delete.
    lane.take(Partition(0), place(2), taken(2, keys(3)));
    assert_eq!(sent(&mut lane, late), ["k0", "k1", "k2"]);
    assert_eq!(sent(&mut lane, late), ["k0", "k1", "k2", "k0"]);
    assert_eq!(lane.given_up(), 2);
    lane.covered(Version::from_bits(2));
    assert!(!sent(&mut lane, late + COVERED.fill_age_max).iter().any(|it| it.starts_with("r_")));
}

#[test]
fn a_node_is_emptied_again_when_every_database_shows_what_was_lost() {
    let now = Instant::now();
    let mut lane = Lane::new(COVERED);
    lane.connected();
    lane.covered(Version::from_bits(8));
    lane.take(Partition(0), place(1), lost());
    assert_eq!(sent(&mut lane, now), ["flush"]);
    assert!(sent(&mut lane, now).is_empty(), "nobody knows what the databases must show");
    lane.reached(Partition(1), Version::from_bits(7));
    assert!(sent(&mut lane, now).is_empty(), "that was another partition's");
    lane.reached(Partition(0), Version::from_bits(9));
    assert!(sent(&mut lane, now).is_empty(), "the last one may show what was before");
    lane.covered(Version::from_bits(9));
    assert_eq!(sent(&mut lane, now), ["flush"]);
    assert_eq!(sent(&mut lane, now + COVERED.fill_age_max), ["flush"]);
    assert_eq!((lane.cursors().get(&Partition(0)), lane.given_up()), (Some(&place(1)), 0));
}
