//! The writing thread: owns the one connection that writes. Whatever is queued when it looks is
//! committed as one SQLite transaction (group commit), and then acknowledged in order.
//!
//! When the disk takes no more, the group is kept and tried again until it is written: later batches
//! wait behind it, so order holds, and the full queue is the back-pressure. [`Trouble`] says so meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::relay::Raw;
use rusqlite::{Connection, OptionalExtension, Transaction};
use schemas::{
    cursor::{Cursor, Partition, Place, Term},
    record::{self, Checkpoint, EpochStart, Record, TermStart, UnixMicros},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Options,
    file::{self, Log, append_error, damaged_or},
    heads::Heads,
};
use crate::{
    StreamError,
    request::{Newest, Request},
    seam::with_epochs,
};

/// Most commands in one SQLite transaction.
const GROUP_MAX: usize = 256;
/// Bytes of payload with which a transaction is full: while one is written, those who wait for the one before go on.
const GROUP_BYTES: usize = 4 << 20;
/// How long the disk is left alone after it refused.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Records that one group removes for retention, at most; so that appends never wait long.
const TRIM_STEP: i64 = 10_000;

/// What the disk complains of, while it does.
pub(super) type Trouble = Option<Arc<str>>;

/// Told once that the command is durable, or that it never will be.
pub(super) type Ack = oneshot::Sender<Result<(), StreamError>>;

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Append {
        records: Vec<Encoded>,
        checkpoint: Option<Checkpoint>,
        ack: Ack,
    },
    StoreCursors {
        consumer: String,
        cursors: Vec<Cursor>,
        ack: Ack,
    },
    /// What a tool asks for.
    Request {
        request: Request,
        /// Set if there was a version for it.
        taken: Arc<AtomicBool>,
        ack: Ack,
    },
}

/// A record in its wire form. Whoever appends makes it, so that this thread has only to write.
#[derive(Debug)]
pub(super) struct Encoded {
    partition: Partition,
    payload: Arc<[u8]>,
    /// What it announces, for the table of epochs.
    epoch: Option<EpochStart>,
}

impl Encoded {
    pub(super) fn of(partition: Partition, record: &Record) -> Encoded {
        let mut payload = Vec::new();
        record::encode(record, &mut payload);
        let epoch = match record {
            Record::Epoch(start) => Some(start.clone()),
            _ => None,
        };
        Encoded { partition, payload: payload.into(), epoch }
    }

    fn at(&self, place: Place, appended_at: UnixMicros) -> Raw {
        let payload = Arc::clone(&self.payload);
        Raw { place, appended_at, format: record::FORMAT_VERSION, payload }
    }
}

/// The thread's state.
pub(super) struct Core {
    connection: Connection,
    options: Options,
    term: Term,
    /// The last place of each partition.
    heads: Vec<Place>,
    /// Bytes of payload in the file, kept in step with every append and trim.
    payload_bytes: i64,
    newest: Newest,
    /// The records of the group that is being written.
    written: Vec<(Partition, Raw)>,
}

impl Core {
    /// Begins a new term: in each partition, its first record names the end of the term before.
    pub(super) fn begin(
        connection: Connection,
        log: Log,
        options: Options,
    ) -> Result<Core, StreamError> {
        let fail = |err| damaged_or(err, append_error);
        let mut heads = Vec::new();
        for partition in 0..log.partitions {
            heads.push(file::head(&connection, partition).map_err(fail)?);
        }
        let last: u32 = connection
            .query_row("SELECT coalesce(max(term), 0) FROM terms", [], |row| row.get(0))
            .map_err(fail)?;
        let term = Term(last.saturating_add(1));
        let payload_bytes = connection
            .query_row("SELECT coalesce(sum(length(payload)), 0) FROM records", [], |row| {
                row.get(0)
            })
            .map_err(fail)?;
        let newest = Newest::default();
        let written = Vec::new();
        let mut core = Core { connection, options, term, heads, payload_bytes, newest, written };
        core.newest = Newest::of(&core.checkpoints()?);
        core.write_term_starts().map_err(fail)?;
        Ok(core)
    }

    /// This leadership.
    pub(super) fn term(&self) -> Term {
        self.term
    }

    /// The last place of each partition.
    pub(super) fn heads(&self) -> &[Place] {
        &self.heads
    }

    /// The checkpoint of every source that has one.
    pub(super) fn checkpoints(&self) -> Result<Vec<Checkpoint>, StreamError> {
        let epochs = file::epochs(&self.connection)?;
        let checkpoints = file::checkpoints(&self.connection)?.into_iter();
        Ok(checkpoints.map(|checkpoint| with_epochs(checkpoint, &epochs)).collect())
    }

    /// Serves commands until every sender is gone.
    pub(super) fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        heads: &Heads,
        trouble: &watch::Sender<Trouble>,
    ) {
        let mut queued = Vec::with_capacity(GROUP_MAX);
        while !queued.is_empty() || commands.blocking_recv_many(&mut queued, GROUP_MAX) > 0 {
            let count = group(&queued);
            match self.write_until_done(&queued[..count], trouble) {
                Ok(()) => {
                    heads.appended(self.written.drain(..));
                    for command in queued.drain(..count) {
                        command.acknowledge(Ok(()));
                    }
                }
                Err(what) => {
                    tracing::error!(what, "the stream is damaged; nothing more is written");
                    for command in queued.drain(..) {
                        command.acknowledge(Err(StreamError::Damaged { what: what.clone() }));
                    }
                    return;
                }
            }
        }
        // A clean end leaves one file behind instead of three; without it, the next start does the same.
        if let Err(err) = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
            tracing::debug!(%err, "checkpoint the write-ahead log");
        }
    }

    /// Damage ends it; everything else is tried again.
    fn write_until_done(
        &mut self,
        group: &[Command],
        trouble: &watch::Sender<Trouble>,
    ) -> Result<(), String> {
        loop {
            let (heads, payload_bytes) = (self.heads.clone(), self.payload_bytes);
            let err = match self.write(group, &heads) {
                Ok(()) => {
                    if trouble.send_replace(None).is_some() {
                        tracing::info!("the stream can be written again");
                    }
                    return Ok(());
                }
                Err(err) => err,
            };
            (self.heads, self.payload_bytes) = (heads, payload_bytes);
            match damaged_or(err, append_error) {
                StreamError::Damaged { what } => return Err(what),
                err => {
                    let what: Arc<str> = format!("{:#}", chain(&err)).into();
                    if trouble.send_replace(Some(Arc::clone(&what))).is_none() {
                        tracing::error!(%what, "the stream cannot be written; trying again until it can");
                    }
                    std::thread::sleep(RETRY_DELAY);
                }
            }
        }
    }

    /// Writes the whole group, or nothing of it; before it, partitions ended at `stored`.
    fn write(&mut self, group: &[Command], stored: &[Place]) -> rusqlite::Result<()> {
        let now = (self.options.now)();
        self.written.clear();
        let transaction = self.connection.transaction()?;
        for command in group {
            match command {
                Command::Append { records, checkpoint, .. } => {
                    append(&transaction, records, &mut self.heads, now, &mut self.written)?;
                    if let Some(checkpoint) = checkpoint {
                        store_checkpoint(&transaction, checkpoint)?;
                        self.newest.learn(checkpoint);
                    }
                }
                Command::Request { request, taken, .. } => {
                    let partitions = u16::try_from(self.heads.len()).unwrap_or(u16::MAX);
                    let records = request.clone().records(&self.newest.0, partitions);
                    taken.store(records.is_some(), Ordering::Relaxed);
                    let records = records.unwrap_or_default();
                    let records: Vec<Encoded> =
                        records.iter().map(|(at, record)| Encoded::of(*at, record)).collect();
                    append(&transaction, &records, &mut self.heads, now, &mut self.written)?;
                }
                Command::StoreCursors { consumer, cursors, .. } => {
                    store_cursors(&transaction, consumer, cursors)?;
                }
            }
        }
        store_heads(&transaction, &self.heads, stored)?;
        let bytes: usize = self.written.iter().map(|(_, raw)| raw.payload.len()).sum();
        self.payload_bytes = self.payload_bytes.saturating_add_unsigned(bytes as u64);
        self.payload_bytes = self.payload_bytes.saturating_sub(trim(
            &transaction,
            &self.options,
            now,
            self.payload_bytes,
        )?);
        transaction.commit()
    }

    fn write_term_starts(&mut self) -> rusqlite::Result<()> {
        let now = (self.options.now)();
        let transaction = self.connection.transaction()?;
        for (at, head) in self.heads.iter_mut().enumerate() {
            let partition = Partition(u16::try_from(at).unwrap_or(u16::MAX));
            let previous = std::mem::replace(head, Place { term: self.term, sequence: 1 });
            let row = (partition.0, self.term.0, previous.term.0, previous.sequence.cast_signed());
            transaction.execute("INSERT INTO terms VALUES (?1, ?2, ?3, ?4)", row)?;
            let start = Encoded::of(partition, &Record::TermStart(TermStart { previous }));
            insert(&transaction, partition, &start.at(*head, now))?;
        }
        store_heads(&transaction, &self.heads, &[])?;
        transaction.commit()
    }
}

/// How many of the queued commands are written as one: until they are [`GROUP_BYTES`], and never none.
fn group(queued: &[Command]) -> usize {
    let mut bytes = 0_usize;
    let fits = queued.iter().take_while(|command| {
        let goes_on = bytes < GROUP_BYTES;
        bytes = bytes.saturating_add(command.bytes());
        goes_on
    });
    fits.count()
}

impl Command {
    /// Of payload.
    fn bytes(&self) -> usize {
        match self {
            Command::Append { records, .. } => {
                records.iter().map(|record| record.payload.len()).sum()
            }
            Command::StoreCursors { .. } | Command::Request { .. } => 0,
        }
    }

    /// Nobody may be waiting any more; that is theirs to decide.
    fn acknowledge(self, outcome: Result<(), StreamError>) {
        let (Command::Append { ack, .. }
        | Command::StoreCursors { ack, .. }
        | Command::Request { ack, .. }) = self;
        drop(ack.send(outcome));
    }
}

/// Appends records, and says where they stand.
fn append(
    transaction: &Transaction<'_>,
    records: &[Encoded],
    heads: &mut [Place],
    now: UnixMicros,
    written: &mut Vec<(Partition, Raw)>,
) -> rusqlite::Result<()> {
    for record in records {
        let partition = record.partition;
        let head = heads.get_mut(usize::from(partition.0));
        let head =
            head.ok_or(rusqlite::Error::InvalidParameterName(format!("partition {partition}")))?;
        head.sequence = head.sequence.saturating_add(1);
        let raw = record.at(*head, now);
        insert(transaction, partition, &raw)?;
        if let Some(start) = &record.epoch {
            file::store_epoch(transaction, start)?;
        }
        written.push((partition, raw));
    }
    Ok(())
}

fn insert(
    transaction: &Transaction<'_>,
    partition: Partition,
    Raw { place, appended_at, format, payload }: &Raw,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO records (partition, term, sequence, appended_at, format, crc, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let (sequence, appended_at) = (place.sequence.cast_signed(), appended_at.0.cast_signed());
    let crc = crc32fast::hash(payload);
    let payload: &[u8] = payload;
    statement.execute((partition.0, place.term.0, sequence, appended_at, format, crc, payload))?;
    Ok(())
}

/// Stores where partitions end, but for those that ended there before.
fn store_heads(
    transaction: &Transaction<'_>,
    heads: &[Place],
    stored: &[Place],
) -> rusqlite::Result<()> {
    let mut statement =
        transaction.prepare_cached("INSERT OR REPLACE INTO heads VALUES (?1, ?2, ?3)")?;
    let moved = |&(at, head): &(usize, &Place)| stored.get(at) != Some(head);
    for (partition, head) in heads.iter().enumerate().filter(moved) {
        statement.execute((
            i64::try_from(partition).unwrap_or(i64::MAX),
            head.term.0,
            head.sequence.cast_signed(),
        ))?;
    }
    Ok(())
}

fn store_checkpoint(
    transaction: &Transaction<'_>,
    checkpoint: &Checkpoint,
) -> rusqlite::Result<()> {
    let mut payload = Vec::new();
    record::encode_checkpoint(checkpoint, &mut payload);
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO checkpoints (source, format, crc, payload) VALUES (?1, ?2, ?3, ?4)",
    )?;
    statement.execute((
        &*checkpoint.source,
        record::FORMAT_VERSION,
        crc32fast::hash(&payload),
        &payload,
    ))?;
    Ok(())
}

fn store_cursors(
    transaction: &Transaction<'_>,
    consumer: &str,
    cursors: &[Cursor],
) -> rusqlite::Result<()> {
    let mut statement =
        transaction.prepare_cached("INSERT OR REPLACE INTO cursors VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for Cursor { stream, partition, place } in cursors {
        let (stream, sequence) = (stream.0.cast_signed(), place.sequence.cast_signed());
        statement.execute((consumer, partition.0, stream, place.term.0, sequence))?;
    }
    Ok(())
}

/// Removes what is too old or too much, oldest first and a step at a time; the newest record of each
/// partition stays, so that its place is never forgotten. Returns the bytes of payload that went.
fn trim(
    transaction: &Transaction<'_>,
    options: &Options,
    now: UnixMicros,
    payload_bytes: i64,
) -> rusqlite::Result<i64> {
    let age = u64::try_from(options.retention_age.as_micros()).unwrap_or(u64::MAX);
    let oldest_kept = now.0.saturating_sub(age).cast_signed();
    let excess =
        payload_bytes.saturating_sub(i64::try_from(options.retention_bytes).unwrap_or(i64::MAX));
    let mut oldest =
        transaction.prepare_cached("SELECT appended_at FROM records ORDER BY id LIMIT 1")?;
    let oldest: Option<i64> = oldest.query_row([], |row| row.get(0)).optional()?;
    if excess <= 0 && oldest.is_none_or(|oldest| oldest >= oldest_kept) {
        return Ok(0);
    }
    let mut rows = transaction.prepare_cached(
        "SELECT r.id, r.appended_at, length(r.payload) FROM records r
         WHERE (r.term, r.sequence) <> (SELECT term, sequence FROM records WHERE partition = r.partition
                                        ORDER BY term DESC, sequence DESC LIMIT 1)
         ORDER BY r.id LIMIT ?1",
    )?;
    let mut rows = rows.query([TRIM_STEP])?;
    let (mut gone, mut last) = (0_i64, None);
    while let Some(row) = rows.next()? {
        let (id, appended_at, bytes): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if gone >= excess && appended_at >= oldest_kept {
            break;
        }
        gone = gone.saturating_add(bytes);
        last = Some(id);
    }
    drop(rows);
    let Some(last) = last else { return Ok(0) };
    transaction.execute(
        "DELETE FROM records AS r WHERE r.id <= ?1
         AND (r.term, r.sequence) <> (SELECT term, sequence FROM records WHERE partition = r.partition
                                      ORDER BY term DESC, sequence DESC LIMIT 1)",
        [last],
    )?;
    Ok(gone)
}

/// An error and its causes, in one line.
fn chain(err: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(err), |err| err.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(bytes: usize) -> Command {
        let payload: Arc<[u8]> = vec![0; bytes].into();
        let records = vec![Encoded { partition: Partition(0), payload, epoch: None }];
        Command::Append { records, checkpoint: None, ack: oneshot::channel().0 }
    }

    #[test]
    fn a_group_is_full_when_it_has_its_bytes() {
        let counts = |sizes: &[usize]| {
            let commands: Vec<Command> = sizes.iter().map(|&bytes| append(bytes)).collect();
            group(&commands)
        };
        assert_eq!(counts(&[1; 200]), 200);
        assert_eq!(counts(&[GROUP_BYTES * 2, 1]), 1, "never none");
        assert_eq!(counts(&[GROUP_BYTES - 1, 1, 1, 1]), 2);
    }
}
