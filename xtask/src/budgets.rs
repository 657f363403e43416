//! Minutes that the stages of `cargo xtask test` may take on two cores.
//!
//! Stages that do one job share a budget: what the lints take from each other is nobody's business. A stage that is
//! over its budget says so. One that takes half as much again has failed, whatever its tests say, and so have all that end after
//! the last minute of all budgets together: so nobody gets used to waiting, and a machine that is a little slow breaks nothing.

use std::time::Duration;

/// Which stages, and their minutes together.
const BUDGETS: [(&[&str], u64); 6] = [
    (&["tidy", "clippy"], 8),
    // The fuzzers are built anew, with a sanitizer, and run for seconds.
    (&["build", "fuzz"], 13),
    (&["unit", "sim", "doc"], 7),
    (&["servers"], 10),
    (&["kafka"], 7),
    (&["containers"], 10),
];

/// What the stages have taken so far.
#[derive(Debug, Default)]
pub(crate) struct Spent(Vec<(&'static str, Duration)>);

/// Too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// It is said.
    Slow(String),
    /// It counts as a failure.
    Failed(String),
}

impl Spent {
    /// Adds what `stage` took.
    pub(crate) fn add(&mut self, stage: &'static str, took: Duration) -> Option<Over> {
        let (stages, minutes) = BUDGETS.iter().find(|(stages, _)| stages.contains(&stage))?;
        let of_budget = self.0.iter().filter(|(name, _)| stages.contains(name));
        let spent = took + of_budget.map(|(_, took)| *took).sum::<Duration>();
        self.0.push((stage, took));
        let what = |stages: &str, spent: Duration, budget: Duration| {
            let (spent, budget) = (spent.as_secs_f64(), budget.as_secs());
            format!("{stage} is over its budget: {stages} took {spent:.0} s of {budget} s")
        };
        let budget = Duration::from_secs(minutes * 60);
        let whole: Duration = self.0.iter().map(|(_, took)| *took).sum();
        let all = Duration::from_secs(BUDGETS.iter().map(|(_, minutes)| minutes * 60).sum());
        if whole > all {
            return Some(Over::Failed(what("all stages", whole, all)));
        }
        let said = what(&stages.join(", "), spent, budget);
        match spent {
            _ if spent > budget * 3 / 2 => Some(Over::Failed(said)),
            _ if spent > budget => Some(Over::Slow(said)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_of_one_budget_are_added_up() {
        let mut spent = Spent::default();
        let slow = |text: &str| Some(Over::Slow(text.to_owned()));
        let failed = |text: &str| Some(Over::Failed(text.to_owned()));
        for (stage, seconds, over) in [
            ("tidy", 400, None),
            ("clippy", 80, None),
            ("build", 781, slow("build is over its budget: build, fuzz took 781 s of 780 s")),
            ("unit", 300, None),
            ("sim", 121, slow("sim is over its budget: unit, sim, doc took 421 s of 420 s")),
            ("doc", 210, failed("doc is over its budget: unit, sim, doc took 631 s of 420 s")),
            ("servers", 600, None),
            ("kafka", 809, failed("kafka is over its budget: all stages took 3301 s of 3300 s")),
        ] {
            assert_eq!(spent.add(stage, Duration::from_secs(seconds)), over, "{stage}");
        }
    }

    #[test]
    fn the_whole_stays_below_an_hour() {
        let minutes: u64 = BUDGETS.iter().map(|(_, minutes)| minutes).sum();
        assert!(minutes <= 55, "{minutes} minutes");
    }

    #[test]
    fn every_stage_has_a_budget() {
        for stage in crate::stages::STAGES {
            assert!(BUDGETS.iter().any(|(stages, _)| stages.contains(&stage)), "{stage}");
        }
    }
}
