//! Terms and holes against a log that really loses records: whatever happens to it, a reader has each change, or
//! knows that something is missing. And as long as nothing is lost, he is told of nothing.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use schemas::{
    cure::Cure,
    cursor::{Partition, Place, Term},
    record::{Floor, Record, Scope, UnixMicros},
    version::Version,
};
use stream::{
    Entry,
    follow::{Step, follow},
    term::{Sequencer, lost_tail},
};

#[derive(Clone, Debug)]
enum Op {
    /// The leader publishes so many changes.
    Publish(u64),
    /// And saves how far it is.
    Checkpoint,
    /// Another writer leads, from the checkpoint on; the one before gets so many changes in before its first record.
    TakeOver(u64),
    /// Likewise, but it dies behind so many of its first records, and then yet another one leads.
    DieBeginning(usize),
    /// The writer before goes on.
    Former(u64),
    /// An unclean election: the last records are gone, and so are writers that were replaced.
    LoseTail(usize),
    /// The first ones are removed.
    Retain(usize),
    /// The reader reads so many records.
    Read(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (1..4_u64).prop_map(Op::Publish),
        2 => Just(Op::Checkpoint),
        2 => (0..3_u64).prop_map(Op::TakeOver),
        1 => (0..3_usize).prop_map(Op::DieBeginning),
        2 => (1..3_u64).prop_map(Op::Former),
        1 => (1..4_usize).prop_map(Op::LoseTail),
        1 => (0..6_usize).prop_map(Op::Retain),
        4 => (1..8_usize).prop_map(Op::Read),
    ]
}

/// Publishes the changes of the source in order, beginning with `next`.
#[derive(Clone)]
struct Writer {
    sequencer: Sequencer,
    began: Vec<Place>,
    next: u64,
}

struct Reader {
    /// The record in the log that comes next.
    at: usize,
    cursor: Place,
    seen: BTreeSet<u64>,
    /// Changes below this one count as stale, because some of them are missing.
    alarmed: u64,
    alarms: usize,
}

struct World {
    /// With the number of changes that were published up to there.
    log: Vec<(Entry, u64)>,
    published: u64,
    removed: Place,
    term: u32,
    leader: Writer,
    former: Option<Writer>,
    saved: Option<(u64, Vec<Place>)>,
    reader: Reader,
    /// Whether anything was lost or removed.
    whole: bool,
}

fn change(id: u64) -> Record {
    let version = Version::new(1, id).expect("few changes");
    let reason = "a change".into();
    Record::Floor(Floor { source: "s".into(), scope: Scope::Prefixes(Vec::new()), version, reason })
}

fn lost() -> Record {
    let (version, reason) = (Version::MAX, "the log lost its tail".into());
    Record::Floor(Floor { source: "s".into(), scope: Scope::All, version, reason })
}

impl World {
    fn new() -> World {
        let (sequencer, starts) = Sequencer::begin(Term(1), &[Place::START]);
        let leader = Writer { sequencer, began: vec![Place::START], next: 0 };
        let mut world = World {
            log: Vec::new(),
            published: 0,
            removed: Place::START,
            term: 1,
            former: None,
            saved: None,
            reader: Reader {
                at: 0,
                cursor: Place::START,
                seen: BTreeSet::new(),
                alarmed: 0,
                alarms: 0,
            },
            whole: true,
            leader,
        };
        for (_, record) in starts {
            let place = world.leader.sequencer.place(Partition(0)).unwrap();
            world.append(place, record);
        }
        world
    }

    fn append(&mut self, place: Place, record: Record) {
        let entry = Entry { place, appended_at: UnixMicros(0), record };
        self.log.push((entry, self.published));
    }

    fn publish(&mut self, mut writer: Writer, changes: u64) -> Writer {
        for _ in 0..changes {
            let place = writer.sequencer.place(Partition(0)).unwrap();
            let id = writer.next;
            writer.next += 1;
            self.published = self.published.max(writer.next);
            self.append(place, change(id));
        }
        writer
    }

    /// Another writer leads. `lives` is how many of its first records it gets in; `None` for all, and what it does behind them.
    fn take_over(&mut self, meanwhile: u64, lives: Option<usize>) {
        let end = self.log.iter().map(|(entry, _)| entry.place).max().unwrap_or(self.removed);
        self.term += 1;
        let (sequencer, starts) = Sequencer::begin(Term(self.term), &[end]);
        let (next, saved) = self.saved.clone().unwrap_or((0, Vec::new()));
        let leader = Writer { sequencer, began: vec![end], next };
        let before = std::mem::replace(&mut self.leader, leader);
        self.former = Some(self.publish(before, meanwhile));
        let floor = lost_tail(&saved, &[end]).then(lost);
        let first = starts.into_iter().map(|(_, record)| record).chain(floor);
        for record in first.take(lives.unwrap_or(usize::MAX)) {
            let place = self.leader.sequencer.place(Partition(0)).unwrap();
            self.append(place, record);
        }
        if lives.is_none() {
            let Writer { sequencer, began, next } = &self.leader;
            // Without a checkpoint, nothing was there that could be lost.
            self.saved = self.saved.is_some().then(|| (*next, sequencer.ends(began)));
        } else {
            // It may have had an alarm to tell, for all that its successor knows.
            self.whole = false;
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Publish(changes) => self.leader = self.publish(self.leader.clone(), changes),
            Op::Checkpoint => {
                let Writer { sequencer, began, next } = &self.leader;
                self.saved = Some((*next, sequencer.ends(began)));
            }
            Op::TakeOver(meanwhile) => self.take_over(meanwhile, None),
            Op::DieBeginning(lives) => {
                self.take_over(0, Some(lives));
                let former = self.former.take();
                self.take_over(0, None);
                self.former = former;
            }
            Op::Former(changes) => {
                self.former = self.former.take().map(|former| self.publish(former, changes));
            }
            Op::LoseTail(count) => {
                self.log.truncate(self.log.len().saturating_sub(count));
                self.reader.at = self.reader.at.min(self.log.len());
                (self.whole, self.former) = (false, None);
            }
            Op::Retain(keep) => {
                let gone = self.log.len().saturating_sub(keep);
                let removed: Vec<(Entry, u64)> = self.log.drain(..gone).collect();
                let last = removed.iter().map(|(entry, _)| entry.place).max();
                self.removed = self.removed.max(last.unwrap_or(Place::START));
                if self.reader.at < gone {
                    let published = removed.iter().map(|(_, published)| *published).max();
                    self.reader.gap(self.removed, published.unwrap_or(0));
                }
                self.reader.at = self.reader.at.saturating_sub(gone);
                self.whole &= gone == 0;
            }
            Op::Read(count) => {
                let Reader { at, .. } = self.reader;
                for (entry, published) in self.log[at..].iter().take(count) {
                    self.reader.read(entry, *published);
                }
            }
        }
    }
}

impl Reader {
    fn read(&mut self, entry: &Entry, published: u64) {
        self.at += 1;
        match follow(self.cursor, entry) {
            Step::Next => self.take(entry, published),
            Step::Late => {}
            Step::Hole => {
                let before = Place { sequence: entry.place.sequence - 1, ..entry.place };
                self.gap(before, published);
                self.take(entry, published);
            }
        }
    }

    fn take(&mut self, entry: &Entry, published: u64) {
        self.cursor = entry.place;
        match &entry.record {
            Record::Floor(floor) if floor.scope == Scope::All => self.alarm(published),
            Record::Floor(floor) => {
                self.seen.insert(floor.version.sequence());
            }
            _ => {}
        }
    }

    fn gap(&mut self, resume: Place, published: u64) {
        self.cursor = self.cursor.max(resume);
        self.alarm(published);
    }

    fn alarm(&mut self, published: u64) {
        self.alarms += 1;
        self.alarmed = self.alarmed.max(published);
    }
}

fn agrees(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut world = World::new();
    for op in &ops {
        world.step(op);
        prop_assert!(world.reader.alarms == 0 || !world.whole, "an alarm for nothing");
    }
    // In the end somebody leads who has published everything, and the reader has read it.
    let saved = world.saved.as_ref().map_or(0, |(next, _)| *next);
    let all = world.leader.next.max(saved);
    world.take_over(0, None);
    world.step(&Op::Publish(all - world.leader.next));
    world.step(&Op::Publish(1));
    world.step(&Op::Read(usize::MAX));
    let Reader { seen, alarmed, .. } = &world.reader;
    let missing: Vec<u64> = (*alarmed..=all).filter(|id| !seen.contains(id)).collect();
    prop_assert_eq!(missing, Vec::<u64>::new(), "missed, and not noticed");
    prop_assert!(world.reader.alarms == 0 || !world.whole, "an alarm for nothing");
    let end = world.log.last().map(|(entry, _)| entry.place);
    prop_assert_eq!(Some(world.reader.cursor), end, "the reader stands before the end");
    Ok(())
}

fn run(mut runner: TestRunner) -> Result<(), String> {
    runner.run(&vec(op(), 0..40), agrees).map_err(|found| found.to_string())
}

#[test]
fn a_reader_has_each_change_or_knows_that_some_are_missing() {
    let config = Config { failure_persistence: None, ..Config::default() };
    assert_eq!(run(TestRunner::new(config)), Ok(()));
}

/// A model that cannot tell when a cure is off proves nothing.
#[test]
fn the_model_misses_each_cure() {
    let (cases, max_shrink_iters, failure_persistence) = (5000, 0, None);
    let config = Config { cases, max_shrink_iters, failure_persistence, ..Config::default() };
    for cure in [
        Cure::FollowerSeesHole,
        Cure::LateRecordSkipped,
        Cure::PlaceHasTerm,
        Cure::TermStartSeesLostTail,
    ] {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let runner = TestRunner::new_with_rng(config.clone(), rng);
        assert!(cure.off(|| run(runner)).is_err(), "the model does not miss {cure:?}");
    }
}
