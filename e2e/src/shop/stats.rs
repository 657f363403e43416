//! What the shop counts while it runs.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

/// An hour; what takes longer counts as that.
const AGE_MICROS_MAX: u64 = 3_600_000_000;

/// Counters and histograms of one shop; shared by all its tasks.
#[derive(Debug, Default)]
pub struct Stats {
    /// Transactions that the database has acknowledged.
    pub commits: Counter,
    /// Transactions that were rolled back, on purpose or by the database.
    pub rollbacks: Counter,
    /// Lookups, whether the cache had the key or not.
    pub reads: Counter,
    /// Lookups that the cache answered.
    pub hits: Counter,
    /// Lookups that the cache answered with a value that it called old; their reader takes it.
    pub flagged: Counter,
    /// Values that were put into the cache.
    pub fills: Counter,
    /// Fills that slept between SELECT and `set`.
    pub slow_fills: Counter,
    /// Fills that were given up because the SELECT was too long ago.
    pub late_fills: Counter,
    /// Fills that a node of ours did not take.
    pub fills_refused: Counter,
    /// SELECTs of readers.
    pub database_reads: Counter,
    /// Cache operations that failed; the shop goes on without the cache.
    pub cache_errors: Counter,
    /// Database operations that failed.
    pub database_errors: Counter,
    /// Reads of values that had been superseded, by age.
    pub superseded: Ages,
    /// From just before COMMIT is sent until the canary's key is gone.
    pub commit_to_delete: Ages,
    /// Canaries that were still there when the prober gave up on them.
    pub canaries_lost: Counter,
}

/// A count that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations, in a histogram of microseconds with three significant digits.
#[derive(Debug)]
pub struct Ages {
    // Guards only the histogram; never held across an await.
    histogram: Mutex<Histogram<u64>>,
}

/// What a histogram says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantiles {
    /// How many durations.
    pub count: u64,
    /// Half were shorter, in milliseconds.
    pub p50_ms: f64,
    /// 99 % were shorter.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Default for Ages {
    fn default() -> Ages {
        let histogram = Histogram::new_with_bounds(1, AGE_MICROS_MAX, 3);
        let histogram = histogram.expect("the bounds are within what the library allows");
        Ages { histogram: Mutex::new(histogram) }
    }
}

impl Ages {
    /// One more duration.
    pub fn record(&self, age: Duration) {
        let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        self.histogram.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    /// Those of another as well.
    pub fn add(&self, other: &Ages) {
        let other = other.histogram.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut histogram = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.add(other).expect("the bounds are the same");
    }

    /// What they are so far.
    pub fn quantiles(&self) -> Quantiles {
        let histogram = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1000.0;
        Quantiles {
            count: histogram.len(),
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            max_ms: ms(histogram.max()),
        }
    }

    /// How many were longer than `bound`.
    pub fn longer_than(&self, bound: Duration) -> u64 {
        let histogram = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        histogram.len().saturating_sub(histogram.count_between(0, micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_ages() {
        let ages = Ages::default();
        for ms in 1..=100 {
            ages.record(Duration::from_millis(ms));
        }
        let Quantiles { count, p50_ms, p99_ms, max_ms } = ages.quantiles();
        assert_eq!(count, 100);
        for (got, wanted) in [(p50_ms, 50.0), (p99_ms, 99.0), (max_ms, 100.0)] {
            assert!((got - wanted).abs() / wanted < 0.001, "{got} is not {wanted}");
        }
        assert_eq!(ages.longer_than(Duration::from_millis(90)), 10);
    }
}
