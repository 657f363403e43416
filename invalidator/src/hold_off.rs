//! [`HoldOff`]: a region's position by time, where versions cannot be compared with what a database says of itself. Pure.
//!
//! Several servers that write at the same time have no common order, so no set of transactions says how far a replica is in the
//! order of the stream. Instead, whatever the stream had a hold-off ago is taken for visible everywhere. That is true as long as
//! no replica is further behind, which nobody here can see: the guarantee is the operator's.
//!
//! Everything else is as ever: a fill that is not above a key's last change is refused, and as the position is a hold-off behind, so
//! is every fill that comes sooner.

use std::{collections::VecDeque, time::Duration};

use schemas::{moment::Moment, version::Version};

/// What was read is remembered at so many moments of a hold-off; in between, the later one stands for both.
const MOMENTS: u32 = 1000;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct HoldOff {
    length: Duration,
    /// Up to which version everything was in the stream, and when that was known. Both grow.
    known: VecDeque<(Moment, Version)>,
    position: Version,
}

impl HoldOff {
    /// Nothing is known yet.
    pub(crate) fn new(length: Duration) -> HoldOff {
        HoldOff { length, known: VecDeque::new(), position: Version::ZERO }
    }

    /// Everything up to `version` is in the stream.
    pub(crate) fn progressed(&mut self, now: Moment, version: Version) {
        if self.known.back().is_some_and(|(_, last)| version <= *last) {
            return;
        }
        let before = self.known.iter().rev().nth(1).map(|(at, _)| *at);
        let step = self.length / MOMENTS;
        if before.is_some_and(|before| now.since(before) < step) {
            self.known.pop_back();
        }
        self.known.push_back((now, version));
    }

    /// Up to which version everything is visible on every server.
    pub(crate) fn position(&mut self, now: Moment) -> Version {
        while let Some(&(at, version)) = self.known.front()
            && now.since(at) >= self.length
        {
            self.position = self.position.max(version);
            self.known.pop_front();
        }
        self.position
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    fn version(sequence: u64) -> Version {
        Version::new(1, sequence).unwrap()
    }

    proptest! {
        /// The model: the newest version that was known a hold-off ago. We may be later than that, by a thousandth, and never earlier.
        #[test]
        fn is_what_was_known_a_hold_off_ago(
            length in 1_u64..5000,
            steps in prop::collection::vec((0_u64..300, 0_u64..5), 1..200),
        ) {
            let mut hold_off = HoldOff::new(Duration::from_millis(length));
            let mut said = vec![(0, 0)];
            let (mut now, mut newest) = (0, 0);
            for (later, more) in steps {
                now += later;
                newest += more;
                hold_off.progressed(at(now), version(newest));
                said.push((now, newest));
                let known = |ago: u64| {
                    let before = said.iter().filter(|(at, _)| at + ago <= now);
                    before.map(|(_, version)| *version).max().unwrap_or(0)
                };
                let position = hold_off.position(at(now)).sequence();
                prop_assert!(position <= known(length));
                prop_assert!(position >= known(length + length.div_ceil(1000) + 1));
            }
        }
    }

    #[test]
    fn remembers_a_bounded_number_of_moments() {
        let mut hold_off = HoldOff::new(Duration::from_secs(10));
        for ms in 0..20_000 {
            hold_off.progressed(at(ms), version(ms));
            hold_off.position(at(ms));
        }
        assert!(hold_off.known.len() <= 2002, "{}", hold_off.known.len());
        assert_eq!(hold_off.position(at(30_001)), version(19_999), "the last one counts, too");
    }
}
