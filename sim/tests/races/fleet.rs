//! Nodes that come, go, stand in for each other and share keys, behind routers.

use std::time::Duration;

use cache_node::{
    control::misses_ring,
    rules::{Fill, OnStale, Reader},
};
use client::route::{Condition, Failure, Op, Outcome, health::Event, returning::Knows};
use invalidator::{
    ControlPort, Former, Markers, NodeSettings, OnFloor, Settings,
    rings::{self, Share},
};
use schemas::{cure::Cure, ring::Hashing};
use sim::database::{KeyId, Value};

use crate::{
    race::{Ending, Promise, broken_if, promise, race},
    routed::{Answer, Fleet, GUTTER, HOME, KEY, Router, STAND_IN},
    stage::{A, PRIMARY, Stage, Wire, key},
};

/// A reader gets what the row says, or nothing.
pub(crate) fn honest(fleet: &mut Fleet) -> Ending {
    match fleet.get() {
        Some(got) if got != fleet.row => {
            Err(format!("a reader gets {got}, the row says {}", fleet.row))
        }
        _ => Ok(()),
    }
}

#[test]
fn r09_token_of_a_node_that_stood_in() {
    // Its owner gives out the same number by itself, later.
    race(&[&[Cure::TokenGoesBack]], || {
        let mut f = Fleet::new(GUTTER);
        f.leaves(HOME);
        let Answer { token: slow, .. } = f.ask(Op::LeaseGet, 0, 0);
        let old = f.row;
        f.returns(HOME);
        f.change();
        f.ask(Op::LeaseGet, 0, 0);
        f.ask(Op::LeaseSet, old, slow);
        honest(&mut f)
    });
    // The owner is away when its token comes back, and the gutter has given out the same number.
    race(&[&[Cure::TokenAsksItsNode]], || {
        let mut f = Fleet::new(GUTTER);
        let Answer { token: slow, .. } = f.ask(Op::LeaseGet, 0, 0);
        let old = f.row;
        f.leaves(HOME);
        f.change();
        f.ask(Op::LeaseGet, 0, 0);
        f.ask(Op::LeaseSet, old, slow);
        honest(&mut f)
    });
}

#[test]
fn r15_copy_in_the_memory_of_an_application() {
    // It has no deletes, so it must end by itself; and what it was copied from must be asked then, and not an older copy.
    promise(|keeps| {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        let (copy, until) = (s.get(0, A).expect("a hit"), 1000);
        s.commit(A);
        let mut passed = 0;
        while passed <= until {
            s.pass(100);
            passed += 100;
            s.settle();
        }
        let got = if keeps == Promise::Kept { s.get(0, A) } else { Some(copy) };
        broken_if!(got.is_some_and(|got| got != s.db.settled(A)), "an old copy, after its time")
    });
}

/// One of ours, and another that stands in for it, both with every delete.
pub(crate) struct Ours {
    stage: Stage,
    router: Router,
    pub(crate) away: bool,
    /// How many times the row had changed when the newest value was read that somebody has seen.
    seen: u32,
}

impl Ours {
    pub(crate) fn new() -> Ours {
        let stage = Stage::with(|plan| (plan.nodes, plan.settings.on_stale) = (2, OnStale::Ttl));
        Ours { stage, router: Router::new("mcsqueal", GUTTER), away: false, seen: 0 }
    }

    /// A reader, who fills what he misses. What he gets, and whether somebody had it.
    fn read(&mut self) -> (Value, bool) {
        let Ours { stage, router, away, .. } = self;
        let (mut got, mut asked) = (None, STAND_IN);
        let answer = router.ask(Op::Get, KEY, 0, 0, &mut |at, _| {
            if at == HOME && *away {
                return Outcome::Failed(Failure::Timeout).into();
            }
            (got, asked) = (stage.get(at, A), at);
            if got.is_some() { Outcome::Hit.into() } else { Outcome::NotFound.into() }
        });
        if let (Outcome::Hit, Some(got)) = (answer.outcome, got) {
            return (got, true);
        }
        stage.cache_by(Reader::Anywhere, asked, A, PRIMARY);
        (stage.read(PRIMARY, A), false)
    }

    /// The home stands still with a value in it, which changes; the gutter gets the new one.
    fn has_stood_still(ms: u64) -> Ours {
        let mut o = Ours::new();
        o.read();
        o.stands_still();
        o.commit();
        o.pass(ms);
        o.stage.settle();
        o.read();
        o.read();
        o.away = false;
        o
    }

    /// Nothing reaches it, and the router has noticed.
    pub(crate) fn stands_still(&mut self) {
        self.away = true;
        self.stage.nodes[HOME].wire = Wire::Cut;
        self.router.loses(HOME);
    }

    /// Clients reach it, and no lane yet.
    pub(crate) fn goes_on(&mut self) {
        self.away = false;
    }

    /// Its lane, too.
    pub(crate) fn connects(&mut self) {
        if !self.away {
            self.stage.connect(HOME);
            self.stage.settle();
        }
    }

    pub(crate) fn commit(&mut self) {
        self.stage.commit(A);
        self.stage.settle();
    }

    pub(crate) fn answers_late(&mut self) {
        if self.router.is(HOME, Condition::Down) {
            self.router.tell(HOME, Event::Ended(Outcome::Hit));
        }
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.stage.pass(ms);
        self.router.pass(ms);
    }

    pub(crate) fn probe(&mut self) {
        let (now, rules) = (self.stage.moment(), &self.stage.nodes[HOME].rules);
        let held = rules.is_quarantined();
        let knows = if held { Knows::CatchingUp } else { Knows::Published(rules.age(now)) };
        self.router.probe(HOME, knows);
    }

    /// Nobody gets what he has seen replaced.
    fn honest(&mut self) -> Ending {
        let (got, _) = self.read();
        broken_if!(got != self.stage.db.settled(A), "a reader gets what the gutter had replaced")
    }

    /// Nobody gets an older value than somebody has got before.
    pub(crate) fn never_goes_back(&mut self) -> Ending {
        let (got, _) = self.read();
        let age = got.map_or(0, |txn| txn.0);
        let before = self.seen;
        self.seen = before.max(age);
        broken_if!(age < before, "a reader gets what somebody has seen replaced")
    }
}

#[test]
fn r42_router_asks_before_the_node_knows() {
    // It was away for so short a time that by its own clock it has missed nothing.
    race(&[&[Cure::ReturnAsksNews]], || {
        let mut o = Ours::has_stood_still(2000);
        o.probe();
        o.honest()?;
        o.pass(1500);
        o.probe();
        o.honest()
    });
    // What it answers late says nothing of how it is.
    race(&[&[Cure::ReturnAsksProbe]], || {
        let mut o = Ours::has_stood_still(2000);
        o.router.tell(HOME, Event::Ended(Outcome::Hit));
        o.honest()
    });
    // In quarantine it has nothing for anybody, and the gutter would have had it.
    race(&[&[Cure::ReturnAsksQuarantine]], || {
        let mut o = Ours::has_stood_still(6000);
        let saved = o.stage.save(HOME);
        o.stage.restore(HOME, saved);
        o.probe();
        let (_, cached) = o.read();
        broken_if!(!cached, "the database is asked for what the gutter has")
    });
    // And then it is used.
    let mut o = Ours::has_stood_still(2000);
    o.stage.connect(HOME);
    o.stage.settle();
    o.probe();
    o.pass(1500);
    o.stage.settle();
    o.probe();
    assert_eq!(o.honest(), Ok(()));
    assert!(o.stage.get(HOME, A).is_some(), "its reader has filled it");
}

#[test]
fn r42_stock_node_comes_back() {
    let away = || {
        let mut f = Fleet::new(GUTTER);
        f.read();
        f.leaves(HOME);
        f.change();
        f.read();
        f
    };
    race(&[&[Cure::FailedChangeIsMissed], &[Cure::MissedKeepsFromReads]], || {
        let mut f = away();
        f.answers_again(HOME);
        f.router.tell(HOME, Event::Probing);
        f.router.tell(HOME, Event::Returned { ready: true });
        honest(&mut f)
    });
    // Told what it has missed, it serves again.
    let mut f = away();
    f.returns(HOME);
    assert_eq!(f.read(), f.row);
    f.leaves(STAND_IN);
    assert_eq!(f.get(), Some(f.row));
}

#[test]
fn r43_gutter_at_a_second_absence() {
    race(&[&[Cure::DeletesReachEveryRead]], || {
        let mut f = Fleet::new(GUTTER);
        f.leaves(HOME);
        f.read();
        f.returns(HOME);
        f.change();
        f.leaves(HOME);
        honest(&mut f)
    });
    // Somebody has deleted at the owner alone.
    race(&[&[Cure::GutterCapsTime]], || {
        let mut f = Fleet::new(GUTTER);
        f.leaves(HOME);
        f.read();
        f.returns(HOME);
        f.row += 1;
        f.leaves(HOME);
        f.nodes[STAND_IN].expire(); // A minute has passed.
        honest(&mut f)
    });
}

const HASHING: Hashing = Hashing::Ketama;

fn nodes(numbers: &[usize]) -> Vec<NodeSettings> {
    let node = |number: &usize| NodeSettings {
        address: format!("127.0.0.1:{}", 10_000 + number),
        weight: 1,
        control: Some(ControlPort {
            address: format!("127.0.0.1:{}", 20_000 + number),
            secret: None,
            tls: None,
            ring_version: 1,
        }),
    };
    numbers.iter().map(node).collect()
}

/// Two nodes, and the rings that say which keys each of them has.
struct Ring {
    stage: Stage,
    /// By node.
    known: [u64; 2],
    /// A key that the second node gets when it joins.
    moves: KeyId,
}

impl Ring {
    /// The first node has everything.
    fn new() -> Ring {
        let mut stage = Stage::with(|plan| plan.nodes = 2);
        let both = rings::members(&settings(&[0, 1], &[])).expect("a ring");
        let moves = (1..100).find(|id| both[1].share.owns(&key(*id))).expect("one of many keys");
        stage.cache(0, moves, PRIMARY);
        let mut ring = Ring { stage, known: [1, 1], moves };
        ring.change(&[0], &[], 1);
        ring
    }

    /// Other nodes, some of which are in the former ring alone.
    fn change(&mut self, now: &[usize], before: &[usize], version: u64) {
        let members = rings::members(&settings(now, before)).expect("a ring");
        for node in 0..2 {
            let address = &nodes(&[node])[0].address;
            let member = members.iter().find(|member| member.address == *address);
            let nothing = Share { rings: Vec::new(), said: Vec::new(), on_floor: OnFloor::Alarm };
            let share = member.map_or(nothing, |member| member.share.clone());
            self.stage.nodes[node].share = Some(share);
            if !now.contains(&node) {
                continue;
            }
            if misses_ring(version, self.known[node]) {
                self.stage.start_empty(node);
                self.stage.no_marks(node);
            } else if version > self.known[node] {
                self.stage.nodes[node].rules.quarantine();
            }
            self.known[node] = version;
            self.stage.connect(node);
        }
        self.stage.settle();
    }
}

fn settings(now: &[usize], before: &[usize]) -> Settings {
    Settings {
        cluster: "main".to_owned(),
        hashing: HASHING,
        nodes: nodes(now),
        former: Some(Former { hashing: HASHING, nodes: nodes(before) }),
        revision: 0,
        fill_age_max: Duration::from_secs(10),
        on_floor: OnFloor::Alarm,
        markers: Markers::None,
    }
}

#[test]
fn r44_first_owner_gets_its_key_back() {
    race(&[&[Cure::MissedRingForgets]], || {
        let mut r = Ring::new();
        r.change(&[0, 1], &[0], 2);
        r.change(&[0, 1], &[], 2);
        r.stage.commit(r.moves);
        r.stage.settle();
        // Keys move to a node that may have had them: the number rises by two.
        r.change(&[0], &[0, 1], 4);
        r.stage.honest(0, r.moves)
    });
}

#[test]
fn r45_client_with_the_old_ring() {
    race(&[&[Cure::DeletesAtFormerOwner]], || {
        let mut r = Ring::new();
        r.change(&[0, 1], &[0], 2);
        r.stage.commit(r.moves);
        r.stage.settle();
        r.stage.honest(0, r.moves)?;
        // Both are useful: clients of either ring fill.
        r.stage.cache(0, r.moves, PRIMARY);
        r.stage.cache(1, r.moves, PRIMARY);
        r.stage.honest(0, r.moves)
    });
}

#[test]
fn r49_replica_has_not_got_a_delete() {
    let replicas = "kind = \"all-fastest\"\nchildren = [\"a\", \"b\", \"c\"]";
    race(&[&[Cure::FailedChangeIsMissed], &[Cure::MissedKeepsFromReads]], || {
        let mut f = Fleet::new(replicas);
        f.read();
        // One delete is lost; the next request is answered again.
        f.nodes[2].away = true;
        f.change();
        f.answers_again(2);
        honest(&mut f)
    });
}

#[test]
fn r50_node_answers_and_drops_deletes() {
    // One of ours hears nothing of the stream, and says so.
    race(&[&[Cure::ServeAsksFreshness]], || {
        let mut s = Stage::new();
        s.cache(0, A, PRIMARY);
        s.nodes[0].wire = Wire::LosesBatches;
        s.commit(A);
        s.publish();
        s.deliver(0);
        s.pass(6000);
        s.not_late(0, A)
    });
    // Of a stock one, the delete that was not answered is the sign.
    race(&[&[Cure::FailedChangeIsMissed], &[Cure::MissedKeepsFromReads]], || {
        let mut f = Fleet::new("kind = \"failover\"\nchildren = [\"a\", \"b\"]");
        f.read();
        f.nodes[HOME].busy = true;
        f.change();
        honest(&mut f)
    });
}

#[test]
fn r51_node_that_is_too_busy_for_deletes() {
    race(&[&[Cure::FailedChangeIsMissed]], || {
        let mut f = Fleet::new(GUTTER);
        f.read();
        f.nodes[HOME].busy = true;
        for _ in 0..10 {
            let said = f.change();
            broken_if!(said == Outcome::Deleted, "a delete counts as done that was refused")?;
        }
        honest(&mut f)?;
        f.nodes[HOME].busy = false;
        f.returns(HOME);
        honest(&mut f)
    });
}

#[test]
fn r63_node_gets_back_a_key_without_its_tombstone() {
    race(&[&[Cure::MissedRingForgets]], || {
        let mut r = Ring::new();
        let (old, seen) = (r.stage.read(PRIMARY, r.moves), r.stage.snapshot_version(PRIMARY));
        r.stage.nodes[0].shelf.0.clear();
        r.change(&[0, 1], &[0], 2);
        r.change(&[0, 1], &[], 2);
        r.stage.commit(r.moves);
        r.stage.settle();
        r.change(&[0], &[0, 1], 4);
        r.stage.fill(0, r.moves, old, Fill::Version(seen));
        r.stage.ends_honest(0, r.moves)
    });
}
