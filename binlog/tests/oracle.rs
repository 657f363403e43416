//! Another decoder beside ours: `mysql_common`'s, on the rows of the fixtures. Where both say a value plainly (NULL,
//! whole numbers, bytes and text in UTF-8), they must say the same; what servers print is the business of `types.rs`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use binlog::{
    assemble::{Assembler, Change},
    frame::FileReader,
    layout::{Field, Layout, RowImages},
};
use mysql_common::{
    binlog::{
        BinlogFile, consts::BinlogVersion, events::EventData, row::BinlogRow, value::BinlogValue,
    },
    value::Value,
};
use schemas::gtid::Dialect;

const MYSQL: &[u8] = include_bytes!("fixtures/mysql/types.binlog");
const MARIADB: &[u8] = include_bytes!("fixtures/mariadb/types.binlog");
/// `MYSQL_TYPE_*` of whole numbers: TINY, SHORT, LONG, LONGLONG. Theirs loses the sign of a MEDIUMINT.
const WHOLE_NUMBERS: [u8; 4] = [1, 2, 3, 8];
/// VARCHAR and BLOB: comparable where the collation says bytes or UTF-8. Theirs does not pad BINARY.
const STRINGS: [u8; 2] = [15, 252];
/// binary, and the usual collations of utf8mb4, utf8mb3 and ascii.
const AS_IS: [u16; 7] = [63, 45, 46, 255, 33, 83, 11];

/// Tables that theirs does not read: it panics on a TIME below zero, and does not know MariaDB's compressed columns.
const NOT_THEIRS: [&str; 2] = ["times", "others"];

/// What one of the decoders makes of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cell {
    Null,
    Text(Vec<u8>),
    /// No such image, or nothing that can be compared.
    Nothing,
}

/// A row as `table: before, after`, one pair of cells for each column.
type Row = (String, Vec<(Cell, Cell)>);

/// Which columns of a table can be compared, in the order of its rows.
fn ours(dialect: Dialect, bytes: &[u8]) -> (Vec<Row>, Vec<Vec<bool>>) {
    let mut reader = FileReader::new(bytes).unwrap();
    let mut assembler = Assembler::new(dialect);
    let (mut rows, mut comparable) = (Vec::new(), Vec::new());
    while let Some(event) = reader.next_event().unwrap() {
        assembler.push(event, &mut |change| {
            let Change::Rows(change) = change else { return };
            let table = &change.table;
            if NOT_THEIRS.contains(&&*table.table) {
                return;
            }
            let all = 0..table.columns.len();
            let told: Vec<usize> =
                all.clone().filter(|&at| Layout::compile(table, &[at]).is_ok()).collect();
            let plain: Vec<bool> = table
                .columns
                .iter()
                .map(|column| {
                    WHOLE_NUMBERS.contains(&column.kind)
                        || (STRINGS.contains(&column.kind) && AS_IS.contains(&column.collation))
                })
                .collect();
            let layout = Layout::compile(table, &told).unwrap();
            layout
                .walk(&change, &mut |images| {
                    let cells = all.clone().map(|column| cells(images, &told, column)).collect();
                    rows.push((table.table.to_string(), cells));
                    comparable.push(plain.clone());
                })
                .unwrap();
        });
    }
    (rows, comparable)
}

fn cells(images: &RowImages<'_>, told: &[usize], column: usize) -> (Cell, Cell) {
    let cell = |field: Field<'_>| match field {
        Field::Null => Cell::Null,
        Field::Text(text) => Cell::Text(text.into_owned()),
        Field::Absent => Cell::Nothing,
    };
    let place = told.iter().position(|&at| at == column);
    place.map_or((Cell::Nothing, Cell::Nothing), |at| {
        (cell(images.before(at)), cell(images.after(at)))
    })
}

fn theirs(bytes: &[u8]) -> Vec<Row> {
    let mut file = BinlogFile::new(BinlogVersion::Version4, bytes).unwrap();
    let mut out = Vec::new();
    while let Some(event) = file.next() {
        let event = event.unwrap();
        // What they cannot read has no rows.
        let Ok(Some(EventData::RowsEvent(event))) = event.read_data() else { continue };
        let table = file.reader().get_tme(event.table_id()).unwrap();
        if NOT_THEIRS.contains(&&*table.table_name()) {
            continue;
        }
        for row in event.rows(table) {
            let (before, after) = row.unwrap();
            let cells = |row: &Option<BinlogRow>, at| {
                row.as_ref().map_or(Cell::Nothing, |row| their_cell(row, at))
            };
            let columns = usize::try_from(table.columns_count()).unwrap();
            let cells = (0..columns).map(|at| (cells(&before, at), cells(&after, at))).collect();
            out.push((table.table_name().into_owned(), cells));
        }
    }
    out
}

fn their_cell(row: &BinlogRow, at: usize) -> Cell {
    match row.as_ref(at) {
        Some(BinlogValue::Value(Value::NULL)) => Cell::Null,
        Some(BinlogValue::Value(Value::Bytes(bytes))) => Cell::Text(bytes.clone()),
        Some(BinlogValue::Value(Value::Int(number))) => Cell::Text(number.to_string().into_bytes()),
        Some(BinlogValue::Value(Value::UInt(number))) => {
            Cell::Text(number.to_string().into_bytes())
        }
        _ => Cell::Nothing,
    }
}

/// How many cells were compared.
fn check(dialect: Dialect, bytes: &[u8]) -> usize {
    let (ours, comparable) = ours(dialect, bytes);
    let theirs = theirs(bytes);
    let tables = |rows: &[Row]| rows.iter().map(|(table, _)| table.clone()).collect::<Vec<_>>();
    assert_eq!(tables(&ours), tables(&theirs));
    let mut compared = 0;
    for (((table, ours), (_, theirs)), plain) in ours.iter().zip(&theirs).zip(&comparable) {
        for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            for (ours, theirs) in [(&ours.0, &theirs.0), (&ours.1, &theirs.1)] {
                if *ours == Cell::Nothing || *theirs == Cell::Nothing {
                    continue;
                }
                let null = *ours == Cell::Null || *theirs == Cell::Null;
                if null || plain[at] {
                    compared += 1;
                    assert_eq!(ours, theirs, "{dialect}: column {at} of {table}");
                }
            }
        }
    }
    compared
}

#[test]
fn another_decoder_reads_the_same_mysql() {
    let compared = check(Dialect::Mysql, MYSQL);
    assert!(compared > 150, "only {compared} cells were compared");
}

#[test]
fn another_decoder_reads_the_same_mariadb() {
    let compared = check(Dialect::MariaDb, MARIADB);
    assert!(compared > 150, "only {compared} cells were compared");
}
