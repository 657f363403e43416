//! A history that keeps every position with its time.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};
use protocol::control::Push;

use super::{at, check, version};
use crate::rules::position::Positions;
use schemas::{cure::Cure, version::Version};

const FILL_AGE_MAX: u64 = 640;
/// The width of a step.
const STEP: u64 = FILL_AGE_MAX / 64;

#[derive(Clone, Debug)]
struct Polled {
    after: u64,
    /// By how much the position differs from the last.
    change: i64,
    ahead: u64,
    echoes: bool,
}

fn polled() -> impl Strategy<Value = Polled> {
    let after = prop_oneof![0..15_u64, 100..700_u64];
    (after, -3..5_i64, 0..3_u64, any::<bool>()).prop_map(|(after, change, ahead, echoes)| Polled {
        after,
        change,
        ahead,
        echoes,
    })
}

/// What was true, poll by poll.
#[derive(Default)]
struct Model {
    polls: Vec<(u64, Version)>,
    /// The highest that anybody had seen by then, and the echo.
    proofs: Vec<(Version, Version)>,
    age_floor: Version,
}

impl Model {
    /// The position that was known at a time, as pushed last before it.
    fn known_at(&self, time: u64) -> Version {
        let before = self.polls.iter().rev().find(|(of, _)| *of <= time);
        before.map_or(Version::ZERO, |(_, position)| *position)
    }

    fn lowest_since(&self, time: u64) -> Version {
        let since = self.polls.iter().filter(|(of, _)| *of > time).map(|(_, position)| *position);
        since.fold(self.known_at(time), Version::min)
    }
}

#[test]
fn a_position_is_a_lower_bound_for_as_long_as_it_is_said() {
    let cures = [
        Cure::PlainSetTakesOldPosition,
        Cure::AgeFloorNeverFalls,
        Cure::HistoryStartsUnknown,
        Cure::PositionMayFall,
        Cure::ProofAsksHighest,
        Cure::ProofTakesEchoedFloor,
    ];
    check(&vec(polled(), 0..60), &cures, |polls| agrees(&polls));
}

fn agrees(polls: &[Polled]) -> Result<(), TestCaseError> {
    let mut positions = Positions::new(Duration::from_millis(FILL_AGE_MAX));
    let mut model = Model::default();
    let (mut now, mut region, mut highest) = (1000, 20_i64, Version::ZERO);
    for Polled { after, change, ahead, echoes } in polls {
        now += after;
        region = (region + change).max(1);
        let seen = u64::try_from(region).unwrap();
        highest = highest.max(version(seen + ahead));
        let echo = if *echoes { positions.age_floor() } else { Version::ZERO };
        let push = Push {
            region: version(seen),
            primary: version(seen),
            highest: version(seen + ahead),
            echo,
            epoch: 1,
        };
        positions.push(at(now), &push, 1);
        model.polls.push((now, push.region));
        model.proofs.push((highest, echo));
        safe(&positions, &mut model, now)?;
        useful(&positions, &model, now)?;
    }
    Ok(())
}

/// Nothing is said to be newer than it was.
fn safe(positions: &Positions, model: &mut Model, now: u64) -> Result<(), TestCaseError> {
    let old = model.known_at(now - FILL_AGE_MAX);
    prop_assert_eq!(positions.region(), model.known_at(now));
    let window = model.lowest_since(now - FILL_AGE_MAX);
    prop_assert!(positions.lowest_in_window() <= window, "a plain set is older than {window}");
    let before = model.age_floor;
    model.age_floor = before.max(positions.age_floor());
    prop_assert_eq!(positions.age_floor(), model.age_floor, "the age floor fell");
    let ever = model.polls.iter().filter(|(of, _)| *of + FILL_AGE_MAX <= now);
    let ever = ever.map(|(_, position)| *position).max().unwrap_or(Version::ZERO);
    prop_assert!(positions.age_floor() <= ever.max(old), "nothing of {ever} is old");
    for last in (0..40).map(version) {
        let good = model.proofs.iter().filter(|(highest, _)| *highest <= last);
        let proven = good.map(|(_, echo)| *echo).max().unwrap_or(Version::ZERO);
        prop_assert!(positions.floor_before(last) <= proven, "{proven} is proven for {last}");
    }
    Ok(())
}

/// What was there all the time is known to be old.
fn useful(positions: &Positions, model: &Model, now: u64) -> Result<(), TestCaseError> {
    // Polls of one step count with the lowest of them; and a step counts from its end.
    let before = |time: u64| model.polls.iter().rev().map(|(of, _)| *of).find(|of| *of < time);
    let whole = before(now - FILL_AGE_MAX).and_then(|of| before(of - STEP));
    let Some(since) = whole.map(|of| of - STEP) else { return Ok(()) };
    let steady = model.polls.iter().filter(|(of, _)| *of >= since).map(|(_, position)| *position);
    let steady = steady.min().unwrap_or(Version::ZERO);
    prop_assert!(positions.lowest_in_window() >= steady, "{steady} was there all the time");
    prop_assert!(positions.age_floor() >= steady, "{steady} is old");
    Ok(())
}
