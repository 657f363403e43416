//! The lane against a model of one node that loses connections, and answers late.

use proptest::{collection::vec, prelude::*};
use schemas::cursor::Term;

use super::*;

const LIMITS: Limits =
    Limits { fill_age_max: Duration::from_millis(100), keys_max: 6, unanswered_max: 4 };

#[derive(Clone, Debug)]
enum Op {
    /// A record with so many keys; `None` is a flush.
    Take(Option<usize>),
    Send(usize),
    Answer(usize),
    Reconnect,
    /// Somebody else has the partition; then it is ours again.
    Release,
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => proptest::option::weighted(0.9, 0..4_usize).prop_map(Op::Take),
        4 => (1..5_usize).prop_map(Op::Send),
        4 => (1..5_usize).prop_map(Op::Answer),
        1 => Just(Op::Reconnect),
        1 => Just(Op::Release),
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
    fn new() -> World {
        let mut lane = Lane::new(LIMITS);
        lane.connected();
        let (seen, sizes) = (BTreeMap::new(), BTreeMap::new());
        World {
            lane,
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
        self.sizes.insert(self.taken, work.requests());
        let place = Place { term: Term(1), sequence: self.taken };
        self.lane.take(Partition(0), place, work, UnixMicros(self.taken));
    }

    fn send(&mut self, max: usize) {
        for request in self.lane.send(self.now, max) {
            let id = match request {
                Request::Delete(key) => {
                    let text = String::from_utf8(key.as_bytes().to_vec()).unwrap();
                    let (record, at) = text.split_once(':').unwrap();
                    (record.parse().unwrap(), at.parse().unwrap())
                }
                // Flushes have no name; the oldest that lacks an answer is the one.
                Request::Flush => (0, 0),
            };
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
                    *last >= *first + LIMITS.fill_age_max,
                    "record {record} passed after {:?}",
                    *last - *first
                );
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
            Op::Advance(ms) => self.now += Duration::from_millis(*ms),
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Safety after every step; and with a healthy node everything drains, first deletes without delay.
    #[test]
    fn agrees_with_model(ops in vec(op(), 0..60)) {
        let mut world = World::new();
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
                match world.lane.due() {
                    // Only second deletes wait for a time.
                    Some(due) if due > world.now => world.now = due,
                    _ => {}
                }
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

fn place(sequence: u64) -> Place {
    Place { term: Term(1), sequence }
}

#[test]
fn first_deletes_go_at_once_and_second_ones_later() {
    let now = Instant::now();
    let mut lane = Lane::new(LIMITS);
    lane.connected();
    lane.take(Partition(0), place(1), keys(2), UnixMicros(1));
    assert_eq!(lane.send(now, 10).len(), 2);
    assert_eq!(lane.due(), None, "nothing is due before the first deletes are answered");
    assert_eq!(lane.answered().map(|answered| answered.pass), Some(Pass::First));
    lane.answered();
    assert_eq!(lane.due(), Some(now + LIMITS.fill_age_max));
    assert!(lane.send(now, 10).is_empty() && lane.cursors().is_empty());
    let later = now + LIMITS.fill_age_max;
    // A record that comes meanwhile is not held up.
    lane.take(Partition(0), place(2), keys(1), UnixMicros(2));
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
        lane.take(Partition(0), place(sequence), keys(2), UnixMicros(0));
    }
    assert!(!lane.wants_records());
}

#[test]
fn an_answer_to_nothing_is_noticed() {
    assert_eq!(Lane::new(LIMITS).answered(), None);
}
