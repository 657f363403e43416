//! Whichever backend a region has chosen, as one type each: [`Log`], and what it is written, read and followed with.

use std::{path::Path, sync::Arc};

use schemas::{
    cursor::{Cursor, Partition, Place, StreamId, Term},
    record::{Checkpoint, EpochStart, UnixMicros},
};
use tokio::sync::watch;

use crate::{
    Batch, Board, CursorStore, Desk, Pending, Portions, Read, ReadLimit, Reader, StreamError,
    Writer,
    embedded::{Embedded, EmbeddedReader},
    kafka::{Kafka, KafkaCursors, KafkaReader, KafkaWriter, Share},
    relay::{self, RelayedReader},
};

/// A log that this process may write.
#[derive(Clone, Debug)]
pub enum Log {
    /// One file; whoever has opened it is its only writer.
    Embedded(Embedded),
    /// Several processes may stand by.
    Kafka(Kafka),
}

/// Writes to either.
#[derive(Clone, Debug)]
pub enum AnyWriter {
    Embedded(Embedded),
    Kafka(KafkaWriter),
}

/// Reads either, here or from far away.
#[derive(Clone, Debug)]
pub enum AnyReader {
    Embedded(EmbeddedReader),
    Kafka(KafkaReader),
    Relayed(RelayedReader),
}

/// Keeps cursors in either.
#[derive(Clone, Debug)]
pub enum AnyCursors {
    Embedded(Embedded),
    Kafka(KafkaCursors),
}

/// A process among those that deliver either. Dropping it leaves the partitions to the others.
#[derive(Debug)]
pub enum AnyShare {
    /// There are no others.
    Whole,
    Kafka(Share),
}

impl AnyShare {
    /// The partitions that are ours, as they change.
    pub fn portions(&self) -> Portions {
        match self {
            AnyShare::Whole => Portions::whole(),
            AnyShare::Kafka(share) => share.portions(),
        }
    }

    /// Why the others do not count us in, if so.
    pub fn trouble(&self) -> watch::Receiver<Option<Arc<str>>> {
        match self {
            AnyShare::Whole => watch::channel(None).1,
            AnyShare::Kafka(share) => share.trouble(),
        }
    }
}

impl Log {
    /// Waits until no other process writes.
    pub async fn lead(&self) -> Result<AnyWriter, StreamError> {
        match self {
            Log::Embedded(embedded) => Ok(AnyWriter::Embedded(embedded.clone())),
            Log::Kafka(kafka) => kafka.lead().await.map(AnyWriter::Kafka),
        }
    }

    /// Whether a tailer has begun, so that whatever is committed from now on reaches the log, whoever writes it.
    pub fn is_begun(&self) -> bool {
        match self {
            Log::Embedded(_) => true,
            Log::Kafka(kafka) => kafka.is_begun(),
        }
    }

    /// Where its processes leave notes for each other; `path` is that of the embedded file.
    pub fn board(&self, path: &Path) -> Board {
        match self {
            Log::Embedded(_) => Board::of_file(path),
            Log::Kafka(kafka) => Board::Kafka(kafka.clone()),
        }
    }

    /// The reading side.
    pub async fn reader(&self) -> Result<AnyReader, StreamError> {
        match self {
            Log::Embedded(embedded) => Ok(AnyReader::Embedded(embedded.reader())),
            Log::Kafka(kafka) => kafka.reader().await.map(AnyReader::Kafka),
        }
    }

    /// Reads it from relays; if it is on Kafka, from there while no relay answers. A log in a file is another one: it only keeps
    /// cursors and notes.
    pub async fn relayed(&self, settings: relay::Settings) -> Result<AnyReader, StreamError> {
        let reader = match self {
            Log::Embedded(_) => RelayedReader::open(settings).await,
            Log::Kafka(kafka) => RelayedReader::beside(settings, kafka.clone()).await,
        };
        reader.map(AnyReader::Relayed)
    }

    /// Joins those who deliver it to `region`; `instance` names this process, over its restarts.
    pub fn share(&self, region: &str, instance: Option<&str>) -> Result<AnyShare, StreamError> {
        match self {
            Log::Embedded(_) => Ok(AnyShare::Whole),
            Log::Kafka(kafka) => kafka.share(region, instance).map(AnyShare::Kafka),
        }
    }

    /// Where cursors are kept.
    pub async fn cursors(&self) -> Result<AnyCursors, StreamError> {
        match self {
            Log::Embedded(embedded) => Ok(AnyCursors::Embedded(embedded.clone())),
            Log::Kafka(kafka) => kafka.cursors().await.map(AnyCursors::Kafka),
        }
    }
}

impl AnyWriter {
    /// Why nothing can be written at the moment, if so. Appends wait meanwhile.
    pub fn trouble(&self) -> Option<Arc<str>> {
        match self {
            AnyWriter::Embedded(embedded) => embedded.trouble(),
            AnyWriter::Kafka(kafka) => kafka.trouble(),
        }
    }
}

impl Writer for AnyWriter {
    fn stream_id(&self) -> StreamId {
        match self {
            AnyWriter::Embedded(writer) => writer.stream_id(),
            AnyWriter::Kafka(writer) => writer.stream_id(),
        }
    }

    fn partitions(&self) -> u16 {
        match self {
            AnyWriter::Embedded(writer) => writer.partitions(),
            AnyWriter::Kafka(writer) => writer.partitions(),
        }
    }

    fn term(&self) -> Term {
        match self {
            AnyWriter::Embedded(writer) => writer.term(),
            AnyWriter::Kafka(writer) => writer.term(),
        }
    }

    fn checkpoint(&self, source: &str) -> Option<Checkpoint> {
        match self {
            AnyWriter::Embedded(writer) => writer.checkpoint(source),
            AnyWriter::Kafka(writer) => writer.checkpoint(source),
        }
    }

    async fn append(&self, batch: Batch) -> Result<Pending, StreamError> {
        match self {
            AnyWriter::Embedded(writer) => writer.append(batch).await,
            AnyWriter::Kafka(writer) => writer.append(batch).await,
        }
    }

    fn desk(&self) -> Option<Desk> {
        match self {
            AnyWriter::Embedded(writer) => writer.desk(),
            AnyWriter::Kafka(writer) => writer.desk(),
        }
    }
}

impl Reader for AnyReader {
    fn stream_id(&self) -> StreamId {
        match self {
            AnyReader::Embedded(reader) => reader.stream_id(),
            AnyReader::Kafka(reader) => reader.stream_id(),
            AnyReader::Relayed(reader) => reader.stream_id(),
        }
    }

    fn partitions(&self) -> u16 {
        match self {
            AnyReader::Embedded(reader) => reader.partitions(),
            AnyReader::Kafka(reader) => reader.partitions(),
            AnyReader::Relayed(reader) => reader.partitions(),
        }
    }

    async fn read_after(
        &self,
        partition: Partition,
        after: Place,
        limit: ReadLimit,
    ) -> Result<Read, StreamError> {
        match self {
            AnyReader::Embedded(reader) => reader.read_after(partition, after, limit).await,
            AnyReader::Kafka(reader) => reader.read_after(partition, after, limit).await,
            AnyReader::Relayed(reader) => reader.read_after(partition, after, limit).await,
        }
    }

    async fn head(&self, partition: Partition) -> Result<Place, StreamError> {
        match self {
            AnyReader::Embedded(reader) => reader.head(partition).await,
            AnyReader::Kafka(reader) => reader.head(partition).await,
            AnyReader::Relayed(reader) => reader.head(partition).await,
        }
    }

    async fn seek(&self, partition: Partition, at: UnixMicros) -> Result<Place, StreamError> {
        match self {
            AnyReader::Embedded(reader) => reader.seek(partition, at).await,
            AnyReader::Kafka(reader) => reader.seek(partition, at).await,
            AnyReader::Relayed(reader) => reader.seek(partition, at).await,
        }
    }

    async fn epochs(&self) -> Result<Vec<EpochStart>, StreamError> {
        match self {
            AnyReader::Embedded(reader) => reader.epochs().await,
            AnyReader::Kafka(reader) => reader.epochs().await,
            AnyReader::Relayed(reader) => reader.epochs().await,
        }
    }

    async fn changed(&mut self) {
        match self {
            AnyReader::Embedded(reader) => reader.changed().await,
            AnyReader::Kafka(reader) => reader.changed().await,
            AnyReader::Relayed(reader) => reader.changed().await,
        }
    }
}

impl CursorStore for AnyCursors {
    async fn load(&self, consumer: &str) -> Result<Vec<Cursor>, StreamError> {
        match self {
            AnyCursors::Embedded(cursors) => cursors.load(consumer).await,
            AnyCursors::Kafka(cursors) => cursors.load(consumer).await,
        }
    }

    async fn store(&self, consumer: &str, cursors: Vec<Cursor>) -> Result<(), StreamError> {
        match self {
            AnyCursors::Embedded(store) => store.store(consumer, cursors).await,
            AnyCursors::Kafka(store) => store.store(consumer, cursors).await,
        }
    }
}
