//! [`Databases`]: what a region's databases say of themselves, for operators: status and metrics, from the same look.

use std::time::Duration;

use schemas::version::Version;

use crate::{
    Metrics,
    metrics::InstanceLabel,
    poller::{Hold, Role},
    positions::Positions,
};

/// Looks when somebody asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Databases {
    positions: Positions,
    metrics: Metrics,
}

/// One database that caches are filled from.
#[derive(Clone, Debug)]
pub struct DatabaseStatus {
    /// `host:port`.
    pub address: String,
    pub role: Role,
    /// Everything up to it is visible there.
    pub position: Version,
    /// Transactions that the furthest database of the region shows and this one does not; `None` if they are of several epochs.
    pub behind: Option<u64>,
    /// How old its last answer is; `None` if it never answered.
    pub answered: Option<Duration>,
    /// Why the region waits for it, if so.
    pub hold: Option<Hold>,
}

impl Databases {
    pub(crate) fn new(positions: Positions, metrics: Metrics) -> Databases {
        Databases { positions, metrics }
    }

    /// Every database that is asked, none if no node needs it; and sets the metrics to that.
    pub fn look(&self) -> Vec<DatabaseStatus> {
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
            all.push(DatabaseStatus {
                address: address.to_owned(),
                role: state.role,
                position: state.position,
                behind: state.behind,
                answered: state.answered,
                hold: state.hold,
            });
        }
        all
    }
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
