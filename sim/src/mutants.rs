//! The product with one cure switched off: the simulation must find out, or it has a hole itself.

use std::ops::Range;

use schemas::cure::Cure;
use sim::{History, Trace, Violation, Weather};

use crate::pool::{self, Go};

/// Cures that back each other up: without one alone everything holds, so they are switched off together.
const TOGETHER: [(Cure, &[Cure]); 11] = [
    (Cure::BatchAsksFrom, &[Cure::LaneResumesAtNodeCursor]),
    (Cure::LaneResumesAtNodeCursor, &[Cure::BatchAsksFrom]),
    (Cure::LaneRewinds, &[Cure::LaneResumesAtNodeCursor]),
    (Cure::AppliedMovesWithCursor, &[Cure::LaneResumesAtNodeCursor]),
    (Cure::CheckpointAfterRecords, &[Cure::TermStartSeesLostTail]),
    (Cure::EpochOnNewOrigin, &[Cure::EpochOpensWithoutTransaction]),
    (Cure::VersionAsksSurvival, &[Cure::VersionAsksWholeSet, Cure::AskedVersionAsksEnd]),
    (Cure::VersionAsksWholeSet, &[Cure::AskedVersionIsRaised, Cure::AskedVersionAsksEnd]),
    (Cure::AskedVersionIsRaised, &[Cure::AskedVersionAsksEnd]),
    (Cure::LaneMeasuresSkew, &[Cure::AgeAsksBothClocks]),
    (Cure::AgeAsksBothClocks, &[Cure::LaneMeasuresSkew]),
];

/// Cures of what the simulated world has not (statements, row images, tables, routers, rings that change, operators that let
/// readers at an instance too early): named tests switch them off.
const ELSEWHERE: [Cure; 24] = [
    Cure::AcceptAsksRing,
    Cure::ServeAsksSweep,
    Cure::SweepRemembersRings,
    Cure::GainHasFillFloor,
    Cure::PositionMayFall,
    Cure::MapsInserts,
    Cure::MapsBothImages,
    Cure::MapsWithOwnTableMap,
    Cure::StatementRaisesFloor,
    Cure::UnreadableRowsRaiseFloor,
    Cure::UndecodableRaisesFloor,
    Cure::UnlistedKeysRaiseFloor,
    Cure::EpochOnLowerNumber,
    Cure::DeletesAtFormerOwner,
    Cure::MissedRingForgets,
    Cure::TokenGoesBack,
    Cure::TokenAsksItsNode,
    Cure::DeletesReachEveryRead,
    Cure::GutterCapsTime,
    Cure::FailedChangeIsMissed,
    Cure::MissedKeepsFromReads,
    Cure::ReturnAsksProbe,
    Cure::ReturnAsksQuarantine,
    Cure::ReturnAsksNews,
];

/// How a mutant ended.
struct Killed {
    histories: u64,
    what: String,
}

/// Switches off each cure whose name contains `only`; true if every one was missed, and nothing else went wrong.
pub(crate) fn run(seeds: Range<u64>, threads: usize, only: Option<&str>) -> bool {
    let chosen: Vec<Cure> = Cure::ALL
        .iter()
        .copied()
        .filter(|cure| !ELSEWHERE.contains(cure))
        .filter(|cure| only.is_none_or(|text| cure.describe().0.contains(text)))
        .collect();
    let whole = u64::try_from(chosen.len()).unwrap_or(0);
    let mut survivors = Vec::new();
    let of = |number: u64| usize::try_from(number).ok().and_then(|at| chosen.get(at).copied());
    pool::each(
        0..whole,
        threads,
        |number| of(number).and_then(|cure| off(cure, || hunt(seeds.clone()))),
        |number, killed| {
            let Some(cure) = of(number) else { return Go::On };
            let (name, why) = cure.describe();
            if let Some(Killed { histories, what }) = killed {
                println!("killed   {name:32} after {histories:>5}: {what}");
            } else {
                println!("SURVIVED {name:32} {why}");
                survivors.push(name);
            }
            Go::On
        },
        |_| "mutants,".to_owned(),
    );
    println!("figure sim_mutants {whole} mutants");
    println!("figure sim_mutants_killed {} mutants", chosen.len() - survivors.len());
    nothing_goes_wrong(seeds, threads) && survivors.is_empty()
}

/// Runs `test` with the cure off whose name contains `name`, if there is a name.
pub(crate) fn without<T>(name: Option<&str>, test: impl FnOnce() -> T) -> T {
    let named = |cure: &&Cure| name.is_some_and(|name| cure.describe().0.contains(name));
    match Cure::ALL.iter().find(named) {
        Some(cure) => off(*cure, test),
        None => test(),
    }
}

/// Runs `test` without a cure, and without those that back it up.
fn off<T>(cure: Cure, test: impl FnOnce() -> T) -> T {
    let backups = TOGETHER.iter().find(|(of, _)| *of == cure).map_or(&[][..], |(_, all)| *all);
    cure.off(|| Cure::all_off(backups, test))
}

/// How long things go wrong in a history: longer than in others, so that more comes together in one seed.
const HUNTED_US: u64 = 48_000_000;

fn hunted(seed: u64) -> Option<Violation> {
    let weather = match seed % 3 {
        0 => Weather::Storm,
        1 => Weather::StormOfOurs,
        _ => Weather::StormOfDatabase,
    };
    let history = History { seed, weather, until: Some(HUNTED_US) };
    sim::run(history, Trace::Off).violation
}

/// With every cure at work nothing goes wrong in the same histories; else it would prove nothing that something does without one.
fn nothing_goes_wrong(seeds: Range<u64>, threads: usize) -> bool {
    let mut good = true;
    let take = |seed, violation: Option<Violation>| {
        if let Some(violation) = violation {
            println!("WRONG    with every cure in seed {seed}: {}", violation.what);
            good = false;
        }
        Go::On
    };
    pool::each(seeds, threads, hunted, take, |_| "histories with every cure,".to_owned());
    good
}

/// The first history that goes wrong.
fn hunt(seeds: Range<u64>) -> Option<Killed> {
    seeds.zip(1..).find_map(|(seed, histories)| {
        hunted(seed).map(|violation| Killed { histories, what: violation.what })
    })
}
