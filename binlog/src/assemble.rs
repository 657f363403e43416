//! [`Assembler`]: events in, transactions out, a piece at a time; nothing is buffered. (Skeleton.)

use std::sync::Arc;

use schemas::{
    gtid::{Dialect, Gtid},
    record::{FilePosition, Operation, UnixMicros},
};

use crate::{frame::Event, table_map::TableMap};

/// What the events of one connection or file mean, in order. Closed: every event type is one of these
/// or is named in the list of those that carry no change.
#[derive(Debug)]
pub enum Change<'a> {
    /// A transaction begins (GTID event; without GTIDs: BEGIN).
    Begin(Begin),
    /// Rows of one table changed.
    Rows(Rows<'a>),
    /// A statement that is logged as text and is no transaction control: DDL, or DML in STATEMENT format.
    Statement(Statement<'a>),
    /// An event that may carry changes and cannot be decoded. The caller raises a floor.
    Undecodable(Undecodable),
    /// The transaction is complete (XID, COMMIT, or a statement that commits itself).
    Commit(Commit),
    /// The transaction was logged and rolled back (non-transactional tables keep their changes).
    Rollback(Commit),
    /// The server goes on in another file.
    Rotate(FilePosition),
    /// Nothing changed; the connection is alive.
    Heartbeat,
}

/// The start of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// `None` where GTIDs are off.
    pub gtid: Option<Gtid>,
    /// The server that wrote it.
    pub server_id: u32,
    /// MySQL: `original_commit_timestamp`, to the microsecond.
    pub committed_at: Option<UnixMicros>,
    /// MariaDB and MySQL: seconds, from the event header.
    pub timestamp_s: u32,
}

/// The end of a transaction: a place to resume from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// As in its [`Begin`].
    pub gtid: Option<Gtid>,
    /// End of the transaction, if the file's name is known (64 bits, also beyond 4 GiB).
    pub end: Option<FilePosition>,
}

/// The rows section of one event, still packed.
#[derive(Debug)]
pub struct Rows<'a> {
    /// The table as of this event.
    pub table: Arc<TableMap>,
    /// What happened to the rows.
    pub operation: Operation,
    /// Bitmap of the columns in the before image (all for inserts' after image, see `after_columns`).
    pub before_columns: &'a [u8],
    /// Bitmap of the columns in the after image.
    pub after_columns: &'a [u8],
    /// The images, one after another (already inflated).
    pub images: &'a [u8],
    /// PARTIAL_UPDATE_ROWS: after images carry JSON differences.
    pub partial: bool,
}

/// A statement as the server logged it.
#[derive(Debug)]
pub struct Statement<'a> {
    /// The session's default database; may be empty.
    pub schema: &'a str,
    /// The text, lossily decoded.
    pub text: std::borrow::Cow<'a, str>,
}

/// An event that may carry changes and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// Event type, raw.
    pub kind: u8,
    /// `(schema, table)` if that much is known.
    pub table: Option<(Arc<str>, Arc<str>)>,
    /// For people.
    pub reason: String,
}

/// The state that spans events: table maps, file name, the open transaction.
#[derive(Debug)]
pub struct Assembler {}

impl Assembler {
    /// A fresh state: at the start of a file or connection.
    pub fn new(_dialect: Dialect) -> Assembler {
        todo!()
    }
    /// Takes one event and hands out what it means, in order. Payload events hand out many changes.
    /// Never fails: what cannot be read is handed out as [`Change::Undecodable`].
    pub fn push(&mut self, _event: Event<'_>, _each: &mut dyn FnMut(Change<'_>)) {
        todo!()
    }
    /// Whether a transaction is open: resume points lie only outside.
    pub fn in_transaction(&self) -> bool {
        todo!()
    }
}
