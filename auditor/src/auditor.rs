//! [`Auditor`]: changes and looks in, verdicts out. Pure.
//!
//! A sampled key that changed is *watched*. Three times it is looked at on the node of each cluster that should hold it:
//!
//! | look | an entry that is there still | verdict |
//! |---|---|---|
//! | first (1 s) | the delete is on its way | in flight |
//! | second (10 s) | it took too long | late |
//! | last (60 s) | it never came | lost; or resurrected, if the entry came after the change |
//!
//! An entry is *there still* if it was stored before the commit ([`NodeClock`]), or if it says itself (nodes of ours) that its
//! value was read before the change. Where a value rule says what a key holds, the database is asked at the first look and
//! at the last. If the entry holds something else then, both are looked at once more, as much later as a delete may be late:
//! only an entry that stayed, and differs still, is wrong. What it is wrong by:
//!
//! | | verdict |
//! |---|---|
//! | no rule makes the key of the change, or the value changed again and no change made the key | wrong rule |
//! | the entry was there when the change was heard of | lost |
//! | the entry came after the change, with a value from before | resurrected |
//!
//! One watch per key at a time: what changes meanwhile is remembered, the last of it, and watched next. So the last change of
//! a key is judged, however often it changes. Memory is bounded by `watches_max`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use schemas::{key::Key, moment::Moment};

use crate::{
    clock::{Before, NodeClock},
    mapping::ValueOf,
    placement::{NodeId, Placement},
    verdict::{Action, Agreement, Answer, Finding, Sight, Unjudged, Verdict, WatchId},
};

/// When keys are looked at, after their change; rising.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    /// What is there until then is in flight.
    pub in_flight: Duration,
    /// What is there at this age is late.
    pub late: Duration,
    /// What is there at this age is lost.
    pub lost: Duration,
}

/// A key became stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub key: Key,
    /// The rule that makes it; `None` if only a value rule does.
    pub rule: Option<Arc<str>>,
    /// What the database can be asked for.
    pub value: Option<ValueOf>,
    /// The transaction, as logs name it.
    pub transaction: Arc<str>,
    /// Its number among those of one origin, where there are GTIDs.
    pub number: Option<u64>,
    /// It was not committed before this moment.
    pub committed: Moment,
}

/// What happens to the auditor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Changed(Changed),
    /// Numbers of transactions start anew: another server writes.
    OriginChanged,
    /// A node gave this number (CAS) to an entry of the auditor's own, and has answered.
    Ticked {
        node: NodeId,
        cas: u64,
    },
    /// The answer to [`Action::Look`].
    Seen {
        watch: WatchId,
        node: NodeId,
        sight: Sight,
    },
    /// The answer to [`Action::Ask`].
    Answered {
        watch: WatchId,
        answer: Answer,
    },
    /// Time has passed.
    Woke,
}

/// The state; see the module's page.
#[derive(Debug)]
pub struct Auditor {
    looks: Looks,
    watches_max: usize,
    placement: Placement,
    clocks: Vec<NodeClock>,
    watches: HashMap<WatchId, Watch>,
    by_key: HashMap<Key, WatchId>,
    due: BTreeSet<(Moment, WatchId)>,
    next_id: u64,
    /// How often numbers have started anew.
    origin: u64,
}

#[derive(Debug)]
struct Watch {
    changed: Changed,
    origin: u64,
    /// When the auditor heard of the change.
    heard: Moment,
    stage: Stage,
    /// When the looks of this stage were made.
    looked: Moment,
    owners: Vec<Owner>,
    /// Looks that are not answered.
    awaited: usize,
    /// What the database said at the first look.
    first_answer: Option<Answer>,
    /// The last change since.
    next: Option<Next>,
}

/// A change that waits until its key's watch is over.
#[derive(Debug)]
struct Next {
    changed: Changed,
    origin: u64,
    heard: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    First,
    Second,
    Last,
    /// What differed from the database is looked at once more.
    Again,
}

/// The key on one node.
#[derive(Debug)]
struct Owner {
    node: NodeId,
    sight: Sight,
    /// Of the entry at the look before.
    cas_before: Option<u64>,
    worst: Option<Verdict>,
    /// The entry that differs from the database.
    suspect: Option<u64>,
}

/// What can be said of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// It was stored before the change.
    Stored,
    /// It came later, and says itself that its value was read before the change.
    Read,
    /// It was there when the auditor heard of the change, and perhaps before it.
    Between,
    /// It came later.
    Young,
    /// The auditor did not watch the node.
    Unknown,
}

impl Auditor {
    pub fn new(looks: Looks, watches_max: usize, placement: Placement) -> Auditor {
        let clocks = vec![NodeClock::default(); placement.nodes()];
        Auditor {
            looks,
            watches_max,
            placement,
            clocks,
            watches: HashMap::new(),
            by_key: HashMap::new(),
            due: BTreeSet::new(),
            next_id: 0,
            origin: 0,
        }
    }

    /// When [`Event::Woke`] is wanted next.
    pub fn due(&self) -> Option<Moment> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Keys that are watched.
    pub fn watching(&self) -> usize {
        self.watches.len()
    }

    /// Takes what happened; hands out what is to be done, and what was found.
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Changed(changed) => self.changed(now, changed, &mut actions),
            Event::OriginChanged => self.origin = self.origin.saturating_add(1),
            Event::Ticked { node, cas } => {
                let horizon = self.looks.lost.saturating_mul(3);
                if let Some(clock) = self.clocks.get_mut(node.0) {
                    clock.tick(now, cas, horizon);
                }
            }
            Event::Seen { watch, node, sight } => {
                let Some(of) = self.watches.get_mut(&watch) else { return actions };
                let owner = of.owners.iter_mut().find(|owner| owner.node == node);
                let Some(owner) = owner.filter(|owner| owner.sight == Sight::Awaited) else {
                    return actions;
                };
                owner.sight = sight;
                of.awaited = of.awaited.saturating_sub(1);
                if of.awaited == 0 {
                    match &of.changed.value {
                        Some(value) if of.stage != Stage::Second => {
                            actions.push(Action::Ask { watch, value: value.clone() });
                        }
                        _ => self.judge(now, watch, Answer::None, &mut actions),
                    }
                }
            }
            Event::Answered { watch, answer } => {
                if self.watches.get(&watch).is_some_and(|of| of.awaited == 0 && of.is_asking()) {
                    self.judge(now, watch, answer, &mut actions);
                }
            }
            Event::Woke => {
                while let Some((at, watch)) = self.due.first().copied().filter(|it| it.0 <= now) {
                    self.due.remove(&(at, watch));
                    self.look(now, watch, &mut actions);
                }
            }
        }
        actions
    }

    fn changed(&mut self, now: Moment, changed: Changed, actions: &mut Vec<Action>) {
        if let Some(id) = self.by_key.get(&changed.key) {
            if let Some(watch) = self.watches.get_mut(id) {
                watch.next = Some(Next { changed, origin: self.origin, heard: now });
            }
        } else if self.watches.len() >= self.watches_max {
            actions.push(Action::Skipped);
        } else {
            self.watch(now, Next { changed, origin: self.origin, heard: now });
        }
    }

    fn watch(&mut self, now: Moment, next: Next) {
        let Next { changed, origin, heard } = next;
        let id = WatchId(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        let owner = |node| Owner {
            node,
            sight: Sight::Unknown,
            cas_before: None,
            worst: None,
            suspect: None,
        };
        let owners = self.placement.owners(&changed.key).map(owner).collect();
        self.by_key.insert(changed.key.clone(), id);
        self.due.insert((heard.later(self.looks.in_flight).max(now), id));
        self.watches.insert(
            id,
            Watch {
                changed,
                origin,
                heard,
                stage: Stage::First,
                looked: heard,
                owners,
                awaited: 0,
                first_answer: None,
                next: None,
            },
        );
    }

    fn look(&mut self, now: Moment, id: WatchId, actions: &mut Vec<Action>) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.looked = now;
        watch.awaited = watch.owners.len();
        for owner in &mut watch.owners {
            owner.sight = Sight::Awaited;
            let (node, key) = (owner.node, watch.changed.key.clone());
            actions.push(Action::Look { watch: id, node, key, value: watch.changed.value.clone() });
        }
    }

    /// All looks of a stage are there, and the answer of the database if there is one to be had.
    fn judge(&mut self, now: Moment, id: WatchId, answer: Answer, actions: &mut Vec<Action>) {
        let Some(mut watch) = self.watches.remove(&id) else { return };
        let origin = self.origin;
        for at in 0..watch.owners.len() {
            let Some(owner) = watch.owners.get(at) else { continue };
            let (sight, node) = (owner.sight, owner.node);
            let age = watch.age(owner, origin, self.clocks.get(node.0));
            let found = watch.found(at, age, answer, self.looks);
            if let Some(owner) = watch.owners.get_mut(at) {
                owner.cas_before = sight.cas();
                owner.worst = owner.worst.max(found);
            }
            if let Some(verdict) = found {
                actions.push(Action::Found(watch.finding(verdict, at, answer)));
            }
            let over = match watch.stage {
                Stage::First | Stage::Second => None,
                Stage::Last => {
                    watch.owners.get(at).is_none_or(|it| it.suspect.is_none()).then_some(())
                }
                Stage::Again => watch.owners.get(at).and_then(|it| it.suspect).map(|_| ()),
            };
            if over.is_some() {
                let unjudged = match (sight, age) {
                    (Sight::Unknown | Sight::Awaited, _) => Some(Unjudged::Unreachable),
                    (Sight::Entry { .. }, Age::Unknown) if answer == Answer::None => {
                        Some(Unjudged::NotWatched)
                    }
                    _ => None,
                };
                actions.push(match unjudged {
                    Some(why) => Action::Unjudged { node, why },
                    None => Action::Judged { node },
                });
            }
        }
        if watch.stage == Stage::First {
            watch.first_answer = Some(answer);
        }
        self.go_on(now, id, watch);
    }

    fn go_on(&mut self, now: Moment, id: WatchId, mut watch: Watch) {
        let suspects = watch.owners.iter().any(|owner| owner.suspect.is_some());
        let next = match watch.stage {
            Stage::First => Some((Stage::Second, watch.heard.later(self.looks.late))),
            Stage::Second => Some((Stage::Last, watch.heard.later(self.looks.lost))),
            Stage::Last if suspects => Some((Stage::Again, now.later(self.looks.late))),
            Stage::Last | Stage::Again => None,
        };
        if let Some((stage, due)) = next {
            watch.stage = stage;
            self.due.insert((due.max(now), id));
            self.watches.insert(id, watch);
            return;
        }
        self.by_key.remove(&watch.changed.key);
        if let Some(next) = watch.next {
            self.watch(now, next);
        }
    }
}

impl Watch {
    fn is_asking(&self) -> bool {
        self.changed.value.is_some()
            && self.stage != Stage::Second
            && !self.owners.iter().any(|owner| owner.sight == Sight::Awaited)
    }

    fn age(&self, owner: &Owner, origin: u64, clock: Option<&NodeClock>) -> Age {
        let Sight::Entry { cas, filled, .. } = owner.sight else { return Age::Young };
        let read_before = match (filled, self.changed.number) {
            (Some(filled), Some(number)) => self.origin == origin && filled.sequence() < number,
            _ => false,
        };
        let before = clock.map(|clock| clock.stored_before(cas, self.changed.committed));
        match before {
            Some(Before::Yes) => Age::Stored,
            _ if read_before => Age::Read,
            Some(Before::No) => match clock.map(|clock| clock.stored_before(cas, self.heard)) {
                Some(Before::Yes) => Age::Between,
                _ => Age::Young,
            },
            Some(Before::Unknown) | None => Age::Unknown,
        }
    }

    /// What this look says of the key on one node.
    fn found(&mut self, at: usize, age: Age, answer: Answer, looks: Looks) -> Option<Verdict> {
        let (stage, elapsed) = (self.stage, self.looked.since(self.heard));
        let covered = self.changed.rule.is_some();
        let quiet = self.next.is_none();
        let first_answer = self.first_answer;
        let owner = self.owners.get_mut(at)?;
        let Sight::Entry { cas, value, .. } = owner.sight else {
            owner.suspect = owner.suspect.filter(|_| stage == Stage::Again);
            return None;
        };
        let stayed = owner.cas_before == Some(cas);
        if stage == Stage::Again {
            let wrong = owner.suspect == Some(cas) && quiet && answer.differs_from(value);
            return wrong.then(|| {
                let right_at_first = first_answer.is_some_and(|first| first.is(value));
                match age {
                    _ if !covered || right_at_first => Verdict::WrongRule,
                    Age::Stored | Age::Between => Verdict::Lost,
                    Age::Read | Age::Young | Age::Unknown => Verdict::Resurrected,
                }
            });
        }
        if covered && matches!(age, Age::Stored | Age::Read) {
            // At the first look nobody knows what was there before.
            let kept = age == Age::Stored || stayed || stage == Stage::First;
            return match elapsed {
                elapsed if elapsed < looks.late => Some(Verdict::InFlight),
                elapsed if elapsed < looks.lost => kept.then_some(Verdict::Late),
                _ if kept => Some(Verdict::Lost),
                _ => Some(Verdict::Resurrected),
            };
        }
        if stage == Stage::Last && quiet && answer.differs_from(value) {
            owner.suspect = Some(cas);
        }
        None
    }

    fn finding(&self, verdict: Verdict, at: usize, answer: Answer) -> Finding {
        let owner = self.owners.get(at);
        let sight = owner.map_or(Sight::Unknown, |owner| owner.sight);
        let (value, filled) = match sight {
            Sight::Entry { value, filled, .. } => (value, filled),
            _ => (None, None),
        };
        Finding {
            verdict,
            key: self.changed.key.clone(),
            node: owner.map_or(NodeId(0), |owner| owner.node),
            rule: self.changed.rule.clone(),
            transaction: Arc::clone(&self.changed.transaction),
            age: self.looked.since(self.heard),
            cas: sight.cas(),
            filled,
            database: match answer {
                answer if answer.is(value) => Agreement::Same,
                answer if answer.differs_from(value) => Agreement::Differs,
                _ => Agreement::NotAsked,
            },
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::placement as placement_of_the_example;
