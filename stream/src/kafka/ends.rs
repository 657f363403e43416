//! Where partitions end, and where in a partition a place is: what offsets alone do not say.
//!
//! Places rise with offsets, but for records of a writer that did not know that it was replaced. They may stand behind
//! those of its successor, whose term is higher, and are passed over.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::consumer::Consumer as _;
use schemas::cursor::Place;

use super::{
    client::{ANSWER_DEADLINE, POLL, Reading, assign, poll, position, read_error, watermarks},
    wire::raw_of,
};
use crate::StreamError;

/// How far to look back beyond a place for one that is higher, in records.
const STEPS_BACK: [i64; 5] = [1, 8, 64, 512, 4096];
/// How much further each look for the end goes than the one before.
const LOOK_BACK_FACTOR: i64 = 64;

/// The end of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The highest place; `None` if no record is there.
    pub(super) place: Option<Place>,
    /// The oldest offset that is kept.
    pub(super) oldest: i64,
    /// The offset that the next record gets.
    pub(super) next_offset: i64,
}

/// The ends of partitions `0..partitions`; `begun` is the newest term that began on all of them.
pub(super) fn ends(
    consumer: &Reading,
    topic: &str,
    partitions: u16,
    begun: u32,
) -> Result<Vec<End>, StreamError> {
    let mut ends = Vec::new();
    for partition in 0..partitions {
        let (oldest, next_offset) = watermarks(consumer, topic, partition)?;
        ends.push(End { place: None, oldest, next_offset });
    }
    let mut open: Vec<u16> = (0..)
        .zip(&ends)
        .filter(|(_, end)| end.oldest < end.next_offset)
        .map(|(partition, _)| partition)
        .collect();
    let mut back: i64 = 1;
    while !open.is_empty() {
        let from = |partition: &u16| {
            let end = ends.get(usize::from(*partition))?;
            let offset = end.next_offset.saturating_sub(back).max(end.oldest);
            Some((*partition, (offset, end.next_offset)))
        };
        let ranges: BTreeMap<u16, (i64, i64)> = open.iter().filter_map(from).collect();
        for (partition, place) in highest(consumer, topic, &ranges)? {
            if let Some(end) = ends.get_mut(usize::from(partition)) {
                end.place = end.place.max(place);
            }
        }
        open.retain(|partition| {
            ends.get(usize::from(*partition)).is_some_and(|end| {
                let late = end.place.is_none_or(|place| place.term.0 < begun);
                late && end.next_offset.saturating_sub(back) > end.oldest
            })
        });
        back = back.saturating_mul(LOOK_BACK_FACTOR);
    }
    Ok(ends)
}

/// The highest place within each range of offsets.
fn highest(
    consumer: &Reading,
    topic: &str,
    ranges: &BTreeMap<u16, (i64, i64)>,
) -> Result<BTreeMap<u16, Option<Place>>, StreamError> {
    assign(consumer, topic, ranges.iter().map(|(partition, (from, _))| (*partition, *from)))?;
    let mut found: BTreeMap<u16, Option<Place>> = BTreeMap::new();
    let mut open = ranges.clone();
    let mut waited = Duration::ZERO;
    while !open.is_empty() {
        let Some(message) = poll(consumer, POLL)? else {
            waited = waited.saturating_add(POLL);
            if waited > ANSWER_DEADLINE {
                return Err(no_answer());
            }
            continue;
        };
        let (partition, offset) = position(&message);
        let Some((_, until)) = open.get(&partition).copied() else { continue };
        let place = found.entry(partition).or_default();
        *place = (*place).max(raw_of(&message).map(|raw| raw.place));
        if offset.saturating_add(1) >= until {
            open.remove(&partition);
        }
    }
    consumer.unassign().map_err(read_error)?;
    Ok(found)
}

/// An offset from which on reading meets the record after `after`: what comes before it there is passed over.
pub(super) fn locate(
    consumer: &Reading,
    topic: &str,
    partition: u16,
    after: Place,
) -> Result<i64, StreamError> {
    let (oldest, end) = watermarks(consumer, topic, partition)?;
    let look = |offset: i64| look(consumer, topic, partition, offset, end);
    let mut until = end;
    loop {
        let (mut low, mut high) = (oldest, until);
        // Everything before `low` is at or before `after`; at `high` and behind it, nothing is.
        while low < high {
            let middle = low.saturating_add(high.saturating_sub(low) / 2);
            match look(middle)? {
                Some((offset, place)) if place <= after => {
                    if place == after {
                        return Ok(offset);
                    }
                    low = offset.saturating_add(1);
                }
                _ => high = middle,
            }
        }
        // It may have been a late record that sent us here.
        let mut higher = None;
        for step in STEPS_BACK {
            let offset = low.saturating_sub(step);
            if offset >= oldest
                && let Some((_, place)) = look(offset)?
                && place > after
            {
                higher = Some(offset);
            }
        }
        match higher {
            Some(offset) if offset < until => until = offset,
            _ => return Ok(low),
        }
    }
}

/// The first record at or after `offset`, below `end`.
fn look(
    consumer: &Reading,
    topic: &str,
    partition: u16,
    offset: i64,
    end: i64,
) -> Result<Option<(i64, Place)>, StreamError> {
    if offset >= end {
        return Ok(None);
    }
    assign(consumer, topic, [(partition, offset)])?;
    let mut waited = Duration::ZERO;
    loop {
        match poll(consumer, POLL)? {
            Some(message) => {
                let (_, at) = position(&message);
                if let Some(raw) = raw_of(&message) {
                    return Ok((at < end).then_some((at, raw.place)));
                }
                if at.saturating_add(1) >= end {
                    return Ok(None);
                }
            }
            None if waited > ANSWER_DEADLINE => return Err(no_answer()),
            None => waited = waited.saturating_add(POLL),
        }
    }
}

/// The place of the first record at or after `offset`.
pub(super) fn place_at(
    consumer: &Reading,
    topic: &str,
    partition: u16,
    offset: i64,
) -> Result<Option<Place>, StreamError> {
    let (_, end) = watermarks(consumer, topic, partition)?;
    Ok(look(consumer, topic, partition, offset, end)?.map(|(_, place)| place))
}

pub(super) fn no_answer() -> StreamError {
    StreamError::Read { source: format!("no answer within {ANSWER_DEADLINE:?}").into() }
}
