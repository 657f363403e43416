//! The poller against servers whose sets are known: what it says of them was true when the round began, and is true
//! now.

use std::collections::BTreeSet;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use schemas::gtid::{Gtid, Uuid};

use super::*;

const SERVERS: usize = 3;
const EXCLUDE_AFTER: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
enum Op {
    /// The source has another transaction, which the first server shows at once.
    Commit,
    /// A server shows the one that it is missing with this index.
    Apply {
        server: usize,
        which: usize,
    },
    /// A server gets a transaction that the source does not have.
    Errant {
        server: usize,
    },
    /// Readers may read there, from now on.
    Add {
        server: usize,
        primary: bool,
    },
    Remove {
        server: usize,
    },
    /// The stream says what the source has.
    Progress,
    /// These are asked, and some of them answer.
    Round {
        answer: [bool; SERVERS],
    },
    Pass {
        milliseconds: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let server = || 0..SERVERS;
    prop_oneof![
        4 => Just(Op::Commit),
        6 => (server(), 0..3_usize).prop_map(|(server, which)| Op::Apply { server, which }),
        1 => server().prop_map(|server| Op::Errant { server }),
        2 => (server(), any::<bool>()).prop_map(|(server, primary)| Op::Add { server, primary }),
        1 => server().prop_map(|server| Op::Remove { server }),
        3 => Just(Op::Progress),
        8 => any::<[bool; SERVERS]>().prop_map(|answer| Op::Round { answer }),
        2 => (0..300_u64).prop_map(|milliseconds| Op::Pass { milliseconds }),
    ]
}

/// A server as it is.
#[derive(Clone, Debug, Default)]
struct Real {
    has: BTreeSet<u64>,
    foreign: bool,
    /// Since when it is counted, as what; and when it was asked last and answered.
    role: Option<Role>,
    heard: Moment,
}

struct World {
    poller: Poller,
    servers: [Real; SERVERS],
    written: u64,
    now: u64,
}

fn number(uuid: u8, number: u64) -> Gtid {
    Gtid::Mysql { uuid: Uuid([uuid; 16]), tag: "".into(), number }
}

fn set(numbers: impl IntoIterator<Item = u64>, foreign: Option<Gtid>) -> GtidSet {
    let mut set = GtidSet::empty(Dialect::Mysql);
    let own = numbers.into_iter().map(|of| number(1, of));
    for gtid in own.chain(foreign) {
        assert!(set.insert(&gtid));
    }
    set
}

impl World {
    fn new() -> World {
        let mut poller = Poller::new(Dialect::Mysql, Some(EXCLUDE_AFTER));
        let origin = Origin::Mysql { uuid: Uuid([1; 16]), tag: "".into(), server_id: 1 };
        let (source, before) = ("s".into(), GtidSet::empty(Dialect::Mysql));
        let start = EpochStart { source, epoch: 1, origin, first: 1, before, lossless: true };
        poller.learn(Moment::START, start);
        World { poller, servers: std::array::from_fn(|_| Real::default()), written: 0, now: 1000 }
    }

    fn moment(&self) -> Moment {
        Moment::after_start(Duration::from_millis(self.now))
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let now = self.moment();
        match *op {
            Op::Commit => {
                self.written += 1;
                self.servers[0].has.insert(self.written);
            }
            Op::Apply { server, which } => {
                let real = &mut self.servers[server];
                let mut missing = (1..=self.written).filter(|of| !real.has.contains(of));
                if let Some(next) = missing.nth(which) {
                    real.has.insert(next);
                }
            }
            Op::Errant { server } => self.servers[server].foreign = true,
            Op::Add { server, primary } => {
                let role = if primary { Role::Primary } else { Role::Replica };
                self.poller.add(now, id(server), role);
                let real = &mut self.servers[server];
                if real.role.replace(role).is_none() {
                    real.heard = now;
                }
            }
            Op::Remove { server } => {
                self.poller.remove(id(server));
                self.servers[server].role = None;
            }
            Op::Progress => self.poller.source_executed(&set(1..=self.written, None)),
            Op::Round { answer } => return self.round(answer),
            Op::Pass { milliseconds } => self.now += milliseconds,
        }
        Ok(())
    }

    /// Answers count from when the question was asked.
    fn round(&mut self, answer: [bool; SERVERS]) -> Result<(), TestCaseError> {
        self.now += 1;
        let (began, before) = (self.moment(), self.servers.clone());
        for (server, _) in answer.iter().enumerate().filter(|(_, answers)| **answers) {
            let real = &mut self.servers[server];
            let foreign = real.foreign.then(|| number(9, 1));
            self.poller.answered(began, id(server), &set(real.has.iter().copied(), foreign));
            if real.role.is_some() {
                real.heard = began;
            }
        }
        let poll = self.poller.poll(began, began);
        let counted = |real: &&Real| real.role.is_some() && began.since(real.heard) < EXCLUDE_AFTER;
        for real in self.servers.iter().filter(counted) {
            self.is_there(poll.region, real)?;
            if real.role == Some(Role::Primary) {
                self.is_there(poll.primary, real)?;
            }
        }
        let above = |real: &Real| {
            let newest = real.has.last().map_or(Version::ZERO, |of| version(*of));
            real.foreign || newest > poll.highest
        };
        if poll.highest < Version::MAX {
            let seen = before.iter().find(|real| real.role.is_some() && above(real));
            prop_assert!(seen.is_none(), "{} is not the highest: {:?}", poll.highest, seen);
        }
        let all =
            self.servers.iter().zip(answer).all(|(real, answers)| answers || real.role.is_none());
        if all && self.servers.iter().all(|real| !real.foreign) {
            self.is_useful(&poll)?;
        }
        Ok(())
    }

    fn is_there(&self, position: Version, real: &Real) -> Result<(), TestCaseError> {
        let missing = (1..=self.written).find(|of| !real.has.contains(of));
        let hole = missing.filter(|of| version(*of) <= position);
        prop_assert!(hole.is_none(), "{position} lacks {hole:?}: {real:?}");
        Ok(())
    }

    /// Every server answered: the position is the lowest of what they have without a hole.
    fn is_useful(&self, poll: &Poll) -> Result<(), TestCaseError> {
        let counted = self.servers.iter().filter(|real| real.role.is_some());
        let run = |real: &Real| (1..=self.written).take_while(|of| real.has.contains(of)).last();
        let lowest = counted.map(|real| version(run(real).unwrap_or(0))).min();
        prop_assert_eq!(poll.region, lowest.unwrap_or(Version::ZERO));
        Ok(())
    }
}

fn id(server: usize) -> InstanceId {
    InstanceId(u16::try_from(server).unwrap())
}

fn version(sequence: u64) -> Version {
    Version::new(1, sequence).unwrap()
}

fn run(mut runner: TestRunner) -> Result<(), String> {
    let agrees = |ops: Vec<Op>| {
        let mut world = World::new();
        ops.iter().try_for_each(|op| world.step(op))
    };
    runner.run(&vec(op(), 0..60), agrees).map_err(|found| found.to_string())
}

#[test]
fn a_poll_says_what_is_true_of_every_server() {
    let config = Config { failure_persistence: None, ..Config::default() };
    assert_eq!(run(TestRunner::new(config)), Ok(()));
}

/// A model that cannot tell when a cure is off proves nothing.
#[test]
fn the_model_misses_each_cure() {
    let (cases, max_shrink_iters, failure_persistence) = (5000, 0, None);
    let config = Config { cases, max_shrink_iters, failure_persistence, ..Config::default() };
    for cure in [
        Cure::PositionIsLowest,
        Cure::PositionIsContiguous,
        Cure::UnreachableHolds,
        Cure::PrimaryPositionAsksFormer,
        Cure::HighestAsksEveryInstance,
    ] {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let runner = TestRunner::new_with_rng(config.clone(), rng);
        assert!(cure.off(|| run(runner)).is_err(), "the model does not miss {cure:?}");
    }
}
