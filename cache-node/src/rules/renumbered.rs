//! [`Renumbered`]: versions that clients were given in an epoch that had already ended.
//!
//! An epoch may begin on a server that wrote before: after a gap, because an operator says so, or
//! because the server has become the primary again. It contains every transaction of that server that
//! was not read before. Clients who have not heard of it name those in the epoch of that server that they
//! know: a version that is lower than the one that the transaction got. Its number is the same, so
//! the version that is asked for is raised.

use std::collections::VecDeque;

use schemas::{cure::Cure, version::Version};

/// Epochs kept. Older ones are forgotten: nobody remembers a version for so long.
const EPOCHS_MAX: usize = 64;

/// Epochs on a server that had written before, oldest first, and the last version that it had given until then.
#[derive(Clone, Debug, Default)]
pub(super) struct Renumbered(VecDeque<(u16, Version)>);

impl Renumbered {
    /// `epoch` began on a server that wrote before; `last` is what it had given last.
    pub(super) fn began(&mut self, epoch: u16, last: Version) {
        self.0.push_back((epoch, last));
        if self.0.len() > EPOCHS_MAX {
            self.0.pop_front();
        }
    }

    /// The version that somebody needs who asks for `version`.
    pub(super) fn raise(&self, version: Version) -> Version {
        if !Cure::AskedVersionIsRaised.works() {
            return version;
        }
        self.0.iter().fold(version, |asked, &(epoch, last)| {
            let ended = asked.epoch() == last.epoch() && asked > last;
            let raised = Version::new(epoch, asked.sequence()).filter(|_| ended);
            raised.unwrap_or(asked)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_survive_by_name_is_asked_for_in_the_new_epoch() {
        let version = |epoch, number| Version::new(epoch, number).expect("small");
        let mut renumbered = Renumbered::default();
        renumbered.began(3, version(2, 10));
        renumbered.began(4, version(3, 12));
        renumbered.began(6, version(1, 5)); // Another server wrote in the meantime.
        for (asked, needed) in [
            (version(1, 5), version(1, 5)),
            (version(1, 99), version(6, 99)),
            (version(2, 10), version(2, 10)),
            (version(2, 11), version(3, 11)),
            (version(2, 13), version(4, 13)),
            (version(3, 12), version(3, 12)),
            (version(4, 13), version(4, 13)),
        ] {
            assert_eq!(renumbered.raise(asked), needed, "{asked}");
        }
    }
}
