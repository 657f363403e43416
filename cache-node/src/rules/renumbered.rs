//! [`Renumbered`]: what the versions that clients name stand for, once their epochs have ended.
//!
//! An epoch may begin on a server that wrote before: after a gap, because an operator says so, or
//! because the server has become the primary again. It contains every transaction of that server that
//! was not read before. Clients who have not heard of it name those in the epoch of that server that they
//! know: a version that is lower than the one that the transaction got. Its number is the same, so
//! the version that is asked for is raised.
//!
//! What is past the end of its epoch, and in no later one, was lost, or is in an epoch that nobody has
//! announced yet: nothing that is known contains it.

use std::collections::VecDeque;

use protocol::control::EpochNews;
use schemas::{cure::Cure, version::Version};

/// Epochs kept. Older ones are forgotten: nobody remembers a version for so long.
const EPOCHS_MAX: usize = 64;

/// What is known of epochs, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Renumbered(VecDeque<EpochNews>);

/// A version that a client has named, and the lowest one that is sure to contain its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) version: Version,
    /// [`Version::MAX`] if nothing that is known contains it.
    pub(super) needs: Version,
}

impl Renumbered {
    /// An epoch began.
    pub(super) fn began(&mut self, news: EpochNews) {
        self.0.push_back(news);
        if self.0.len() > EPOCHS_MAX {
            self.0.pop_front();
        }
    }

    /// What is kept over a restart: all of it.
    pub(super) fn to_kept(&self) -> Vec<EpochNews> {
        self.0.iter().copied().collect()
    }

    /// From what was kept.
    pub(super) fn of_kept(epochs: &[EpochNews]) -> Renumbered {
        let mut renumbered = Renumbered::default();
        for news in epochs {
            renumbered.began(*news);
        }
        renumbered
    }

    /// What somebody needs who asks for `version`.
    pub(super) fn asked(&self, version: Version) -> Asked {
        let (mut needs, mut is_past_end) = (version, false);
        for news in self.0.iter().filter(|news| news.epoch > version.epoch()) {
            if !is_past_end && needs <= news.last {
                break; // It is in the part of its epoch that survived.
            }
            let resumes = needs.epoch() == news.resumed.epoch() && needs > news.resumed;
            is_past_end = !(resumes && Cure::AskedVersionIsRaised.works());
            if !is_past_end {
                needs = Version::new(news.epoch, needs.sequence()).unwrap_or(needs);
            }
        }
        let is_nowhere = is_past_end && Cure::AskedVersionAsksEnd.works();
        Asked { version, needs: if is_nowhere { Version::MAX } else { needs } }
    }
}

#[cfg(test)]
mod tests {
    use protocol::control::Continuity;

    use super::*;

    fn version(epoch: u16, number: u64) -> Version {
        Version::new(epoch, number).expect("small")
    }

    #[test]
    fn what_is_past_the_end_of_its_epoch_is_in_a_later_one_or_nowhere() {
        let mut renumbered = Renumbered::default();
        for (epoch, last, resumed) in [
            (1, Version::ZERO, Version::ZERO),
            (2, version(1, 5), Version::ZERO), // Another server.
            (3, version(2, 10), version(2, 10)),
            (4, version(3, 12), version(3, 14)), // The same server, restored: 13 and 14 were lost.
            (6, version(4, 20), version(1, 7)),  // The first one again; it had lost 6 and 7.
        ] {
            renumbered.began(EpochNews { epoch, last, continuity: Continuity::NewServer, resumed });
        }
        for (asked, needs) in [
            (version(1, 5), version(1, 5)),
            (version(1, 6), Version::MAX),
            (version(1, 99), version(6, 99)),
            (version(2, 10), version(2, 10)),
            (version(2, 11), version(3, 11)),
            (version(2, 13), Version::MAX),
            (version(2, 15), version(4, 15)),
            (version(3, 12), version(3, 12)),
            (version(4, 13), version(4, 13)),
            (version(4, 21), Version::MAX),
            (version(6, 1), version(6, 1)),
            (version(7, 1), version(7, 1)),
        ] {
            assert_eq!(renumbered.asked(asked).needs, needs, "{asked}");
        }
    }
}
