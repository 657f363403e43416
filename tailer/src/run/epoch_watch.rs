//! [`EpochWatch`]: an epoch is a matter of a promotion; where they rise all the time, the order of transactions is none.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{metrics::Metrics, settings::Order};

/// More epochs in an hour come of several writers.
const EPOCHS_OF_HOUR_MAX: u64 = 60;
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct EpochWatch {
    order: Order,
    began: Instant,
    hour: Hour,
    /// They rise all the time, and it has been said.
    said: bool,
}

impl EpochWatch {
    /// Epochs are counted from now on.
    pub(super) fn new(order: Order) -> EpochWatch {
        EpochWatch { order, began: Instant::now(), hour: Hour::default(), said: false }
    }

    /// Looks at how many were opened; from time to time.
    pub(super) fn look(&mut self, metrics: &Metrics) {
        let recent = self.hour.grown(self.began.elapsed(), metrics.epochs.get());
        metrics.epochs_of_hour.set(recent.try_into().unwrap_or(i64::MAX));
        let restless = recent > EPOCHS_OF_HOUR_MAX && self.order == Order::Numbers;
        if restless && !self.said {
            tracing::error!(
                epochs = recent,
                "epochs rise all the time, as if several servers wrote at once: each one costs the caches entries, and there \
                 are only 65535; let one server write, or set source.hold_off_ms"
            );
        }
        self.said = restless;
    }
}

/// How much a counter has grown within the last hour, to the minute. Times are those of one clock, from wherever it began.
#[derive(Debug, Default)]
struct Hour {
    /// A minute apart; what it was then.
    marks: VecDeque<(Duration, u64)>,
}

impl Hour {
    /// The counter is at `count`; returns how much of it came within the hour before `now`.
    fn grown(&mut self, now: Duration, count: u64) -> u64 {
        if self.marks.back().is_none_or(|(last, _)| now.saturating_sub(*last) >= MINUTE) {
            self.marks.push_back((now, count));
        }
        while let Some((second, _)) = self.marks.get(1)
            && now.saturating_sub(*second) >= HOUR
        {
            self.marks.pop_front();
        }
        let (_, before) = self.marks.front().copied().unwrap_or_default();
        count.saturating_sub(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_does_not_count() {
        let mut hour = Hour::default();
        let mut at = |seconds, count| hour.grown(Duration::from_secs(seconds), count);
        assert_eq!(at(0, 100), 0, "what was before us is not known");
        assert_eq!(at(1, 103), 3);
        assert_eq!(at(1800, 110), 10);
        assert_eq!(
            at(3700, 111),
            11,
            "to the minute: the first mark is the last one before the hour"
        );
        assert_eq!(at(5400, 111), 1);
        assert_eq!(at(9100, 111), 0);
    }
}
