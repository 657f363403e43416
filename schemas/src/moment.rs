//! [`Moment`]: a reading of one process's monotonic clock. Cores take it as an argument and never
//! read a clock themselves, so that the whole system runs in a simulation.

use std::{fmt, time::Duration};

/// Microseconds since an arbitrary start that the process chose. Moments of different processes,
/// or of the same one before and after a restart, are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The start of the clock.
    pub const START: Moment = Moment(0);

    /// The moment so long after the start of the clock.
    pub fn after_start(elapsed: Duration) -> Moment {
        Moment(micros(elapsed))
    }

    /// This much later; the last representable moment (584,000 years) at most.
    #[must_use]
    pub fn later(self, by: Duration) -> Moment {
        Moment(self.0.saturating_add(micros(by)))
    }

    /// This much earlier; the start of the clock at least.
    #[must_use]
    pub fn earlier(self, by: Duration) -> Moment {
        Moment(self.0.saturating_sub(micros(by)))
    }

    /// How long `self` is after `other`; zero if it is not.
    pub fn since(self, other: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 / 1000;
        write!(f, "{}.{:03}s", millis / 1000, millis % 1000)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
