//! The file: its tables, and how it is opened and checked.
//!
//! | table | one row per | holds |
//! |---|---|---|
//! | `log` | file | `stream_id`, `partitions` |
//! | `terms` | partition and term | the place where the term before ended |
//! | `heads` | partition | the place of its newest record, so that an end that comes too early is noticed |
//! | `records` | record | `id` (rises: the newest record always stays), `partition`, `term`, `sequence`, `appended_at` (µs), `format`, `crc` (CRC32 of the payload), `payload` |
//! | `checkpoints` | source | the newest checkpoint |
//! | `cursors` | consumer and partition | how far the consumer is |
//! | `epochs` | source and epoch | its announcement, kept for ever |
//!
//! `sqlite3 FILE 'select partition, term, sequence, length(payload) from records'` shows the log to a person.

use std::{
    hash::{BuildHasher, RandomState},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use schemas::{
    cursor::{Place, StreamId, Term},
    record::{self, Checkpoint, EpochStart, Record},
};

use crate::StreamError;

/// "mcsq" in the file's header: tells our files from other people's.
const APPLICATION_ID: i32 = 0x6d63_7371;
/// Version of the tables below.
const USER_VERSION: i32 = 2;
/// The version without the table of epochs; a writer brings it up to date, a reader does without.
const USER_VERSION_WITHOUT_EPOCHS: i32 = 1;
/// How long a reader waits for the writer's rare exclusive moments.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), stream_id INTEGER NOT NULL,
  partitions INTEGER NOT NULL) STRICT;
CREATE TABLE terms (partition INTEGER NOT NULL, term INTEGER NOT NULL, previous_term INTEGER NOT NULL,
  previous_sequence INTEGER NOT NULL, PRIMARY KEY (partition, term)) STRICT, WITHOUT ROWID;
CREATE TABLE heads (partition INTEGER PRIMARY KEY, term INTEGER NOT NULL, sequence INTEGER NOT NULL) STRICT;
CREATE TABLE records (id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, term INTEGER NOT NULL,
  sequence INTEGER NOT NULL, appended_at INTEGER NOT NULL, format INTEGER NOT NULL, crc INTEGER NOT NULL,
  payload BLOB NOT NULL, UNIQUE (partition, term, sequence)) STRICT;
CREATE TABLE checkpoints (source TEXT PRIMARY KEY, format INTEGER NOT NULL, crc INTEGER NOT NULL,
  payload BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE cursors (consumer TEXT NOT NULL, partition INTEGER NOT NULL, stream_id INTEGER NOT NULL,
  term INTEGER NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (consumer, partition)) STRICT, WITHOUT ROWID;
";

const TABLE_OF_EPOCHS: &str = "
CREATE TABLE epochs (id INTEGER PRIMARY KEY, source TEXT NOT NULL, epoch INTEGER NOT NULL, format INTEGER NOT NULL,
  crc INTEGER NOT NULL, payload BLOB NOT NULL, UNIQUE (source, epoch)) STRICT;
";

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) stream_id: StreamId,
    pub(super) partitions: u16,
    /// Whether it has a table of epochs.
    pub(super) epochs: bool,
}

/// Opens the file for writing, and makes it if it is not there.
pub(super) fn open_writer(path: &Path, partitions: u16) -> Result<(Connection, Log), StreamError> {
    let connection = Connection::open(path).map_err(|err| damaged_or(err, append_error))?;
    let fresh = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        .map_err(|err| damaged_or(err, append_error))?
        == 0;
    if fresh {
        create(&connection, partitions).map_err(|err| damaged_or(err, append_error))?;
    }
    let mut log = check(&connection)?;
    prepare(&connection).map_err(|err| damaged_or(err, append_error))?;
    if !log.epochs {
        add_epochs(&connection)?;
        log.epochs = true;
    }
    Ok((connection, log))
}

/// Opens the file for reading only.
pub(super) fn open_reader(path: &Path) -> Result<(Connection, Log), StreamError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|err| damaged_or(err, read_error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(read_error)?;
    connection
        .pragma_update(None, "query_only", true)
        .map_err(|err| damaged_or(err, read_error))?;
    let log = check(&connection)?;
    Ok((connection, log))
}

fn create(connection: &Connection, partitions: u16) -> rusqlite::Result<()> {
    // Pages that retention frees are used again; incremental vacuum can give them back.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(TABLES)?;
    connection.execute_batch(TABLE_OF_EPOCHS)?;
    let stream_id = RandomState::new().hash_one(std::process::id()).cast_signed();
    connection.execute("INSERT INTO log VALUES (1, ?1, ?2)", (stream_id, partitions))?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", USER_VERSION)?;
    connection.execute_batch("COMMIT")
}

/// Adds the table of epochs to a file without one, with every announcement that is still in the file.
fn add_epochs(connection: &Connection) -> Result<(), StreamError> {
    let fail = |err| damaged_or(err, append_error);
    let transaction = connection.unchecked_transaction().map_err(fail)?;
    transaction.execute_batch(TABLE_OF_EPOCHS).map_err(fail)?;
    let mut statement =
        connection.prepare("SELECT format, payload FROM records ORDER BY id").map_err(fail)?;
    let mut rows = statement.query([]).map_err(fail)?;
    while let Some(row) = rows.next().map_err(fail)? {
        let (format, payload): (u16, Vec<u8>) =
            (row.get(0).map_err(fail)?, row.get(1).map_err(fail)?);
        // What cannot be decoded is reported to whoever reads it.
        if let Ok(Record::Epoch(start)) = record::decode(format, &payload) {
            store_epoch(&transaction, &start).map_err(fail)?;
        }
    }
    for checkpoint in checkpoints(&transaction)? {
        if let Some(start) = &checkpoint.epoch {
            store_epoch(&transaction, start).map_err(fail)?;
        }
    }
    transaction.pragma_update(None, "user_version", USER_VERSION).map_err(fail)?;
    transaction.commit().map_err(fail)
}

/// Enters an announcement; one that is there already stands.
pub(super) fn store_epoch(connection: &Connection, start: &EpochStart) -> rusqlite::Result<()> {
    let mut payload = Vec::new();
    record::encode(&Record::Epoch(start.clone()), &mut payload);
    let mut statement = connection.prepare_cached(
        "INSERT OR IGNORE INTO epochs (source, epoch, format, crc, payload) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let crc = crc32fast::hash(&payload);
    statement.execute((&*start.source, start.epoch, record::FORMAT_VERSION, crc, &payload))?;
    Ok(())
}

/// The table of epochs, in the order of their announcements.
pub(super) fn epochs(connection: &Connection) -> Result<Vec<EpochStart>, StreamError> {
    let mut out = Vec::new();
    for (format, payload) in
        payloads(connection, "SELECT format, crc, payload FROM epochs ORDER BY id", "an epoch")?
    {
        match record::decode(format, &payload) {
            Ok(Record::Epoch(start)) => out.push(start),
            Ok(_) => {
                return Err(StreamError::Damaged {
                    what: "an epoch: it is another record".to_owned(),
                });
            }
            Err(err) => return Err(StreamError::Damaged { what: format!("an epoch: {err}") }),
        }
    }
    Ok(out)
}

/// The checkpoint of every source that has one.
pub(super) fn checkpoints(connection: &Connection) -> Result<Vec<Checkpoint>, StreamError> {
    let rows =
        payloads(connection, "SELECT format, crc, payload FROM checkpoints", "a checkpoint")?;
    let decode = |(format, payload): (u16, Vec<u8>)| {
        record::decode_checkpoint(format, &payload)
            .map_err(|err| StreamError::Damaged { what: format!("a checkpoint: {err}") })
    };
    rows.into_iter().map(decode).collect()
}

/// Rows of `format, crc, payload`, whose checksums are right.
fn payloads(
    connection: &Connection,
    query: &str,
    what: &str,
) -> Result<Vec<(u16, Vec<u8>)>, StreamError> {
    let fail = |err| damaged_or(err, read_error);
    let mut rows = connection.prepare(query).map_err(fail)?;
    let mut rows = rows.query([]).map_err(fail)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next().map_err(fail)? {
        let (format, crc, payload): (u16, u32, Vec<u8>) =
            (row.get(0).map_err(fail)?, row.get(1).map_err(fail)?, row.get(2).map_err(fail)?);
        if crc32fast::hash(&payload) != crc {
            return Err(StreamError::Damaged {
                what: format!("{what}: its checksum does not match"),
            });
        }
        out.push((format, payload));
    }
    Ok(out)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.busy_timeout(BUSY_TIMEOUT)
}

fn check(connection: &Connection) -> Result<Log, StreamError> {
    let pragma = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(|err| damaged_or(err, read_error))
    };
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    if application != APPLICATION_ID {
        return Err(StreamError::Damaged { what: "the file is no stream of mcsqueal".to_owned() });
    }
    if version != USER_VERSION && version != USER_VERSION_WITHOUT_EPOCHS {
        let what =
            format!("the file has format {version}, this mcsqueal reads format {USER_VERSION}");
        return Err(StreamError::Damaged { what });
    }
    connection
        .query_row("SELECT stream_id, partitions FROM log", [], |row| {
            Ok(Log {
                stream_id: StreamId(row.get::<_, i64>(0)?.cast_unsigned()),
                partitions: row.get(1)?,
                epochs: version == USER_VERSION,
            })
        })
        .map_err(|err| damaged_or(err, read_error))
}

/// The place of a partition's newest record.
pub(super) fn head(connection: &Connection, partition: u16) -> rusqlite::Result<Place> {
    let mut statement =
        connection.prepare_cached("SELECT term, sequence FROM heads WHERE partition = ?1")?;
    Ok(statement.query_row([partition], place).optional()?.unwrap_or(Place::START))
}

/// Columns `term, sequence`.
pub(super) fn place(row: &rusqlite::Row<'_>) -> rusqlite::Result<Place> {
    let sequence: i64 = row.get(1)?;
    Ok(Place { term: Term(row.get(0)?), sequence: sequence.cast_unsigned() })
}

/// What SQLite says of damage is [`StreamError::Damaged`]; for the rest, `or` decides.
pub(super) fn damaged_or(
    err: rusqlite::Error,
    or: fn(rusqlite::Error) -> StreamError,
) -> StreamError {
    use rusqlite::ErrorCode;
    let damaged = match &err {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        // A value of another type than we wrote, or a table or row that is not there any more.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::QueryReturnedNoRows
        | rusqlite::Error::SqlInputError { .. } => true,
        _ => false,
    };
    if damaged { StreamError::Damaged { what: err.to_string() } } else { or(err) }
}

pub(super) fn append_error(err: rusqlite::Error) -> StreamError {
    StreamError::Append { source: Box::new(err) }
}

pub(super) fn read_error(err: rusqlite::Error) -> StreamError {
    StreamError::Read { source: Box::new(err) }
}
