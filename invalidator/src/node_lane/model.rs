//! A lane against a node that remembers every record, a log that loses some, and a connection that breaks: what the
//! node's cursor stands behind has arrived, or the node was told that it will not; and in the end the lane is through.

use std::collections::{BTreeSet, VecDeque};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use protocol::control::Continuity;
use schemas::{cursor::Term, record::Floor, record::Scope};

use super::*;

const PARTITIONS: u16 = 2;
/// Records of one read.
const READ_MAX: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Append {
        partition: u16,
        records: u64,
    },
    /// A record in the log is gone, so many before the end.
    Lose {
        partition: u16,
        before_end: usize,
    },
    /// The beginning is removed.
    Retain {
        partition: u16,
        keep: usize,
    },
    /// So many things happen that are under way.
    Go(usize),
    /// The connection breaks; what is under way is lost.
    Break,
    Connect,
    /// The node goes back to what it had saved; its lane does not notice.
    GoBack,
    Save,
    StartEmpty,
    /// An epoch begins; the lane hears of it, and of those that it may have missed.
    Announce,
}

fn op() -> impl Strategy<Value = Op> {
    let partition = || 0..PARTITIONS;
    prop_oneof![
        5 => (partition(), 1..5_u64)
            .prop_map(|(partition, records)| Op::Append { partition, records }),
        1 => (partition(), 0..4_usize)
            .prop_map(|(partition, before_end)| Op::Lose { partition, before_end }),
        1 => (partition(), 0..4_usize).prop_map(|(partition, keep)| Op::Retain { partition, keep }),
        8 => (1..12_usize).prop_map(Op::Go),
        1 => Just(Op::Break),
        3 => Just(Op::Connect),
        1 => Just(Op::GoBack),
        1 => Just(Op::Save),
        1 => Just(Op::StartEmpty),
        1 => Just(Op::Announce),
    ]
}

/// One partition of the log; the sequence of a record says which it is.
#[derive(Clone, Debug, Default)]
struct Log {
    kept: Vec<u64>,
    last: u64,
    removed: u64,
}

/// One partition at the node.
#[derive(Clone, Debug, Default)]
struct AtNode {
    cursor: Option<u64>,
    arrived: BTreeSet<u64>,
    /// Up to here it was told that something will not come.
    told: u64,
}

struct World {
    lane: NodeLane,
    logs: Vec<Log>,
    node: Vec<AtNode>,
    saved: Vec<AtNode>,
    connected: bool,
    /// Both ways, in order.
    under_way: VecDeque<Either>,
    /// Where the log ended when the connection was made.
    ends: Vec<u64>,
    /// The newest epoch, and what the node has heard on this connection.
    epoch: u16,
    heard: u16,
}

#[derive(Clone, Debug)]
enum Either {
    Action(Action),
    Event(Event),
}

fn place(sequence: u64) -> Place {
    Place { term: Term(1), sequence }
}

fn entry(sequence: u64) -> Entry {
    let (version, scope) = (Version::new(1, sequence).unwrap(), Scope::Prefixes(Vec::new()));
    let record = Record::Floor(Floor { source: "s".into(), scope, version, reason: "".into() });
    Entry { place: place(sequence), appended_at: UnixMicros(0), record }
}

fn sequence(place: Place) -> u64 {
    place.sequence
}

impl World {
    fn new() -> World {
        let partitions = (0..PARTITIONS).map(Partition).collect();
        let many = usize::from(PARTITIONS);
        World {
            lane: NodeLane::new(partitions, Duration::from_millis(100)),
            logs: vec![Log::default(); many],
            node: vec![AtNode::default(); many],
            saved: vec![AtNode::default(); many],
            connected: false,
            under_way: VecDeque::new(),
            ends: vec![0; many],
            epoch: 0,
            heard: 0,
        }
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Append { partition, records } => {
                let log = &mut self.logs[usize::from(partition)];
                log.kept.extend(log.last + 1..=log.last + records);
                log.last += records;
                self.happens(Event::Changed(Partition(partition)));
            }
            Op::Lose { partition, before_end } => {
                let kept = &mut self.logs[usize::from(partition)].kept;
                if let Some(at) = kept.len().checked_sub(before_end + 2) {
                    kept.remove(at); // Never the last one: a log does not get shorter here.
                }
            }
            Op::Retain { partition, keep } => {
                let log = &mut self.logs[usize::from(partition)];
                let gone = log.kept.len().saturating_sub(keep);
                log.removed = log.kept.drain(..gone).next_back().unwrap_or(log.removed);
            }
            Op::Go(steps) => {
                for _ in 0..steps {
                    self.go()?;
                }
            }
            Op::Break => self.disconnect(),
            Op::Connect => {
                if !self.connected {
                    self.connected = true;
                    self.ends = self.logs.iter().map(|log| log.last).collect();
                    self.happens(Event::Connected);
                }
            }
            Op::GoBack => self.node.clone_from(&self.saved),
            Op::Save => self.saved.clone_from(&self.node),
            Op::Announce => {
                self.epoch += 1;
                self.happens(Event::Epochs(self.news()));
            }
            Op::StartEmpty => {
                self.disconnect();
                self.node.fill(AtNode::default());
                self.saved.fill(AtNode::default());
            }
        }
        Ok(())
    }

    /// Of the epochs after the lane's last.
    fn news(&self) -> Vec<EpochNews> {
        let of = |epoch| {
            let (last, resumed) = (Version::ZERO, Version::ZERO);
            EpochNews { epoch, last, continuity: Continuity::Lossless, resumed }
        };
        (self.lane.told() + 1..=self.epoch).map(of).collect()
    }

    fn disconnect(&mut self) {
        if std::mem::take(&mut self.connected) {
            self.under_way.clear();
            self.heard = 0;
            self.happens(Event::Disconnected);
        }
    }

    fn happens(&mut self, event: Event) {
        let actions = self.lane.step(Moment::START, event);
        self.under_way.extend(actions.into_iter().map(Either::Action));
    }

    /// The next thing under way arrives. Returns whether there was one.
    fn go(&mut self) -> Result<bool, TestCaseError> {
        let Some(next) = self.under_way.pop_front() else { return Ok(false) };
        match next {
            Either::Event(event) => {
                let greeted = matches!(event, Event::Greeted(_));
                self.happens(event);
                if greeted {
                    self.happens(Event::Epochs(self.news()));
                }
            }
            Either::Action(action) => {
                let answer = self.act(action)?.map(Either::Event);
                self.under_way.extend(answer);
            }
        }
        for (at, node) in self.node.iter().enumerate() {
            let cursor = node.cursor.unwrap_or(0);
            let hole = (node.told + 1..=cursor).find(|of| !node.arrived.contains(of));
            prop_assert_eq!(hole, None, "before the cursor {} of {}", cursor, at);
        }
        Ok(true)
    }

    fn act(&mut self, action: Action) -> Result<Option<Event>, TestCaseError> {
        let of = |partition: Partition| usize::from(partition.0);
        Ok(Some(match action {
            Action::Hello => {
                let cursors = self.node.iter().map(|node| node.cursor.map(place)).collect();
                Event::Greeted(Greeting { cursors, age_floor: Version::ZERO })
            }
            Action::SampleHeads(partitions) => {
                let head = |at: &Partition| (*at, place(self.logs[of(*at)].last));
                Event::Heads(partitions.iter().map(head).collect())
            }
            Action::NameHeads(heads) => {
                for (partition, head) in heads {
                    let end = self.ends[of(partition)];
                    prop_assert!(sequence(head) >= end, "{head} is before the end {end}");
                }
                return Ok(None);
            }
            Action::Begin { partition, at } => {
                let node = &mut self.node[of(partition)];
                let to = node.cursor.unwrap_or(0).max(sequence(at));
                (node.cursor, node.told) = (Some(to), to);
                return Ok(None);
            }
            Action::Read { partition, after } => {
                let log = &self.logs[of(partition)];
                if sequence(after) < log.removed {
                    Event::Gap { partition, after, resume: place(log.removed) }
                } else {
                    let rest = log.kept.iter().copied().filter(|of| *of > sequence(after));
                    let entries = rest.take(READ_MAX).map(entry).collect();
                    Event::Entries { partition, after, entries }
                }
            }
            Action::Apply(batch) => self.apply(&batch),
            Action::Epoch(news) => {
                prop_assert_eq!(news.epoch, self.heard + 1, "epochs come in order, each once");
                self.heard = news.epoch;
                return Ok(None);
            }
            Action::Push(_) | Action::Clocks(_) => return Ok(None),
        }))
    }

    fn apply(&mut self, batch: &Batch) -> Event {
        let node = &mut self.node[usize::from(batch.partition.0)];
        node.arrived.extend(batch.items.iter().map(|item| match item {
            Item::Floor { version, .. } => version.sequence(),
            other => panic!("no record is {other:?}"),
        }));
        let joins = node.cursor.is_some_and(|cursor| sequence(batch.from) <= cursor);
        let cursor = if joins {
            node.cursor = node.cursor.max(Some(sequence(batch.to)));
            Ok(place(node.cursor.unwrap_or(0)))
        } else {
            Err(Rewind { cursor: node.cursor.map(place) })
        };
        let answer = Answer { cursor, age_floor: Version::ZERO, wall: UnixMicros(0), steps: 0 };
        let (sent, wall) = (Moment::START, UnixMicros(0));
        Event::Answered { partition: batch.partition, answer, sent, wall }
    }

    /// The connection is good, and nothing more is lost.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.step(&Op::Connect)?;
        for partition in 0..PARTITIONS {
            self.step(&Op::Append { partition, records: 1 })?;
        }
        for steps in 0.. {
            prop_assert!(steps < 2000, "the lane goes round in circles");
            if !self.go()? {
                break;
            }
        }
        // A node that went back is found out by the next record.
        for partition in 0..PARTITIONS {
            self.step(&Op::Append { partition, records: 1 })?;
        }
        for steps in 0.. {
            prop_assert!(steps < 2000, "the lane goes round in circles");
            if !self.go()? {
                break;
            }
        }
        prop_assert!(self.lane.is_at_head());
        prop_assert_eq!(self.heard, self.epoch, "an epoch was not told");
        for (log, node) in self.logs.iter().zip(&self.node) {
            prop_assert_eq!(node.cursor, Some(log.last), "the lane stopped before the end");
        }
        Ok(())
    }
}

fn run(mut runner: TestRunner) -> Result<(), String> {
    let agrees = |ops: Vec<Op>| {
        let mut world = World::new();
        ops.iter().try_for_each(|op| world.step(op))?;
        world.settle()
    };
    runner.run(&vec(op(), 0..60), agrees).map_err(|found| found.to_string())
}

#[test]
fn a_node_gets_everything_or_is_told() {
    let config = Config { failure_persistence: None, ..Config::default() };
    assert_eq!(run(TestRunner::new(config)), Ok(()));
}

/// A model that cannot tell when a cure is off proves nothing.
#[test]
fn the_model_misses_each_cure() {
    let (cases, max_shrink_iters, failure_persistence) = (5000, 0, None);
    let config = Config { cases, max_shrink_iters, failure_persistence, ..Config::default() };
    for cure in
        [Cure::LaneRewinds, Cure::LaneReportsGap, Cure::LaneNamesHeads, Cure::FollowerSeesHole]
    {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let runner = TestRunner::new_with_rng(config.clone(), rng);
        assert!(cure.off(|| run(runner)).is_err(), "the model does not miss {cure:?}");
    }
}
