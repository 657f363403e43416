//! [`Databases`]: what a region's databases say of themselves, for operators: status and metrics, from the same look.

use crate::{
    Metrics,
    metrics::InstanceLabel,
    poller::{Hold, InstanceState},
    positions::Positions,
};

/// Looks when somebody asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Databases {
    positions: Positions,
    metrics: Metrics,
}

impl Databases {
    pub(crate) fn new(positions: Positions, metrics: Metrics) -> Databases {
        Databases { positions, metrics }
    }

    /// Every database that is asked, by its `host:port`; none if no node needs it; and sets the metrics to that.
    pub fn look(&self) -> Vec<(String, InstanceState)> {
        let mut all = Vec::new();
        for (address, state) in self.positions.states() {
            let label = InstanceLabel { address: address.to_owned(), role: state.role.into() };
            let metrics = self.metrics.instance(&label);
            let is_foreign = state.hold == Some(Hold::Foreign);
            metrics.answered_ms.set(whole(state.answered.unwrap_or(state.asked).as_millis()));
            metrics.foreign.set(i64::from(is_foreign));
            metrics.epoch.set(i64::from(state.position.epoch()));
            metrics.sequence.set(whole(state.position.sequence()));
            metrics.behind.set(whole(state.behind.unwrap_or(u64::MAX)));
            all.push((label.address, state));
        }
        all
    }
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
