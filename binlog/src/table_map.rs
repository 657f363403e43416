//! TABLE_MAP events: a table's columns as they were when the rows were written. (Skeleton.)

use std::sync::Arc;

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

/// One column. Name, signedness, character set and labels come with `binlog_row_metadata=FULL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// `None` unless the metadata is FULL.
    pub name: Option<Arc<str>>,
    // type, metadata, nullable, unsigned, collation, labels, ...: the binlog helper's to define.
}

impl TableMap {
    /// Index of the column with this name (ASCII case is ignored, as the server does).
    pub fn column(&self, _name: &str) -> Option<usize> {
        todo!()
    }
}
