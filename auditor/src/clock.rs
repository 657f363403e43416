//! [`NodeClock`]: which entries of a node were stored before a moment. memcached and nodes of ours give every mutation the
//! next number of one counter (CAS). The auditor writes an entry of its own many times a second and sees the counter move:
//! what has a lower number than its entry had at some moment was stored before that moment.

use std::{collections::VecDeque, time::Duration};

use schemas::moment::Moment;

/// Ticks that are kept; older ones go.
const TICKS_MAX: usize = 4096;

/// What one node's counter was, and when.
#[derive(Clone, Debug, Default)]
pub struct NodeClock {
    /// Rising in both.
    ticks: VecDeque<(Moment, u64)>,
}

/// An answer that may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Stored before.
    Yes,
    /// Not, as far as can be told.
    No,
    /// The auditor did not watch the node then.
    Unknown,
}

impl NodeClock {
    /// The node had given `cas` when it answered at `now`. Ticks from before `now - horizon` go, but for the last.
    pub fn tick(&mut self, now: Moment, cas: u64, horizon: Duration) {
        // A node that counts anew has lost what it held.
        if self.ticks.back().is_some_and(|(_, last)| cas < *last) {
            self.ticks.clear();
        }
        self.ticks.push_back((now, cas));
        let old = now.earlier(horizon);
        while self.ticks.len() > TICKS_MAX || self.ticks.get(1).is_some_and(|(at, _)| *at < old) {
            self.ticks.pop_front();
        }
    }

    /// Whether the entry with `cas` was stored before `moment`.
    pub fn stored_before(&self, cas: u64, moment: Moment) -> Before {
        let behind = self.ticks.partition_point(|(at, _)| *at <= moment);
        let last = behind.checked_sub(1).and_then(|last| self.ticks.get(last));
        match last {
            None => Before::Unknown,
            Some((_, counted)) if cas < *counted => Before::Yes,
            Some(_) => Before::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn a_node_that_starts_anew_is_not_judged_by_its_past() {
        let mut clock = NodeClock::default();
        clock.tick(at(10), 1000, Duration::from_secs(1));
        assert_eq!(clock.stored_before(7, at(9)), Before::Unknown);
        assert_eq!(clock.stored_before(7, at(10)), Before::Yes);
        clock.tick(at(20), 5, Duration::from_secs(1));
        assert_eq!(clock.stored_before(3, at(15)), Before::Unknown);
        assert_eq!(clock.stored_before(3, at(20)), Before::Yes);
    }

    proptest! {
        /// Against a node that counts each mutation: what is said to be stored before a moment was, and what was stored
        /// before the last tick before it is known to be.
        #[test]
        fn agrees_with_a_counter(steps in vec((1..50_u64, any::<bool>()), 1..60), asked in 0..60_usize, moment in 0..2000_u64) {
            let (mut clock, mut now, mut stored) = (NodeClock::default(), 0, Vec::new());
            let mut ticks = Vec::new();
            for (counter, (wait, is_tick)) in (1_u64..).zip(steps) {
                now += wait;
                if is_tick {
                    clock.tick(at(now), counter, Duration::from_secs(3600));
                    ticks.push(now);
                } else {
                    stored.push((now, counter));
                }
            }
            prop_assume!(!stored.is_empty());
            let (when, cas) = stored[asked % stored.len()];
            let last_tick = ticks.iter().rev().find(|tick| **tick <= moment);
            let expected = match last_tick {
                None => Before::Unknown,
                Some(tick) if when <= *tick => Before::Yes,
                Some(_) => Before::No,
            };
            prop_assert_eq!(clock.stored_before(cas, at(moment)), expected);
            if expected == Before::Yes {
                prop_assert!(when <= moment);
            }
        }
    }
}
