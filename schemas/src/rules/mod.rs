//! Key rules: which cache keys a changed row makes stale.
//!
//! A rules file is TOML:
//!
//! ```toml
//! [[rule]]
//! name = "users"                             # in metrics and messages; `rule-N` (from 1) if left out
//! table = "shop.users"                       # or a regex: '/shop_(\d+)\.users/'
//! keys = ["user:{id}", "user-by-email:{email|lower}"]
//! columns = ["name", "email"]                # optional: updates fire only if one of these changed
//! operations = ["insert", "update"]          # optional: all three if left out
//! ```
//!
//! **Tables.** `schema.table` is compared letter by letter with the names in the binlog. Between slashes
//! stands a regex (syntax of the `regex` crate) that must match all of `schema.table`; names with a dot
//! in them need one. Several rules may be about one table.
//!
//! **When a rule fires.** An insert maps the row's after image, a delete its before image, an update both,
//! and if both give the same key it comes once. With `columns`, an update fires only if it changed one of
//! these columns *or a column that the rule's keys name*: otherwise a row that moves from one key to another
//! would leave its old key behind. Inserts and deletes fire always.
//!
//! **Templates.**
//!
//! ```text
//! template  = 1*( character / "{{" / "}}" / place )     ; `{{` and `}}` stand for one brace
//! place     = "{" source *( "|" filter ) "}"
//! source    = column / "@schema" / "@table" / "@" number
//! filter    = name / "default:" text / "match:/" regex "/" / "json:" text
//! character = any but { } space CR LF NUL
//! column, text = any characters; { } | : @ \ and the blanks around a name stand behind a backslash
//! regex     = any characters; only a slash stands behind a backslash
//! ```
//!
//! Blanks around a column's or filter's name do not count. A `:` needs its backslash only in a filter's
//! name and an `@` only at the start of a column's name, but both may have it anywhere. Columns are
//! compared without regard to ASCII case. `{@schema}` and
//! `{@table}` are the names of the row's table; `{@1}` is the first group of the rule's table regex (NULL
//! if the group took no part). A template without any place is a key that every change of the table
//! makes stale: `products:all`.
//!
//! **Filters** work from left to right on the column's text form:
//!
//! | filter | gives |
//! |---|---|
//! | `lower`, `upper` | Unicode's full mappings (as Python's `lower` and `upper`); of text that is not UTF-8, ASCII letters only |
//! | `sha1`, `md5`, `xxh64` | the digest in lower-case hex: 40, 32, 16 digits (xxh64 with seed 0, most significant digit first) |
//! | `hex` | the bytes in lower-case hex |
//! | `base64` | the bytes in the standard alphabet, padded |
//! | `default:TEXT` | TEXT in place of NULL; an empty text is not NULL |
//! | `match:/REGEX/` | the first group of the first match, or the whole match if there is no group; NULL if nothing matches or the group took no part |
//! | `json:PATH` | what PATH, such as `$.owner.ids[0]`, leads to in JSON: the characters of a string, everything else as it is written; NULL for `null`, and where the path leads nowhere |
//!
//! **What becomes of a row** is one [`Outcome`] for each template and image:
//!
//! - [`Outcome::Key`]: a key to invalidate.
//! - [`Outcome::Null`]: one of the columns is NULL and has no `default`. A client has nothing to put there
//!   either, so there is no such key. NULL passes through all filters but `default`.
//! - [`Outcome::Unusable`]: the text is empty, longer than 250 bytes, or holds a space, a line end or a NUL.
//!   memcached refuses such a key, so no client has stored anything under it. It is never sent, never cut
//!   to fit, and never escaped: it is counted and logged. (A client that hashes such keys needs a template
//!   that does the same.)
//! - [`Outcome::Unknown`]: the image lacks a column. Some key became stale, and nobody knows which.
//!
//! **Limits** are in [`limits`]. A file that breaks one, or that has an unknown key, is refused as a whole;
//! the message names file, line and rule.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod digest;
mod error;
mod file;
mod filter;
mod json;
pub mod limits;
mod origin;
mod plan;
mod schema;
mod table;
mod template;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

pub use self::{error::RulesError, origin::KeyOrigin, plan::TablePlan};
use self::{table::TablePattern, template::Template};
use crate::{
    key::{KeyError, KeyRef},
    record::Operation,
};

/// A valid set of rules; there is at least one.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// Parses a rules file; `file` is only for messages.
    pub fn parse(file: &str, text: &str) -> Result<Rules, RulesError> {
        file::parse(file, text)
    }

    /// The JSON Schema of rules files, for editors.
    pub fn json_schema() -> schemars::Schema {
        file::json_schema()
    }

    /// What the rules need of one table; `None` if no rule is about it. Compile once per table map.
    pub fn for_table(&self, schema: &str, table: &str) -> Option<TablePlan> {
        let about = self.iter().filter(|rule| rule.matches(schema, table));
        TablePlan::new(schema, table, about)
    }

    /// These rules and `more`, side by side: keys of both are invalidated, while clients move from one to the other. A
    /// rule that both have counts once; one of `more` that only has the name of another is told apart by its file.
    pub fn beside(mut self, more: Rules) -> Result<Rules, RulesError> {
        for mut rule in more.rules {
            let same = |known: &&Rule| known.name == rule.name;
            if self.iter().any(|known| known.canonical() == rule.canonical()) {
                continue;
            }
            if self.iter().find(same).is_some() {
                rule.name = Arc::from(format!("{} ({})", rule.name, rule.file));
            }
            self.rules.push(rule);
        }
        if let Some(rule) = self.rules.get(limits::RULES_MAX) {
            let what = format!("more than {} rules, in all files", limits::RULES_MAX);
            return Err(RulesError::new(&rule.file, rule.line, what));
        }
        Ok(self)
    }

    /// All rules, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }
}

/// One `[[rule]]`.
#[derive(Clone, Debug)]
pub struct Rule {
    file: Arc<str>,
    /// Where it begins.
    line: usize,
    name: Arc<str>,
    table: TablePattern,
    keys: Vec<RuleKey>,
    /// With their lines.
    columns: Option<Vec<(usize, String)>>,
    operations: Operations,
}

/// One entry of `keys`.
#[derive(Clone, Debug)]
struct RuleKey {
    line: usize,
    /// As written.
    text: Arc<str>,
    template: Arc<Template>,
}

/// On which changes a rule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operations {
    insert: bool,
    update: bool,
    delete: bool,
}

impl Rule {
    /// `name` of the file, or `rule-N` (from 1).
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The `table` pattern as written.
    pub fn table(&self) -> &str {
        &self.table.text
    }

    /// Whether the rule is about this table.
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.table.matches(schema, table)
    }

    /// Every column that the rule names, each once: in keys and in the `columns` filter.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let in_keys = self.keys.iter().flat_map(|key| key.template.columns());
        let own = self.columns.iter().flatten().map(|(_, name)| name.as_str());
        let mut seen = std::collections::HashSet::new();
        in_keys.chain(own).filter(move |name| seen.insert(name.to_ascii_lowercase()))
    }

    /// Whether a key needs the whole text of this column, not only what a `json:` path leads to.
    pub fn needs_text_of(&self, column: &str) -> bool {
        self.keys.iter().any(|key| key.template.needs_text_of(column))
    }

    /// For each key template, the literal text before its first place: what a floor can be scoped to.
    /// It is empty where a template begins with a place.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.template.prefix())
    }
}

impl Operations {
    const ALL: Operations = Operations { insert: true, update: true, delete: true };
    const NONE: Operations = Operations { insert: false, update: false, delete: false };

    fn contains(self, operation: Operation) -> bool {
        match operation {
            Operation::Insert => self.insert,
            Operation::Update => self.update,
            Operation::Delete => self.delete,
        }
    }

    fn insert(&mut self, operation: Operation) {
        match operation {
            Operation::Insert => self.insert = true,
            Operation::Update => self.update = true,
            Operation::Delete => self.delete = true,
        }
    }
}

/// A row change, seen through the columns of a [`TablePlan`].
pub trait Row {
    /// The value of column `column` in `image`; an image that the operation lacks is never asked for.
    fn value(&self, image: Image, column: usize) -> Value<'_>;
    /// The same; a text goes to `out`, piece by piece.
    fn write(&self, image: Image, column: usize, out: &mut impl FnMut(&[u8])) -> Written {
        match self.value(image, column) {
            Value::Null => Written::Null,
            Value::Absent => Written::Absent,
            Value::Text(text) => {
                out(&text);
                Written::Text
            }
        }
    }
    /// Whether an update changed column `column`; true also when that cannot be told. Only asked of
    /// updates.
    fn changed(&self, column: usize) -> bool;
}

/// A [`Value`] whose text was written somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// SQL NULL: nothing.
    Null,
    /// The documented text form, whole.
    Text,
    /// Nothing, or the beginning of something that is none: the image does not carry the column.
    Absent,
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

/// What one key template made of one image. It is lent: most keys are looked at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A key to invalidate.
    Key { rule: &'a Arc<str>, key: KeyRef<'a> },
    /// A column was NULL and had no default: no client can have built this key.
    Null { rule: &'a Arc<str> },
    /// No client can have stored this key; counted and logged. `shown` is escaped, and cut.
    Unusable { rule: &'a Arc<str>, shown: String, error: KeyError },
    /// The key cannot be known: the image lacks a column. The caller raises a floor.
    Unknown { rule: &'a Arc<str>, column: &'a str },
}
