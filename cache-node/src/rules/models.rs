//! Each part of the rules against an obvious model that forgets nothing. A model that cannot tell when a cure is off
//! proves nothing, so each is asked that, too.

mod floors;
mod leases;
mod markers;
mod owned;
mod positions;
mod progress;
mod tombstones;

use std::time::Duration;

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner},
};
use schemas::{cure::Cure, moment::Moment, version::Version};

/// The property holds with every cure, and does not without any one of `needed`.
fn check<S: Strategy>(
    strategy: &S,
    needed: &[Cure],
    property: impl Fn(S::Value) -> TestCaseResult,
) {
    let with = Config { failure_persistence: None, ..Config::default() };
    if let Err(found) = TestRunner::new(with).run(strategy, &property) {
        panic!("{found}");
    }
    for cure in needed {
        let (cases, max_shrink_iters) = (5000, 0);
        let config =
            Config { cases, max_shrink_iters, failure_persistence: None, ..Config::default() };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let found = TestRunner::new_with_rng(config, rng)
            .run(strategy, |value| cure.off(|| property(value)));
        assert!(found.is_err(), "the model does not miss {cure:?}");
    }
}

fn at(milliseconds: u64) -> Moment {
    Moment::after_start(Duration::from_millis(milliseconds))
}

fn version(sequence: u64) -> Version {
    Version::new(1, sequence).expect("small")
}
