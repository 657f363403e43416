//! [`Mapping`]: from changed rows to keys, by the rules, on the auditor's own account.
//!
//! What the tailer does with a row is what is audited, so none of it is used here: neither its reader of rules files and
//! templates, nor its plans by table, nor its way past the columns that nobody names, nor what it keeps from one table map
//! to the next. A rules file is read anew, a template is filled in as it is written, a row is taken apart whole. Shared are
//! the frames of the binlog and the text form of one value (the crate `binlog`), which tests compare with real servers.
//!
//! A value rule says which value a key has. It maps rows by itself, so that a key that the rules forget is seen, too.

mod json;
mod template;

use std::sync::Arc;

use binlog::{
    assemble::Rows,
    layout::{Field, Layout, RowImages},
    table_map::TableMap,
};
use bytes::Bytes;
use regex::Regex;
use schemas::{key::Key, record::Operation};
use serde::Deserialize;

pub use self::template::{Cell, Image};
use self::template::{Names, Template};

/// All rules, and all value rules.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    rules: Vec<Rule>,
    values: Vec<Rule>,
}

/// Which key is stale, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub key: Key,
    /// The first rule that makes it; `None` if only a value rule does.
    pub rule: Option<Arc<str>>,
    /// The value rule that says what it should hold.
    pub value: Option<ValueOf>,
}

/// What to ask the database for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueOf {
    /// Which value rule, by its place.
    pub rule: usize,
    /// For each question mark of its statement.
    pub parameters: Vec<Bytes>,
}

/// A rules file or value rule that cannot be read. Whoever has checked it before never sees this.
#[derive(Debug, thiserror::Error)]
#[error("the auditor cannot read {what}: {reason}")]
pub struct MappingError {
    what: String,
    reason: String,
}

#[derive(Clone, Debug)]
struct Rule {
    name: Arc<str>,
    table: Pattern,
    keys: Vec<Template>,
    columns: Option<Vec<String>>,
    operations: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
enum Pattern {
    Name(String),
    Regex(Regex),
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    rule: Vec<RawRule>,
}

#[derive(Deserialize)]
struct RawRule {
    name: Option<String>,
    table: String,
    keys: Vec<String>,
    columns: Option<Vec<String>>,
    operations: Option<Vec<String>>,
}

/// A row, both images; one of them is empty for inserts and deletes.
#[derive(Clone, Debug, Default)]
pub struct WholeRow {
    pub before: Option<Image>,
    pub after: Option<Image>,
}

impl Mapping {
    /// Adds the rules of a file.
    pub fn add_rules(&mut self, file: &str, text: &str) -> Result<(), MappingError> {
        let raw: RawFile =
            toml::from_str(text).map_err(|err| MappingError::new(file, err.message()))?;
        for (at, raw) in raw.rule.into_iter().enumerate() {
            let name = raw.name.unwrap_or_else(|| format!("rule-{}", at.saturating_add(1)));
            let mut keys = Vec::new();
            for key in &raw.keys {
                let template = Template::read(key);
                keys.push(template.ok_or_else(|| MappingError::new(file, key))?);
            }
            let table = Pattern::read(&raw.table)?;
            let (mut columns, operations) = (raw.columns, raw.operations);
            columns.iter_mut().flatten().for_each(|name| name.make_ascii_lowercase());
            self.rules.push(Rule { name: name.into(), table, keys, columns, operations });
        }
        Ok(())
    }

    /// Adds a value rule; they are counted from 0.
    pub fn add_value(&mut self, table: &str, key: &str) -> Result<(), MappingError> {
        let template = Template::read(key).ok_or_else(|| MappingError::new("a key", key))?;
        let (keys, table) = (vec![template], Pattern::read(table)?);
        self.values.push(Rule { name: key.into(), table, keys, columns: None, operations: None });
        Ok(())
    }

    /// Every key that changed rows make stale; a key comes once per row.
    pub fn rows(&self, rows: &Rows<'_>, each: &mut dyn FnMut(Made)) {
        let (schema, table) = (&*rows.table.schema, &*rows.table.table);
        if !self.is_about(schema, table) {
            return;
        }
        read_rows(rows, &mut |row| {
            for made in self.row(schema, table, rows.operation, row) {
                each(made);
            }
        });
    }

    /// Whether some rule is about this table.
    pub fn is_about(&self, schema: &str, table: &str) -> bool {
        let full = format!("{schema}.{table}");
        self.rules.iter().chain(&self.values).any(|rule| rule.table.groups(&full).is_some())
    }

    /// Every key that one row makes stale.
    pub fn row(
        &self,
        schema: &str,
        table: &str,
        operation: Operation,
        row: &WholeRow,
    ) -> Vec<Made> {
        let mut all: Vec<Made> = Vec::new();
        for rule in &self.rules {
            rule.keys_of(schema, table, operation, row, &mut |key, _, _| {
                if !all.iter().any(|made| made.key == key) {
                    all.push(Made { key, rule: Some(Arc::clone(&rule.name)), value: None });
                }
            });
        }
        for (at, rule) in self.values.iter().enumerate() {
            rule.keys_of(schema, table, operation, row, &mut |key, template, image| {
                let parameters = template.columns().map(|column| match image.get(column) {
                    Some(Cell::Text(text)) => Bytes::copy_from_slice(text),
                    _ => Bytes::new(),
                });
                let value = Some(ValueOf { rule: at, parameters: parameters.collect() });
                match all.iter_mut().find(|made| made.key == key) {
                    Some(made) => made.value = value,
                    None => all.push(Made { key, rule: None, value }),
                }
            });
        }
        all
    }
}

impl Rule {
    fn keys_of(
        &self,
        schema: &str,
        table: &str,
        operation: Operation,
        row: &WholeRow,
        each: &mut dyn FnMut(Key, &Template, &Image),
    ) {
        let Some(groups) = self.table.groups(&format!("{schema}.{table}")) else { return };
        if !self.fires(operation, row) {
            return;
        }
        let names = Names { schema, table, groups: &groups };
        for image in [&row.before, &row.after].into_iter().flatten() {
            for template in &self.keys {
                let key = template.fill(names, image).and_then(|key| Key::new(key).ok());
                if let Some(key) = key {
                    each(key, template, image);
                }
            }
        }
    }

    fn fires(&self, operation: Operation, row: &WholeRow) -> bool {
        let name = match operation {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
        };
        if self.operations.as_ref().is_some_and(|all| !all.iter().any(|it| it == name)) {
            return false;
        }
        let (Some(columns), Some(before), Some(after)) = (&self.columns, &row.before, &row.after)
        else {
            return true;
        };
        let watched = columns.iter().map(String::as_str);
        let mut watched = watched.chain(self.keys.iter().flat_map(Template::columns));
        watched.any(|column| match (before.get(column), after.get(column)) {
            (Some(Cell::Absent) | None, _) | (_, Some(Cell::Absent) | None) => true,
            (before, after) => before != after,
        })
    }
}

impl Pattern {
    fn read(text: &str) -> Result<Pattern, MappingError> {
        let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let Some(source) = inner else { return Ok(Pattern::Name(text.to_owned())) };
        let regex = Regex::new(&format!("^(?:{source})$"));
        regex.map(Pattern::Regex).map_err(|err| MappingError::new(text, &err.to_string()))
    }

    /// What its groups found in `schema.table`; `None` if it is about another table.
    fn groups(&self, full: &str) -> Option<Vec<Option<String>>> {
        match self {
            Pattern::Name(name) => (name == full).then(Vec::new),
            Pattern::Regex(regex) => {
                let found = regex.captures(full)?;
                let text = |group: regex::Match<'_>| group.as_str().to_owned();
                Some(found.iter().skip(1).map(|group| group.map(text)).collect())
            }
        }
    }
}

/// Every row of an event, all columns by name; rows that cannot be read are no rows: the tailer takes more than keys then.
pub(crate) fn read_rows(rows: &Rows<'_>, each: &mut dyn FnMut(&WholeRow)) {
    let columns = readable(&rows.table);
    let places: Vec<usize> = columns.iter().map(|(at, _)| *at).collect();
    let Ok(layout) = Layout::compile(&rows.table, &places) else { return };
    let image = |read: &dyn Fn(usize) -> Cell| -> Image {
        let cells = columns.iter().enumerate();
        cells.map(|(at, (_, name))| (name.clone(), read(at))).collect()
    };
    let walked = layout.walk(rows, &mut |images: &RowImages<'_>| {
        let before = || image(&|at| cell(images.before(at)));
        let after = || image(&|at| cell(images.after(at)));
        each(&WholeRow {
            before: (rows.operation != Operation::Insert).then(before),
            after: (rows.operation != Operation::Delete).then(after),
        });
    });
    if let Err(err) = walked {
        tracing::debug!(table = &*rows.table.table, error = %err, "rows that cannot be read");
    }
}

fn cell(field: Field<'_>) -> Cell {
    match field {
        Field::Null => Cell::Null,
        Field::Absent => Cell::Absent,
        Field::Text(text) => Cell::Text(text.into_owned()),
    }
}

/// Columns that have a name and a text form.
fn readable(table: &TableMap) -> Vec<(usize, String)> {
    let named = table.columns.iter().enumerate();
    let named = named.filter_map(|(at, column)| Some((at, column.name.as_ref()?)));
    let readable = named.filter(|(at, _)| Layout::compile(table, &[*at]).is_ok());
    readable.map(|(at, name)| (at, name.to_ascii_lowercase())).collect()
}

impl MappingError {
    fn new(what: &str, reason: &str) -> MappingError {
        MappingError { what: what.to_owned(), reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests;
