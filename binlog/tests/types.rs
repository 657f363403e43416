//! Every column type, from real servers: each value's text form is what the server itself says.
//!
//! `fixtures/DIALECT/types.binlog` was written by MySQL 9.7, MariaDB 11.8 and MariaDB 10.11 as they ran `types.sql`; `types.tsv` has what
//! they answered to `CAST(column AS CHAR)`, in hexadecimal. `fixtures/make.py` makes them anew.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{collections::BTreeMap, sync::Arc};

use binlog::{
    assemble::{Assembler, Change, Rows},
    frame::{Event, FileReader},
    layout::{Field, Layout, LayoutError},
    table_map::Disguise,
};
use proptest::prelude::*;
use schemas::{gtid::Dialect, record::Operation, rules::Written};

const MYSQL: (&[u8], &str) =
    (include_bytes!("fixtures/mysql/types.binlog"), include_str!("fixtures/mysql/types.tsv"));
const MARIADB: (&[u8], &str) =
    (include_bytes!("fixtures/mariadb/types.binlog"), include_str!("fixtures/mariadb/types.tsv"));

const MARIADB_10_11: (&[u8], &str) = (
    include_bytes!("fixtures/mariadb-10.11/types.binlog"),
    include_str!("fixtures/mariadb-10.11/types.tsv"),
);

/// `MYSQL_TYPE_STRING`.
const STRING: u8 = 254;

/// (table, id, column) -> text, of every row as it was left.
type Texts = BTreeMap<(String, String, String), Option<Vec<u8>>>;

fn events(bytes: &[u8]) -> Vec<Event<'_>> {
    let mut reader = FileReader::new(bytes).unwrap();
    let mut out = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        out.push(event);
    }
    out
}

fn texts_of(dialect: Dialect, bytes: &[u8], refused: &mut Vec<String>) -> Texts {
    let mut assembler = Assembler::new(dialect);
    let mut out = Texts::new();
    for event in events(bytes) {
        assembler.push(event, &mut |change| match change {
            Change::Undecodable(what) => panic!("{what:?}"),
            Change::Rows(rows) if rows.operation != Operation::Delete => {
                let id = rows.table.column("id").unwrap();
                let rows = undisguised(rows);
                for (at, column) in rows.table.columns.iter().enumerate() {
                    let layout = match Layout::compile(&rows.table, &[id, at]) {
                        Ok(layout) => layout,
                        Err(LayoutError::NoTextForm { column, .. }) => {
                            refused.push(format!("{}.{column}", rows.table.table));
                            continue;
                        }
                        Err(err) => panic!("{err}"),
                    };
                    // Asked for twice, a column is located once; `id` itself stands in the first place.
                    let place = usize::from(at != id);
                    let name = column.name.as_deref().unwrap().to_owned();
                    layout
                        .walk(&rows, &mut |row| {
                            let Field::Text(id) = row.after(0) else { panic!("id is text") };
                            let value = match row.after(place) {
                                Field::Null => None,
                                Field::Text(text) => Some(text.into_owned()),
                                // MariaDB leaves generated columns that did not change out of updates.
                                Field::Absent => {
                                    assert!(matches!(&*name, "virt" | "store"), "{dialect} {name}");
                                    return;
                                }
                            };
                            let mut text = Vec::new();
                            let way = row.write_after(place, &mut |piece| text.extend(piece));
                            let written = (way == Written::Text).then_some(text);
                            assert_eq!(written, value, "two ways to the text of {name}");
                            let id = String::from_utf8(id.into_owned()).unwrap();
                            out.insert((rows.table.table.to_string(), id, name.clone()), value);
                        })
                        .unwrap();
                }
            }
            _ => {}
        });
    }
    out
}

/// With the types that the catalogue knows and the binlog does not.
fn undisguised(mut rows: Rows<'_>) -> Rows<'_> {
    let mut table = (*rows.table).clone();
    for column in &mut table.columns {
        column.disguise = match column.name.as_deref() {
            Some("u") if column.kind == STRING && column.meta == 16 => Disguise::Uuid,
            Some("i4") => Disguise::Inet4,
            Some("i6") => Disguise::Inet6,
            _ => Disguise::None,
        };
    }
    rows.table = Arc::new(table);
    rows
}

fn check(dialect: Dialect, (bytes, tsv): (&[u8], &str)) {
    let mut refused = Vec::new();
    let texts = texts_of(dialect, bytes, &mut refused);
    let (mut compared, mut wrong) = (0, Vec::new());
    for line in tsv.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [table, id, column, hex] = fields[..] else { panic!("{line}") };
        let place = (table.to_owned(), id.to_owned(), column.to_owned());
        let Some(ours) = texts.get(&place) else { continue };
        let theirs = (hex != "NULL").then(|| unhex(hex));
        // The binlog does not say which columns are ZEROFILL.
        let zerofill = matches!((table, column), ("ints", "z") | ("decimals", "j"));
        // Nor how many decimals FLOAT(7,3) and DOUBLE(12,4) have.
        let decimals = matches!((table, column), ("floats", "g" | "h"));
        // CAST turns to an exponent, where SELECT does not.
        let cast = (dialect, table, id, column) == (Dialect::Mysql, "floats", "14", "f");
        compared += 1;
        if *ours != theirs && !zerofill && !decimals && !cast {
            wrong.push(format!(
                "{place:?}: ours {:?}, the server's {:?}",
                show(ours.as_ref()),
                show(theirs.as_ref())
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {compared} differ:\n{}\nrefused: {refused:?}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(compared > 400, "only {compared} values were compared; refused: {refused:?}");
}

fn show(text: Option<&Vec<u8>>) -> Option<String> {
    text.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn text_forms_are_the_servers_own_mysql() {
    check(Dialect::Mysql, MYSQL);
}

#[test]
fn text_forms_are_the_servers_own_mariadb() {
    check(Dialect::MariaDb, MARIADB);
}

#[test]
fn text_forms_are_the_servers_own_mariadb_10_11() {
    check(Dialect::MariaDb, MARIADB_10_11);
}

/// Walks whatever comes out of changed bytes.
fn walk_all(dialect: Dialect, events: &[Event<'_>]) {
    let mut assembler = Assembler::new(dialect);
    for event in events {
        assembler.push(*event, &mut |change| {
            if let Change::Rows(rows) = change {
                let columns: Vec<usize> = (0..rows.table.columns.len()).collect();
                if let Ok(layout) = Layout::compile(&rows.table, &columns) {
                    drop(layout.walk(&rows, &mut |row| {
                        for at in &columns {
                            drop((row.before(*at), row.after(*at), row.changed(*at)));
                        }
                    }));
                }
            }
        });
    }
}

/// Every event cut at every byte: never a panic.
#[test]
fn cut_events_never_panic() {
    for (dialect, (bytes, _)) in [(Dialect::Mysql, MYSQL), (Dialect::MariaDb, MARIADB)] {
        let events = events(bytes);
        for (at, event) in events.iter().enumerate() {
            // With the table map before it, so that rows find their table.
            let before = &events[at.saturating_sub(1)..at];
            for end in (0..event.body.len()).step_by(1 + event.body.len() / 200) {
                let mut cut = before.to_vec();
                cut.push(Event { body: &event.body[..end], ..*event });
                walk_all(dialect, &cut);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Changed bytes in a file: an error or another meaning, never a panic.
    #[test]
    fn changed_bytes_never_panic(at in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for (dialect, (bytes, _)) in [(Dialect::Mysql, MYSQL), (Dialect::MariaDb, MARIADB)] {
            let events = events(bytes);
            let at = at.index(events.len());
            let mut body = events[at].body.to_vec();
            if body.is_empty() {
                continue;
            }
            let change = other.index(body.len());
            body[change] = byte;
            let mut changed = events[at.saturating_sub(1)..at].to_vec();
            changed.push(Event { body: &body, ..events[at] });
            changed.extend(events.get(at + 1).copied());
            walk_all(dialect, &changed);
        }
    }

    #[test]
    fn random_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut file = binlog::frame::MAGIC.to_vec();
        file.extend(bytes);
        if let Ok(mut reader) = FileReader::new(&file) {
            while let Ok(Some(event)) = reader.next_event() {
                walk_all(Dialect::Mysql, &[event]);
            }
        }
    }
}

/// A bit that changes anywhere in a checksummed event is noticed.
#[test]
fn checksums_are_verified() {
    let mut bytes = MYSQL.0.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut reader = FileReader::new(&bytes).unwrap();
    let err = loop {
        match reader.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the change was not noticed"),
            Err(err) => break err.to_string(),
        }
    };
    assert!(err.starts_with("checksum is "), "{err}");
}
