//! Readers, writers and one node, in random order: the node is the rules in a few lines, a row is a counter.
//!
//! After each step: who demands a version sees it; who begins to read after a delete has reached the node sees what was
//! written, wherever he reads it; nobody stores anything old; and with patience every reader ends.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::reading::{Isolation, Snapshot, Writes};

const TERMS: Terms = Terms {
    lease_s: 10,
    renew_s: 0,
    patience: Patience {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(4),
        whole: Duration::from_millis(8),
    },
};
/// A reader who asks more often than this waits for ever.
const ASKS_MAX: u32 = 20;

#[derive(Clone, Debug)]
enum Op {
    /// The primary commits another value.
    Write,
    /// The replica catches up.
    Replicate,
    /// The node hears where the region is.
    Push,
    /// The node hears of every change so far.
    Delete,
    /// A lease ends.
    Expire,
    /// A reader begins: how he reads, whether he demands the newest write, and what he thinks of old values.
    Begin(Reading, bool, OldValues),
    /// A reader goes one step on.
    Step(prop::sample::Index),
    /// The node is not reached by a reader.
    Unreachable(prop::sample::Index),
    /// A reader's database fails.
    Fail(prop::sample::Index),
}

/// How a database read ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Well,
    Badly,
}

#[derive(Debug, Default)]
struct World {
    primary: u64,
    replica: u64,
    node: Node,
    readers: Vec<Reader>,
}

#[derive(Debug, Default)]
struct Node {
    /// What the region shows, as far as the node knows.
    position: u64,
    /// The newest change that it has heard of.
    deleted: u64,
    /// Value, fill version, whether it is outdated.
    entry: Option<(u64, u64, bool)>,
    /// Token, fill version.
    lease: Option<(u64, u64)>,
    token: u64,
}

#[derive(Debug)]
struct Reader {
    cycle: Cycle,
    action: Action,
    /// What he must not see less than.
    sees_at_least: u64,
    fit: bool,
    asks: u32,
    read: Option<u64>,
    /// A node that is away knows nothing of changes.
    blind: bool,
}

fn version(number: u64) -> Version {
    Version::new(0, number).expect("small")
}

impl Node {
    fn get(&mut self, get: Get, primary: u64) -> Answer {
        let AtLeast(at_least) = get.versions.expect("a node of ours is asked with versions");
        let hinted = self.deleted > self.position;
        let hint = if hinted { Hint::Primary } else { Hint::None };
        if let Some((value, filled, false)) = self.entry {
            if version(filled.max(self.deleted)) < at_least {
                return Answer::Missing(hint);
            }
            let found =
                Found { data: text(value), version: Some(version(filled)), ..Found::default() };
            return Answer::Value(found);
        }
        if get.lease_s.is_none() {
            return Answer::Missing(hint);
        }
        let old = self.entry.map(|(value, ..)| text(value));
        let age = if old.is_some() { Age::Old } else { Age::Current };
        let data = old.unwrap_or_default();
        if let Some((token, _)) = self.lease {
            return Answer::Value(Found {
                data,
                cas: token,
                age,
                turn: Turn::Theirs,
                ..Found::default()
            });
        }
        self.token += 1;
        self.lease = Some((self.token, if hinted { primary } else { self.position }));
        Answer::Value(Found {
            data,
            cas: self.token,
            age,
            turn: Turn::Ours,
            hint,
            ..Found::default()
        })
    }

    fn fill(&mut self, lease: Lease, value: u64) {
        let Some((_, filled)) = self.lease.take_if(|(token, _)| *token == lease.0) else { return };
        if filled >= self.deleted {
            self.entry = Some((value, filled, false));
        }
    }
}

fn text(value: u64) -> Bytes {
    Bytes::from(value.to_string())
}

impl World {
    fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Write => self.primary += 1,
            Op::Replicate => self.replica = self.primary,
            Op::Push => self.node.position = self.replica,
            Op::Delete => {
                let node = &mut self.node;
                if self.primary > node.deleted {
                    node.deleted = self.primary;
                    node.lease = None;
                    if let Some((_, filled, old)) = &mut node.entry {
                        *old |= *filled < self.primary;
                    }
                }
            }
            Op::Expire => self.node.lease = None,
            Op::Begin(reading, demands, old) => {
                let token = demands.then(|| Token::AtLeast(version(self.primary)));
                let want = Want { reading, token, old };
                let (cycle, action) = Cycle::begin(want, NodeKind::Versioned, TERMS);
                let known = if old == OldValues::Refuse { self.node.deleted } else { 0 };
                let sees_at_least = if demands { self.primary } else { known };
                let fit = reading.may_fill().is_ok();
                let read = None;
                self.readers.push(Reader {
                    cycle,
                    action,
                    sees_at_least,
                    fit,
                    asks: 0,
                    read,
                    blind: false,
                });
            }
            Op::Step(of) if !self.readers.is_empty() => {
                return self.step(of.index(self.readers.len()), Ends::Well);
            }
            Op::Fail(of) if !self.readers.is_empty() => {
                return self.step(of.index(self.readers.len()), Ends::Badly);
            }
            Op::Unreachable(of) if !self.readers.is_empty() => {
                let at = of.index(self.readers.len());
                let reader = &mut self.readers[at];
                if matches!(reader.action, Action::Ask(_)) {
                    reader.blind = reader.cycle.waited == Duration::ZERO;
                    reader.action = reader.cycle.unreachable();
                }
            }
            Op::Step(_) | Op::Fail(_) | Op::Unreachable(_) => {}
        }
        Ok(())
    }

    fn step(&mut self, at: usize, ends: Ends) -> Result<(), TestCaseError> {
        let reader = &mut self.readers[at];
        match reader.action.clone() {
            Action::Ask(get) => {
                reader.asks += 1;
                prop_assert!(reader.asks <= ASKS_MAX, "he waits for ever");
                prop_assert!(
                    reader.fit || get.lease_s.is_none(),
                    "an unfit reader asks for a lease"
                );
                reader.action = reader.cycle.answered(self.node.get(get, self.primary));
            }
            Action::Wait(_) => reader.action = reader.cycle.waited(),
            Action::PeekMarker => prop_assert!(false, "a node of ours has no such key"),
            Action::Serve(value) => {
                let Reader { sees_at_least, .. } = self.readers.swap_remove(at);
                served(&value, sees_at_least)?;
            }
            Action::Read(_) if ends == Ends::Badly => {
                let mut reader = self.readers.swap_remove(at);
                if let (Some(value), _) = reader.cycle.failed() {
                    served(&value, reader.sees_at_least)?;
                }
            }
            Action::Read(place) if reader.read.is_none() => {
                let primary = place.database == Database::Primary;
                reader.read = Some(if primary { self.primary } else { self.replica });
            }
            Action::Read(_) => {
                let mut reader = self.readers.swap_remove(at);
                let read = reader.read.expect("looked at above");
                let seen = reader.blind || read >= reader.sees_at_least;
                prop_assert!(seen, "read {} instead of {}", read, reader.sees_at_least);
                match reader.cycle.fetched(Ok(())) {
                    Then::Store(lease) => {
                        prop_assert!(reader.fit, "an unfit reader stores");
                        self.node.fill(lease, read);
                    }
                    Then::GiveBack(..) | Then::Nothing(_) => prop_assert!(!reader.fit),
                    Then::NoLease => {}
                }
            }
        }
        let stored = self.node.entry.filter(|(_, _, old)| !old);
        let good = stored.is_none_or(|(value, ..)| value >= self.node.deleted);
        prop_assert!(good, "the cache has {:?} after a delete at {}", stored, self.node.deleted);
        Ok(())
    }
}

fn served(value: &Value, sees_at_least: u64) -> Result<(), TestCaseError> {
    let data = value.data.as_deref().unwrap_or_default();
    let number: u64 = std::str::from_utf8(data).unwrap().parse().unwrap();
    let seen = number >= sees_at_least || value.age == Age::Old;
    prop_assert!(seen, "served {} instead of {}", number, sees_at_least);
    Ok(())
}

fn reading() -> impl Strategy<Value = Reading> {
    let wrote = Reading::Transaction {
        isolation: Isolation::ReadCommitted,
        writes: Writes::Some,
        snapshot: Snapshot::Opened,
    };
    prop_oneof![4 => Just(Reading::Autocommit(Isolation::ReadCommitted)), 1 => Just(wrote)]
}

fn op() -> impl Strategy<Value = Op> {
    let old = prop_oneof![4 => Just(OldValues::Refuse), 1 => Just(OldValues::AtLast), 1 => Just(OldValues::AtOnce)];
    prop_oneof![
        2 => Just(Op::Write),
        1 => Just(Op::Replicate),
        1 => Just(Op::Push),
        2 => Just(Op::Delete),
        1 => Just(Op::Expire),
        4 => (reading(), any::<bool>(), old).prop_map(|(reading, demands, old)| Op::Begin(reading, demands, old)),
        20 => any::<prop::sample::Index>().prop_map(Op::Step),
        1 => any::<prop::sample::Index>().prop_map(Op::Unreachable),
        1 => any::<prop::sample::Index>().prop_map(Op::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn readers_see_what_they_must(ops in prop::collection::vec(op(), 0..120)) {
        let mut world = World::default();
        for op in ops {
            world.apply(op)?;
        }
        // Whoever is left ends within his patience.
        for _ in 0..(ASKS_MAX * 4) {
            for at in (0..world.readers.len()).rev() {
                world.step(at, Ends::Well)?;
            }
        }
        prop_assert!(world.readers.is_empty(), "left: {:?}", world.readers);
    }
}
