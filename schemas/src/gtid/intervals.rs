//! [`Intervals`]: a set of numbers as sorted ranges. Numbers are below `u64::MAX`, so that the one
//! after each exists.

use std::ops::RangeInclusive;

/// Invariant: every range is non-empty, and between two neighbours at least one number is missing.
/// So equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Intervals {
    ranges: Vec<RangeInclusive<u64>>,
}

impl Intervals {
    /// The union of `ranges`, which may be in any order and overlap; none may be empty.
    pub(super) fn from_unsorted(mut ranges: Vec<RangeInclusive<u64>>) -> Intervals {
        ranges.sort_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if *range.start() <= after(last) => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => merged.push(range),
            }
        }
        Intervals { ranges: merged }
    }

    /// The ranges, ascending.
    pub(super) fn as_slice(&self) -> &[RangeInclusive<u64>] {
        &self.ranges
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Adds one number; in the common case, the one after the highest, this lengthens the last range.
    pub(super) fn insert(&mut self, number: u64) {
        let from = self.ranges.partition_point(|range| after(range) < number);
        let to = self.ranges.partition_point(|range| range.start().saturating_sub(1) <= number);
        let touched = self.ranges.get(from..to).unwrap_or_default();
        let start = touched.first().map_or(number, |first| number.min(*first.start()));
        let end = touched.last().map_or(number, |last| number.max(*last.end()));
        self.ranges.splice(from..to, [start..=end]);
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.range_at(number).is_some()
    }

    pub(super) fn contains_all(&self, other: &Intervals) -> bool {
        other.ranges.iter().all(|range| {
            self.range_at(*range.start()).is_some_and(|ours| ours.end() >= range.end())
        })
    }

    pub(super) fn union(&mut self, other: &Intervals) {
        let mut ranges = std::mem::take(&mut self.ranges);
        ranges.extend_from_slice(&other.ranges);
        *self = Intervals::from_unsorted(ranges);
    }

    pub(super) fn subtract(&mut self, other: &Intervals) {
        let mut holes = other.ranges.iter().peekable();
        let mut kept = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            let (mut start, end) = (*range.start(), *range.end());
            while let Some(hole) = holes.peek().filter(|hole| *hole.start() <= end) {
                if *hole.start() > start {
                    kept.push(start..=hole.start().saturating_sub(1));
                }
                start = start.max(after(hole));
                if *hole.end() > end {
                    break; // The next range may lie in this hole too.
                }
                holes.next();
            }
            if start <= end {
                kept.push(start..=end);
            }
        }
        self.ranges = kept;
    }

    /// The highest `n` such that all of `1..=n` are here; 0 if 1 is missing.
    pub(super) fn contiguous_up_to(&self) -> u64 {
        self.ranges.first().filter(|first| *first.start() == 1).map_or(0, |first| *first.end())
    }

    /// The highest number of `source` such that every number of `source` up to it is here; 0 if the
    /// lowest is missing.
    pub(super) fn covered_up_to(&self, source: &Intervals) -> u64 {
        let mut covered = 0;
        for range in &source.ranges {
            match self.range_at(*range.start()) {
                Some(ours) if ours.end() >= range.end() => covered = *range.end(),
                Some(ours) => return *ours.end(),
                None => return covered,
            }
        }
        covered
    }

    /// The highest number; 0 if there is none.
    pub(super) fn highest(&self) -> u64 {
        self.ranges.last().map_or(0, |last| *last.end())
    }

    /// The highest `n` such that all of `number + 1..=n` are here; `number` if the next is missing.
    pub(super) fn run_after(&self, number: u64) -> u64 {
        self.range_at(number.saturating_add(1)).map_or(number, |range| *range.end())
    }

    fn range_at(&self, number: u64) -> Option<&RangeInclusive<u64>> {
        let at = self.ranges.partition_point(|range| *range.end() < number);
        self.ranges.get(at).filter(|range| range.contains(&number))
    }
}

/// The first number after `range`.
fn after(range: &RangeInclusive<u64>) -> u64 {
    range.end().saturating_add(1)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers and sets")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Few numbers, so that ranges meet often.
    const MODEL_MAX: u64 = 40;

    fn ranges() -> impl Strategy<Value = Vec<RangeInclusive<u64>>> {
        vec(
            (1..=MODEL_MAX, 0..6_u64)
                .prop_map(|(start, more)| start..=(start + more).min(MODEL_MAX)),
            0..8,
        )
    }

    fn model(ranges: &[RangeInclusive<u64>]) -> BTreeSet<u64> {
        ranges.iter().cloned().flatten().collect()
    }

    /// The invariant, and the same numbers as `expected`.
    fn check(intervals: &Intervals, expected: &BTreeSet<u64>) {
        assert!(intervals.ranges.iter().all(|range| !range.is_empty()), "{intervals:?}");
        assert!(
            intervals.ranges.windows(2).all(|pair| after(&pair[0]) < *pair[1].start()),
            "{intervals:?}"
        );
        assert_eq!(&model(&intervals.ranges), expected);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(one in ranges(), two in ranges(), inserts in vec(1..=MODEL_MAX, 0..12)) {
            let (a, b) = (Intervals::from_unsorted(one.clone()), Intervals::from_unsorted(two.clone()));
            let (set_a, set_b) = (model(&one), model(&two));
            check(&a, &set_a);

            let mut union = a.clone();
            union.union(&b);
            check(&union, &(&set_a | &set_b));

            let mut difference = a.clone();
            difference.subtract(&b);
            check(&difference, &(&set_a - &set_b));

            prop_assert_eq!(a.contains_all(&b), set_a.is_superset(&set_b));
            prop_assert!(union.contains_all(&a) && union.contains_all(&b));
            for number in 0..=MODEL_MAX + 1 {
                prop_assert_eq!(a.contains(number), set_a.contains(&number));
            }

            let contiguous = (1..=MODEL_MAX).take_while(|number| set_a.contains(number)).last().unwrap_or(0);
            prop_assert_eq!(a.contiguous_up_to(), contiguous);
            let covered = set_b.iter().take_while(|number| set_a.contains(number)).last().copied().unwrap_or(0);
            prop_assert_eq!(a.covered_up_to(&b), covered);

            prop_assert_eq!(a.highest(), set_a.last().copied().unwrap_or(0));
            for number in 0..=MODEL_MAX {
                let run = (number + 1..=MODEL_MAX + 1).take_while(|next| set_a.contains(next)).last().unwrap_or(number);
                prop_assert_eq!(a.run_after(number), run);
            }

            let (mut grown, mut set) = (a, set_a);
            for number in inserts {
                grown.insert(number);
                set.insert(number);
                check(&grown, &set);
            }
        }
    }
}
