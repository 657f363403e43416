//! [`Backoff`]: how long to wait before the next attempt. Pure: the caller brings the randomness.

use std::time::Duration;

/// The first wait.
const DELAY_MIN: Duration = Duration::from_millis(100);
/// The longest wait.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Doubles with each failure up to [`DELAY_MAX`]; half of each wait is random, so that many tailers do not
/// come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    delay: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Backoff {
        Backoff { delay: DELAY_MIN }
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.delay = DELAY_MIN;
    }

    /// After a failure that only an operator can end: go on with the longest wait.
    pub(crate) fn at_longest(&mut self) {
        self.delay = DELAY_MAX;
    }

    /// How long to wait now; `random` is any number.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        // In milliseconds, of which ten seconds have few.
        let half_ms = u64::try_from(self.delay.as_millis()).unwrap_or_default() >> 1;
        let extra_ms = random.checked_rem(half_ms.saturating_add(1)).unwrap_or_default();
        self.delay = self.delay.saturating_mul(2).min(DELAY_MAX);
        Duration::from_millis(half_ms.saturating_add(extra_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_bounds() {
        let mut backoff = Backoff::new();
        for random in [0, 1023, u64::MAX, 5] {
            backoff.reset();
            let mut before = Duration::ZERO;
            for _ in 0..12 {
                let wait = backoff.next(random);
                assert!(wait >= before && wait <= DELAY_MAX && wait >= DELAY_MIN / 2, "{wait:?}");
                before = wait;
            }
            assert!(before >= DELAY_MAX / 2);
        }
        backoff.reset();
        backoff.at_longest();
        assert!(backoff.next(0) >= DELAY_MAX / 2);
    }
}
