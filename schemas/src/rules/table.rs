//! Which tables a rule is about.

use regex::{Captures, Regex, RegexBuilder};

use super::filter::{REGEX_BYTES_MAX, REGEX_NESTING_MAX, regex_reason};
use super::limits::TABLE_BYTES_MAX;

/// The `table` of a rule. Names are compared letter by letter, as the binlog has them.
#[derive(Clone, Debug)]
pub(super) struct TablePattern {
    /// As written.
    pub(super) text: String,
    pub(super) kind: TableKind,
}

#[derive(Clone, Debug)]
pub(super) enum TableKind {
    /// `schema.table`
    Exact { schema: String, table: String },
    /// `/regex/`, which must match all of `schema.table`.
    Regex(Regex),
}

/// What is wrong with a `table`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TableError {
    #[error("is empty")]
    Empty,
    #[error("has {bytes} bytes, more than {TABLE_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("{text:?} must be `schema.table`, or a regex between slashes: '/shop_\\d+\\.users/'")]
    Form { text: String },
    #[error("{text:?}: leave out the backticks")]
    Quoted { text: String },
    #[error("{text:?}: the regex has no closing slash")]
    Unclosed { text: String },
    #[error("{text:?}: the regex is not valid: {reason}")]
    Regex { text: String, reason: String },
}

impl TablePattern {
    pub(super) fn parse(text: &str) -> Result<TablePattern, TableError> {
        if text.is_empty() {
            return Err(TableError::Empty);
        }
        if text.len() > TABLE_BYTES_MAX {
            return Err(TableError::TooLong { bytes: text.len() });
        }
        let owned = text.to_owned();
        let kind = if let Some(rest) = text.strip_prefix('/') {
            let source = rest.strip_suffix('/').filter(|source| !source.is_empty());
            let source = source.ok_or_else(|| TableError::Unclosed { text: owned.clone() })?;
            let regex = compile(source)
                .map_err(|reason| TableError::Regex { text: owned.clone(), reason })?;
            TableKind::Regex(regex)
        } else if text.contains('`') {
            return Err(TableError::Quoted { text: owned });
        } else {
            match text.split_once('.') {
                Some((schema, table))
                    if !schema.is_empty() && !table.is_empty() && !table.contains('.') =>
                {
                    TableKind::Exact { schema: schema.to_owned(), table: table.to_owned() }
                }
                _ => return Err(TableError::Form { text: owned }),
            }
        };
        Ok(TablePattern { text: text.to_owned(), kind })
    }

    pub(super) fn matches(&self, schema: &str, table: &str) -> bool {
        match &self.kind {
            TableKind::Exact { schema: own_schema, table: own_table } => {
                own_schema == schema && own_table == table
            }
            TableKind::Regex(regex) => regex.is_match(&format!("{schema}.{table}")),
        }
    }

    /// Groups that templates may name.
    pub(super) fn groups(&self) -> usize {
        match &self.kind {
            TableKind::Exact { .. } => 0,
            TableKind::Regex(regex) => regex.captures_len().saturating_sub(1),
        }
    }

    /// The texts of the groups in `full_name`, which is `schema.table`.
    pub(super) fn captures<'a>(&self, full_name: &'a str) -> Option<Captures<'a>> {
        match &self.kind {
            TableKind::Exact { .. } => None,
            TableKind::Regex(regex) => regex.captures(full_name),
        }
    }
}

/// Anchored at both ends; the group around it has no number, so that the user's keep theirs.
fn compile(source: &str) -> Result<Regex, String> {
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .nest_limit(REGEX_NESTING_MAX)
            .build()
            .map_err(|error| regex_reason(&error))
    };
    build(source)?; // Alone first: `a)(b` would be valid inside of the group.
    build(&format!("\\A(?:{source})\\z"))
}
