//! The table against histories of many epochs: who wrote what in which order, and what survived. The model is the
//! history itself.

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::*;
use crate::gtid::{Dialect, Uuid};

const SERVERS: usize = 3;

/// One epoch: who writes, how many transactions, and how many of them the next epoch has lost.
type Reign = (usize, u64, u64);

#[derive(Clone, Copy, Debug)]
struct Txn {
    version: Version,
    server: usize,
}

struct History {
    table: EpochTable,
    /// In order, without what was lost.
    kept: Vec<Txn>,
    /// Lost transactions whose number nobody can use again.
    lost: Vec<Txn>,
}

fn gtid(txn: Txn) -> Gtid {
    Gtid::Mysql { uuid: uuid(txn.server), tag: "".into(), number: txn.version.sequence() }
}

fn uuid(server: usize) -> Uuid {
    Uuid([u8::try_from(server).unwrap() + 1; 16])
}

fn set(txns: &[Txn]) -> GtidSet {
    let mut set = GtidSet::empty(Dialect::Mysql);
    for txn in txns {
        assert!(set.insert(&gtid(*txn)));
    }
    set
}

fn history(reigns: &[Reign]) -> History {
    let (mut table, mut kept, mut lost) = (EpochTable::default(), Vec::new(), Vec::new());
    let reigns = reigns.iter().enumerate().map(|(at, reign)| (at + 1 == reigns.len(), reign));
    for (epoch, (is_last, (server, wrote, lose))) in (1..).zip(reigns) {
        let own = |txn: &&Txn| txn.server == *server;
        let last = kept.iter().filter(own).map(|txn: &Txn| txn.version.sequence()).max();
        let first = last.unwrap_or(0) + 1;
        let (source, tag, server_id) = ("s".into(), "".into(), u32::try_from(*server).unwrap());
        let origin = Origin::Mysql { uuid: uuid(*server), tag, server_id };
        let before = set(&kept);
        table.learn(EpochStart { source, epoch, origin, first, before, lossless: false });
        let survive = if is_last { *wrote } else { wrote.saturating_sub(*lose) };
        for number in 0..*wrote {
            let version = Version::new(epoch, first + number).unwrap();
            let to = if number < survive { &mut kept } else { &mut lost };
            to.push(Txn { version, server: *server });
        }
    }
    lost.retain(|txn: &Txn| {
        let mut later = table.iter().filter(|start| start.epoch > txn.version.epoch());
        !later.any(|start| writes(start, txn.server) && start.first <= txn.version.sequence())
    });
    History { table, kept, lost }
}

fn writes(start: &EpochStart, server: usize) -> bool {
    matches!(&start.origin, Origin::Mysql { uuid: of, .. } if *of == uuid(server))
}

fn agrees(
    (reigns, missing, lost): (Vec<Reign>, Vec<usize>, Option<usize>),
) -> Result<(), TestCaseError> {
    let History { table, kept, lost: gone } = history(&reigns);
    let newest = table.newest().unwrap();
    let (epoch, first) = (newest.epoch, newest.first);
    let missing: Vec<usize> =
        missing.iter().filter(|_| !kept.is_empty()).map(|at| at % kept.len()).collect();
    let has: Vec<Txn> = kept
        .iter()
        .enumerate()
        .filter(|(at, _)| !missing.contains(at))
        .map(|(_, txn)| *txn)
        .collect();
    let mut executed = set(&has);
    let foreign = lost.filter(|_| !gone.is_empty()).map(|at| gone[at % gone.len()]);
    if let Some(foreign) = foreign {
        assert!(executed.insert(&gtid(foreign)));
    }
    let standing = table.standing(&executed, &set(&kept));
    let is_missing = |txn: &&Txn| !executed.contains(&gtid(**txn));
    let hole = kept.iter().find(is_missing).map(|txn| txn.version);
    let before = |hole: Version| Version::new(hole.epoch(), hole.sequence() - 1).unwrap();
    let whole = kept.last().map_or(Version::ZERO, |txn| txn.version);
    let whole = whole.max(Version::new(epoch, first - 1).unwrap());
    prop_assert_eq!(standing.foreign, foreign.is_some());
    if let Some(foreign) = foreign {
        let stands = standing.position.epoch();
        prop_assert!(stands < epoch, "a foreign server is in the newest epoch");
        prop_assert!(stands <= foreign.version.epoch(), "{foreign:?} is there, and was lost");
        prop_assert!(hole.is_none_or(|hole| standing.position < hole), "{hole:?} is missing");
        prop_assert_eq!(standing.highest, Version::MAX);
    } else {
        prop_assert_eq!(standing.position, hole.map_or(whole, before));
        prop_assert_eq!(standing.highest, has.last().map_or(Version::ZERO, |txn| txn.version));
    }
    for txn in &has {
        let named = table.version_of(&gtid(*txn), &executed);
        prop_assert_eq!(named, foreign.is_none().then_some(txn.version));
    }
    for txn in &gone {
        prop_assert_eq!(table.version_of(&gtid(*txn), &set(&kept)), None, "{:?} was lost", txn);
    }
    Ok(())
}

fn run(mut runner: TestRunner) -> Result<(), String> {
    let reigns = vec((0..SERVERS, 0..5_u64, 0..3_u64), 1..6);
    let strategy = (reigns, vec(0..20_usize, 0..3), proptest::option::weighted(0.3, 0..9_usize));
    runner.run(&strategy, agrees).map_err(|found| found.to_string())
}

#[test]
fn a_set_stands_where_the_history_first_misses_something() {
    let config = Config { failure_persistence: None, ..Config::default() };
    assert_eq!(run(TestRunner::new(config)), Ok(()));
}

/// A model that cannot tell when a cure is off proves nothing.
#[test]
fn the_model_misses_each_cure() {
    let (cases, max_shrink_iters, failure_persistence) = (5000, 0, None);
    let config = Config { cases, max_shrink_iters, failure_persistence, ..Config::default() };
    for cure in [
        Cure::PositionEntersEmptyEpoch,
        Cure::PositionIsContiguous,
        Cure::ForeignHoldsPosition,
        Cure::LostHoldsItsEpoch,
        Cure::VersionAsksSurvival,
        Cure::VersionAsksWholeSet,
    ] {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let runner = TestRunner::new_with_rng(config.clone(), rng);
        assert!(cure.off(|| run(runner)).is_err(), "the model does not miss {cure:?}");
    }
}
