//! [`State`]: what the state topic says, as it is read from its beginning. Pure.
//!
//! The topic has one partition, so all agree on the order of its notes. It is compacted: of each key the last note is
//! kept. Keys are made so that no writer ever replaces the note of another.
//!
//! | key | value | |
//! |---|---|---|
//! | `log` | `ID PARTITIONS` | the first one stands |
//! | `term/T` | who | the claim of a writer to lead term T; the first one for T stands |
//! | `begun/T` | empty | term T has begun on every partition |
//! | `checkpoint/SOURCE/T` | a checkpoint, with where the partitions ended (header `ends`) | by the leader of T; void if a later term was claimed before it |
//! | `request/ID` | a request: a format, and a record | by whoever has one; removed by the leader who has appended it |
//! | `board/NAME` | a note for other processes | by whoever has one |
//! | `epoch/SOURCE/N/T` | an `EpochStart` record | likewise; the first one for N stands |
//!
//! So a writer that was replaced changes nothing, whenever its last notes arrive: its successor has claimed its term
//! before it read the state.

use std::{collections::BTreeMap, sync::Arc};

use schemas::{
    cursor::{Place, StreamId, Term},
    record::{self, Checkpoint, EpochStart, Record},
};

use super::wire::parse_place;
use crate::{board::NOTES_MAX, request::REQUESTS_MAX, seam::with_epochs};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The log's name and its partitions.
    pub(super) log: Option<(StreamId, u16)>,
    /// The newest term that was claimed, and by whom.
    pub(super) term: Claim,
    /// The newest term that has begun on every partition.
    pub(super) begun: u32,
    /// By source.
    pub(super) checkpoints: BTreeMap<Arc<str>, Saved>,
    /// In the order of their announcements.
    pub(super) epochs: Vec<EpochStart>,
    /// Checkpoints that newer ones of a later term have replaced, by source: their terms.
    pub(super) replaced: Vec<(Arc<str>, Term)>,
    /// What tools ask for, by id, as it came. A bounded number.
    pub(super) requests: BTreeMap<Box<str>, Arc<[u8]>>,
    /// What processes leave for each other, by name. A bounded number.
    pub(super) board: BTreeMap<Box<str>, Arc<[u8]>>,
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) number: u32,
    pub(super) holder: Box<str>,
}

/// A checkpoint, and where the partitions ended behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) term: Term,
    pub(super) checkpoint: Checkpoint,
    pub(super) ends: Vec<Place>,
}

/// One note: what a writer adds to the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) key: String,
    /// Header `ends`.
    pub(super) ends: Option<String>,
    /// `None` removes the key.
    pub(super) value: Option<Vec<u8>>,
}

impl Note {
    pub(super) fn log(stream: StreamId, partitions: u16) -> Note {
        Note::text("log".to_owned(), format!("{stream} {partitions}"))
    }

    pub(super) fn claim(term: Term, holder: &str) -> Note {
        Note::text(format!("term/{term}"), holder.to_owned())
    }

    pub(super) fn begun(term: Term) -> Note {
        Note::text(format!("begun/{term}"), String::new())
    }

    pub(super) fn checkpoint(saved: &Saved) -> Note {
        let mut value = Vec::new();
        record::encode_checkpoint(&saved.checkpoint, &mut value);
        let ends: Vec<String> = saved.ends.iter().map(Place::to_string).collect();
        Note {
            key: format!("checkpoint/{}/{}", saved.checkpoint.source, saved.term),
            ends: Some(ends.join(" ")),
            value: Some(value),
        }
    }

    pub(super) fn removed_checkpoint(source: &str, term: Term) -> Note {
        Note { key: format!("checkpoint/{source}/{term}"), ends: None, value: None }
    }

    pub(super) fn epoch(start: &EpochStart, term: Term) -> Note {
        let mut value = Vec::new();
        record::encode(&Record::Epoch(start.clone()), &mut value);
        let key = format!("epoch/{}/{}/{term}", start.source, start.epoch);
        Note { key, ends: None, value: Some(value) }
    }

    pub(super) fn request(id: &str, value: Vec<u8>) -> Note {
        Note { key: format!("request/{id}"), ends: None, value: Some(value) }
    }

    pub(super) fn request_done(id: &str) -> Note {
        Note { key: format!("request/{id}"), ends: None, value: None }
    }

    /// What is empty takes the note away.
    pub(super) fn board(name: &str, value: Vec<u8>) -> Note {
        let value = Some(value).filter(|value| !value.is_empty());
        Note { key: format!("board/{name}"), ends: None, value }
    }

    fn text(key: String, value: String) -> Note {
        Note { key, ends: None, value: Some(value.into_bytes()) }
    }
}

impl State {
    /// Takes the next note. An error says what in it makes no sense.
    pub(super) fn apply(&mut self, format: u16, note: &Note) -> Result<(), String> {
        let parts: Vec<&str> = note.key.split('/').collect();
        let value = note.value.as_deref();
        match (parts.as_slice(), value) {
            (["log"], Some(value)) => self.apply_log(value)?,
            (["term", term], Some(holder)) => {
                let number = number(term)?;
                if number > self.term.number {
                    let holder = String::from_utf8_lossy(holder).into();
                    self.term = Claim { number, holder };
                }
            }
            (["begun", term], Some(_)) => self.begun = self.begun.max(number(term)?),
            (["checkpoint", source, term], Some(value)) => {
                let term = Term(number(term)?);
                if term.0 == self.term.number {
                    self.apply_checkpoint(format, term, note.ends.as_deref(), value)?;
                } else if self.checkpoints.get(*source).is_some_and(|saved| saved.term > term) {
                    self.replaced.push((Arc::from(*source), term));
                }
            }
            (["checkpoint", source, term], None) => {
                let term = Term(number(term)?);
                self.replaced.retain(|(of, old)| &**of != *source || *old != term);
            }
            (["epoch", _, _, term], Some(value)) if number(term)? == self.term.number => {
                self.apply_epoch(format, value)?;
            }
            // Whoever asks for more sees that his request is not there.
            (["request", id], Some(value)) if self.requests.len() < REQUESTS_MAX => {
                self.requests.insert((*id).into(), Arc::from(value));
            }
            (["request", id], None) => drop(self.requests.remove(*id)),
            (["board", name], Some(value))
                if self.board.len() < NOTES_MAX || self.board.contains_key(*name) =>
            {
                self.board.insert((*name).into(), Arc::from(value));
            }
            (["board", name], None) => drop(self.board.remove(*name)),
            // A newer mcsqueal may say more.
            _ => {}
        }
        Ok(())
    }

    /// The checkpoints as tailers resume from them.
    pub(super) fn resume(&self) -> Vec<Checkpoint> {
        let saved = self.checkpoints.values();
        saved.map(|saved| with_epochs(saved.checkpoint.clone(), &self.epochs)).collect()
    }

    /// The newest epoch of each source.
    pub(super) fn newest_epochs(&self) -> Vec<EpochStart> {
        let mut newest = BTreeMap::new();
        for start in &self.epochs {
            newest.insert(Arc::clone(&start.source), start.clone());
        }
        newest.into_values().collect()
    }

    fn apply_log(&mut self, value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' '));
        let log = text.and_then(|(id, partitions)| {
            let id = u64::from_str_radix(id, 16).ok()?;
            Some((StreamId(id), partitions.parse().ok()?))
        });
        let log = log.ok_or_else(|| "the log's name cannot be read".to_owned())?;
        self.log.get_or_insert(log);
        Ok(())
    }

    fn apply_checkpoint(
        &mut self,
        format: u16,
        term: Term,
        ends: Option<&str>,
        value: &[u8],
    ) -> Result<(), String> {
        let checkpoint = record::decode_checkpoint(format, value).map_err(|err| err.to_string())?;
        let ends = ends.unwrap_or_default().split_ascii_whitespace().map(parse_place);
        let ends: Option<Vec<Place>> = ends.collect();
        let ends = ends.ok_or_else(|| "a place cannot be read".to_owned())?;
        let source = Arc::clone(&checkpoint.source);
        let saved = Saved { term, checkpoint, ends };
        if let Some(old) = self.checkpoints.insert(Arc::clone(&source), saved)
            && old.term != term
        {
            self.replaced.push((source, old.term));
        }
        Ok(())
    }

    fn apply_epoch(&mut self, format: u16, value: &[u8]) -> Result<(), String> {
        match record::decode(format, value) {
            Ok(Record::Epoch(start)) => {
                let same = |known: &&EpochStart| {
                    known.source == start.source && known.epoch == start.epoch
                };
                if !self.epochs.iter().any(|known| same(&known)) {
                    self.epochs.push(start);
                }
                Ok(())
            }
            Ok(_) => Err("an epoch is another record".to_owned()),
            Err(err) => Err(err.to_string()),
        }
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests;
