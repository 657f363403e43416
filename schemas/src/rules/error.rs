//! Why a rules file, or one template in it, was refused.

use std::sync::Arc;

use super::limits::{KEY_TEMPLATE_BYTES_MAX, TEMPLATE_PLACES_MAX};
use crate::key::KEY_BYTES_MAX;

/// Why a rules file was refused. `Display` names the file, the line and the key or column; all of
/// them mean the same to a caller: do not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct RulesError {
    file: Arc<str>,
    line: usize,
    what: String,
}

impl RulesError {
    pub(super) fn new(file: &Arc<str>, line: usize, what: String) -> RulesError {
        RulesError { file: Arc::clone(file), line, what }
    }

    /// Line of the file, from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

/// What is wrong with a template. Columns count characters of the template, from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("it is empty")]
    Empty,
    #[error("it has {bytes} bytes, more than {KEY_TEMPLATE_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("it names more than {TEMPLATE_PLACES_MAX} columns")]
    TooManyPlaces,
    #[error("its fixed text alone is longer than the {KEY_BYTES_MAX} bytes of a key")]
    TextTooLong,
    #[error("the {what} at column {column} cannot be part of a key")]
    BadText { column: usize, what: &'static str },
    #[error("the brace at column {column} is never closed")]
    Unclosed { column: usize },
    #[error("the brace at column {column} closes nothing; write `}}}}` for a brace in the key")]
    StrayClose { column: usize },
    #[error("the braces at column {column} name no column; write `{{{{` for a brace in the key")]
    EmptyPlace { column: usize },
    #[error(
        "the backslash at column {column} must stand before one of `{{ }} | : @ \\` or a space"
    )]
    BadEscape { column: usize },
    #[error("the filter at column {column} has no name")]
    EmptyFilter { column: usize },
    #[error("the filter `{name}` at column {column} does not exist; there are: {known}")]
    UnknownFilter { column: usize, name: String, known: &'static str },
    #[error("the filter `{name}` at column {column} takes no argument")]
    NoArgument { column: usize, name: String },
    #[error("the filter `default` at column {column} needs a text: `default:TEXT`")]
    DefaultArgument { column: usize },
    #[error("the filter `match` at column {column} needs a regex between slashes: `match:/REGEX/`")]
    MatchArgument { column: usize },
    #[error("the filter `json` at column {column} needs a path: `json:$.owner.ids[0]`")]
    JsonArgument { column: usize },
    #[error("the regex at column {column} is not valid: {reason}")]
    Regex { column: usize, reason: String },
    #[error(
        "`@{name}` at column {column} does not exist; there are: @schema, @table, and @1, @2, .. for the groups of a table regex"
    )]
    UnknownMeta { column: usize, name: String },
    #[error("`@{number}` at column {column}: the table pattern has {groups} groups")]
    NoSuchGroup { column: usize, number: usize, groups: usize },
}
