//! [`Broker`]: the log, as Kafka keeps it: records in the order of their arrival, from writers that may
//! not know that they were replaced; a tail that may be lost; a beginning that is removed.

use schemas::{
    cursor::{Partition, Place, Term},
    record::{Checkpoint, EpochStart, Record, UnixMicros},
};
use stream::{Entry, Read};

/// One partition.
#[derive(Clone, Debug, Default)]
struct Part {
    entries: Vec<Entry>,
    /// The last record that was removed from the beginning.
    removed: Option<Place>,
    /// The highest place in it, not that of the last record to arrive.
    end: Option<Place>,
    highest: u64,
}

impl Part {
    fn find_end(&mut self) {
        self.end = self.entries.iter().map(|entry| entry.place).max();
    }
}

/// A checkpoint, and where the partitions ended behind it.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Where a tailer resumes.
    pub checkpoint: Checkpoint,
    /// The last record of each partition that it stands behind.
    pub ends: Vec<Place>,
}

/// The log of one source.
#[derive(Clone, Debug)]
pub struct Broker {
    parts: Vec<Part>,
    /// Whether it takes and gives records.
    pub up: bool,
    /// The newest term that was given out.
    pub term: u32,
    /// The newest term that has a record.
    landed: u32,
    /// The compacted topic of checkpoints.
    pub saved: Option<Saved>,
    /// The compacted topic of epochs.
    pub epochs: Vec<EpochStart>,
}

impl Broker {
    /// An empty log.
    pub fn new(partitions: u16) -> Broker {
        let parts = vec![Part::default(); usize::from(partitions)];
        Broker { parts, up: true, term: 0, landed: 0, saved: None, epochs: Vec::new() }
    }

    /// A new leadership.
    pub fn begin_term(&mut self) -> Term {
        self.term += 1;
        Term(self.term)
    }

    /// Where each partition ends.
    pub fn ends(&self) -> Vec<Place> {
        let end = |part: &Part| part.end.or(part.removed).unwrap_or(Place::START);
        self.parts.iter().map(end).collect()
    }

    /// The highest sequence that a partition ever gave out.
    pub(crate) fn highest(&self, partition: Partition) -> u64 {
        self.parts[usize::from(partition.0)].highest
    }

    /// A record arrives. Returns the epoch that it begins, if that is new.
    pub fn append(
        &mut self,
        partition: Partition,
        place: Place,
        at: u64,
        record: Record,
    ) -> Option<EpochStart> {
        self.landed = self.landed.max(place.term.0);
        let begins = match &record {
            // What a writer that was replaced calls an epoch is none.
            Record::Epoch(start) if place.term.0 == self.landed => Some(start.clone()),
            _ => None,
        };
        let begins =
            begins.filter(|start| !self.epochs.iter().any(|known| known.epoch == start.epoch));
        self.epochs.extend(begins.clone());
        let part = &mut self.parts[usize::from(partition.0)];
        part.highest = part.highest.max(place.sequence);
        part.end = part.end.max(Some(place));
        part.entries.push(Entry { place, appended_at: UnixMicros(at), record });
        begins
    }

    /// The records that arrived after the one at `after`, at most `max`.
    pub fn read_after(&self, partition: Partition, after: Place, max: usize) -> Read {
        let part = &self.parts[usize::from(partition.0)];
        if let Some(removed) = part.removed
            && after < removed
        {
            return Read::Gap { resume: removed };
        }
        // The record itself may be lost: then what follows the last one before it.
        let at = part.entries.iter().rposition(|entry| entry.place <= after).map_or(0, |at| at + 1);
        Read::Entries(part.entries[at..].iter().take(max).cloned().collect())
    }

    /// An unclean election: the last `count` records are gone. Returns their places.
    pub fn lose_tail(&mut self, partition: usize, count: usize) -> Vec<Place> {
        let part = &mut self.parts[partition];
        let lost = part.entries.split_off(part.entries.len().saturating_sub(count));
        part.find_end();
        lost.iter().map(|entry| entry.place).collect()
    }

    /// Retention: all but the last `keep` records are removed.
    pub fn retain(&mut self, partition: usize, keep: usize) {
        let part = &mut self.parts[partition];
        let gone = part.entries.len().saturating_sub(keep);
        let removed = part.entries.drain(..gone).map(|entry| entry.place).max();
        part.removed = part.removed.max(removed);
        part.find_end();
    }
}
