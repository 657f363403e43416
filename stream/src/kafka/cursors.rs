//! [`KafkaCursors`]: cursors of consumers, in a compacted topic. Key `CONSUMER/PARTITION`, value
//! `STREAM TERM:SEQUENCE`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use schemas::cursor::{Cursor, Partition, StreamId};
use tokio::time::Instant;

use super::{
    client::{ANSWER_DEADLINE, Context, blocking},
    ends::no_answer,
    follower::{Fold, Follower},
    scribe::Scribe,
    settings::Settings,
    state::Note,
    wire::parse_place,
};
use crate::{CursorStore, StreamError};

/// Clones share it.
#[derive(Clone, Debug)]
pub struct KafkaCursors {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    follower: Follower<Table>,
    /// Guards the producer, which writes the notes of one lane after those of another.
    writer: Mutex<Writer>,
}

struct Writer(Scribe);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

/// What the topic says, by consumer and partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(BTreeMap<(Box<str>, u16), Cursor>);

impl Fold for Table {
    fn apply(&mut self, _: u16, note: &Note) -> Result<(), String> {
        let Some((consumer, partition)) = note.key.rsplit_once('/') else { return Ok(()) };
        let partition: u16 = partition.parse().map_err(|_| "no partition".to_owned())?;
        let key = (consumer.into(), partition);
        let Some(value) = &note.value else {
            self.0.remove(&key);
            return Ok(());
        };
        let text = std::str::from_utf8(value).map_err(|err| err.to_string())?;
        let cursor = text.split_once(' ').and_then(|(stream, place)| {
            let stream = StreamId(u64::from_str_radix(stream, 16).ok()?);
            Some(Cursor { stream, partition: Partition(partition), place: parse_place(place)? })
        });
        self.0.insert(key, cursor.ok_or_else(|| format!("{text:?} is no cursor"))?);
        Ok(())
    }
}

impl KafkaCursors {
    pub(super) fn open(
        settings: &Settings,
        context: &Context,
    ) -> Result<KafkaCursors, StreamError> {
        let follower = Follower::start(settings, context, settings.cursors_topic())?;
        let scribe = Scribe::new(settings, context, settings.cursors_topic())?;
        let writer = Mutex::new(Writer(scribe));
        Ok(KafkaCursors { shared: Arc::new(Shared { follower, writer }) })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StreamError> + Send + 'static,
    ) -> Result<T, StreamError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared)).await
    }
}

impl CursorStore for KafkaCursors {
    async fn load(&self, consumer: &str) -> Result<Vec<Cursor>, StreamError> {
        let consumer: Box<str> = consumer.into();
        self.with(move |shared| {
            let table = shared.follower.fresh()?;
            let of = (consumer.clone(), 0)..=(consumer, u16::MAX);
            Ok(table.0.range(of).map(|(_, cursor)| *cursor).collect())
        })
        .await
    }

    async fn store(&self, consumer: &str, cursors: Vec<Cursor>) -> Result<(), StreamError> {
        let consumer = consumer.to_owned();
        self.with(move |shared| {
            let mut writer = shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let late = Instant::now() + ANSWER_DEADLINE;
            let note = |cursor: &Cursor| Note {
                key: format!("{consumer}/{}", cursor.partition),
                ends: None,
                value: Some(format!("{} {}", cursor.stream, cursor.place).into_bytes()),
            };
            let notes: Vec<Note> = cursors.iter().map(note).collect();
            let written = writer.0.write_all(&notes, || Instant::now() < late);
            written.map_err(|err| match err {
                StreamError::Closed => no_answer(),
                err => err,
            })
        })
        .await
    }
}
