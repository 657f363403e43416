//! TABLE_MAP events: a table's columns as they were when the rows were written.
//!
//! ```text
//! body = table_id:6 flags:2 schema_length:1 schema NUL table_length:1 table NUL
//!        count:lenenc type:count metadata_length:lenenc metadata null_bits:(count+7)/8 *optional
//! optional = kind:1 length:lenenc value
//! ```
//!
//! Source: MySQL WL#4618 (optional metadata), `binlog_row_metadata`. MariaDB writes the same fields.

use std::sync::Arc;

use schemas::gtid::Dialect;

use crate::read::Bytes;

/// One table map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMap {
    /// The number that rows events refer to; not stable.
    pub table_id: u64,
    /// Database name.
    pub schema: Arc<str>,
    /// Table name.
    pub table: Arc<str>,
    /// In order of the table.
    pub columns: Vec<Column>,
}

/// One column. Name, character set and labels come with `binlog_row_metadata=FULL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// `None` unless the metadata is FULL.
    pub name: Option<Arc<str>>,
    /// `MYSQL_TYPE_*` as the rows carry it; strings that are ENUM or SET already told apart.
    pub kind: u8,
    /// Type-specific: lengths, precision and scale, bytes of a length prefix.
    pub meta: u16,
    /// Numbers only.
    pub unsigned: bool,
    /// Collation id of text; 0 if it is not known.
    pub collation: u16,
    /// Labels of ENUM and SET.
    pub labels: Arc<[Box<[u8]>]>,
    /// What it is, where the event does not say it. The caller may know.
    pub disguise: Disguise,
}

/// MariaDB's types that look like BINARY in a table map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disguise {
    /// It is what it seems.
    #[default]
    None,
    /// 16 bytes.
    Uuid,
    /// 4 bytes.
    Inet4,
    /// 16 bytes.
    Inet6,
}

/// `MYSQL_TYPE_*`.
pub(crate) mod kind {
    pub(crate) const TINY: u8 = 1;
    pub(crate) const SHORT: u8 = 2;
    pub(crate) const LONG: u8 = 3;
    pub(crate) const FLOAT: u8 = 4;
    pub(crate) const DOUBLE: u8 = 5;
    pub(crate) const TIMESTAMP: u8 = 7;
    pub(crate) const LONGLONG: u8 = 8;
    pub(crate) const INT24: u8 = 9;
    pub(crate) const DATE: u8 = 10;
    pub(crate) const TIME: u8 = 11;
    pub(crate) const DATETIME: u8 = 12;
    pub(crate) const YEAR: u8 = 13;
    pub(crate) const VARCHAR: u8 = 15;
    pub(crate) const BIT: u8 = 16;
    pub(crate) const TIMESTAMP2: u8 = 17;
    pub(crate) const DATETIME2: u8 = 18;
    pub(crate) const TIME2: u8 = 19;
    pub(crate) const BLOB_COMPRESSED: u8 = 140;
    pub(crate) const VARCHAR_COMPRESSED: u8 = 141;
    pub(crate) const VECTOR: u8 = 242;
    pub(crate) const JSON: u8 = 245;
    pub(crate) const NEWDECIMAL: u8 = 246;
    pub(crate) const ENUM: u8 = 247;
    pub(crate) const SET: u8 = 248;
    pub(crate) const TINY_BLOB: u8 = 249;
    pub(crate) const MEDIUM_BLOB: u8 = 250;
    pub(crate) const LONG_BLOB: u8 = 251;
    pub(crate) const BLOB: u8 = 252;
    pub(crate) const VAR_STRING: u8 = 253;
    pub(crate) const STRING: u8 = 254;
    pub(crate) const GEOMETRY: u8 = 255;
}

impl TableMap {
    /// Index of the column with this name (ASCII case is ignored, as the server does).
    pub fn column(&self, name: &str) -> Option<usize> {
        let named = |column: &Column| {
            column.name.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        self.columns.iter().position(named)
    }

    pub(crate) fn parse(dialect: Dialect, body: &[u8]) -> Option<TableMap> {
        let mut body = Bytes(body);
        let table_id = body.uint(6)?;
        body.take(2)?;
        let mut name = || {
            let length = usize::from(body.u8()?);
            let name = body.take(length)?;
            body.take(1)?;
            Some(Arc::from(String::from_utf8_lossy(name)))
        };
        let (schema, table) = (name()?, name()?);
        let count = usize::try_from(body.lenenc()?).ok()?;
        let kinds = body.take(count)?;
        let mut meta = Bytes(body.lenenc_bytes()?);
        body.take(count.div_ceil(8))?;
        let mut columns = Vec::with_capacity(count);
        for &kind in kinds {
            columns.push(column(kind, &mut meta)?);
        }
        while !body.is_empty() {
            let (kind, value) = (body.u8()?, body.lenenc_bytes()?);
            optional(dialect, &mut columns, kind, Bytes(value))?;
        }
        Some(TableMap { table_id, schema, table, columns })
    }

    /// The table's id in the body of a TABLE_MAP or rows event.
    pub(crate) fn id_of(body: &[u8]) -> Option<u64> {
        Bytes(body).uint(6)
    }
}

fn column(raw: u8, meta: &mut Bytes<'_>) -> Option<Column> {
    let (mut kind, mut value) = (raw, 0);
    match raw {
        kind::STRING | kind::VAR_STRING | kind::ENUM | kind::SET => {
            // The real type, and a length whose two highest bits are hidden, inverted, in the type.
            let (high, low) = (meta.u8()?, meta.u8()?);
            if high & 0x30 == 0x30 {
                kind = high;
                value = u16::from(low);
            } else {
                kind = high | 0x30;
                value = u16::from(low) | (u16::from((high & 0x30) ^ 0x30) << 4);
            }
        }
        kind::NEWDECIMAL => value = (u16::from(meta.u8()?) << 8) | u16::from(meta.u8()?),
        kind::VARCHAR | kind::VARCHAR_COMPRESSED | kind::BIT => value = meta.u16()?,
        kind::FLOAT
        | kind::DOUBLE
        | kind::TINY_BLOB
        | kind::MEDIUM_BLOB
        | kind::LONG_BLOB
        | kind::BLOB
        | kind::BLOB_COMPRESSED
        | kind::JSON
        | kind::VECTOR
        | kind::GEOMETRY
        | kind::TIMESTAMP2
        | kind::DATETIME2
        | kind::TIME2 => value = u16::from(meta.u8()?),
        _ => {}
    }
    Some(Column { kind, meta: value, ..Column::default() })
}

/// Applies one optional field; unknown ones say nothing about the rows' bytes.
fn optional(
    dialect: Dialect,
    columns: &mut [Column],
    kind: u8,
    mut value: Bytes<'_>,
) -> Option<()> {
    match kind {
        1 => {
            // One bit for each numeric column, highest first.
            let bits = value.rest();
            for (at, column) in
                columns.iter_mut().filter(|column| is_numeric(column.kind)).enumerate()
            {
                let byte = bits.get(at.checked_div(8)?)?;
                column.unsigned = byte & (0x80 >> (at & 7)) != 0;
            }
        }
        2 => default_charset(
            columns.iter_mut().filter(|column| has_charset(dialect, column.kind)),
            value,
        )?,
        3 => column_charset(
            columns.iter_mut().filter(|column| has_charset(dialect, column.kind)),
            value,
        )?,
        4 => {
            for column in columns {
                column.name = Some(Arc::from(String::from_utf8_lossy(value.lenenc_bytes()?)));
            }
        }
        5 | 6 => {
            let wanted = if kind == 5 { kind::SET } else { kind::ENUM };
            for column in columns.iter_mut().filter(|column| column.kind == wanted) {
                let count = value.lenenc()?;
                let mut labels = Vec::new();
                for _ in 0..count {
                    labels.push(Box::from(value.lenenc_bytes()?));
                }
                column.labels = labels.into();
            }
        }
        10 => default_charset(columns.iter_mut().filter(|column| is_labelled(column.kind)), value)?,
        11 => column_charset(columns.iter_mut().filter(|column| is_labelled(column.kind)), value)?,
        _ => {}
    }
    Some(())
}

fn default_charset<'a>(
    columns: impl Iterator<Item = &'a mut Column>,
    mut value: Bytes<'_>,
) -> Option<()> {
    let default = u16::try_from(value.lenenc()?).ok()?;
    let mut columns: Vec<&mut Column> = columns.collect();
    for column in &mut columns {
        column.collation = default;
    }
    while !value.is_empty() {
        let (at, collation) = (usize::try_from(value.lenenc()?).ok()?, value.lenenc()?);
        columns.get_mut(at)?.collation = u16::try_from(collation).ok()?;
    }
    Some(())
}

fn column_charset<'a>(
    columns: impl Iterator<Item = &'a mut Column>,
    mut value: Bytes<'_>,
) -> Option<()> {
    for column in columns {
        column.collation = u16::try_from(value.lenenc()?).ok()?;
    }
    Some(())
}

fn is_numeric(kind: u8) -> bool {
    matches!(
        kind,
        kind::TINY
            | kind::SHORT
            | kind::INT24
            | kind::LONG
            | kind::LONGLONG
            | kind::NEWDECIMAL
            | kind::FLOAT
            | kind::DOUBLE
            | kind::YEAR
    )
}

/// Which columns the lists of character sets go through. MySQL counts VECTOR among them, MariaDB GEOMETRY.
fn has_charset(dialect: Dialect, kind: u8) -> bool {
    let odd_one = match dialect {
        Dialect::Mysql => kind::VECTOR,
        Dialect::MariaDb => kind::GEOMETRY,
    };
    kind == odd_one
        || matches!(
            kind,
            kind::STRING
                | kind::VAR_STRING
                | kind::VARCHAR
                | kind::VARCHAR_COMPRESSED
                | kind::TINY_BLOB
                | kind::MEDIUM_BLOB
                | kind::LONG_BLOB
                | kind::BLOB
                | kind::BLOB_COMPRESSED
        )
}

fn is_labelled(kind: u8) -> bool {
    matches!(kind, kind::ENUM | kind::SET)
}
