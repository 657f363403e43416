//! [`Raw`]: a record as it is kept and sent: its place, and its bytes, not decoded yet.

use std::sync::Arc;

use schemas::{
    cursor::Place,
    record::{self, FORMAT_VERSION, Record, UnixMicros},
};

use crate::{Entry, StreamError};

/// See the module. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Where it stands in its partition.
    pub place: Place,
    /// When it was appended, by the writer's clock.
    pub appended_at: UnixMicros,
    /// The number of the format that the bytes are in.
    pub format: u16,
    /// What it says.
    pub payload: Arc<[u8]>,
}

impl Raw {
    /// Its bytes in the newest format.
    pub fn encoded(entry: &Entry) -> Raw {
        let mut payload = Vec::new();
        record::encode(&entry.record, &mut payload);
        let Entry { place, appended_at, .. } = *entry;
        Raw { place, appended_at, format: FORMAT_VERSION, payload: payload.into() }
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// For the first record of a term: where the term before ended, as it says.
    pub(crate) fn previous(&self) -> Option<Place> {
        match record::decode(self.format, &self.payload) {
            Ok(Record::TermStart(start)) if self.place.sequence == 1 => Some(start.previous),
            _ => None,
        }
    }

    /// The whole record.
    pub fn entry(&self) -> Result<Entry, StreamError> {
        let record = record::decode(self.format, &self.payload).map_err(|err| {
            StreamError::Damaged { what: format!("record {}: {err}", self.place) }
        })?;
        Ok(Entry { place: self.place, appended_at: self.appended_at, record })
    }
}

/// All of them, whole.
pub(crate) fn entries(raws: &[Raw]) -> Result<Vec<Entry>, StreamError> {
    raws.iter().map(Raw::entry).collect()
}

/// The place right before `place`, within its term: reading after it begins with `place`.
pub(crate) fn before(place: Place) -> Place {
    Place { term: place.term, sequence: place.sequence.saturating_sub(1) }
}
