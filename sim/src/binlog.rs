//! A transaction as a MySQL server writes it to its binlog: what the real tailer reads.
//!
//! One table, `shop.item (id INT)`, with full metadata. Source: MySQL Internals, "Binary Log Event".

use std::borrow::Cow;

use ::binlog::frame::{Event, Header};

use crate::database::{Txn, Writes, uuid};

const HEADER_BYTES: usize = 19;
const QUERY: u8 = 2;
const XID: u8 = 16;
const TABLE_MAP: u8 = 19;
const UPDATE_ROWS: u8 = 31;
const HEARTBEAT: u8 = 27;
const GTID: u8 = 33;

/// The tables and rules of the simulated world.
pub const RULES: &str = r#"
[[rule]]
name = "items"
table = "shop.item"
keys = ["k{id}"]
"#;

/// An event that is its own memory.
#[derive(Clone, Debug)]
pub struct Written {
    header: Header,
    body: Vec<u8>,
}

impl Written {
    /// As the tailer takes it.
    pub fn as_event(&self) -> Event<'_> {
        Event { header: self.header, body: &self.body }
    }
}

/// The key of a row.
pub fn key_name(key: usize) -> Cow<'static, str> {
    const FIRST: [&str; 6] = ["k0", "k1", "k2", "k3", "k4", "k5"];
    FIRST.get(key).map_or_else(|| format!("k{key}").into(), |name| (*name).into())
}

/// The events of a transaction.
pub fn events(txn: &Txn) -> Vec<Written> {
    let server_id = u32::try_from(txn.server).unwrap_or(0) + 1;
    let event = |kind, body: Vec<u8>| {
        let event_bytes = u32::try_from(body.len() + HEADER_BYTES).unwrap_or(u32::MAX);
        let header =
            Header { timestamp_s: 1, kind, server_id, event_bytes, end_position: 1000, flags: 0 };
        Written { header, body }
    };
    let mut gtid = vec![1];
    gtid.extend(uuid(txn.server).0);
    gtid.extend(txn.number.to_le_bytes());
    gtid.push(2);
    gtid.extend([0; 16]);
    // When it was committed, here and where it was written: the same, in 7 bytes.
    let committed_at = (u64::from(txn.id.0) + 1).to_le_bytes();
    gtid.extend(committed_at.iter().take(7));
    let mut events = vec![event(GTID, gtid)];
    match &txn.writes {
        Writes::Truncate => events.push(event(QUERY, query("TRUNCATE TABLE item"))),
        Writes::Rows(keys) => {
            events.push(event(QUERY, query("BEGIN")));
            events.push(event(TABLE_MAP, table_map()));
            events.push(event(UPDATE_ROWS, rows(keys)));
            events.push(event(XID, vec![0; 8]));
        }
    }
    events
}

/// What a server sends at the end of its binlog.
pub fn heartbeat() -> Written {
    let body = b"binlog.000001".to_vec();
    let event_bytes = u32::try_from(body.len() + HEADER_BYTES).unwrap_or(u32::MAX);
    let header = Header {
        timestamp_s: 0,
        kind: HEARTBEAT,
        server_id: 1,
        event_bytes,
        end_position: 1000,
        flags: 0,
    };
    Written { header, body }
}

fn query(text: &str) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.push(4);
    body.extend([0; 4]);
    body.extend(b"shop\0");
    body.extend(text.as_bytes());
    body
}

fn table_map() -> Vec<u8> {
    let mut body = vec![9, 0, 0, 0, 0, 0, 1, 0];
    body.extend(b"\x04shop\0\x04item\0");
    body.extend([1, 3, 0, 0]); // One column, INT, no metadata, not NULL.
    body.extend([1, 1, 0]); // Signed.
    body.extend(b"\x04\x03\x02id"); // Column names.
    body
}

fn rows(keys: &[usize]) -> Vec<u8> {
    let mut body = vec![9, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 0xff, 0xff];
    for key in keys {
        let id = i32::try_from(*key).unwrap_or(0).to_le_bytes();
        body.push(0);
        body.extend(id);
        body.push(0);
        body.extend(id);
    }
    body
}
