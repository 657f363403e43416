//! [`Markers`]: keys that somebody writes, or has just written, so that reads in this region go to the
//! primary until the region has the write.
//!
//! A writer marks the key before it writes, under a nonce of its own, and names the version of its
//! commit afterwards. Each pending mark stands by itself, so no writer clears another's. A named version
//! also refuses fills, as a tombstone does; but only a client has said it, so it must not raise a floor
//! when it goes. Therefore markers are never evicted before their time: a full table refuses new ones,
//! and the writer falls back on a token. A version that nobody has seen anywhere in `ttl` is no version.
//! A node that has lost its markers treats every key as marked until all of them would have expired.

use std::time::Duration;

use foldhash::HashMap;
use schemas::{cure::Cure, moment::Moment, version::Version};

use super::{
    kept::KeptMark,
    renumbered::{Asked, Renumbered},
};

/// Names one writer's mark; drawn at random by the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(pub u64);

/// The table is full of marks that may not be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many keys are marked; read with a token instead")]
pub struct MarkersFull;

/// Whether a pending mark was still there when its version was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The key was marked all the time.
    InTime,
    /// The mark had expired, or the node had lost it: reads in between may have missed the write.
    Expired,
}

#[derive(Clone, Debug, Default)]
struct Marker {
    pending: Vec<(Nonce, Moment)>,
    /// What writers have named, and when: the highest version that was seen somewhere, and all that were not. Each for
    /// itself, because one that is never seen must not take a true one with it.
    named: Vec<(Asked, Moment)>,
}

/// What a region knows that decides when a named mark may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Fills below it are refused in any case.
    pub(super) age_floor: Version,
    /// The highest version that is visible anywhere; [`Version::MAX`] if that is not known.
    pub(super) highest: Version,
}

impl Known {
    /// Whether a version is known to be visible somewhere.
    fn has_seen(&self, version: Version) -> bool {
        self.highest < Version::MAX && version <= self.highest
    }
}

/// Marked keys, by key hash.
#[derive(Clone, Debug)]
pub(super) struct Markers {
    marked: HashMap<u64, Marker>,
    marks_max: usize,
    marks: usize,
    ttl: Duration,
    /// Until then, marks of a life before may be missing.
    unknown_until: Moment,
    swept: Moment,
}

impl Markers {
    /// None known, at a node that starts at `now`.
    pub(super) fn new(now: Moment, marks_max: usize, ttl: Duration) -> Markers {
        let unknown_until =
            if Cure::MarkersUnknownAfterStart.works() { now.later(ttl) } else { now };
        Markers { marked: HashMap::default(), marks_max, marks: 0, ttl, unknown_until, swept: now }
    }

    /// No key can have been marked before now: the cluster is new.
    pub(super) fn nothing_lost(&mut self, now: Moment) {
        self.unknown_until = now;
    }

    /// Before a write. May be said again, which lengthens it.
    pub(super) fn mark(
        &mut self,
        now: Moment,
        hash: u64,
        nonce: Nonce,
        known: Known,
    ) -> Result<(), MarkersFull> {
        if self.marks >= self.marks_max || now.since(self.swept) >= self.ttl {
            self.sweep(now, known);
        }
        let expires = now.later(self.ttl);
        if let Some((_, until)) = self
            .marked
            .get_mut(&hash)
            .and_then(|marker| marker.pending.iter_mut().find(|(of, _)| *of == nonce))
        {
            *until = expires;
            return Ok(());
        }
        if self.marks >= self.marks_max {
            return Err(MarkersFull);
        }
        self.marks = self.marks.saturating_add(1);
        self.marked.entry(hash).or_default().pending.push((nonce, expires));
        Ok(())
    }

    /// After a write: its version.
    pub(super) fn name(
        &mut self,
        now: Moment,
        hash: u64,
        nonce: Nonce,
        asked: Asked,
        known: Known,
    ) -> Named {
        let (full, ttl) = (self.marks >= self.marks_max, self.ttl);
        if full && !self.marked.contains_key(&hash) {
            return Named::Expired;
        }
        let marker = self.marked.entry(hash).or_default();
        let before = marker.len();
        let in_time = marker.pending.iter().any(|(of, until)| *of == nonce && now < *until);
        if Cure::MarkerPerWriter.works() {
            marker.pending.retain(|(of, _)| *of != nonce);
        } else {
            marker.pending.clear();
        }
        if !Cure::MarkerKeepsHighest.works() {
            marker.named.clear();
        }
        marker.named.retain(|(of, _)| of.version != asked.version);
        marker.named.push((asked, now));
        marker.forget(now, ttl, known);
        if full && marker.len() > before {
            marker.named.pop();
        }
        self.marks = self.marks.saturating_sub(before).saturating_add(marker.len());
        if marker.len() == 0 {
            self.marked.remove(&hash);
        }
        if in_time { Named::InTime } else { Named::Expired }
    }

    /// Whether no key is marked: the common case, and quickly known.
    pub(super) fn marks_nothing(&self, now: Moment) -> bool {
        self.marked.is_empty() && now >= self.unknown_until
    }

    /// Whether reads of the key must go to the primary. `reached` is the version that lifts a named mark.
    pub(super) fn is_marked(&self, now: Moment, hash: u64, reached: Version, known: Known) -> bool {
        let pending = |marker: &Marker| marker.pending.iter().any(|(_, until)| now < *until);
        now < self.unknown_until
            || self.marked.get(&hash).is_some_and(pending)
            || self.named(now, hash, known) > reached
    }

    /// What is older than this contains not every write of the key that a client has named.
    pub(super) fn named(&self, now: Moment, hash: u64, known: Known) -> Version {
        let named = self.marked.get(&hash).map_or(&[][..], |marker| &marker.named);
        let good = named.iter().filter(|named| !is_invented(now, self.ttl, known, **named));
        good.map(|(asked, _)| asked.needs).max().unwrap_or(Version::ZERO)
    }

    /// An epoch began: what was named before may need another version.
    pub(super) fn renumber(&mut self, renumbered: &Renumbered) {
        for (asked, _) in self.marked.values_mut().flat_map(|marker| &mut marker.named) {
            *asked = renumbered.asked(asked.version);
        }
    }

    /// What stands at `now`, by key hash.
    pub(super) fn to_kept(&self, now: Moment) -> Vec<KeptMark> {
        let left = |(nonce, until): &(Nonce, Moment)| (*nonce, until.since(now));
        let kept = self.marked.iter().map(|(hash, marker)| KeptMark {
            hash: *hash,
            pending: marker.pending.iter().filter(|(_, until)| now < *until).map(left).collect(),
            named: marker.named.iter().map(|(asked, _)| asked.version).collect(),
        });
        let mut kept: Vec<KeptMark> = kept.collect();
        kept.sort_unstable_by_key(|mark| mark.hash);
        kept
    }

    /// Takes marks back that were taken `down` ago. With more than there is room for, none is.
    pub(super) fn restore(
        &mut self,
        now: Moment,
        kept: &[KeptMark],
        down: Duration,
        renumbered: &Renumbered,
    ) -> Result<(), MarkersFull> {
        let marks = kept.iter().map(|mark| mark.pending.len().saturating_add(mark.named.len()));
        if marks.fold(0, usize::saturating_add) > self.marks_max {
            return Err(MarkersFull);
        }
        for mark in kept {
            let marker = self.marked.entry(mark.hash).or_default();
            let pending = mark.pending.iter().filter(|(_, left)| *left > down);
            let until = |left: Duration| now.later(left.min(self.ttl).saturating_sub(down));
            marker.pending.extend(pending.map(|(nonce, left)| (*nonce, until(*left))));
            // How long ago they were named is not known: they stand for longer.
            let named = mark.named.iter().map(|version| (renumbered.asked(*version), now));
            marker.named.extend(named);
        }
        self.marked.retain(|_, marker| marker.len() > 0);
        self.marks = self.marked.values().map(Marker::len).sum();
        Ok(())
    }

    /// Marks held, pending and named.
    pub(super) fn len(&self) -> usize {
        self.marks
    }

    fn sweep(&mut self, now: Moment, known: Known) {
        self.swept = now;
        let (mut marked, ttl) = (std::mem::take(&mut self.marked), self.ttl);
        marked.retain(|_, marker| {
            marker.pending.retain(|(_, until)| now < *until);
            marker.forget(now, ttl, known);
            marker.len() > 0
        });
        self.marked = marked;
        self.marks = self.marked.values().map(Marker::len).sum();
    }
}

impl Marker {
    fn len(&self) -> usize {
        self.pending.len().saturating_add(self.named.len())
    }

    /// Drops named versions that are of no use any more.
    fn forget(&mut self, now: Moment, ttl: Duration, known: Known) {
        let seen = self.named.iter().map(|(asked, _)| asked.needs);
        let highest = seen.filter(|version| known.has_seen(*version)).max();
        let floor = highest.unwrap_or(Version::ZERO).max(known.age_floor);
        self.named.retain(|named| {
            let version = named.0.needs;
            let useful = version > floor || (Some(version) == highest && version > known.age_floor);
            useful && !is_invented(now, ttl, known, *named)
        });
    }
}

/// A version that nobody has seen anywhere, although it would have been visible long ago.
fn is_invented(now: Moment, ttl: Duration, known: Known, (asked, since): (Asked, Moment)) -> bool {
    asked.needs > known.highest && now.since(since) >= ttl
}
