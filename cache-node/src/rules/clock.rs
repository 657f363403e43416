//! [`WallClock`]: whether ages may go by this node's wall clock.
//!
//! An age is the difference of two clocks, the tailer's and ours. If ours is behind, what is old looks new. So lanes compare our clock,
//! as our answers show it, with theirs, and say what they find. What they find holds for as long as the clock goes on; if it jumps back,
//! nobody has looked at it since. That it has jumped we see ourselves, by the monotonic one; answers say how often that was, and lanes
//! say of which of these stretches they speak: what is on its way when the clock jumps, or was said long before, is not taken for the
//! new one.

use std::time::Duration;

use protocol::control::{Agreement, Finding};
use schemas::{cure::Cure, moment::Moment, record::UnixMicros};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct WallClock {
    clock_skew_max: Duration,
    /// What it showed when it was read last.
    shown: Option<(UnixMicros, Moment)>,
    /// How often it has jumped back in this life.
    steps: u32,
    /// What lanes have found since; `None` before one has looked.
    found: Option<Agreement>,
}

impl WallClock {
    /// Nobody has looked at it.
    pub(super) fn new(clock_skew_max: Duration) -> WallClock {
        WallClock { clock_skew_max, shown: None, steps: 0, found: None }
    }

    /// It shows `wall`. Whether it has jumped back.
    pub(super) fn read(&mut self, now: Moment, wall: UnixMicros) -> bool {
        let due = self.shown.replace((wall, now)).map_or(wall, |(shown, at)| {
            let passed = u64::try_from(now.since(at).as_micros()).unwrap_or(u64::MAX);
            UnixMicros(shown.0.saturating_add(passed))
        });
        let behind = Duration::from_micros(due.0.saturating_sub(wall.0));
        let jumped = behind > self.clock_skew_max && Cure::AgeAsksBothClocks.works();
        if jumped {
            self.steps = self.steps.saturating_add(1);
            self.found = None;
        }
        jumped
    }

    /// Lanes have found this. Of a clock that has jumped since, it says nothing.
    pub(super) fn found(&mut self, finding: Finding) {
        if finding.steps == self.steps || !Cure::FindingAsksSteps.works() {
            self.found = Some(finding.agreement);
        }
    }

    /// Whether it agrees with the lanes' clocks; `None` if nobody knows.
    pub(super) fn agreement(&self) -> Option<Agreement> {
        self.found
    }

    /// Whether ages that come from it mean anything.
    pub(super) fn is_right(&self) -> bool {
        match self.found {
            Some(agreement) => agreement == Agreement::Close,
            None => !Cure::FreshAsksFinding.works(),
        }
    }

    /// How often it has jumped back in this life.
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }
}
