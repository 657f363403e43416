//! Minutes that the stages of `cargo xtask test` may take on two cores.
//!
//! Stages that do one job share a budget: what the lints take from each other is nobody's business. A stage that is
//! over its budget has failed, whatever its tests say, so that nobody gets used to waiting.

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

impl Spent {
    /// Adds what `stage` took; a complaint if that is what exceeds its budget.
    pub(crate) fn add(&mut self, stage: &'static str, took: Duration) -> Option<String> {
        let (stages, minutes) = BUDGETS.iter().find(|(stages, _)| stages.contains(&stage))?;
        let of_budget = self.0.iter().filter(|(name, _)| stages.contains(name));
        let before: Duration = of_budget.map(|(_, took)| *took).sum();
        self.0.push((stage, took));
        let (spent, budget) = (before + took, Duration::from_secs(minutes * 60));
        (spent > budget && before <= budget).then(|| {
            format!(
                "{stage} is over its budget: {} took {:.0} s of {} s",
                stages.join(", "),
                spent.as_secs_f64(),
                minutes * 60
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_of_one_budget_are_added_up() {
        let mut spent = Spent::default();
        for (stage, seconds, complaint) in [
            ("tidy", 400, None),
            ("clippy", 80, None),
            ("build", 781, Some("build is over its budget: build, fuzz took 781 s of 780 s")),
            ("unit", 300, None),
            ("sim", 121, Some("sim is over its budget: unit, sim, doc took 421 s of 420 s")),
            // The budget is exceeded already; one complaint is enough.
            ("doc", 1, None),
            ("servers", 600, None),
        ] {
            let complained = spent.add(stage, Duration::from_secs(seconds));
            assert_eq!(complained.as_deref(), complaint, "{stage}");
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
