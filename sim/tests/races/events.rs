//! Binlog events that the simulated servers do not write: inserts, rows that move, altered tables, statements, and
//! events from the future. For the table `shop.item`, with full metadata.

use ::binlog::frame::{Event, Header};
use sim::{
    binlog::RULES,
    database::{KeyId, Topology, TxnId, uuid},
};

const HEADER_BYTES: usize = 19;

/// An event that is its own memory.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    header: Header,
    body: Vec<u8>,
}

/// What a transaction has between its beginning and its end.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// A new row.
    Insert(KeyId),
    /// A row whose number changes.
    Move(KeyId, KeyId),
    /// An update of a row that has two columns, in this order.
    Wide([&'static str; 2], KeyId),
    /// A row whose columns have no names in the binlog.
    Nameless(KeyId),
    /// A statement that is its own transaction.
    Statement(&'static str),
    /// An event of a kind that nobody knows.
    Unknown,
}

impl Written {
    /// As the tailer takes it.
    pub(crate) fn as_event(&self) -> Event<'_> {
        Event { header: self.header, body: &self.body }
    }
}

/// The rules of the stage's world, with keys for more versions of an application.
pub(crate) fn rules_with(more: &str) -> String {
    RULES.replace("[\"k{id}\"]", more)
}

/// A transaction of the database, as it might have been written.
pub(crate) fn transaction(db: &Topology, txn: TxnId, body: &Body) -> Vec<Written> {
    let txn = db.txn(txn);
    let event = |kind, body| event(u32::try_from(txn.server).unwrap() + 1, kind, body);
    let mut gtid = vec![1];
    gtid.extend(uuid(txn.server).0);
    gtid.extend(txn.number.to_le_bytes());
    gtid.push(2);
    gtid.extend([0; 16]);
    let begin = [event(33, gtid), event(2, query("BEGIN"))];
    let [first, second] = &begin;
    let rows = |map, kind, rows| {
        vec![
            first.clone(),
            second.clone(),
            event(19, map),
            event(kind, rows),
            event(16, vec![0; 8]),
        ]
    };
    match body {
        Body::Insert(id) => rows(table_map(9, &["id"]), 30, row_event(9, 1, &[&[*id]])),
        Body::Move(from, to) => {
            rows(table_map(9, &["id"]), 31, row_event(9, 1, &[&[*from], &[*to]]))
        }
        Body::Wide(columns, id) => {
            let row = columns.map(|column| if column == "id" { *id } else { 9 });
            rows(table_map(10, columns), 31, row_event(10, 2, &[&row, &row]))
        }
        Body::Nameless(id) => rows(table_map_of(9, 1, &[]), 31, row_event(9, 1, &[&[*id], &[*id]])),
        Body::Statement(text) => vec![first.clone(), event(2, query(text))],
        Body::Unknown => {
            vec![first.clone(), second.clone(), event(250, vec![1]), event(16, vec![0; 8])]
        }
    }
}

fn event(server_id: u32, kind: u8, body: Vec<u8>) -> Written {
    let event_bytes = u32::try_from(body.len() + HEADER_BYTES).unwrap();
    let header =
        Header { timestamp_s: 1, kind, server_id, event_bytes, end_position: 1000, flags: 0 };
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

fn table_map(table: u8, columns: &[&str]) -> Vec<u8> {
    let mut names = Vec::new();
    for name in columns {
        names.push(u8::try_from(name.len()).unwrap());
        names.extend(name.as_bytes());
    }
    let mut metadata = vec![4, u8::try_from(names.len()).unwrap()];
    metadata.extend(names);
    table_map_of(table, columns.len(), &metadata)
}

fn table_map_of(table: u8, columns: usize, names: &[u8]) -> Vec<u8> {
    let mut body = vec![table, 0, 0, 0, 0, 0, 1, 0];
    body.extend(b"\x04shop\0\x04item\0");
    body.push(u8::try_from(columns).unwrap());
    body.extend(vec![3; columns]); // INT
    body.extend([0, 0]); // No metadata, not NULL.
    body.extend([1, 1, 0]); // Signed.
    body.extend(names);
    body
}

/// Rows of INT columns: images one after the other.
fn row_event(table: u8, columns: usize, images: &[&[KeyId]]) -> Vec<u8> {
    let mut body = vec![table, 0, 0, 0, 0, 0, 1, 0, 2, 0, u8::try_from(columns).unwrap()];
    body.extend(vec![0xff; images.len()]);
    for image in images {
        body.push(0);
        for value in *image {
            body.extend(i32::try_from(*value).unwrap().to_le_bytes());
        }
    }
    body
}
