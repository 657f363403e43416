//! A log of records, and the set of those that reached the node; through [`Rules`], since cursors, floors and what was
//! applied depend on each other.

use std::{collections::BTreeSet, time::Duration};

use proptest::{collection::vec, option, prelude::*};
use protocol::control::{Agreement, Batch, Continuity, EpochNews, Finding, Item};

use super::{at, check, version};
use crate::rules::{Entries, Fate, Lossy, Mark, OnStale, Rules, Settings, Subject};
use schemas::{
    cure::Cure,
    cursor::{Partition, Place, Term},
    key::Key,
    record::UnixMicros,
    version::Version,
};

const PARTITIONS: u16 = 2;
const STALENESS_MAX: u64 = 500;
const WALL: u64 = 1_000_000_000;

/// Record `n` of a partition is a delete at version `n`, and what says that it was all of it.
#[derive(Clone, Debug)]
enum Op {
    /// The records from `from` (not included) on arrive, maybe not from where the cursor is; the last one may be a
    /// progress, which is so many milliseconds old.
    Batch {
        partition: u16,
        from: u64,
        records: u64,
        age: Option<u64>,
    },
    /// The same, from where the cursor is.
    Next {
        partition: u16,
        records: u64,
        age: Option<u64>,
    },
    /// What is before will not come.
    Begin {
        partition: u16,
        ahead: u64,
    },
    /// A lane comes, and names where its partitions end: all, or one.
    Hello {
        only: Option<u16>,
        ahead: u64,
    },
    Pass {
        milliseconds: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let age = || prop_oneof![Just(None), (0..300_u64).prop_map(Some)];
    let partition = || 0..PARTITIONS;
    prop_oneof![
        3 => (partition(), 0..30_u64, 1..6_u64, age()).prop_map(|(partition, from, records, age)| {
            Op::Batch { partition, from, records, age }
        }),
        6 => (partition(), 1..6_u64, age())
            .prop_map(|(partition, records, age)| Op::Next { partition, records, age }),
        1 => (partition(), 0..6_u64).prop_map(|(partition, ahead)| Op::Begin { partition, ahead }),
        1 => (option::of(partition()), 0..8_u64)
            .prop_map(|(only, ahead)| Op::Hello { only, ahead }),
        2 => (0..400_u64).prop_map(|milliseconds| Op::Pass { milliseconds }),
    ]
}

/// What is true of one partition.
#[derive(Clone, Debug, Default)]
struct Model {
    arrived: BTreeSet<u64>,
    cursor: Option<u64>,
    /// Everything up to here was before the node's time, or is gone.
    begun: u64,
    /// The newest progress that came without a hole: when its source was asked.
    asked_at: Option<u64>,
    /// A lane came when the node was not fresh, and named this.
    awaited: Option<u64>,
}

#[test]
fn nothing_counts_as_applied_that_did_not_arrive() {
    let cures = [
        Cure::BatchAsksFrom,
        Cure::AppliedMovesWithCursor,
        Cure::CursorNeverFalls,
        Cure::GapRaisesServeFloor,
        Cure::BeginAsksLaterProgress,
        Cure::FreshEveryPartition,
        Cure::QuarantineEveryPartition,
        Cure::QuarantineTakesEveryHead,
        Cure::QuarantineOnReturn,
        Cure::AppliedAsksEveryPartition,
    ];
    check(&vec(op(), 0..60), &cures, |ops| World::new().agrees(&ops));
}

struct World {
    rules: Rules,
    model: Vec<Model>,
    now: u64,
}

struct NoEntries;

impl Entries for NoEntries {
    fn judge(&mut self, _: &Key, _: &mut dyn FnMut(&mut Mark) -> Fate) {}
}

fn place(sequence: u64) -> Place {
    Place { term: Term(1), sequence }
}

impl World {
    fn new() -> World {
        let milliseconds = Duration::from_millis;
        let settings = Settings {
            partitions: PARTITIONS,
            fill_age_max: milliseconds(10_000),
            lease: milliseconds(1000),
            staleness_max: milliseconds(STALENESS_MAX),
            clock_skew_max: Duration::ZERO,
            on_stale: OnStale::Flag,
            degraded_ttl: milliseconds(1000),
            marker_ttl_max: milliseconds(1000),
            tombstones_max: 1000,
            leases_max: 10,
            markers_max: 10,
            lossy: Lossy::Flush,
            unsourced: Vec::new(),
        };
        let now = 5000;
        let model = vec![Model::default(); usize::from(PARTITIONS)];
        let mut rules = Rules::new(at(now), settings);
        rules.clocks(Finding { agreement: Agreement::Close, steps: 0 });
        let (last, resumed) = (Version::ZERO, Version::ZERO);
        rules.epoch(&EpochNews { epoch: 1, last, continuity: Continuity::Lossless, resumed });
        World { rules, model, now }
    }

    fn agrees(mut self, ops: &[Op]) -> Result<(), TestCaseError> {
        for op in ops {
            match op {
                Op::Batch { partition, from, records, age } => {
                    self.batch(*partition, *from, *records, *age)?;
                }
                Op::Next { partition, records, age } => {
                    let cursor = self.model[usize::from(*partition)].cursor.unwrap_or(0);
                    self.batch(*partition, cursor, *records, *age)?;
                }
                Op::Begin { partition, ahead } => {
                    let model = &mut self.model[usize::from(*partition)];
                    let to = model.cursor.unwrap_or(0) + ahead;
                    self.rules.begin(Partition(*partition), place(to));
                    (model.cursor, model.begun) = (Some(to), to);
                }
                Op::Hello { only, ahead } => self.hello(*only, *ahead),
                Op::Pass { milliseconds } => self.now += milliseconds,
            }
            self.look()?;
        }
        Ok(())
    }

    fn batch(
        &mut self,
        partition: u16,
        from: u64,
        records: u64,
        age: Option<u64>,
    ) -> Result<(), TestCaseError> {
        let (to, asked_at) = (from + records, age.map(|age| self.now - age));
        let mut items = Vec::new();
        for record in from + 1..=to {
            let key = Key::new(format!("{partition}/{record}")).unwrap();
            items.push(Item::Delete { key, version: version(record) });
            items.push(Item::Applied { version: version(record) });
        }
        if let Some(asked_at) = asked_at {
            items.push(Item::Progress { version: version(to), at: wall(asked_at) });
        }
        let batch =
            Batch { partition: Partition(partition), from: place(from), to: place(to), items };
        let answer = self.rules.apply(at(self.now), wall(self.now), &batch, &mut NoEntries);
        let model = &mut self.model[usize::from(partition)];
        model.arrived.extend(from + 1..=to);
        if model.cursor.is_some_and(|cursor| from <= cursor) {
            model.cursor = model.cursor.max(Some(to));
            model.asked_at = model.asked_at.max(asked_at);
            prop_assert_eq!(answer, Ok(place(model.cursor.unwrap())));
        } else {
            prop_assert!(answer.is_err(), "there is a hole before {from}");
        }
        Ok(())
    }

    fn hello(&mut self, only: Option<u16>, ahead: u64) {
        let mut heads = Vec::new();
        let away = !self.rules.is_fresh(at(self.now)) || self.rules.is_quarantined();
        for (partition, model) in (0..).map(Partition).zip(&mut self.model) {
            let Some(cursor) = model.cursor else { continue };
            if only.is_some_and(|only| only != partition.0) {
                continue;
            }
            heads.push((partition, place(cursor + ahead)));
            if away && model.asked_at.is_some() {
                model.awaited = model.awaited.max(Some(cursor + ahead));
            }
        }
        self.rules.hello(at(self.now), &heads);
    }

    /// Whether everything up to `record` arrived, or is below the floor.
    fn is_whole(&self, model: &Model, record: u64) -> bool {
        let floor = self.rules.serve_floor(&Subject::new(b"any"));
        (1..=record).all(|of| model.arrived.contains(&of) || version(of) <= floor)
    }

    fn look(&mut self) -> Result<(), TestCaseError> {
        let fresh = self.rules.is_fresh(at(self.now));
        let serves = !self.rules.is_quarantined();
        for (partition, model) in (0..).map(Partition).zip(&self.model) {
            prop_assert_eq!(self.rules.cursor(partition), model.cursor.map(place));
            let cursor = model.cursor.unwrap_or(0);
            let before = |of: &u64| *of > model.begun;
            let hole = (1..=cursor).filter(before).find(|of| !model.arrived.contains(of));
            prop_assert_eq!(hole, None, "behind the cursor {}", cursor);
            let applied = self.rules.applied(partition);
            let claimed = if applied == Version::ZERO { 0 } else { applied.sequence() };
            prop_assert!(self.is_whole(model, claimed), "{claimed} is not applied");
            let recent = model.asked_at.is_some_and(|of| self.now < of + STALENESS_MAX);
            prop_assert!(!fresh || recent, "no news of {partition}");
            prop_assert!(!fresh || self.is_whole(model, cursor), "fresh with a hole");
            let caught_up = model.awaited.is_none_or(|head| cursor >= head);
            prop_assert!(!serves || caught_up, "serves before {:?}", model.awaited);
            let everywhere = self.rules.applied_everywhere();
            prop_assert!(everywhere.is_none_or(|all| all <= applied), "not everywhere");
        }
        Ok(())
    }
}

fn wall(now: u64) -> UnixMicros {
    UnixMicros(WALL + now * 1000)
}
