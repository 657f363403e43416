//! [`CatchUp`]: one partition, from some place on, for a reader who is behind.

use std::time::Duration;

use protocol::relay::Raw;
use schemas::cursor::{Partition, Place};

use super::{
    client::{ANSWER_DEADLINE, POLL, Reading, assign, poll, position},
    ends::no_answer,
    wire::raw_of,
};
use crate::{
    Read, ReadLimit, StreamError,
    follow::{Step, follow_place},
    raw::{before, entries, previous},
};

/// See the module.
pub(super) struct CatchUp {
    consumer: Reading,
    partition: Partition,
    /// The last record that was handed out, or what takes its place.
    place: Place,
    /// Read, and not handed out: it stands behind a hole.
    next: Option<Raw>,
}

impl std::fmt::Debug for CatchUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CatchUp({}/{})", self.partition, self.place)
    }
}

impl CatchUp {
    /// Reads on after `after`, beginning at `offset`.
    pub(super) fn start(
        consumer: Reading,
        topic: &str,
        partition: Partition,
        after: Place,
        offset: i64,
    ) -> Result<CatchUp, StreamError> {
        assign(&consumer, topic, [(partition.0, offset)])?;
        Ok(CatchUp { consumer, partition, place: after, next: None })
    }

    pub(super) fn partition(&self) -> Partition {
        self.partition
    }

    /// Where the reader stands.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The records that follow. Blocks until there is one, or until `base`, where the window begins, is no longer ahead.
    pub(super) fn read(
        &mut self,
        limit: ReadLimit,
        base: impl Fn() -> Result<Place, StreamError>,
    ) -> Result<Read, StreamError> {
        let mut raws: Vec<Raw> = Vec::new();
        let (mut bytes, mut waited) = (0_usize, Duration::ZERO);
        while raws.len() < limit.records_max.max(1) && bytes < limit.bytes_max {
            let wait = if raws.is_empty() { POLL } else { Duration::ZERO };
            let Some(raw) = self.take(wait)? else {
                if !raws.is_empty() || self.place >= base()? {
                    break;
                }
                waited = waited.saturating_add(POLL);
                if waited > ANSWER_DEADLINE {
                    return Err(no_answer());
                }
                continue;
            };
            match follow_place(self.place, raw.place, || previous(&raw)) {
                Step::Late => {}
                Step::Next => {
                    self.place = raw.place;
                    bytes = bytes.saturating_add(raw.payload.len());
                    raws.push(raw);
                }
                Step::Hole if raws.is_empty() => {
                    self.place = before(raw.place);
                    self.next = Some(raw);
                    return Ok(Read::Gap { resume: self.place });
                }
                Step::Hole => {
                    self.next = Some(raw);
                    break;
                }
            }
        }
        entries(&raws).map(Read::Entries)
    }

    /// The next record, if one comes within `wait`; what is none is passed over.
    fn take(&mut self, wait: Duration) -> Result<Option<Raw>, StreamError> {
        if let Some(raw) = self.next.take() {
            return Ok(Some(raw));
        }
        loop {
            let Some(message) = poll(&self.consumer, wait)? else { return Ok(None) };
            debug_assert_eq!(position(&message).0, self.partition.0);
            if let Some(raw) = raw_of(&message) {
                return Ok(Some(raw));
            }
        }
    }
}
