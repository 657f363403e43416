//! What a [`Raw`] record is to this crate: an entry, and a step of a reader.

use protocol::relay::Raw;
use schemas::{
    cursor::Place,
    record::{self, FORMAT_VERSION, Record},
};

use crate::{Entry, StreamError};

/// Its bytes in the newest format.
pub(crate) fn encoded(entry: &Entry) -> Raw {
    let mut payload = Vec::new();
    record::encode(&entry.record, &mut payload);
    let Entry { place, appended_at, .. } = *entry;
    Raw { place, appended_at, format: FORMAT_VERSION, payload: payload.into() }
}

/// The whole record.
pub(crate) fn entry(raw: &Raw) -> Result<Entry, StreamError> {
    let record = record::decode(raw.format, &raw.payload)
        .map_err(|err| StreamError::Damaged { what: format!("record {}: {err}", raw.place) })?;
    Ok(Entry { place: raw.place, appended_at: raw.appended_at, record })
}

/// All of them, whole.
pub(crate) fn entries(raws: &[Raw]) -> Result<Vec<Entry>, StreamError> {
    raws.iter().map(entry).collect()
}

/// Of the first record of a term: where the term before ended, as it says.
pub(crate) fn previous(raw: &Raw) -> Option<Place> {
    match record::decode(raw.format, &raw.payload) {
        Ok(Record::TermStart(start)) if raw.place.sequence == 1 => Some(start.previous),
        _ => None,
    }
}

/// The place right before `place`, within its term: reading after it begins with `place`.
pub(crate) fn before(place: Place) -> Place {
    Place { term: place.term, sequence: place.sequence.saturating_sub(1) }
}
