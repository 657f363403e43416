//! [`Router`]: the routes' cores between a client and nodes, and [`Stock`]: a memcached that nobody here wrote, as a plain map.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use client::route::{
    Ask, Condition, Direct, Errand, Failure, LimitId, Missed, Nodes, Op, Outcome, Place, Reply,
    Routes, Send, TargetId, Ticket,
    health::{Event, Health},
    leases::{Lease, Leases, Whose},
    returning::{Knows, Returning},
};
use tokio::time::Instant;

/// A row's value: how often it was changed.
pub(crate) type Row = u32;
pub(crate) const KEY: &str = "k1";

/// What one node is asked: the command, what it stores, and for how long at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) op: Op,
    pub(crate) row: Row,
    pub(crate) token: u64,
    pub(crate) ttl_s_max: Option<u32>,
    pub(crate) key: &'a str,
}

/// What it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) row: Row,
    pub(crate) token: u64,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Answer {
        Answer { outcome, row: 0, token: 0 }
    }
}

/// A router without its sockets.
pub(crate) struct Router {
    routes: Arc<Routes>,
    health: RefCell<Vec<Health>>,
    returning: Vec<Returning>,
    leases: Leases,
    /// What stock nodes have missed, until they are told.
    kept: Vec<BTreeSet<String>>,
    began: Instant,
    now: Duration,
}

impl Nodes for Router {
    fn condition(&self, target: TargetId) -> Condition {
        self.health.borrow()[target.index()].condition()
    }

    fn take(&self, _: LimitId) -> bool {
        true
    }

    fn retry(&self) -> bool {
        true
    }
}

impl Router {
    /// `route` are lines of a routes file that begins at `start`; pools are called by their only node, `a`, `b` and `c`, which are the
    /// nodes 0, 1 and 2.
    pub(crate) fn new(kind: &str, route: &str) -> Router {
        let pool = |name| format!("[pool.{name}]\nservers = [\"{name}:1\"]\nkind = \"{kind}\"\n");
        let pools: String = ["a", "b", "c"].map(pool).concat();
        Router::of(&format!("start = \"start\"\n[route.start]\n{route}\n{pools}"))
    }

    pub(crate) fn of(file: &str) -> Router {
        let routes = Arc::new(Routes::parse(file).expect("a routes file"));
        let health: Vec<Health> =
            routes.targets().iter().map(|target| Health::new(target.health)).collect();
        Router {
            returning: vec![Returning::default(); health.len()],
            kept: vec![BTreeSet::new(); health.len()],
            health: RefCell::new(health),
            routes,
            leases: Leases::new(100),
            began: Instant::now(),
            now: Duration::ZERO,
        }
    }

    pub(crate) fn is(&self, at: usize, condition: Condition) -> bool {
        self.health.borrow()[at].condition() == condition
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn now(&self) -> Instant {
        self.began + self.now
    }

    /// Something happens to the node at `at` of the routes' list.
    pub(crate) fn tell(&mut self, at: usize, event: Event) {
        let now = self.now();
        self.health.get_mut()[at].step(now, event, 7);
    }

    /// A probe of a node that is out of use finds this.
    pub(crate) fn probe(&mut self, at: usize, knows: Knows) {
        let now = self.now();
        self.tell(at, Event::Probing);
        let ready = self.returning[at].reached(now, now, knows);
        self.tell(at, Event::Returned { ready });
    }

    /// A node does not answer, and is found so when it is probed.
    pub(crate) fn loses(&mut self, at: usize) {
        self.tell(at, Event::Disconnected);
        self.tell(at, Event::Probing);
        self.returning[at].unreachable();
        self.tell(at, Event::ProbeFailed);
    }

    /// A stock node is told what was kept for it, and is used again.
    pub(crate) fn replay(&mut self, at: usize, node: &mut Stock) {
        for key in std::mem::take(&mut self.kept[at]) {
            node.forget(&key);
        }
        self.tell(at, Event::CaughtUp);
        self.tell(at, Event::Probing);
        self.tell(at, Event::Returned { ready: true });
    }

    /// Whether nothing is kept for a stock node.
    fn knows_all(&self, at: usize) -> bool {
        self.kept[at].is_empty()
    }

    /// A client's request; `node` answers for all of them.
    pub(crate) fn ask(
        &mut self,
        op: Op,
        key: &str,
        row: Row,
        token: u64,
        node: &mut dyn FnMut(usize, Asked<'_>) -> Answer,
    ) -> Answer {
        if op.is_bound() {
            match self.leases.redeem(self.now(), token) {
                Whose::Home => {}
                Whose::Nobody => return Outcome::NotFound.into(),
                Whose::Away(Lease { target, token, change }) => {
                    let ttl_s_max = change.ttl_s_max;
                    let answer = node(target.index(), Asked { op, row, token, ttl_s_max, key });
                    self.tell(target.index(), Event::Ended(answer.outcome));
                    return answer;
                }
            }
        }
        self.errand(op, key, (row, token), node)
    }

    fn errand(
        &mut self,
        op: Op,
        key: &str,
        (row, token): (Row, u64),
        node: &mut dyn FnMut(usize, Asked<'_>) -> Answer,
    ) -> Answer {
        let (routes, ask) = (Arc::clone(&self.routes), Ask { op, key: key.as_bytes() });
        let asked = |ttl_s_max| Asked { op, row, token, ttl_s_max, key };
        let mut answers: BTreeMap<Ticket, (Send, Answer)> = BTreeMap::new();
        let mut first = None;
        let (mut errand, mut step) = match routes.direct(&ask, self, 0) {
            None => Errand::begin(&routes, &ask, self, 0),
            Some(direct) => {
                let Direct { target, place, .. } = direct;
                let answer = node(target.index(), asked(None));
                self.tell(target.index(), Event::Ended(answer.outcome));
                if direct.ends_with(answer.outcome) {
                    let home = Lease {
                        target,
                        token: answer.token,
                        change: client::route::Change {
                            strip: 0,
                            form: client::route::Form::AsAsked,
                            ttl_s_max: None,
                        },
                    };
                    return self.given(home, place, answer);
                }
                first = Some(answer);
                Errand::resume(&routes, &ask, self, 0, (direct, answer.outcome))
            }
        };
        let (mut reply, mut waiting) = (None, Vec::new());
        loop {
            for Missed { target, .. } in std::mem::take(&mut step.missed) {
                self.kept[target.index()].insert(key.to_owned());
                self.tell(target.index(), Event::FellBehind);
            }
            reply = reply.or(step.reply.take());
            waiting.append(&mut step.sends);
            let Some(send) = waiting.pop() else { break };
            let answer = node(send.target.index(), asked(send.change.ttl_s_max));
            self.tell(send.target.index(), Event::Ended(answer.outcome));
            answers.insert(send.ticket, (send, answer));
            step = errand.answered(&ask, self, send.ticket, answer.outcome);
        }
        assert!(errand.is_over());
        match reply.expect("a reply") {
            Reply::Local(outcome) => outcome.into(),
            Reply::Error(text) => panic!("{text}"),
            Reply::Of { ticket, place } => match answers.get(&ticket) {
                Some(&(Send { target, change, .. }, answer)) => {
                    self.given(Lease { target, token: answer.token, change }, place, answer)
                }
                None => first.expect("what was asked directly"),
            },
        }
    }

    /// The token that the client gets.
    fn given(&mut self, lease: Lease, place: Place, answer: Answer) -> Answer {
        if !matches!(answer.outcome, Outcome::NotFound | Outcome::HotMiss | Outcome::Hit) {
            return answer;
        }
        let token = self.leases.give(self.now(), lease, place);
        Answer { token, ..answer }
    }
}

/// A memcached: `mg` with `N` leaves a place that `ms` with its number fills, a delete takes both away.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    pub(crate) away: bool,
    /// Answers deletes with an error.
    pub(crate) busy: bool,
    entries: BTreeMap<String, Row>,
    places: BTreeMap<String, u64>,
    numbers: u64,
    pub(crate) ttl_s: Option<u32>,
}

impl Stock {
    fn forget(&mut self, key: &str) -> bool {
        self.places.remove(key);
        self.entries.remove(key).is_some()
    }

    /// What it was given for a short time has ended.
    pub(crate) fn expire(&mut self) {
        if self.ttl_s.is_some() {
            self.entries.clear();
        }
    }

    pub(crate) fn ask(&mut self, asked: Asked<'_>) -> Answer {
        let Asked { op, row, token, key, ttl_s_max } = asked;
        if self.away {
            return Outcome::Failed(Failure::Timeout).into();
        }
        match (op, self.entries.get(key).copied()) {
            (Op::Get | Op::LeaseGet, Some(row)) => Answer { outcome: Outcome::Hit, row, token: 0 },
            (Op::LeaseGet, None) => {
                self.numbers += 1;
                let token = self.numbers + 100;
                self.places.insert(key.to_owned(), token);
                Answer { outcome: Outcome::NotFound, row: 0, token }
            }
            (Op::LeaseSet, _) if self.places.get(key) != Some(&token) => Outcome::NotFound.into(),
            (Op::Set | Op::LeaseSet, _) => {
                self.places.remove(key);
                self.ttl_s = ttl_s_max;
                self.entries.insert(key.to_owned(), row);
                Outcome::Stored.into()
            }
            (Op::Delete, _) if self.busy => Outcome::Failed(Failure::Busy).into(),
            (Op::Delete, _) if self.forget(key) => Outcome::Deleted.into(),
            _ => Outcome::NotFound.into(),
        }
    }
}

/// Stock nodes behind a router, and one row of a database.
pub(crate) struct Fleet {
    pub(crate) router: Router,
    pub(crate) nodes: Vec<Stock>,
    pub(crate) row: Row,
}

/// A home, and a gutter that stands in for it.
pub(crate) const GUTTER: &str = "kind = \"gutter\"\nnormal = \"a\"\ngutter = \"b\"";
pub(crate) const HOME: usize = 0;
pub(crate) const STAND_IN: usize = 1;

impl Fleet {
    pub(crate) fn new(route: &str) -> Fleet {
        let nodes = (0..3).map(|_| Stock::default()).collect();
        Fleet { router: Router::new("memcached", route), nodes, row: 1 }
    }

    pub(crate) fn ask(&mut self, op: Op, row: Row, token: u64) -> Answer {
        let Fleet { router, nodes, .. } = self;
        router.ask(op, KEY, row, token, &mut |at, asked| nodes[at].ask(asked))
    }

    /// What a reader gets: from a cache, if one has it.
    pub(crate) fn get(&mut self) -> Option<Row> {
        let answer = self.ask(Op::Get, 0, 0);
        (answer.outcome == Outcome::Hit).then_some(answer.row)
    }

    /// Reads the row where no cache has it, and stores it.
    pub(crate) fn read(&mut self) -> Row {
        if let Some(row) = self.get() {
            return row;
        }
        self.ask(Op::Set, self.row, 0);
        self.row
    }

    /// The row changes, and its key is deleted.
    pub(crate) fn change(&mut self) -> Outcome {
        self.row += 1;
        self.ask(Op::Delete, 0, 0).outcome
    }

    /// A node answers nothing, and counts as out of use.
    pub(crate) fn leaves(&mut self, at: usize) {
        self.nodes[at].away = true;
        self.router.tell(at, Event::Disconnected);
    }

    /// It answers again, with what it had.
    pub(crate) fn answers_again(&mut self, at: usize) {
        self.nodes[at].away = false;
    }

    /// A probe: one that answers, and was told everything, is used again.
    pub(crate) fn probe(&mut self, at: usize) {
        let ready = self.router.knows_all(at);
        self.router.tell(at, Event::Probing);
        let away = self.nodes[at].away;
        self.router.tell(at, if away { Event::ProbeFailed } else { Event::Returned { ready } });
    }

    /// It is told what it has missed, and used again.
    pub(crate) fn returns(&mut self, at: usize) {
        self.answers_again(at);
        self.nodes[at].busy = false;
        self.router.replay(at, &mut self.nodes[at]);
    }
}
