//! [`Assembler`]: events in, transactions out, a piece at a time; nothing is buffered.
//!
//! | events | changes |
//! |---|---|
//! | GTID, ANONYMOUS_GTID, GTID_TAGGED, MariaDB GTID; without GTIDs QUERY `BEGIN` | `Begin` |
//! | TABLE_MAP, then WRITE, UPDATE, DELETE_ROWS of any version, plain or compressed | `Rows` |
//! | ROWS_QUERY, ANNOTATE_ROWS | `Said` |
//! | TRANSACTION_PAYLOAD | whatever its events mean |
//! | QUERY, QUERY_COMPRESSED, EXECUTE_LOAD_QUERY with anything but transaction control | `Statement`; and `Commit`, if it commits itself |
//! | QUERY `XA START`, MariaDB GTID of an XA PREPARE | `XaStart`, behind `Begin` |
//! | XID, QUERY `COMMIT` | `Commit` |
//! | XA_PREPARE | `XaPrepared`, unless it commits at once; `Commit` |
//! | an unknown type that may not be ignored, and all that cannot be read | `Undecodable` |
//!
//! Rows of an XA transaction are handed out when it is prepared; its end is a `Statement` (`XA COMMIT`, with the name
//! that `XaStart` said), which the caller must take as a change of the same rows, because the cache can be filled in
//! between; of unknown rows, if it has not seen them.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use schemas::{
    gtid::{Dialect, Gtid},
    record::{FilePosition, Operation, UnixMicros},
};

use crate::{
    compressed::{self, Unpacker},
    event::{self, GtidBody, kind},
    frame::{Event, Header},
    table_map::TableMap,
};

/// What the events of one connection or file mean, in order. Closed: every event type is one of these
/// or is named among those that carry no change.
#[derive(Debug)]
pub enum Change<'a> {
    /// A transaction begins.
    Begin(Begin),
    /// Rows of one table changed.
    Rows(Rows<'a>),
    /// The open transaction is an XA one of this name, which its XA COMMIT or XA ROLLBACK repeats letter by letter.
    XaStart(&'a str),
    /// The open XA transaction is prepared: nobody sees its changes before its XA COMMIT.
    XaPrepared,
    /// The statement that changed the rows that follow, as it was written.
    Said(&'a [u8]),
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
    /// MySQL: when the first server committed it, to the microsecond.
    pub committed_at: Option<UnixMicros>,
    /// Seconds, from the event header.
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
    /// Bitmap of the columns in the before image.
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
    pub schema: Cow<'a, str>,
    /// The text, lossily decoded.
    pub text: Cow<'a, str>,
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

/// The state that spans events: table maps, file and position, the open transaction.
#[derive(Debug)]
pub struct Assembler {
    dialect: Dialect,
    /// Announced in the open transaction, and seldom more than a few.
    tables: Vec<Arc<TableMap>>,
    /// Table maps that were read before, with their bytes: each transaction sends its own again.
    known: HashMap<u64, (Box<[u8]>, Arc<TableMap>)>,
    file: Option<Arc<str>>,
    /// Offset of the next event, 64 bits.
    offset: u64,
    open: Option<Open>,
    unpacker: Unpacker,
    unpacking: Unpacking,
}

/// A TRANSACTION_PAYLOAD event, cut into parts.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// Its header.
    Begin(Header),
    /// Some of its body, in order.
    Bytes(&'a [u8]),
    /// The body is complete, and its checksum good.
    End,
}

/// How far a payload in parts is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unpacking {
    Fine,
    /// It cannot be read, or there is none.
    Broken,
}

/// The transaction that the next events belong to.
#[derive(Clone, Debug)]
struct Open {
    gtid: Option<Gtid>,
    /// A BEGIN was seen, so that a statement inside does not end it.
    explicit: bool,
}

/// Tells a server to keep the event from readers that do not know its type.
const IGNORABLE_FLAG: u16 = 0x0080;
/// Table maps that are kept; beyond that all are read anew.
const KNOWN_TABLES_MAX: usize = 4096;
/// "No table": ends a statement without rows.
const DUMMY_TABLE: u64 = 0x00ff_ffff;

type Each<'e> = &'e mut dyn FnMut(Change<'_>);

impl Assembler {
    /// A fresh state: at the start of a file or connection.
    pub fn new(dialect: Dialect) -> Assembler {
        Assembler {
            dialect,
            tables: Vec::new(),
            known: HashMap::new(),
            file: None,
            offset: 0,
            open: None,
            unpacker: Unpacker::default(),
            unpacking: Unpacking::Broken,
        }
    }

    /// Tells where the next event comes from, for a reader of files.
    pub fn set_position(&mut self, position: FilePosition) {
        self.file = Some(position.file);
        self.offset = position.offset;
    }

    /// Takes one event and hands out what it means, in order. Payload events hand out many changes.
    /// Never fails: what cannot be read is handed out as [`Change::Undecodable`].
    pub fn push(&mut self, event: Event<'_>, each: Each<'_>) {
        self.advance(&event.header);
        self.interpret(event, each);
    }

    /// Takes a compressed transaction that is too large to be held, a part at a time. What is in it is handed out as it
    /// comes; a part that cannot be read makes [`Change::Undecodable`] of the rest, at the end.
    pub fn push_part(&mut self, part: Part<'_>, each: Each<'_>) {
        match part {
            Part::Begin(header) => {
                self.advance(&header);
                self.unpacker.begin();
                self.unpacking = Unpacking::Fine;
            }
            Part::Bytes(bytes) if self.unpacking == Unpacking::Fine => {
                let mut unpacker = std::mem::take(&mut self.unpacker);
                if self.unpack(&mut unpacker, bytes, each).is_none() {
                    self.unpacking = Unpacking::Broken;
                }
                self.unpacker = unpacker;
            }
            Part::Bytes(_) => {}
            Part::End => {
                if self.unpacking == Unpacking::Broken || !self.unpacker.is_whole() {
                    each(unreadable(kind::TRANSACTION_PAYLOAD));
                }
                self.unpacking = Unpacking::Broken; // Whatever comes now does not belong to it.
            }
        }
    }

    /// Whether a transaction is open: resume points lie only outside.
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// Keeps 64 bits of a position of which each event tells the low 32.
    fn advance(&mut self, header: &Header) {
        let artificial =
            header.end_position == 0 || matches!(header.kind, kind::HEARTBEAT | kind::HEARTBEAT_V2);
        if !artificial {
            let low = u64::from(header.end_position);
            let high = self.offset & !0xffff_ffff;
            let wrapped = high | low;
            self.offset =
                if wrapped < self.offset { wrapped.saturating_add(1 << 32) } else { wrapped };
        }
    }

    fn interpret(&mut self, event: Event<'_>, each: Each<'_>) {
        let Event { header, body } = event;
        let understood = match header.kind {
            kind::QUERY => self.query(&header, body, each),
            kind::QUERY_COMPRESSED => self.query_compressed(&header, body, each),
            kind::XID => {
                self.commit(each);
                Some(())
            }
            kind::XA_PREPARE => event::xa_waits(body).map(|waits| {
                if waits {
                    each(Change::XaPrepared);
                }
                self.commit(each);
            }),
            kind::GTID | kind::ANONYMOUS_GTID => {
                event::mysql_gtid(header.kind, body).map(|gtid| self.begin(&header, gtid, each))
            }
            kind::GTID_TAGGED => {
                event::mysql_gtid_tagged(body).map(|gtid| self.begin(&header, gtid, each))
            }
            kind::MARIADB_GTID => event::mariadb_gtid(header.server_id, body)
                .map(|gtid| self.begin(&header, gtid, each)),
            kind::TABLE_MAP => self.table_map(body),
            kind::TRANSACTION_PAYLOAD => self.payload(body, each),
            kind::ROTATE => self.rotate(&header, body, each),
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => {
                each(Change::Heartbeat);
                Some(())
            }
            // These carry no change of their own.
            kind::FORMAT_DESCRIPTION
            | kind::STOP
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::BEGIN_LOAD_QUERY
            | kind::IGNORABLE
            | kind::PREVIOUS_GTIDS
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE
            | kind::BINLOG_CHECKPOINT
            | kind::MARIADB_GTID_LIST => Some(()),
            // MySQL says its length first, in one byte, which is too short for many.
            kind::ROWS_QUERY => body.get(1..).map(|text| each(Change::Said(text))),
            kind::ANNOTATE_ROWS => {
                each(Change::Said(body));
                Some(())
            }
            kind::EXECUTE_LOAD_QUERY => event::load_query(body)
                .map(|(schema, text)| self.statement(&header, schema, text, each)),
            other => match event::rows_kind(other) {
                Some(rows) => {
                    self.rows(header.kind, rows, body, each);
                    Some(())
                }
                None => (header.flags & IGNORABLE_FLAG != 0).then_some(()),
            },
        };
        if understood.is_none() {
            each(unreadable(header.kind));
        }
    }

    fn begin(&mut self, header: &Header, gtid: GtidBody, each: Each<'_>) {
        // MariaDB's transactions begin with their GTID, but for single statements and the ends of XA ones.
        let explicit = self.dialect == Dialect::MariaDb && !gtid.standalone && !gtid.xa;
        self.tables.clear();
        self.open = Some(Open { gtid: gtid.gtid.clone(), explicit });
        each(Change::Begin(Begin {
            gtid: gtid.gtid,
            server_id: header.server_id,
            committed_at: gtid.committed_at,
            timestamp_s: header.timestamp_s,
        }));
        if let Some(name) = &gtid.prepares {
            each(Change::XaStart(name));
        }
    }

    fn end(&mut self) -> Commit {
        self.tables.clear();
        let gtid = self.open.take().and_then(|open| open.gtid);
        let end = self
            .file
            .as_ref()
            .map(|file| FilePosition { file: Arc::clone(file), offset: self.offset });
        Commit { gtid, end }
    }

    fn commit(&mut self, each: Each<'_>) {
        let commit = self.end();
        each(Change::Commit(commit));
    }

    fn query(&mut self, header: &Header, body: &[u8], each: Each<'_>) -> Option<()> {
        let (schema, text) = event::query(body)?;
        self.statement(header, schema, text, each);
        Some(())
    }

    fn query_compressed(&mut self, header: &Header, body: &[u8], each: Each<'_>) -> Option<()> {
        let (schema, section) = event::query(body)?;
        let text = compressed::mariadb(section)?;
        self.statement(header, schema, &text, each);
        Some(())
    }

    fn statement(&mut self, header: &Header, schema: &[u8], text: &[u8], each: Each<'_>) {
        match Control::of(text) {
            Control::Begin => {
                if self.open.is_none() {
                    self.begin(header, GtidBody::default(), each);
                }
                if let Some(open) = &mut self.open {
                    open.explicit = true;
                }
                if let Some(name) = xa_start(text).and_then(|name| str::from_utf8(name).ok()) {
                    each(Change::XaStart(name));
                }
            }
            Control::Commit => self.commit(each),
            Control::Rollback => {
                let end = self.end();
                each(Change::Rollback(end));
            }
            Control::Savepoint => {}
            Control::None => {
                let lossy = String::from_utf8_lossy;
                each(Change::Statement(Statement { schema: lossy(schema), text: lossy(text) }));
                let own_transaction = self.open.as_ref().is_none_or(|open| !open.explicit);
                // CREATE TABLE .. SELECT is logged with its rows behind it, and a COMMIT behind those.
                if own_transaction && !text.trim_ascii_end().ends_with(b"START TRANSACTION") {
                    self.commit(each);
                } else if let Some(open) = &mut self.open {
                    open.explicit = true;
                }
            }
        }
    }

    fn table_map(&mut self, body: &[u8]) -> Option<()> {
        let id = TableMap::id_of(body)?;
        self.tables.retain(|table| table.table_id != id);
        let known = self.known.get(&id).filter(|(bytes, _)| **bytes == *body);
        let table = if let Some((_, table)) = known {
            Arc::clone(table)
        } else {
            // One that cannot be read is unknown, and its rows are undecodable themselves.
            let table = Arc::new(TableMap::parse(self.dialect, body)?);
            if self.known.len() >= KNOWN_TABLES_MAX {
                self.known.clear();
            }
            self.known.insert(id, (body.into(), Arc::clone(&table)));
            table
        };
        self.tables.push(table);
        Some(())
    }

    fn rows(&mut self, raw_kind: u8, kind: event::RowsKind, body: &[u8], each: Each<'_>) {
        let undecodable = |table: Option<&TableMap>, reason: &str| {
            let table = table.map(|table| (Arc::clone(&table.schema), Arc::clone(&table.table)));
            Change::Undecodable(Undecodable { kind: raw_kind, table, reason: reason.to_owned() })
        };
        let Some(rows) = event::rows(kind, body) else {
            return each(undecodable(None, "a rows event that ends too early"));
        };
        if rows.table_id == DUMMY_TABLE && rows.images.is_empty() {
            return;
        }
        let Some(table) =
            self.tables.iter().find(|table| table.table_id == rows.table_id).map(Arc::clone)
        else {
            return each(undecodable(None, "rows of a table that was not announced"));
        };
        if rows.columns != table.columns.len() {
            return each(undecodable(
                Some(&table),
                "rows with another number of columns than their table",
            ));
        }
        let inflated;
        let images = if kind.compressed {
            match compressed::mariadb(rows.images) {
                Some(images) => {
                    inflated = images;
                    &inflated[..]
                }
                None => {
                    return each(undecodable(
                        Some(&table),
                        "compressed rows that cannot be inflated",
                    ));
                }
            }
        } else {
            rows.images
        };
        each(Change::Rows(Rows {
            table,
            operation: kind.operation,
            before_columns: rows.before,
            after_columns: rows.after,
            images,
            partial: kind.partial,
        }));
        if rows.statement_ends {
            self.tables.clear();
        }
    }

    fn payload(&mut self, body: &[u8], each: Each<'_>) -> Option<()> {
        let mut unpacker = std::mem::take(&mut self.unpacker);
        unpacker.begin();
        let understood = self.unpack(&mut unpacker, body, each).filter(|()| unpacker.is_whole());
        self.unpacker = unpacker;
        understood
    }

    fn unpack(&mut self, unpacker: &mut Unpacker, bytes: &[u8], each: Each<'_>) -> Option<()> {
        unpacker.push(bytes, &mut |event| {
            // They do not nest.
            (event.header.kind != kind::TRANSACTION_PAYLOAD).then(|| self.interpret(event, each))
        })
    }

    fn rotate(&mut self, header: &Header, body: &[u8], each: Each<'_>) -> Option<()> {
        let (offset, name) = event::rotate(body)?;
        // MariaDB's first, artificial one carries a checksum that nobody announced.
        let mut name = name;
        if let Some((bare, checksum)) = name.split_last_chunk::<4>() {
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&header.to_bytes());
            hasher.update(&offset.to_le_bytes());
            hasher.update(bare);
            if hasher.finalize() == u32::from_le_bytes(*checksum) {
                name = bare;
            }
        }
        let file: Arc<str> = Arc::from(String::from_utf8_lossy(name));
        self.file = Some(Arc::clone(&file));
        self.offset = offset;
        each(Change::Rotate(FilePosition { file, offset }));
        Some(())
    }
}

fn unreadable(kind: u8) -> Change<'static> {
    let reason = format!("event type {kind} cannot be read");
    Change::Undecodable(Undecodable { kind, table: None, reason })
}

/// Statements that only steer transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Begin,
    Commit,
    Rollback,
    Savepoint,
    None,
}

/// The name in `XA START name`.
fn xa_start(text: &[u8]) -> Option<&[u8]> {
    const VERB: &[u8] = b"XA START ";
    let (verb, name) = text.trim_ascii().split_at_checked(VERB.len())?;
    verb.eq_ignore_ascii_case(VERB).then(|| name.trim_ascii())
}

impl Control {
    /// Servers log transaction control in these very words.
    fn of(text: &[u8]) -> Control {
        let text = text.trim_ascii();
        let begins = |word: &str| {
            text.split_at_checked(word.len())
                .is_some_and(|(head, _)| head.eq_ignore_ascii_case(word.as_bytes()))
        };
        if text.eq_ignore_ascii_case(b"BEGIN")
            || text.eq_ignore_ascii_case(b"START TRANSACTION")
            || begins("XA START ")
        {
            Control::Begin
        } else if text.eq_ignore_ascii_case(b"COMMIT") {
            Control::Commit
        } else if text.eq_ignore_ascii_case(b"ROLLBACK") {
            Control::Rollback
        } else if begins("SAVEPOINT ")
            || begins("ROLLBACK TO ")
            || begins("RELEASE SAVEPOINT ")
            || begins("XA END ")
        {
            Control::Savepoint
        } else {
            Control::None
        }
    }
}
