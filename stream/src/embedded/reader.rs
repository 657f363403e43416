//! The reading side: a few connections of its own, used on blocking threads, so that a slow disk never
//! holds up the runtime.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use rusqlite::Connection;
use schemas::{
    cursor::{Cursor, Partition, Place, StreamId, Term},
    record::{self, EpochStart, UnixMicros},
};
use tokio::sync::watch;

use super::{
    file::{self, Log, damaged_or, read_error},
    heads::Heads,
};
use crate::{CursorStore, Entry, Read, ReadLimit, Reader, StreamError, raw::entries};

/// How often a reader in another process than the writer looks for something new.
const POLL: Duration = Duration::from_millis(20);
/// A reader in the writer's process looks anyhow, in case that a wake-up came to nothing.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// Reads one file; clones share its connections.
#[derive(Clone, Debug)]
pub struct EmbeddedReader {
    files: Arc<Files>,
    log: Log,
    /// If the writer is in this process.
    head: Option<Head>,
}

/// What the writer has appended last, and when there is more.
#[derive(Clone, Debug)]
struct Head {
    heads: Weak<Heads>,
    appended: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Files {
    path: PathBuf,
    /// Guards connections that nobody is using; held only to push or pop.
    idle: Mutex<Vec<Connection>>,
}

impl EmbeddedReader {
    pub(super) fn open(
        path: PathBuf,
        heads: Option<&Arc<Heads>>,
    ) -> Result<EmbeddedReader, StreamError> {
        let (connection, log) = file::open_reader(&path)?;
        let files = Arc::new(Files { path, idle: Mutex::new(vec![connection]) });
        let head =
            heads.map(|heads| Head { heads: Arc::downgrade(heads), appended: heads.subscribe() });
        Ok(EmbeddedReader { files, log, head })
    }

    async fn with<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StreamError> + Send + 'static,
    ) -> Result<T, StreamError> {
        let files = Arc::clone(&self.files);
        let work = move || {
            let idle = files.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => file::open_reader(&files.path)?.0,
            };
            let outcome = read(&connection)?; // After an error, the connection is not used again.
            files.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(outcome)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(StreamError::Closed))
    }

    /// The cursors that `consumer` stored last.
    pub(super) async fn load_cursors(&self, consumer: &str) -> Result<Vec<Cursor>, StreamError> {
        let consumer = consumer.to_owned();
        self.with(move |connection| {
            load_cursors(connection, &consumer).map_err(|err| damaged_or(err, read_error))
        })
        .await
    }
}

impl Reader for EmbeddedReader {
    fn stream_id(&self) -> StreamId {
        self.log.stream_id
    }

    fn partitions(&self) -> u16 {
        self.log.partitions
    }

    async fn read_after(
        &self,
        partition: Partition,
        after: Place,
        limit: ReadLimit,
    ) -> Result<Read, StreamError> {
        let heads = self.head.as_ref().and_then(|head| head.heads.upgrade());
        if let Some(raws) = heads.and_then(|heads| heads.after(partition, after, limit)) {
            return entries(&raws).map(Read::Entries);
        }
        self.with(move |connection| read_after(connection, partition, after, limit)).await
    }

    async fn head(&self, partition: Partition) -> Result<Place, StreamError> {
        self.with(move |connection| {
            file::head(connection, partition.0).map_err(|err| damaged_or(err, read_error))
        })
        .await
    }

    async fn seek(&self, partition: Partition, at: UnixMicros) -> Result<Place, StreamError> {
        self.with(move |connection| {
            seek(connection, partition, at).map_err(|err| damaged_or(err, read_error))
        })
        .await
    }

    async fn epochs(&self) -> Result<Vec<EpochStart>, StreamError> {
        if !self.log.epochs {
            return Ok(Vec::new());
        }
        self.with(file::epochs).await
    }

    async fn changed(&mut self) {
        match &mut self.head {
            None => tokio::time::sleep(POLL).await,
            // An error is a writer that is gone; what it wrote last is then found by polling.
            Some(head) => match tokio::time::timeout(POLL_IDLE, head.appended.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => tokio::time::sleep(POLL).await,
            },
        }
    }
}

/// The embedded stream's cursors: read through a reader, written by the writer.
impl CursorStore for super::Embedded {
    async fn load(&self, consumer: &str) -> Result<Vec<Cursor>, StreamError> {
        self.reader().load_cursors(consumer).await
    }

    async fn store(&self, consumer: &str, cursors: Vec<Cursor>) -> Result<(), StreamError> {
        self.store_cursors(consumer, cursors).await
    }
}

fn read_after(
    connection: &Connection,
    partition: Partition,
    after: Place,
    limit: ReadLimit,
) -> Result<Read, StreamError> {
    let fail = |err| damaged_or(err, read_error);
    // One transaction, so that the chain of terms and the records are of one moment.
    let transaction = connection.unchecked_transaction().map_err(fail)?;
    let mut rows = transaction
        .prepare_cached(
            "SELECT term, sequence, appended_at, format, crc, payload FROM records
             WHERE partition = ?1 AND (term, sequence) > (?2, ?3) ORDER BY term, sequence LIMIT ?4",
        )
        .map_err(fail)?;
    let records_max = i64::try_from(limit.records_max.max(1)).unwrap_or(i64::MAX);
    let mut rows = rows
        .query((partition.0, after.term.0, after.sequence.cast_signed(), records_max))
        .map_err(fail)?;
    let (mut entries, mut bytes, mut last) = (Vec::new(), 0_usize, after);
    while let Some(row) = rows.next().map_err(fail)? {
        let place = file::place(row).map_err(fail)?;
        if !follows(connection, partition, last, place).map_err(fail)? {
            if entries.is_empty() {
                return gap_or_hole(connection, partition, after, place);
            }
            return Ok(Read::Entries(entries)); // The next read starts here, and reports it.
        }
        entries.push(entry(row, partition, place)?);
        bytes =
            bytes.saturating_add(row.get_ref(5).map_err(fail)?.as_blob().map_or(0, <[u8]>::len));
        last = place;
        if bytes >= limit.bytes_max {
            break;
        }
    }
    let head = file::head(connection, partition.0).map_err(fail)?;
    if after > head {
        // A place that this log has never reached: another log's, or one that lost its tail.
        return Ok(Read::Gap { resume: head });
    }
    let more = bytes >= limit.bytes_max || entries.len() >= limit.records_max.max(1);
    if last != head && !more {
        return Err(hole(partition, last, head));
    }
    Ok(Read::Entries(entries))
}

/// The place right before `place`, within its term: reading after it begins with `place`.
fn before(place: Place) -> Place {
    Place { term: place.term, sequence: place.sequence.saturating_sub(1) }
}

/// Whether `next` is the record right after `last`.
fn follows(
    connection: &Connection,
    partition: Partition,
    last: Place,
    next: Place,
) -> rusqlite::Result<bool> {
    if last.term == next.term {
        return Ok(next.sequence == last.sequence.saturating_add(1));
    }
    if next.sequence != 1 {
        return Ok(false);
    }
    let mut statement = connection.prepare_cached(
        "SELECT previous_term, previous_sequence FROM terms WHERE partition = ?1 AND term = ?2",
    )?;
    Ok(statement.query_row((partition.0, next.term.0), file::place)? == last)
}

fn is_oldest(
    connection: &Connection,
    partition: Partition,
    place: Place,
) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT term, sequence FROM records WHERE partition = ?1 ORDER BY term, sequence LIMIT 1",
    )?;
    Ok(statement.query_row([partition.0], file::place)? == place)
}

/// The record after `after` is not there. Retention takes the oldest records only: if `next` is the oldest
/// left, or `after` never was, it is a gap; else the file lacks records between two that it has.
fn gap_or_hole(
    connection: &Connection,
    partition: Partition,
    after: Place,
    next: Place,
) -> Result<Read, StreamError> {
    let fail = |err| damaged_or(err, read_error);
    let known: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM records WHERE partition = ?1 AND term = ?2 AND sequence = ?3)")
        .and_then(|mut statement| {
            statement.query_row((partition.0, after.term.0, after.sequence.cast_signed()), |row| row.get(0))
        })
        .map_err(fail)?;
    let oldest = is_oldest(connection, partition, next).map_err(fail)?;
    // In the middle of a term that has older records, every place once was.
    if known || (!oldest && after == Place::START) {
        return Err(hole(partition, after, next));
    }
    Ok(Read::Gap { resume: before(next) })
}

fn hole(partition: Partition, last: Place, next: Place) -> StreamError {
    StreamError::Damaged {
        what: format!("partition {partition} has nothing between {last} and {next}"),
    }
}

fn entry(
    row: &rusqlite::Row<'_>,
    partition: Partition,
    place: Place,
) -> Result<Entry, StreamError> {
    let fail = |err| damaged_or(err, read_error);
    let appended_at = row.get::<_, i64>(2).map_err(fail)?.cast_unsigned();
    let format: u16 = row.get(3).map_err(fail)?;
    let crc: u32 = row.get(4).map_err(fail)?;
    let damaged = |what: String| StreamError::Damaged {
        what: format!("record {place} of partition {partition}: {what}"),
    };
    let payload =
        row.get_ref(5).map_err(fail)?.as_blob().map_err(|err| damaged(err.to_string()))?;
    if crc32fast::hash(payload) != crc {
        return Err(damaged("its checksum does not match".to_owned()));
    }
    let record = record::decode(format, payload).map_err(|err| damaged(err.to_string()))?;
    Ok(Entry { place, appended_at: UnixMicros(appended_at), record })
}

fn seek(connection: &Connection, partition: Partition, at: UnixMicros) -> rusqlite::Result<Place> {
    let mut statement = connection.prepare_cached(
        "SELECT term, sequence FROM records WHERE partition = ?1 AND appended_at < ?2
         ORDER BY term DESC, sequence DESC LIMIT 1",
    )?;
    let mut rows = statement.query((partition.0, i64::try_from(at.0).unwrap_or(i64::MAX)))?;
    rows.next()?.map_or(Ok(Place::START), file::place)
}

fn load_cursors(connection: &Connection, consumer: &str) -> rusqlite::Result<Vec<Cursor>> {
    let mut statement = connection
        .prepare_cached("SELECT stream_id, partition, term, sequence FROM cursors WHERE consumer = ?1 ORDER BY partition")?;
    let rows = statement.query_map([consumer], |row| {
        Ok(Cursor {
            stream: StreamId(row.get::<_, i64>(0)?.cast_unsigned()),
            partition: Partition(row.get(1)?),
            place: Place {
                term: Term(row.get(2)?),
                sequence: row.get::<_, i64>(3)?.cast_unsigned(),
            },
        })
    })?;
    rows.collect()
}
