//! Compiled row layouts: where the columns that rules need are, and how to skip the others. (Skeleton.)

use std::borrow::Cow;

use crate::{assemble::Rows, table_map::TableMap};

/// Compiled once per table map; walks rows without allocating for columns that nobody asked for.
#[derive(Clone, Debug)]
pub struct Layout {}

/// Why a layout cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A column of a type that has no text form for keys.
    #[error("column {column} has a type ({kind}) that makes no sense in a key")]
    NoTextForm { column: String, kind: String },
    /// A column type whose length is not known, so nothing behind it can be found.
    #[error("column {column} has the unknown type {kind}")]
    UnknownType { column: usize, kind: u8 },
}

/// Rows that contradict their table map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} cannot be decoded: {what}")]
pub struct RowError {
    pub row: usize,
    pub what: &'static str,
}

/// A column of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// SQL NULL.
    Null,
    /// The image does not carry the column.
    Absent,
    /// The documented text form.
    Text(Cow<'a, [u8]>),
}

impl Layout {
    /// A layout that locates `columns` (indexes into the table map) and skips all others.
    pub fn compile(_table: &TableMap, _columns: &[usize]) -> Result<Layout, LayoutError> {
        todo!()
    }
    /// Calls `each` for every row of the event.
    pub fn walk(&self, _rows: &Rows<'_>, _each: &mut dyn FnMut(&RowImages<'_>)) -> Result<(), RowError> {
        todo!()
    }
}

/// One changed row, seen through a layout.
#[derive(Clone, Debug)]
pub struct RowImages<'a> {
    _private: &'a (),
}

impl RowImages<'_> {
    /// Column `at` (index into the `columns` of [`Layout::compile`]) before the change; `Absent` for inserts.
    pub fn before(&self, _at: usize) -> Field<'_> {
        todo!()
    }
    /// Likewise after the change; `Absent` for deletes.
    pub fn after(&self, _at: usize) -> Field<'_> {
        todo!()
    }
    /// Whether an update changed the column: compares bytes, decodes nothing; true when it cannot be known.
    pub fn changed(&self, _at: usize) -> bool {
        todo!()
    }
}
