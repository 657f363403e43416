//! [`Observed`]: what the source said of itself, and is not published yet.
//!
//! The oldest is kept until it is covered, so that something is said while the source is always ahead; of the others only the
//! newest.

use crate::input::Observation;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    oldest: Option<Observation>,
    newest: Option<Observation>,
}

impl Observed {
    /// One more.
    pub(crate) fn add(&mut self, observation: Observation) {
        if self.oldest.is_none() {
            self.oldest = Some(observation);
        } else {
            self.newest = Some(observation);
        }
    }

    /// The newest that is covered; it and everything before it is forgotten.
    pub(crate) fn take_covered(
        &mut self,
        covered: impl Fn(&Observation) -> bool,
    ) -> Option<Observation> {
        if self.newest.as_ref().is_some_and(&covered) {
            self.oldest = None;
            return self.newest.take();
        }
        if self.oldest.as_ref().is_some_and(&covered) {
            return std::mem::replace(&mut self.oldest, self.newest.take());
        }
        None
    }
}
