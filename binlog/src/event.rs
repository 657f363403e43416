//! Bodies of single events, for both dialects. Each parser returns `None` where the bytes do not fit.
//!
//! Sources: MySQL `libs/mysql/binlog/event/control_events.h` and `rows_event.h`; MariaDB documentation, "Replication
//! Protocol" (GTID_EVENT, QUERY_COMPRESSED_EVENT).

use schemas::{
    gtid::{Gtid, Uuid},
    record::{Operation, UnixMicros},
};

use crate::{compressed::Compression, read::Bytes};

/// Event types that we know by name.
pub(crate) mod kind {
    pub(crate) const QUERY: u8 = 2;
    pub(crate) const STOP: u8 = 3;
    pub(crate) const ROTATE: u8 = 4;
    pub(crate) const INTVAR: u8 = 5;
    pub(crate) const RAND: u8 = 13;
    pub(crate) const USER_VAR: u8 = 14;
    pub(crate) const FORMAT_DESCRIPTION: u8 = 15;
    pub(crate) const XID: u8 = 16;
    pub(crate) const BEGIN_LOAD_QUERY: u8 = 17;
    pub(crate) const EXECUTE_LOAD_QUERY: u8 = 18;
    pub(crate) const TABLE_MAP: u8 = 19;
    pub(crate) const HEARTBEAT: u8 = 27;
    pub(crate) const IGNORABLE: u8 = 28;
    pub(crate) const ROWS_QUERY: u8 = 29;
    pub(crate) const GTID: u8 = 33;
    pub(crate) const ANONYMOUS_GTID: u8 = 34;
    pub(crate) const PREVIOUS_GTIDS: u8 = 35;
    pub(crate) const TRANSACTION_CONTEXT: u8 = 36;
    pub(crate) const VIEW_CHANGE: u8 = 37;
    pub(crate) const XA_PREPARE: u8 = 38;
    pub(crate) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(crate) const HEARTBEAT_V2: u8 = 41;
    pub(crate) const GTID_TAGGED: u8 = 42;
    pub(crate) const ANNOTATE_ROWS: u8 = 160;
    pub(crate) const BINLOG_CHECKPOINT: u8 = 161;
    pub(crate) const MARIADB_GTID: u8 = 162;
    pub(crate) const MARIADB_GTID_LIST: u8 = 163;
    pub(crate) const QUERY_COMPRESSED: u8 = 165;
}

/// What a rows event type says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowsKind {
    pub(crate) operation: Operation,
    /// Extra data stands behind the flags.
    pub(crate) v2: bool,
    /// MariaDB: the images are a zlib stream.
    pub(crate) compressed: bool,
    /// MySQL: after images may carry JSON differences.
    pub(crate) partial: bool,
}

/// `None`: no rows event.
pub(crate) fn rows_kind(kind: u8) -> Option<RowsKind> {
    use Operation::{Delete, Insert, Update};
    let (operation, v2, compressed) = match kind {
        23 => (Insert, false, false),
        24 => (Update, false, false),
        25 => (Delete, false, false),
        30 => (Insert, true, false),
        31 | 39 => (Update, true, false),
        32 => (Delete, true, false),
        166 => (Insert, false, true),
        167 => (Update, false, true),
        168 => (Delete, false, true),
        169 => (Insert, true, true),
        170 => (Update, true, true),
        171 => (Delete, true, true),
        _ => return None,
    };
    Some(RowsKind { operation, v2, compressed, partial: kind == 39 })
}

/// A rows event up to its images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsBody<'a> {
    pub(crate) table_id: u64,
    pub(crate) statement_ends: bool,
    pub(crate) columns: usize,
    pub(crate) before: &'a [u8],
    pub(crate) after: &'a [u8],
    pub(crate) images: &'a [u8],
}

const STMT_END: u16 = 0x0001;

pub(crate) fn rows(kind: RowsKind, body: &[u8]) -> Option<RowsBody<'_>> {
    let mut body = Bytes(body);
    let table_id = body.uint(6)?;
    let flags = body.u16()?;
    if kind.v2 {
        let extra = usize::from(body.u16()?).checked_sub(2)?;
        body.take(extra)?;
    }
    let columns = usize::try_from(body.lenenc()?).ok()?;
    let present = body.take(columns.div_ceil(8))?;
    let after =
        if kind.operation == Operation::Update { body.take(columns.div_ceil(8))? } else { present };
    let statement_ends = flags & STMT_END != 0;
    Some(RowsBody {
        table_id,
        statement_ends,
        columns,
        before: present,
        after,
        images: body.rest(),
    })
}

/// Schema and text of a QUERY event; `compressed` is MariaDB's form of it.
pub(crate) fn query(body: &[u8]) -> Option<(&[u8], &[u8])> {
    statement(body, 0)
}

/// Likewise of an EXECUTE_LOAD_QUERY event, which says first where its file is.
pub(crate) fn load_query(body: &[u8]) -> Option<(&[u8], &[u8])> {
    statement(body, 13)
}

fn statement(body: &[u8], between: usize) -> Option<(&[u8], &[u8])> {
    let mut body = Bytes(body);
    body.take(8)?;
    let schema_length = usize::from(body.u8()?);
    body.take(2)?;
    let status_length = usize::from(body.u16()?);
    body.take(between)?;
    body.take(status_length)?;
    let schema = body.take(schema_length)?;
    body.take(1)?;
    Some((schema, body.rest()))
}

/// Position and file name.
pub(crate) fn rotate(body: &[u8]) -> Option<(u64, &[u8])> {
    let mut body = Bytes(body);
    Some((body.u64()?, body.rest()))
}

/// Whose number a transaction has, and when it was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GtidBody {
    pub(crate) gtid: Option<Gtid>,
    pub(crate) committed_at: Option<UnixMicros>,
    /// MariaDB: the transaction is one statement, without a COMMIT behind it.
    pub(crate) standalone: bool,
    /// MariaDB: XA PREPARE, or the end of a prepared transaction.
    pub(crate) xa: bool,
    /// MariaDB: the name of the transaction that is prepared, as statements write it.
    pub(crate) prepares: Option<String>,
}

/// GTID and ANONYMOUS_GTID of MySQL.
pub(crate) fn mysql_gtid(event: u8, body: &[u8]) -> Option<GtidBody> {
    let mut body = Bytes(body);
    body.take(1)?;
    let uuid = Uuid(*body.array()?);
    let number = body.u64()?;
    // Servers since 5.7 go on: type code, two logical clocks, then the time of this server's commit and,
    // if bit 55 says so, that of the first.
    let mut committed = || {
        body.take(17)?;
        let immediate = body.uint(7)?;
        if immediate & (1 << 55) == 0 { Some(immediate) } else { body.uint(7) }
    };
    let committed_at = committed().filter(|&at| at > 0).map(UnixMicros);
    let gtid = (event == kind::GTID).then(|| Gtid::Mysql { uuid, tag: "".into(), number });
    Some(GtidBody { gtid, committed_at, standalone: false, xa: false, prepares: None })
}

/// GTID_TAGGED: MySQL's serialization format, version 2: fields by number, integers of variable length.
pub(crate) fn mysql_gtid_tagged(body: &[u8]) -> Option<GtidBody> {
    let mut body = Bytes(body);
    let _version = varlen(&mut body).filter(|&version| version == 2)?;
    varlen(&mut body)?;
    varlen(&mut body)?;
    let (mut uuid, mut number, mut tag) = ([0; 16], None, "".into());
    let (mut immediate, mut original) = (0, 0);
    while !body.is_empty() {
        match varlen(&mut body)? {
            1 => {
                for byte in &mut uuid {
                    *byte = u8::try_from(varlen(&mut body)?).ok()?;
                }
            }
            // Signed: the lowest bit is the sign.
            2 => number = Some(varlen(&mut body)? >> 1),
            3 => {
                let length = usize::try_from(varlen(&mut body)?).ok()?;
                tag = std::str::from_utf8(body.take(length)?).ok()?.into();
            }
            6 => immediate = varlen(&mut body)?,
            7 => original = varlen(&mut body)?,
            0 | 4 | 5 | 8..=11 => {
                varlen(&mut body)?;
            }
            _ => break, // Fields that came later stand at the end.
        }
    }
    let committed_at = [original, immediate].into_iter().find(|&at| at > 0).map(UnixMicros);
    let gtid = Some(Gtid::Mysql { uuid: Uuid(uuid), tag, number: number? });
    Some(GtidBody { gtid, committed_at, standalone: false, xa: false, prepares: None })
}

/// The number of one bits at the bottom of the first byte says how many bytes follow.
fn varlen(body: &mut Bytes<'_>) -> Option<u64> {
    let first = body.u8()?;
    let more = usize::try_from(first.trailing_ones()).ok()?;
    let rest = if more == 0 { 0 } else { body.uint(more)? };
    match more {
        7 | 8 => Some(rest),
        _ => {
            let low = u32::try_from(more).ok()?.checked_add(1)?;
            Some((rest << 8_u32.checked_sub(low)?) | (u64::from(first) >> low))
        }
    }
}

const STANDALONE: u8 = 0x01;
const GROUP_COMMIT_ID: u8 = 0x02;
const PREPARED_XA: u8 = 0x40;
const COMPLETED_XA: u8 = 0x80;

/// GTID of MariaDB; the server id is in the event's header.
pub(crate) fn mariadb_gtid(server_id: u32, body: &[u8]) -> Option<GtidBody> {
    let mut body = Bytes(body);
    let (sequence, domain, flags) = (body.u64()?, body.u32()?, body.u8()?);
    let mut name = || {
        if flags & GROUP_COMMIT_ID != 0 {
            body.u64()?;
        }
        let format = body.u32()?;
        let (global, branch) = (usize::from(body.u8()?), usize::from(body.u8()?));
        Some(xa_name(body.take(global)?, body.take(branch)?, format))
    };
    let prepares = if flags & PREPARED_XA != 0 { Some(name()?) } else { None };
    Some(GtidBody {
        gtid: Some(Gtid::MariaDb { domain, server_id, sequence }),
        committed_at: None,
        standalone: flags & STANDALONE != 0,
        xa: flags & (PREPARED_XA | COMPLETED_XA) != 0,
        prepares,
    })
}

/// XA_PREPARE: whether the transaction waits for its XA COMMIT; else this was it.
pub(crate) fn xa_waits(body: &[u8]) -> Option<bool> {
    body.first().map(|&one_phase| one_phase == 0)
}

/// The name of an XA transaction, as both servers write it into statements: `X'7831',X'',1`.
fn xa_name(global: &[u8], branch: &[u8], format: u32) -> String {
    let hex =
        |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    format!("X'{}',X'{}',{format}", hex(global), hex(branch))
}

/// TRANSACTION_PAYLOAD: how it is packed, and the events.
pub(crate) fn payload(body: &[u8]) -> Option<(Compression, &[u8])> {
    let mut body = Bytes(body);
    let mut compression = None;
    loop {
        let field = body.lenenc()?;
        if field == 0 {
            return Some((compression?, body.rest()));
        }
        let mut value = Bytes(body.lenenc_bytes()?);
        if field == 2 {
            compression = match value.lenenc()? {
                0 => Some(Compression::Zstd),
                255 => Some(Compression::None),
                _ => return None,
            };
        }
    }
}
