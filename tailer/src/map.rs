//! [`Mapper`]: changed rows and statements in, keys and floors out. Pure.
//!
//! Whatever stands in the way of a key becomes a floor over the keys of the table's rules: a column that the table map
//! does not have, a type without text form, an image without the column, a row that contradicts its table map.

use std::{collections::HashMap, sync::Arc};

use binlog::{
    assemble::{Rows, Statement, Undecodable},
    layout::{Field, Layout, RowImages},
    table_map::TableMap,
};
use schemas::{
    cure::Cure,
    key::KeyError,
    record::{Operation, Scope},
    rules::{Image, Outcome, Row, Rules, TablePlan, Value, Written},
};

use crate::{
    cascades::{Cascade, Cascades, Effects},
    disguises::{Disguised, Disguises},
    scope,
    settings::StatementKeys,
    stale::StaleKey,
    statement::{self, keys},
};

/// Tables whose plans are kept; beyond that all are compiled anew.
const TABLES_MAX: usize = 4096;

/// The rules, and what was compiled of them for the tables seen so far.
#[derive(Debug)]
pub struct Mapper {
    rules: Arc<Rules>,
    cascades: Cascades,
    /// `None`: the server has no such types.
    disguises: Option<Disguises>,
    statement_keys: StatementKeys,
    /// Of keys that statements name: in place of a rule and a table.
    statement: Arc<str>,
    tables: HashMap<u64, Table>,
}

/// What changes of one table become. `map` says for which table map that holds: numbers are used again.
#[derive(Debug)]
struct Table {
    map: Arc<TableMap>,
    plan: Plan,
    /// What its changes do to other tables, unseen.
    effects: Option<Effects>,
}

#[derive(Debug)]
enum Plan {
    /// No rule is about it.
    Unmapped,
    /// Keys can be made.
    Keys(Box<Keys>),
    /// Keys cannot be made.
    Floor { scope: Scope, reason: String },
}

#[derive(Debug)]
struct Keys {
    plan: TablePlan,
    layout: Layout,
    scope: Scope,
}

/// What a change means.
#[derive(Debug, PartialEq, Eq)]
pub enum Mapped<'a> {
    /// A key is stale; `scope` covers all keys of its table.
    Key { key: StaleKey<'a>, scope: &'a Scope },
    /// A column was NULL: there is no such key.
    Null { rule: &'a Arc<str> },
    /// No client can have stored such a key.
    Unusable { rule: &'a Arc<str>, shown: &'a str, error: KeyError },
    /// Keys are stale that cannot be listed.
    Floor { scope: &'a Scope, cause: Cause, reason: &'a str },
}

/// Why a floor was raised; the label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// DDL, or rows changed by a statement that was logged as text.
    Statement,
    /// The table map does not say what the rules need.
    Table,
    /// The row image lacks a column.
    Image,
    /// Rows that contradict their table map.
    Row,
    /// An event that cannot be read.
    Event,
    /// More keys than `transaction_keys_max`.
    Size,
    /// Binlogs were gone before they were read.
    Gap,
    /// A foreign key changed rows, and the binlog does not say which.
    Cascade,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 8] = [
        Cause::Statement,
        Cause::Table,
        Cause::Image,
        Cause::Row,
        Cause::Event,
        Cause::Size,
        Cause::Gap,
        Cause::Cascade,
    ];

    /// What makes it a floor.
    pub(crate) fn cure(self) -> Cure {
        match self {
            Cause::Statement | Cause::Cascade => Cure::StatementRaisesFloor,
            Cause::Table | Cause::Image | Cause::Row => Cure::UnreadableRowsRaiseFloor,
            Cause::Event => Cure::UndecodableRaisesFloor,
            Cause::Size => Cure::UnlistedKeysRaiseFloor,
            Cause::Gap => Cure::PurgeRaisesFloor,
        }
    }

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Statement => "statement",
            Cause::Table => "table",
            Cause::Image => "image",
            Cause::Row => "row",
            Cause::Event => "event",
            Cause::Size => "size",
            Cause::Gap => "gap",
            Cause::Cascade => "cascade",
        }
    }
}

impl Mapper {
    /// Compiles nothing yet.
    pub fn new(rules: Arc<Rules>) -> Mapper {
        Mapper {
            rules,
            cascades: Cascades::default(),
            disguises: None,
            statement_keys: StatementKeys::Ignored,
            statement: Arc::from("statement"),
            tables: HashMap::new(),
        }
    }

    /// Takes keys from the comments of statements, or does not.
    pub fn take_statement_keys(&mut self, statement_keys: StatementKeys) {
        self.statement_keys = statement_keys;
    }

    /// Takes columns for what they are.
    pub fn undisguise(&mut self, disguised: Vec<Disguised>) {
        self.disguises = Some(Disguises::new(disguised));
    }

    /// Whether columns may be something else after `statement`.
    pub(crate) fn may_disguise(&self, statement: &str) -> bool {
        self.disguises.as_ref().is_some_and(|disguises| disguises.may_change(statement))
    }

    /// Hands out the keys that a statement names in its comments.
    pub fn said(&self, statement: &[u8], each: &mut dyn FnMut(Mapped<'_>)) {
        if self.statement_keys == StatementKeys::Ignored {
            return;
        }
        let rule = &self.statement;
        let named = keys::named(statement);
        for key in named.keys {
            // Should the transaction have too many keys: this one, and those that go on as it does.
            let text: Arc<str> = String::from_utf8_lossy(key.as_bytes()).into();
            let whole = text.as_bytes() == key.as_bytes();
            let scope = if whole { Scope::Prefixes(vec![text]) } else { Scope::All };
            let (key, operation) = (key.as_key_ref(), Operation::Update);
            each(Mapped::Key {
                key: StaleKey { key, table: rule, rule, operation },
                scope: &scope,
            });
        }
        for (shown, error) in named.unusable {
            each(Mapped::Unusable { rule, shown: &shown, error });
        }
        if named.cut {
            let reason = format!("a statement names more than {} keys", keys::KEYS_MAX);
            each(Mapped::Floor { scope: &Scope::All, cause: Cause::Statement, reason: &reason });
        }
    }

    /// With foreign keys that change rows unseen.
    pub fn with_cascades(rules: Arc<Rules>, cascades: Vec<Cascade>) -> Mapper {
        Mapper { cascades: Cascades::new(cascades), ..Mapper::new(rules) }
    }

    /// Hands out what changed rows mean; returns how many there were in mapped tables.
    pub fn rows(&mut self, rows: &Rows<'_>, each: &mut dyn FnMut(Mapped<'_>)) -> u64 {
        let table = self.table(&rows.table);
        if let Some(effects) = &table.effects {
            effects.rows(rows, &mut |scope| {
                let (schema, name) = (&table.map.schema, &table.map.table);
                let reason =
                    format!("foreign keys to {schema}.{name} may have changed rows unseen");
                each(Mapped::Floor { scope, cause: Cause::Cascade, reason: &reason });
            });
        }
        match &table.plan {
            Plan::Unmapped => 0,
            Plan::Floor { scope, reason } => {
                each(Mapped::Floor { scope, cause: Cause::Table, reason });
                0
            }
            Plan::Keys(keys) => keys.rows(rows, each),
        }
    }

    /// Hands out a floor if the statement may have changed mapped tables.
    pub fn statement(&self, statement: &Statement<'_>, each: &mut dyn FnMut(Mapped<'_>)) {
        self.said(statement.text.as_bytes(), each);
        if let Some(scope) = statement::scope_of(&self.rules, &statement.schema, &statement.text) {
            let reason = format!("statement: {}", shortened(&statement.text));
            each(Mapped::Floor { scope: &scope, cause: Cause::Statement, reason: &reason });
        }
    }

    /// Hands out a floor unless the event is known to be about an unmapped table.
    pub fn undecodable(&self, event: &Undecodable, each: &mut dyn FnMut(Mapped<'_>)) {
        let scope = match &event.table {
            Some((schema, table)) => {
                scope::of_rules(self.rules.iter().filter(|rule| rule.matches(schema, table)))
            }
            None => Some(Scope::All),
        };
        if let Some(scope) = scope {
            let reason = format!("event of type {} cannot be read: {}", event.kind, event.reason);
            each(Mapped::Floor { scope: &scope, cause: Cause::Event, reason: &reason });
        }
    }

    /// Every transaction sends its table maps again, so an equal one finds what was compiled.
    fn table(&mut self, map: &Arc<TableMap>) -> &Table {
        let known = self.tables.get(&map.table_id).is_some_and(|table| {
            let same = Arc::ptr_eq(&table.map, map) || table.map == *map;
            same || !Cure::MapsWithOwnTableMap.works()
        });
        if !known {
            if self.tables.len() >= TABLES_MAX {
                self.tables.clear();
            }
            let known = self.disguises.as_ref().and_then(|disguises| disguises.applied(map));
            let plan = compile(&self.rules, known.as_ref().unwrap_or(map));
            let effects = self.cascades.of(&self.rules, map);
            self.tables.insert(map.table_id, Table { map: Arc::clone(map), plan, effects });
        }
        self.tables.get(&map.table_id).expect("known, or just inserted")
    }
}

impl Keys {
    fn rows(&self, rows: &Rows<'_>, each: &mut dyn FnMut(Mapped<'_>)) -> u64 {
        let mut count = 0_u64;
        let walked = self.layout.walk(rows, &mut |images| {
            count = count.saturating_add(1);
            self.plan.apply(rows.operation, &Seen { images }, &mut |outcome| match outcome {
                Outcome::Key { rule, key } => {
                    let (table, operation) = (self.plan.table(), rows.operation);
                    let key = StaleKey { key, table, rule, operation };
                    each(Mapped::Key { key, scope: &self.scope });
                }
                Outcome::Null { rule } => each(Mapped::Null { rule }),
                Outcome::Unusable { rule, shown, error } => {
                    each(Mapped::Unusable { rule, shown: &shown, error });
                }
                Outcome::Unknown { rule, column } => {
                    let reason = format!(
                        "rule {rule}: a row image of {} lacks column {column}; is binlog_row_image FULL?",
                        self.plan.table()
                    );
                    each(Mapped::Floor { scope: &self.scope, cause: Cause::Image, reason: &reason });
                }
            });
        });
        if let Err(err) = walked {
            let reason = format!("{}: {err}", self.plan.table());
            each(Mapped::Floor { scope: &self.scope, cause: Cause::Row, reason: &reason });
        }
        count
    }
}

fn compile(rules: &Rules, map: &TableMap) -> Plan {
    let Some(plan) = rules.for_table(&map.schema, &map.table) else { return Plan::Unmapped };
    let about = rules.iter().filter(|rule| rule.matches(&map.schema, &map.table));
    let scope = scope::of_rules(about).unwrap_or(Scope::All);
    match layout(&plan, map) {
        Ok(layout) => Plan::Keys(Box::new(Keys { plan, layout, scope })),
        Err(reason) => Plan::Floor { scope, reason: format!("{}: {reason}", plan.table()) },
    }
}

fn layout(plan: &TablePlan, map: &TableMap) -> Result<Layout, String> {
    let mut columns = Vec::with_capacity(plan.columns().len());
    for name in plan.columns() {
        let Some(at) = map.column(name) else {
            let unnamed = map.columns.iter().any(|column| column.name.is_none());
            return Err(if unnamed {
                "the event does not name its columns; set binlog_row_metadata to FULL".to_owned()
            } else {
                format!("there is no column {name}")
            });
        };
        columns.push(at);
    }
    Layout::compile(map, &columns).map_err(|err| err.to_string())
}

/// A row as rules see it.
struct Seen<'a> {
    images: &'a RowImages<'a>,
}

impl Row for Seen<'_> {
    fn value(&self, image: Image, column: usize) -> Value<'_> {
        let field = match image {
            Image::Before => self.images.before(column),
            Image::After => self.images.after(column),
        };
        match field {
            Field::Null => Value::Null,
            Field::Text(text) => Value::Text(text),
            Field::Absent => Value::Absent,
        }
    }

    fn write(&self, image: Image, column: usize, out: &mut impl FnMut(&[u8])) -> Written {
        match image {
            Image::Before => self.images.write_before(column, out),
            Image::After => self.images.write_after(column, out),
        }
    }

    fn changed(&self, column: usize) -> bool {
        self.images.changed(column)
    }
}

/// Enough of a statement for people; the rest may be megabytes, or secret.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut short: String = text
        .chars()
        .take(CHARS_MAX)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push_str("...");
    }
    short
}
