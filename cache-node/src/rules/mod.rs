//! [`Rules`]: what may be stored, and what may be served. All of it; everything goes through here.
//!
//! Pure: no clock, no socket, and no idea of how values are stored. The storage keeps a [`Mark`] with
//! each entry and asks; times come in as arguments.
//!
//! # Words
//!
//! - `V`, the version of a delete: the commit that made the key stale.
//! - `F`, the fill version of an entry: a lower bound of the database position at which it was read.
//! - `P`, the region's position: everything up to it is visible wherever readers read.
//! - `A`, the applied version of a partition: every delete of its keys up to it was applied here.
//!
//! # Why no stale value is served
//!
//! Claim: an entry that is served unflagged contains every change of its key up to the newest delete
//! of it that this node has applied; and no delete ever applies too late for a fill.
//!
//! Take a change of key `k` at `V`, and a value of `k` that does not contain it. It was read in a
//! snapshot in which `V` was not visible. `F` is a lower bound of that snapshot's position (below), so
//! `F < V`. Two cases.
//!
//! *The fill comes before the delete.* Then the delete finds the entry, sees `F < V`, and drops it or
//! marks it; the mark is on the entry and stays there.
//!
//! *The delete comes first.* It left a tombstone with `V`, whether or not the key was there, and
//! tombstones only rise. While it is there, [`Rules::accept`] refuses `F < V`. A tombstone leaves in two ways. It is
//! evicted: then `fill_floor` is at least `V` from then on, and refuses. It lapses: only when `age_floor`
//! is at least `V`; the age floor never falls, and refuses.
//!
//! Where deletes do not name their keys (a floor record, a hole in the stream), `serve_floor` takes
//! the entry's place: it makes a miss of every entry with `F < V`, and refuses such fills.
//!
//! # Why F is a lower bound
//!
//! - A lease takes `P` (or, for a reader at the primary, the primary's position) when it is issued. What the node
//!   knows of `P` is old, `P` was true when it was polled, and the reader opens his snapshot later.
//! - A plain set was read in the last `fill_age_max` (its client's time-out): the lowest position of
//!   that window, and of the moment before it, bounds it. That is the only promise that clients must keep.
//! - A copy from a peer contains every change of its key up to the `A` that the peer had together with
//!   the value, because the peer would have served it: so `max(F, A)` is a lower bound too. How long it was on its way
//!   does not matter: what was deleted meanwhile left a tombstone here, or raised a floor. Keys that come from no source are
//!   never copied, since nothing would delete the copy.
//!
//! # Lost transactions
//!
//! After a promotion some transactions may be gone, and no delete will ever name them. An entry that
//! holds one was read when its transaction was visible somewhere; accepted later than that; and with `F`
//! not below the age floor of that moment. Pollers prove at which age floor nobody had yet seen
//! anything above the surviving history ([`Push::echo`]). Everything from that floor up to the
//! new epoch is a miss. That includes fill versions of older epochs: `F` says how old the value may be, not
//! how new. Without a proof the cut begins at zero. A fill that comes later is in the cut too, because the age
//! floor never falls: it is refused, since it would never be served.
//!
//! # Why it does not refuse for ever
//!
//! Tombstones and floors are versions of real commits (or of the beginning of an epoch), `P` passes each
//! of them, and the age floor follows `P`. Bounded tables forget the oldest, upwards.

mod clock;
mod floors;
mod kept;
mod leases;
mod markers;
mod owned;
mod position;
mod progress;
mod renumbered;
mod tombstones;
mod view;
mod vocabulary;

use schemas::{
    cure::Cure,
    cursor::{Partition, Place},
    key::Key,
    moment::Moment,
    record::{Scope, UnixMicros},
    version::Version,
};

pub use self::vocabulary::{
    Accepted, Ask, Condition, Entries, Fate, Fill, Leased, Lossy, Mark, OnStale, Reader, Refused,
    Served, Settings, Stale, Subject,
};
use self::{
    floors::Floors,
    leases::Leases,
    markers::{Known, Markers},
    owned::Owned,
    position::Positions,
    progress::Progress,
    renumbered::Renumbered,
    tombstones::Tombstones,
};
pub use self::{
    floors::{CUTS_MAX, PREFIXES_MAX},
    kept::{Kept, KeptMark, KeptMissing, KeptPartition},
    leases::{Lease, Token},
    markers::{MarkersFull, Named, Nonce},
    owned::RingRefused,
};
pub use protocol::control::{
    Agreement, Batch, Continuity, EpochNews, Finding, Item, Push, Rewind, RingPlace,
};

/// The state that the rules need; see the module.
///
/// Invariants: `fill_floor`, the serve floors, the age floor, `epoch` and cursors never fall.
#[derive(Clone, Debug)]
pub struct Rules {
    settings: Settings,
    tombstones: Tombstones,
    leases: Leases,
    markers: Markers,
    positions: Positions,
    floors: Floors,
    fill_floor: Version,
    /// The newest epoch that is known.
    epoch: u16,
    renumbered: Renumbered,
    progress: Progress,
    owned: Owned,
}

/// What a node keeps over a restart beside its entries. It must be taken before them, as a whole.
#[derive(Clone, Debug)]
pub struct Snapshot(Rules);

// === Serving ===

impl Rules {
    /// What a reader gets of an entry with `mark`.
    pub fn serve(&self, now: Moment, subject: &Subject<'_>, mark: &Mark, ask: Ask) -> Served {
        if self.is_unsourced(subject) {
            return Served::Hit;
        }
        let quarantined = self.progress.is_quarantined() && Cure::ServeAsksQuarantine.works();
        let marked = self.is_marked(now, subject) && Cure::ServeAsksMarker.works();
        let too_old = !self.contains(subject, mark, ask.at_least) && Cure::ServeAsksToken.works();
        let left = !self.owned.is_kept(subject.key) && Cure::ServeAsksSweep.works();
        if quarantined || marked || too_old || left {
            return Served::Miss;
        }
        if self.is_stale(subject, mark) {
            return match ask.stale {
                Stale::Allow => Served::Stale,
                Stale::Refuse => Served::Miss,
            };
        }
        if self.progress.is_fresh(now) || !Cure::ServeAsksFreshness.works() {
            return Served::Hit;
        }
        let young = mark.since.is_some_and(|since| now.since(since) <= self.settings.degraded_ttl);
        match self.settings.on_stale {
            OnStale::Flag => Served::Degraded,
            OnStale::Ttl if young || !Cure::DegradedAgeBounded.works() => Served::Degraded,
            OnStale::Ttl | OnStale::Miss => Served::Miss,
        }
    }

    /// The fill version that a copy of an entry with `mark` has at a peer; `None` if it must not be copied. To be asked
    /// together with reading the value.
    pub fn copy_version(&self, now: Moment, subject: &Subject<'_>, mark: &Mark) -> Option<Version> {
        if self.is_unsourced(subject) {
            return None;
        }
        let servable = self.serve(now, subject, mark, Ask::default()) == Served::Hit;
        let partition = if Cure::CopyAppliedOfPartition.works() {
            self.partition(subject)
        } else {
            Partition(self.partition(subject).0 ^ 1)
        };
        let version = mark.filled.max(self.progress.applied(partition));
        (servable || !Cure::CopyOnlyServable.works()).then_some(version)
    }

    /// Whether the last change of the key is not visible everywhere in the region yet.
    pub fn hints_primary(&self, now: Moment, subject: &Subject<'_>) -> bool {
        let deleted = self.tombstones.get(subject.hash());
        self.is_marked(now, subject) || deleted > self.positions.region()
    }

    fn is_stale(&self, subject: &Subject<'_>, mark: &Mark) -> bool {
        let deleted = if Cure::StaleMarkSticks.works() {
            mark.condition == Condition::Stale
        } else {
            self.tombstones.get(subject.hash()) > mark.filled
        };
        let floor = mark.filled < self.floors.of(subject.key) && Cure::ServeAsksFloor.works();
        deleted || floor || self.floors.is_lost(mark.filled)
    }

    /// Whether an entry contains the change at `at_least`, if that changed its key at all.
    fn contains(&self, subject: &Subject<'_>, mark: &Mark, at_least: Version) -> bool {
        let at_least = self.renumbered.asked(at_least).needs;
        // Few reads get so far as to need the key's partition.
        let applied = || self.progress.applied(self.partition(subject));
        mark.filled >= at_least || (Cure::TokenAsksApplied.works() && applied() >= at_least)
    }

    fn is_marked(&self, now: Moment, subject: &Subject<'_>) -> bool {
        if self.markers.marks_nothing(now) {
            return false;
        }
        let reached = if Cure::MarkerLiftsAtPosition.works() {
            self.positions.region()
        } else {
            self.progress.applied(self.partition(subject))
        };
        self.markers.is_marked(now, subject.hash(), reached, self.known())
    }

    fn is_unsourced(&self, subject: &Subject<'_>) -> bool {
        self.settings.unsourced.iter().any(|prefix| subject.key.starts_with(prefix))
    }

    fn partition(&self, subject: &Subject<'_>) -> Partition {
        let rest = subject.hash().checked_rem(u64::from(self.progress.partitions()));
        Partition(rest.and_then(|rest| u16::try_from(rest).ok()).unwrap_or_default())
    }
}

// === Filling ===

impl Rules {
    /// Asks for the right to fill a key that was missed; `token` is drawn at random by the caller.
    pub fn lease(
        &mut self,
        now: Moment,
        subject: &Subject<'_>,
        reader: Reader,
        token: Token,
    ) -> Leased {
        let sourced = !self.is_unsourced(subject);
        let hinted = sourced && self.hints_primary(now, subject);
        let good = |filled| !sourced || self.check_fill(now, subject, filled).is_ok();
        let (region, primary) = (self.positions.region(), self.positions.primary());
        // What would be refused is not leased: others would wait for it.
        let (filled, leased) = if !hinted && good(region) {
            (region, Leased::Fill(token))
        } else if reader == Reader::CanReadPrimary && good(primary) {
            (primary, Leased::FillFromPrimary(token))
        } else {
            return if hinted { Leased::ReadPrimary } else { Leased::Read };
        };
        let hash = subject.hash();
        if self.leases.is_held(hash, now) {
            return Leased::Wait;
        }
        let filled = if Cure::LeasePositionByReader.works() { filled } else { primary };
        let deadline = now.later(self.settings.lease);
        self.leases.issue(hash, Lease { token, filled, deadline });
        leased
    }

    /// Whoever holds this lease has lost it.
    pub fn void_lease(&mut self, subject: &Subject<'_>, token: Token) {
        self.leases.take(subject.hash(), token);
    }

    /// Whether a value may be stored, and what to keep with it.
    pub fn accept(
        &mut self,
        now: Moment,
        subject: &Subject<'_>,
        fill: Fill,
    ) -> Result<Accepted, Refused> {
        if matches!(fill, Fill::Copy(_)) && self.is_unsourced(subject) {
            return Err(Refused::Unsourced);
        }
        self.positions.advance(now);
        let fresh = self.progress.is_fresh(now);
        let filled = self.fill_version(subject, fill)?;
        if !self.is_unsourced(subject) {
            self.check_fill(now, subject, filled)?;
        }
        let mark = Mark { filled, condition: Condition::Good, since: Some(now) };
        let capped =
            !fresh && !self.is_unsourced(subject) && self.settings.on_stale == OnStale::Ttl;
        Ok(Accepted { mark, ttl_max: capped.then_some(self.settings.degraded_ttl) })
    }

    fn fill_version(&mut self, subject: &Subject<'_>, fill: Fill) -> Result<Version, Refused> {
        let plain = self.positions.lowest_in_window();
        Ok(match fill {
            Fill::Lease(token) => {
                let lease = self.leases.take(subject.hash(), token).ok_or(Refused::NoLease)?;
                if Cure::LeaseTakesPositionAtIssue.works() {
                    lease.filled
                } else {
                    self.positions.region()
                }
            }
            Fill::Version(version) | Fill::Copy(version) => version,
            Fill::Derived(from) if Cure::DerivedKeepsOlder.works() => plain.min(from),
            Fill::Plain | Fill::Derived(_) => plain,
        })
    }

    fn check_fill(
        &self,
        now: Moment,
        subject: &Subject<'_>,
        filled: Version,
    ) -> Result<(), Refused> {
        self.check_ring(subject, filled)?;
        let hash = subject.hash();
        let deleted = self.tombstones.get(hash);
        let named = self.markers.named(now, hash, self.known());
        if filled < named && Cure::AcceptAsksMarker.works() {
            return Err(Refused::Deleted);
        }
        if filled < deleted && Cure::AcceptAsksTombstone.works() {
            return Err(Refused::Deleted);
        }
        if filled < self.fill_floor && Cure::AcceptAsksFillFloor.works() {
            return Err(Refused::BelowFillFloor);
        }
        if filled < self.positions.age_floor() && Cure::AcceptAsksAgeFloor.works() {
            return Err(Refused::TooOld);
        }
        if filled < self.floors.of(subject.key) {
            return Err(Refused::BelowServeFloor);
        }
        if filled.epoch() > self.epoch && Cure::AcceptAsksEpochKnown.works() {
            return Err(Refused::EpochUnknown);
        }
        if self.floors.is_lost(filled) {
            return Err(Refused::EpochEnded);
        }
        Ok(())
    }
}

// === Deleting, and what else the stream says ===

impl Rules {
    /// Applies a batch. The deletes are applied in any case; the cursor, and what depends on it, moves only if the batch
    /// begins at or before it. Returns the cursor.
    pub fn apply(
        &mut self,
        now: Moment,
        wall: UnixMicros,
        batch: &Batch,
        entries: &mut impl Entries,
    ) -> Result<Place, Rewind> {
        self.positions.advance(now);
        let asks_age = || batch.items.iter().any(|item| matches!(item, Item::Progress { .. }));
        if Cure::ClockReadForEveryBatch.works() || asks_age() {
            self.progress.read_clock(now, wall);
        }
        let moved = self.progress.advance(batch.partition, batch.from, batch.to);
        let moves = moved.is_ok() || !Cure::AppliedMovesWithCursor.works();
        // Lanes tell of an epoch before they tell of a version in it; of one that no lane knows, a replaced writer speaks.
        let known = if Cure::AppliedAsksEpoch.works() { self.epoch } else { u16::MAX };
        let counts = |version: &Version| moves && version.epoch() <= known;
        for item in &batch.items {
            match item {
                Item::Delete { key, version } => self.delete(key, *version, entries),
                Item::Floor { scope, version } => self.raise_serve_floor(scope, *version),
                Item::Applied { version } if counts(version) => {
                    self.progress.raise_applied(batch.partition, *version);
                }
                Item::Progress { version, at } if counts(version) => {
                    self.progressed(now, wall, batch, *version, *at);
                }
                Item::Applied { .. } | Item::Progress { .. } => {}
            }
        }
        moved
    }

    /// An entry that is older than `version` is stale; so is every fill that comes later and was read before.
    fn delete(&mut self, key: &Key, version: Version, entries: &mut impl Entries) {
        let hash = Subject::new(key.as_bytes()).hash();
        let found = self.make_stale(key, hash, version, entries);
        if !found && !Cure::TombstoneWhenAbsent.works() {
            return;
        }
        let lapsed = if Cure::LapseBelowAgeFloor.works() {
            self.positions.age_floor()
        } else {
            self.positions.region()
        };
        if let Some(evicted) = self.tombstones.add(hash, version, lapsed)
            && Cure::EvictionRaisesFillFloor.works()
        {
            self.fill_floor = self.fill_floor.max(evicted);
        }
    }

    /// Marks the entry, if there is one that is older than `version`, and voids such a lease. Returns whether the key was
    /// there at all.
    fn make_stale(
        &mut self,
        key: &Key,
        hash: u64,
        version: Version,
        entries: &mut impl Entries,
    ) -> bool {
        let mut found = false;
        entries.judge(key, &mut |mark| {
            found = true;
            let newer = mark.filled >= version && Cure::DeleteSparesNewer.works();
            if newer || !Cure::DeleteDropsOlder.works() {
                return Fate::Keep;
            }
            mark.condition = Condition::Stale;
            Fate::Stale
        });
        if Cure::DeleteVoidsLease.works() {
            self.leases.void_below(hash, version);
        }
        found
    }

    fn raise_serve_floor(&mut self, scope: &Scope, version: Version) {
        match scope {
            Scope::All => self.floors.raise(version),
            Scope::Prefixes(prefixes) => {
                for prefix in prefixes {
                    self.floors.raise_prefix(prefix.as_bytes(), version);
                }
            }
        }
    }

    fn progressed(
        &mut self,
        now: Moment,
        wall: UnixMicros,
        batch: &Batch,
        version: Version,
        at: UnixMicros,
    ) {
        let partition = batch.partition;
        let covers = self.progress.progressed(now, wall, (partition, batch.from), at);
        self.cover_ring(covers, version);
        if covers.missing {
            // Every version that was published before is at most this one, or will be published again. The floor
            // makes misses of what is stored, and refuses what is as old.
            if Cure::AttachRaisesServeFloor.works() {
                self.floors.raise(version);
            }
        }
        self.progress.raise_applied(partition, version);
    }

    /// An epoch began. Said by every way that knows of it; the first counts.
    pub fn epoch(&mut self, news: &EpochNews) {
        if news.epoch <= self.epoch {
            return;
        }
        let skipped = news.epoch > self.epoch.saturating_add(1);
        self.epoch = news.epoch;
        self.renumbered.began(*news);
        self.markers.renumber(&self.renumbered);
        let from = match (news.continuity, self.settings.lossy) {
            (Continuity::Lossless, _) if !skipped => None,
            (Continuity::NewServer, Lossy::Cut) if !skipped => {
                Some(self.positions.floor_before(news.last))
            }
            _ => Some(Version::ZERO),
        };
        if let Some(from) = from {
            self.floors.cut(from, news.epoch);
        }
        self.positions.forget_highest();
    }

    /// A poll of the region's instances.
    pub fn push(&mut self, now: Moment, push: &Push) {
        let epoch = push.region.max(push.primary).epoch();
        // Lanes tell of an epoch before they tell of a position in it; if one did not, nothing is proven.
        self.epoch(&EpochNews {
            epoch,
            last: Version::ZERO,
            continuity: Continuity::SameServer,
            resumed: Version::new(self.epoch, 0).unwrap_or(Version::ZERO),
        });
        self.positions.push(now, push, self.epoch);
    }

    /// The lanes found that the clocks agree, or that they do not.
    pub fn clocks(&mut self, finding: Finding) {
        self.progress.clocks(finding);
    }
}

// === Markers ===

impl Rules {
    /// Before a write: reads of the key are misses until its version is named, or the mark expires.
    pub fn mark(
        &mut self,
        now: Moment,
        subject: &Subject<'_>,
        nonce: Nonce,
    ) -> Result<(), MarkersFull> {
        self.markers.mark(now, subject.hash(), nonce, self.known())
    }

    /// After a write: what is older than `version` is stale, and reads are misses until the region has it.
    pub fn name_mark(
        &mut self,
        now: Moment,
        key: &Key,
        nonce: Nonce,
        version: Version,
        entries: &mut impl Entries,
    ) -> Named {
        let asked = self.renumbered.asked(version);
        let (hash, known) = (Subject::new(key.as_bytes()).hash(), self.known());
        if Cure::MarkerDeletes.works() {
            self.make_stale(key, hash, asked.needs, entries);
        }
        self.markers.name(now, hash, nonce, asked, known)
    }

    /// No key can have been marked before `now`: the whole cluster is new.
    pub fn no_marks_lost(&mut self, now: Moment) {
        self.markers.nothing_lost(now);
    }
}

impl Rules {
    fn known(&self) -> Known {
        Known { age_floor: self.positions.age_floor(), highest: self.positions.visible() }
    }
}

// === Lanes, starting and restarting ===

impl Rules {
    /// A node that starts empty at `now`.
    pub fn new(now: Moment, settings: Settings) -> Rules {
        Rules {
            tombstones: Tombstones::new(settings.tombstones_max),
            leases: Leases::new(settings.leases_max),
            markers: Markers::new(now, settings.markers_max, settings.marker_ttl_max),
            positions: Positions::new(settings.fill_age_max),
            floors: Floors::default(),
            fill_floor: Version::ZERO,
            epoch: 0,
            renumbered: Renumbered::default(),
            progress: Progress::new(
                settings.partitions,
                settings.staleness_max,
                settings.clock_skew_max,
            ),
            owned: Owned::default(),
            settings,
        }
    }

    /// A lane has connected, and names where each of its partitions ends now.
    pub fn hello(&mut self, now: Moment, heads: &[(Partition, Place)]) {
        for &(partition, head) in heads {
            self.progress.named_head(now, partition, head);
        }
    }

    /// What is before `at` will not come, because this node is new or because it is gone. Until the next progress says
    /// how far that reached, nothing of the partition counts as fresh.
    pub fn begin(&mut self, partition: Partition, at: Place) {
        if self.progress.cursor(partition).is_none() || Cure::GapRaisesServeFloor.works() {
            self.progress.begin(partition, at);
        }
    }

    /// Somebody knows that something may have been missed here (the node was out of its pool, say): nothing is served until
    /// every lane has connected again.
    pub fn quarantine(&mut self) {
        self.progress.quarantine();
    }

    /// What to keep over a restart. To be taken before the first entry is written.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.clone())
    }

    /// A node that starts at `now` with the entries that go with `snapshot`: in quarantine until it has caught up.
    pub fn restore(now: Moment, settings: Settings, snapshot: Snapshot) -> Rules {
        let kept = snapshot.0;
        let mut rules = Rules {
            positions: kept.positions.kept(),
            floors: kept.floors,
            fill_floor: kept.fill_floor,
            epoch: kept.epoch,
            renumbered: kept.renumbered,
            progress: kept.progress.kept(),
            ..Rules::new(now, settings)
        };
        if Cure::SnapshotKeepsTombstones.works() {
            rules.tombstones = kept.tombstones;
        }
        rules
    }
}

#[cfg(test)]
mod models;
