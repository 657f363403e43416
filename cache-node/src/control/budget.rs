//! [`Budget`]: the share of one processor that copies for other nodes may take. Pure.

use std::time::Duration;

use schemas::moment::Moment;

/// What was not spent is kept for later, up to this.
const SAVED_MAX: Duration = Duration::from_millis(50);
/// So much is advanced to readers that wait; a walk gets no advance.
const ADVANCE_MAX: Duration = Duration::from_millis(20);
/// What the kernel takes for a byte that is sent, in nanoseconds; it cannot be seen from here.
const NANOS_PER_BYTE: u64 = 1;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    percent: u8,
    /// Nanoseconds; below zero, it is overdrawn.
    balance: i64,
    at: Moment,
}

impl Budget {
    /// `percent` of one processor, at most 100; 0 gives nothing.
    pub(super) fn new(percent: u8) -> Budget {
        Budget { percent: percent.min(100), balance: 0, at: Moment::START }
    }

    /// Work took so long, and made so many bytes. Returns what that counts for.
    pub(super) fn spend(&mut self, now: Moment, took: Duration, bytes: usize) -> Duration {
        self.earn(now);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let cost = took.saturating_add(Duration::from_nanos(bytes.saturating_mul(NANOS_PER_BYTE)));
        self.balance = self.balance.saturating_sub(nanos(cost));
        cost
    }

    /// How long a walk must rest.
    pub(super) fn rest(&mut self, now: Moment) -> Duration {
        self.earn(now);
        let owed = self.balance.min(0).unsigned_abs();
        let rest = owed.saturating_mul(100).checked_div(self.percent.into());
        rest.map_or(Duration::from_secs(1), Duration::from_nanos)
    }

    /// Whether even those who wait must do without.
    pub(super) fn is_exhausted(&mut self, now: Moment) -> bool {
        self.earn(now);
        self.percent == 0 || self.balance < nanos(ADVANCE_MAX).saturating_neg()
    }

    fn earn(&mut self, now: Moment) {
        let passed = nanos(now.since(self.at));
        let earned =
            passed.checked_div(100).unwrap_or_default().saturating_mul(self.percent.into());
        self.balance = self.balance.saturating_add(earned).min(nanos(SAVED_MAX));
        self.at = self.at.max(now);
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: u64) -> Moment {
        Moment::after_start(Duration::from_micros(micros))
    }

    #[test]
    fn a_walk_rests_and_readers_have_an_advance() {
        let mut budget = Budget::new(10);
        let begin = at(1_000_000);
        assert_eq!(budget.rest(begin), Duration::ZERO);
        budget.spend(begin, Duration::from_millis(60), 0);
        assert_eq!(budget.rest(begin), Duration::from_millis(100));
        assert!(!budget.is_exhausted(begin));
        budget.spend(begin, Duration::from_millis(11), 0);
        assert!(budget.is_exhausted(begin));
        assert_eq!(budget.rest(at(1_210_000)), Duration::ZERO);
        let mut nothing = Budget::new(0);
        assert!(nothing.is_exhausted(begin) && nothing.rest(begin) > Duration::ZERO);
    }

    proptest! {
        /// Whoever rests as told never takes more than the share, what was saved, and the last piece of work.
        #[test]
        fn the_share_is_kept(percent in 1..=100_u8, works in prop::collection::vec((0..5_000_u64, 0..9_000_u64), 1..200)) {
            let mut budget = Budget::new(percent);
            let (mut now, mut worked, mut last) = (0_u64, 0_u64, 0_u64);
            for (pause, work) in works {
                now += pause + u64::try_from(budget.rest(at(now + pause)).as_micros()).unwrap() + 1;
                prop_assert_eq!(budget.rest(at(now)), Duration::ZERO);
                now += work;
                worked += work;
                last = last.max(work);
                budget.spend(at(now), Duration::from_micros(work), 0);
                prop_assert!(worked <= now * u64::from(percent) / 100 + 50_000 + last, "{worked} of {now}");
            }
        }
    }
}
