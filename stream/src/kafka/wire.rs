//! How a record stands in Kafka: the wire form as the value, its place and its format in the headers, the writer's
//! clock as the timestamp. There is no key; the writer chooses the partition.

use std::sync::Arc;

use protocol::relay::Raw;
use rdkafka::{
    Message,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
};
use schemas::{
    cursor::{Place, Term},
    record::{self, UnixMicros},
};

/// Header: the format's number, in decimal.
const FORMAT: &str = "format";
/// Header: `term:sequence`, in decimal.
const PLACE: &str = "place";

/// What a message has; `None`: it is none of ours. It has no place, so it takes nobody's.
pub(super) fn raw_of(message: &BorrowedMessage<'_>) -> Option<Raw> {
    let headers = message.headers()?.iter().map(|header| (header.key, header.value));
    let at_ms = u64::try_from(message.timestamp().to_millis().unwrap_or(0)).unwrap_or(0);
    parse(headers, UnixMicros(at_ms.saturating_mul(1000)), message.payload()?)
}

/// Likewise, of its parts.
pub(super) fn parse<'a>(
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    appended_at: UnixMicros,
    payload: &[u8],
) -> Option<Raw> {
    let (mut format, mut place) = (None, None);
    for (name, value) in headers {
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        match name {
            FORMAT => format = text.and_then(|text| text.parse().ok()),
            PLACE => place = text.and_then(parse_place),
            _ => {}
        }
    }
    let (place, format) = (place?, format?);
    Some(Raw { place, appended_at, format, payload: Arc::from(payload) })
}

/// The headers of a record at `place`.
pub(super) fn headers(place: Place) -> OwnedHeaders {
    let (format, place) = (record::FORMAT_VERSION.to_string(), place.to_string());
    OwnedHeaders::new_with_capacity(2)
        .insert(Header { key: FORMAT, value: Some(&format) })
        .insert(Header { key: PLACE, value: Some(&place) })
}

/// `term:sequence`.
pub(super) fn parse_place(text: &str) -> Option<Place> {
    let (term, sequence) = text.split_once(':')?;
    Some(Place { term: Term(term.parse().ok()?), sequence: sequence.parse().ok()? })
}
