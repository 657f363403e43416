//! Key rules: which cache keys a changed row makes stale. (Skeleton.)

use std::{borrow::Cow, sync::Arc};

use crate::{
    key::{Key, KeyError},
    record::Operation,
};

/// A valid set of rules.
#[derive(Clone, Debug)]
pub struct Rules {}

/// Why a rules file was refused; `Display` names the file, the line and the key.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RulesError {
    message: String,
}

impl Rules {
    /// Parses a rules file; `file` is only for messages.
    pub fn parse(_file: &str, _text: &str) -> Result<Rules, RulesError> {
        todo!()
    }
    /// What the rules need of one table; `None` if no rule is about it. Compile once per table map.
    pub fn for_table(&self, _schema: &str, _table: &str) -> Option<TablePlan> {
        todo!()
    }
    /// All rules, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        [].iter()
    }
    /// A digest of the file's meaning, to tell versions of rules apart.
    pub fn digest(&self) -> u64 {
        todo!()
    }
}

/// One `[[rule]]`.
#[derive(Clone, Debug)]
pub struct Rule {}

impl Rule {
    /// `name` of the file, or `rule-N` (from 1).
    pub fn name(&self) -> &Arc<str> {
        todo!()
    }
    /// The `table` pattern as written.
    pub fn table(&self) -> &str {
        todo!()
    }
    /// Whether the rule is about this table.
    pub fn matches(&self, _schema: &str, _table: &str) -> bool {
        todo!()
    }
    /// Every column that the rule names, each once: in keys and in the `columns` filter.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        [].iter().copied()
    }
    /// For each key template, the literal text before its first column: what a floor can be
    /// scoped to, and what `explain --key` matches.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        [].iter().copied()
    }
    /// Whether one of the rule's templates could have made `key`.
    pub fn could_make(&self, _key: &Key) -> bool {
        todo!()
    }
}

/// The rules of one table, with columns as indexes.
#[derive(Clone, Debug)]
pub struct TablePlan {}

impl TablePlan {
    /// `schema.table`.
    pub fn table(&self) -> &Arc<str> {
        todo!()
    }
    /// The columns that [`Row`] is asked for, by index.
    pub fn columns(&self) -> &[Arc<str>] {
        todo!()
    }
    /// Every outcome of a row change, into `sink`; a key may come more than once.
    pub fn apply(&self, _operation: Operation, _row: &impl Row, _sink: &mut impl FnMut(Outcome)) {
        todo!()
    }
}

/// A row change, seen through the columns of a [`TablePlan`].
pub trait Row {
    /// The value of column `column` in `image`; an image that the operation lacks is never asked for.
    fn value(&self, image: Image, column: usize) -> Value<'_>;
    /// Whether an update changed column `column`. Only asked of updates.
    fn changed(&self, column: usize) -> bool;
}

/// One of the two images of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// The row as it was.
    Before,
    /// The row as it is.
    After,
}

/// A column's value as keys see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// The documented text form.
    Text(Cow<'a, [u8]>),
    /// The image does not carry the column (row image MINIMAL or NOBLOB).
    Absent,
}

/// What one key template made of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A key to invalidate.
    Key { rule: Arc<str>, key: Key },
    /// A column was NULL and had no default: no client can have built this key.
    Null { rule: Arc<str> },
    /// No client can have stored this key; counted and logged.
    Unusable { rule: Arc<str>, shown: String, error: KeyError },
    /// The key cannot be known: the image lacks a column. The caller raises a floor.
    Unknown { rule: Arc<str>, column: Arc<str> },
}
