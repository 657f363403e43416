//! [`Floors`]: below which version an entry is a miss, without looking at every entry.
//!
//! A floor covers all keys, or those that begin with a prefix. A cut covers the entries that may hold
//! values of lost transactions: all fill versions from some point up to the epoch that lost them.

use schemas::{cure::Cure, version::Version};

use super::Kept;

/// More floors for prefixes than this become one for all keys.
pub const PREFIXES_MAX: usize = 256;
/// More cuts than this become a floor.
pub const CUTS_MAX: usize = 16;

/// Entries with a fill version from `from` (included) to `until` (excluded) may hold lost values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    from: Version,
    until: Version,
}

/// What makes stored entries misses.
#[derive(Clone, Debug, Default)]
pub(super) struct Floors {
    all: Version,
    prefixes: Vec<(Box<[u8]>, Version)>,
    cuts: Vec<Cut>,
}

impl Floors {
    /// The floor of a key.
    pub(super) fn of(&self, key: &[u8]) -> Version {
        let prefixes = self.prefixes.iter().filter(|(prefix, _)| key.starts_with(prefix));
        let prefixed = prefixes.map(|(_, version)| *version).max().unwrap_or(Version::ZERO);
        if Cure::ServeAsksPrefixFloor.works() { self.all.max(prefixed) } else { self.all }
    }

    /// Raises the floor of all keys.
    pub(super) fn raise(&mut self, version: Version) {
        self.all = self.all.max(version);
        let all = self.all;
        self.prefixes.retain(|(_, version)| *version > all);
        self.cuts.retain(|cut| cut.until > all);
    }

    /// Raises the floor of the keys that begin with `prefix`.
    pub(super) fn raise_prefix(&mut self, prefix: &[u8], version: Version) {
        if version <= self.all {
            return;
        }
        if let Some((_, floor)) = self.prefixes.iter_mut().find(|(of, _)| **of == *prefix) {
            *floor = version.max(*floor);
        } else if self.prefixes.len() < PREFIXES_MAX {
            self.prefixes.push((prefix.into(), version));
        } else {
            self.raise(version);
        }
    }

    /// Whether a value that was filled at `filled` may be one of a lost transaction.
    pub(super) fn is_lost(&self, filled: Version) -> bool {
        Cure::ServeAsksCuts.works()
            && self.cuts.iter().any(|cut| {
                let epoch = if Cure::CutReachesOlderEpochs.works() {
                    0
                } else {
                    cut.until.epoch().saturating_sub(1)
                };
                cut.from <= filled && filled < cut.until && filled.epoch() >= epoch
            })
    }

    /// Entries filled from `from` up to the beginning of `epoch` may hold lost values.
    pub(super) fn cut(&mut self, from: Version, epoch: u16) {
        let until = Version::new(epoch, 0).unwrap_or(Version::MAX);
        self.add(Cut { from, until });
    }

    fn add(&mut self, cut: Cut) {
        self.cuts.push(cut);
        if self.cuts.len() > CUTS_MAX {
            let oldest = self.cuts.remove(0);
            self.raise(oldest.until);
        }
    }

    /// Adds the floors to what is kept.
    pub(super) fn keep(&self, kept: &mut Kept) {
        kept.serve_floor = self.all;
        kept.prefix_floors.clone_from(&self.prefixes);
        kept.cuts = self.cuts.iter().map(|cut| (cut.from, cut.until)).collect();
    }

    /// From what was kept; bounded as always.
    pub(super) fn of_kept(kept: &Kept) -> Floors {
        let mut floors = Floors { all: kept.serve_floor, ..Floors::default() };
        for (prefix, version) in &kept.prefix_floors {
            floors.raise_prefix(prefix, *version);
        }
        let cuts = kept.cuts.iter().map(|&(from, until)| Cut { from, until });
        for cut in cuts.filter(|cut| cut.until > kept.serve_floor) {
            floors.add(cut);
        }
        floors
    }
}
