//! [`Intake`]: the stream, as one lane sees it. What each record asks of the lane's node, how far the stream was
//! read, how much of it was not, and where the cursor is kept; of the partitions that this process looks after.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use protocol::control::RingPlace;
use schemas::{
    cursor::{Cursor, Partition, Place},
    key::Key,
    record::{Invalidations, Record, UnixMicros},
    ring::Ring,
    version::Version,
};
use stream::{CursorStore, Entry, Portion, Portions, Read, ReadLimit, Reader, StreamError};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    lane::{Lane, Taken, Work},
    positions::Positions,
    report::{Report, wall_clock},
    settings::{MEASURE_INTERVAL, OnFloor, READ_BYTES_MAX, READ_RECORDS_MAX, TERMS_WALKED_MAX},
};

/// How far each partition was read; the cursors follow as answers come.
pub(crate) type Places = BTreeMap<Partition, Place>;

/// What the stream has behind the last record that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Also those that turn out to have no key of the lane's node.
    pub(crate) records: u64,
    /// When the oldest of them was appended.
    pub(crate) since: Option<UnixMicros>,
}

/// What a read has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The partition's head was reached.
    Nothing,
    /// There may be more.
    More,
}

/// One node's share of the work.
#[derive(Clone, Debug)]
pub struct Share {
    /// The rings by which clients spread keys, with the node's number in each that it is in. The newest one first.
    pub rings: Vec<(Arc<Ring>, usize)>,
    /// What a node of ours is told of them.
    pub said: Vec<RingPlace>,
    /// What is done with a floor.
    pub on_floor: OnFloor,
}

/// What lanes need of the stream.
#[derive(Clone, Debug)]
pub struct Feed<R, S> {
    /// Reads it.
    pub reader: R,
    /// Keeps the cursors of nodes that cannot.
    pub cursors: S,
    /// What of it this process looks after.
    pub portions: Portions,
}

/// One lane's view of the stream.
pub(crate) struct Intake<R, S> {
    feed: Feed<R, S>,
    /// Names the lane's cursors.
    consumer: String,
    share: Share,
    /// Who must hear what the stream says of the databases.
    positions: Positions,
    /// What was begun with.
    portion: Portion,
    /// Of each partition that is ours.
    places: Places,
    /// Partitions that may have something to read. Empty at the head.
    pending: Vec<Partition>,
    /// Partitions of which something was lost, and nothing has said yet how far that reached.
    lost: BTreeSet<Partition>,
    unread: Unread,
    measured_at: Option<Instant>,
    /// As they were stored last.
    stored: Places,
    /// What is being stored.
    storing: Option<(Places, JoinHandle<Result<(), StreamError>>)>,
}

impl<R: Reader, S: CursorStore + Clone> Intake<R, S> {
    pub(crate) fn new(
        feed: Feed<R, S>,
        consumer: String,
        share: Share,
        positions: Positions,
    ) -> Intake<R, S> {
        Intake {
            feed,
            consumer,
            share,
            positions,
            portion: Portion::Of(BTreeSet::new()),
            places: Places::new(),
            pending: Vec::new(),
            lost: BTreeSet::new(),
            unread: Unread::default(),
            measured_at: None,
            stored: Places::new(),
            storing: None,
        }
    }

    /// Begins with partitions that are ours now, where their stored cursors stand, and leaves those that are somebody
    /// else's. Cursors of another stream (a file that was made anew) mean nothing here.
    pub(crate) async fn settle(&mut self, lane: &mut Lane) -> Result<(), StreamError> {
        let portion = self.feed.portions.take();
        if portion == self.portion {
            return Ok(());
        }
        let ours = |partition: &Partition| portion.has(*partition);
        for gone in partitions(&self.feed.reader).filter(|partition| !ours(partition)) {
            self.places.remove(&gone);
            self.stored.remove(&gone);
            self.lost.remove(&gone);
            lane.release(gone);
        }
        let all = partitions(&self.feed.reader).filter(ours);
        let new: Vec<_> = all.filter(|partition| !self.places.contains_key(partition)).collect();
        if !new.is_empty() {
            let stream = self.feed.reader.stream_id();
            let cursors = self.feed.cursors.load(&self.consumer).await?;
            let known: Places = cursors
                .into_iter()
                .filter(|cursor| cursor.stream == stream)
                .map(|cursor| (cursor.partition, cursor.place))
                .collect();
            for partition in new {
                let place = known.get(&partition).copied();
                self.stored.extend(place.map(|place| (partition, place)));
                self.places.insert(partition, place.unwrap_or(Place::START));
            }
        }
        self.portion = portion;
        self.look_again();
        Ok(())
    }

    /// Makes the lane's cursors durable, as far as they have moved.
    pub(crate) async fn store(&mut self, cursors: &Places) -> Result<(), StreamError> {
        self.finish_storing().await?;
        self.begin_storing(cursors);
        self.finish_storing().await
    }

    /// The same, while the lane goes on. What went wrong is said the next time.
    pub(crate) async fn store_meanwhile(&mut self, cursors: &Places) -> Result<(), StreamError> {
        if self.storing.as_ref().is_some_and(|(_, storing)| !storing.is_finished()) {
            return Ok(());
        }
        self.finish_storing().await?;
        self.begin_storing(cursors);
        Ok(())
    }

    fn begin_storing(&mut self, cursors: &Places) {
        let has_moved = |at: &(&Partition, &Place)| self.stored.get(at.0) != Some(at.1);
        let moved: Places = cursors.iter().filter(has_moved).map(|(of, to)| (*of, *to)).collect();
        if moved.is_empty() {
            return;
        }
        let stream = self.feed.reader.stream_id();
        let cursor =
            |(&partition, &place): (&Partition, &Place)| Cursor { stream, partition, place };
        let list = moved.iter().map(cursor).collect();
        let (store, consumer) = (self.feed.cursors.clone(), self.consumer.clone());
        let storing = tokio::spawn(async move { store.store(&consumer, list).await });
        self.storing = Some((moved, storing));
    }

    async fn finish_storing(&mut self) -> Result<(), StreamError> {
        let Some((_, storing)) = &mut self.storing else { return Ok(()) };
        let stored = storing.await.unwrap_or(Err(StreamError::Closed));
        let moved = self.storing.take().map(|(moved, _)| moved).unwrap_or_default();
        stored?;
        // Of what is somebody else's by now, the store knows better.
        self.stored.extend(moved.into_iter().filter(|(of, _)| self.places.contains_key(of)));
        Ok(())
    }

    /// Whether everything was read; then [`Intake::changed`] says when to look again.
    pub(crate) fn is_at_head(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns when there may be more to read, or something else is ours.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            () = self.feed.reader.changed() => {}
            () = self.feed.portions.changed() => {}
        }
        self.look_again();
    }

    /// There may be more to read.
    pub(crate) fn look_again(&mut self) {
        self.pending = self.places.keys().copied().collect();
    }

    /// What was not read, as it was at most [`MEASURE_INTERVAL`] ago.
    pub(crate) async fn unread(&mut self, now: Instant) -> Result<Unread, StreamError> {
        let is_old = self.measured_at.is_none_or(|at| at + MEASURE_INTERVAL <= now);
        if is_old && !self.is_at_head() {
            self.unread = measure(&self.feed.reader, &self.portion, &self.places).await?;
            self.measured_at = Some(now);
        }
        Ok(self.unread)
    }

    /// Gives the lane what the stream has, partition by partition, while its window has room.
    pub(crate) async fn fill(
        &mut self,
        lane: &mut Lane,
        report: &Report,
    ) -> Result<(), StreamError> {
        self.settle(lane).await?;
        for partition in std::mem::take(&mut self.pending) {
            if !lane.wants_records() || self.read(partition, lane, report).await? == Found::More {
                self.pending.push(partition);
            }
        }
        if self.is_at_head() {
            self.unread = Unread::default();
        }
        Ok(())
    }

    /// Reads on in one partition.
    async fn read(
        &mut self,
        partition: Partition,
        lane: &mut Lane,
        report: &Report,
    ) -> Result<Found, StreamError> {
        let limit = ReadLimit { records_max: READ_RECORDS_MAX, bytes_max: READ_BYTES_MAX };
        let place = self.places.entry(partition).or_insert(Place::START);
        match self.feed.reader.read_after(partition, *place, limit).await? {
            Read::Entries(entries) => {
                let found = if entries.is_empty() { Found::Nothing } else { Found::More };
                for Entry { place: at, appended_at, record } in entries {
                    match &record {
                        Record::Floor(floor) => report.floor(&floor.reason),
                        Record::Progress(progress) => {
                            self.positions.progressed(progress);
                            // It covers whatever stood before it.
                            if self.lost.remove(&partition) {
                                lane.reached(partition, progress.version);
                            }
                        }
                        Record::Epoch(start) => {
                            self.positions.announced(start, &self.feed.reader).await?;
                        }
                        Record::Invalidations(_) | Record::TermStart(_) => {}
                    }
                    *place = at;
                    lane.take(partition, at, self.share.work(record, appended_at));
                }
                Ok(found)
            }
            // What is lost cannot be listed; nor can what a node without a cursor may hold.
            Read::Gap { resume } => {
                report.gap(&format!("partition {partition}, from {place} to {resume}"));
                *place = resume;
                self.lost.insert(partition);
                let (work, since) = (self.share.unlisted(), wall_clock());
                lane.take(partition, resume, Taken { work, since, version: None });
                Ok(Found::More)
            }
        }
    }
}

impl Share {
    /// What `record` asks of the node.
    fn work(&self, record: Record, appended_at: UnixMicros) -> Taken {
        let nothing = Taken {
            work: Work::Delete(Vec::new()),
            since: appended_at,
            version: Some(Version::ZERO),
        };
        match record {
            Record::Invalidations(invalidations) => {
                let oldest = invalidations.transactions.first();
                let since = oldest.map(|oldest| oldest.committed_at.unwrap_or(oldest.received_at));
                let version = invalidations.transactions.iter().map(|it| it.version).max();
                let all = invalidations.transactions.into_iter().flat_map(|it| it.keys);
                let own = all.map(|invalidation| invalidation.key);
                let mut keys: Vec<_> = own.filter(|key| self.owns(key)).collect();
                // One record's keys are deleted together, so each once.
                keys.sort_unstable();
                keys.dedup();
                Taken {
                    work: Work::Delete(keys),
                    since: since.unwrap_or(appended_at),
                    version: Some(version.unwrap_or(Version::ZERO)),
                }
            }
            Record::Floor(floor) => {
                Taken { work: self.unlisted(), version: Some(floor.version), ..nothing }
            }
            Record::TermStart(_) | Record::Progress(_) | Record::Epoch(_) => nothing,
        }
    }

    /// Leaves the node's own keys. A transaction without any is left out, but for the last one: that says how far everything is.
    pub(crate) fn retain(&self, invalidations: &mut Invalidations) {
        let all = &mut invalidations.transactions;
        let last = all.len().saturating_sub(1);
        let mut at = 0_usize;
        all.retain_mut(|transaction| {
            transaction.keys.retain(|invalidation| self.owns(&invalidation.key));
            at = at.saturating_add(1);
            !transaction.keys.is_empty() || at > last
        });
    }

    /// Whether some client may look for the key here.
    pub fn owns(&self, key: &Key) -> bool {
        self.rings.iter().any(|(ring, node)| ring.owner(key) == *node)
    }

    fn unlisted(&self) -> Work {
        match self.on_floor {
            OnFloor::FlushAll => Work::Flush,
            OnFloor::Alarm => Work::Delete(Vec::new()),
        }
    }
}

/// Every partition.
pub(crate) fn partitions<R: Reader>(reader: &R) -> impl Iterator<Item = Partition> + use<R> {
    (0..reader.partitions()).map(Partition)
}

/// Counts what stands behind `places` in our partitions.
pub(crate) async fn measure<R: Reader>(
    reader: &R,
    ours: &Portion,
    places: &Places,
) -> Result<Unread, StreamError> {
    let mut unread = Unread::default();
    for partition in partitions(reader).filter(|partition| ours.has(*partition)) {
        let place = places.get(&partition).copied().unwrap_or(Place::START);
        let head = reader.head(partition).await?;
        // A place beyond the head is of a log that is gone; the next read reports that.
        if place >= head {
            continue;
        }
        let (place, oldest) = match first_after(reader, partition, place).await? {
            Read::Entries(entries) => (place, entries.first().map(|entry| entry.appended_at)),
            Read::Gap { resume } => match first_after(reader, partition, resume).await? {
                Read::Entries(entries) => (resume, entries.first().map(|entry| entry.appended_at)),
                Read::Gap { resume } => (resume, None),
            },
        };
        unread.records += between(reader, partition, place, head).await?;
        unread.since = unread.since.into_iter().chain(oldest).min();
    }
    Ok(unread)
}

/// Records behind `from`, up to and with `to`: each term names the last record of the one before.
async fn between<R: Reader>(
    reader: &R,
    partition: Partition,
    from: Place,
    mut to: Place,
) -> Result<u64, StreamError> {
    let mut records = 0_u64;
    for _ in 0..TERMS_WALKED_MAX {
        if to.term <= from.term {
            return Ok(records.saturating_add(to.sequence.saturating_sub(from.sequence)));
        }
        records = records.saturating_add(to.sequence);
        let before = Place { term: to.term, sequence: 0 };
        let Read::Entries(entries) = first_after(reader, partition, before).await? else { break };
        let Some(Record::TermStart(start)) = entries.first().map(|entry| &entry.record) else {
            break;
        };
        to = start.previous;
    }
    Ok(records)
}

async fn first_after<R: Reader>(
    reader: &R,
    partition: Partition,
    place: Place,
) -> Result<Read, StreamError> {
    reader.read_after(partition, place, ReadLimit { records_max: 1, bytes_max: 1 }).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use schemas::{
        cursor::Term,
        record::{Floor, Scope},
        version::Version,
    };
    use stream::{
        Batch, Writer,
        embedded::{Embedded, Options},
    };

    use super::*;

    fn options(retention_bytes: u64) -> Options {
        let age = Duration::from_secs(1 << 30);
        Options { partitions: 2, retention_bytes, retention_age: age, now: || UnixMicros(7) }
    }

    fn record() -> Record {
        Record::Floor(Floor {
            source: "s".into(),
            scope: Scope::All,
            version: Version::from_bits(1),
            reason: "r".repeat(100).into(),
        })
    }

    async fn append(log: &Embedded, partition: u16, count: usize) {
        for _ in 0..count {
            let records = vec![(Partition(partition), record())];
            let appended = log.append(Batch { records, checkpoint: None }).await.unwrap();
            appended.await.unwrap();
        }
    }

    #[tokio::test]
    async fn unread_is_counted_over_terms_and_behind_gaps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.db");
        for count in [3, 2] {
            let log = Embedded::open(&path, options(1 << 30)).unwrap();
            append(&log, 0, count).await;
            drop(log);
        }
        let reader = Embedded::read_only(&path).unwrap();
        // Each term has a first record of its own, in each of the two partitions.
        let all = Unread { records: (1 + 3) + (1 + 2) + 2, since: Some(UnixMicros(7)) };
        assert_eq!(measure(&reader, &Portion::All, &Places::new()).await.unwrap(), all);
        let place = |term, sequence| Place { term: Term(term), sequence };
        let after = |of_0, of_1| Places::from([(Partition(0), of_0), (Partition(1), of_1)]);
        for (places, records) in [
            (after(place(1, 1), place(1, 1)), 3 + 3 + 1),
            (after(place(1, 4), place(2, 1)), 3),
            (after(place(2, 1), place(2, 1)), 2),
            (after(place(2, 3), place(2, 1)), 0),
            (after(place(9, 9), place(9, 9)), 0),
        ] {
            let since = (records > 0).then_some(UnixMicros(7));
            let unread = measure(&reader, &Portion::All, &places).await.unwrap();
            assert_eq!(unread, Unread { records, since }, "{places:?}");
        }
        drop(reader);
        // What retention has taken is no backlog: it will be a gap.
        let log = Embedded::open(&path, options(1000)).unwrap();
        append(&log, 0, 20).await;
        let unread = measure(&log.reader(), &Portion::All, &Places::new()).await.unwrap();
        assert!((2..15).contains(&unread.records), "{unread:?}");
    }
}
