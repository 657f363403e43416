//! [`Clocks`]: what all lanes together say of this node's clock. Pure.

use protocol::control::{Agreement, Finding};
use schemas::cure::Cure;

/// How many connections found our clock to agree with theirs since it jumped back last, and how many did not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    steps: u32,
    close: usize,
    apart: usize,
}

impl Clocks {
    /// A connection says `now` what it had not said, or said otherwise, `before`; `None` when it ends. Returns what all of them say, if
    /// anybody does.
    pub fn change(&mut self, before: Option<Finding>, now: Option<Finding>) -> Option<Finding> {
        if let Some(count) = before.and_then(|before| self.of(before)) {
            *count = count.saturating_sub(1);
        }
        if let Some(now) = now {
            if now.steps > self.steps && Cure::FindingAsksSteps.works() {
                *self = Clocks { steps: now.steps, ..Clocks::default() };
            }
            if let Some(count) = self.of(now) {
                *count = count.saturating_add(1);
            }
        }
        self.together().map(|agreement| Finding { agreement, steps: self.steps })
    }

    /// One that does not agree is enough: ages come from the clock of one of them, and nobody knows which is wrong.
    fn together(self) -> Option<Agreement> {
        match self {
            Clocks { apart: 1.., .. } => Some(Agreement::Apart),
            Clocks { close: 1.., .. } => Some(Agreement::Close),
            Clocks { .. } => None,
        }
    }

    /// Where a finding is counted; `None` if the clock has jumped back since.
    fn of(&mut self, finding: Finding) -> Option<&mut usize> {
        if finding.steps != self.steps && Cure::FindingAsksSteps.works() {
            return None;
        }
        Some(match finding.agreement {
            Agreement::Close => &mut self.close,
            Agreement::Apart => &mut self.apart,
        })
    }
}
