//! The rules against the tables that exist.

use binlog::table_map::Disguise;
use schemas::{config::Danger, gtid::Dialect, rules::Rules};

use super::{Column, Judge, Key, Severity, Table, Values, grants};
use crate::{
    cascades::Cascade,
    disguises::{self, Disguised},
    settings::Settings,
};

/// Cascading foreign keys that are reported.
const CASCADES_SHOWN_MAX: usize = 20;

/// `data_type`s that have no text form for keys.
const NO_KEY_TYPES: [&str; 10] = [
    "vector",
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
    "geomcollection",
];

pub(super) fn judge(judge: &mut Judge<'_>, settings: &Settings, rules: &Rules) {
    missing_tables(judge, settings, rules);
    let tables = &judge.answers.tables;
    for table in tables {
        columns(judge, rules, table);
        storage(judge, table);
    }
    let is_mapped = |cascade: &&Cascade| {
        let (schema, name) = &cascade.child;
        rules.iter().any(|rule| rule.matches(schema, name))
    };
    let cascades: Vec<&Cascade> =
        judge.answers.cascades.iter().flatten().filter(is_mapped).collect();
    for Cascade { name, child, parent, .. } in cascades.into_iter().take(CASCADES_SHOWN_MAX) {
        let what = format!(
            "foreign key {name} of {}.{} changes rows that the binlog does not name: each change of {}.{} that it \
             follows is a floor",
            child.0, child.1, parent.0, parent.1
        );
        let fix = vec!["# change such rows by statements of their own".to_owned()];
        judge.find(Severity::Warn, what, fix);
    }
}

/// Whether what is in the table is also in the binlog, and how soon on replicas.
fn storage(judge: &mut Judge<'_>, table: &Table) {
    let Table { schema, name, engine, columns } = table;
    if !["InnoDB", "ROCKSDB", ""].contains(&engine.as_str()) {
        let what = format!(
            "{schema}.{name} is of engine {engine}: after a crash, its changes can be there and not in the binlog"
        );
        let fix = vec![format!("ALTER TABLE `{schema}`.`{name}` ENGINE = InnoDB;")];
        judge.find_danger(Danger::StorageEngine, what, fix);
    }
    if columns.iter().all(|column| column.key != Key::Primary) {
        let what = format!(
            "{schema}.{name} has no primary key: replicas scan it for each changed row and fall behind, and what is read \
             there is not cached meanwhile"
        );
        let fix = vec![format!("# ALTER TABLE `{schema}`.`{name}` ADD PRIMARY KEY (...);")];
        judge.find(Severity::Warn, what, fix);
    }
}

/// Those that a binlog does not tell from BINARY.
pub(super) fn disguised(tables: &[Table]) -> Vec<Disguised> {
    let of = |table: &Table, column: &Column| {
        let is = disguises::of_type(&column.kind.to_ascii_lowercase());
        let (table, column) = ((table.schema.clone(), table.name.clone()), column.name.clone());
        (is != Disguise::None).then_some(Disguised { table, column, is })
    };
    let all =
        tables.iter().flat_map(|table| table.columns.iter().map(move |column| (table, column)));
    all.filter_map(|(table, column)| of(table, column)).collect()
}

fn missing_tables(judge: &mut Judge<'_>, settings: &Settings, rules: &Rules) {
    let exists = |schema: &str, name: &str| {
        judge.answers.tables.iter().any(|table| table.schema == schema && table.name == name)
    };
    let missing: Vec<(&str, &str)> =
        rules.exact_tables().filter(|(schema, name)| !exists(schema, name)).collect();
    for (schema, name) in missing {
        for error in rules.missing_table(schema, name) {
            // A table that the account may not see looks the same.
            let fix = vec![format!("# if it exists: {}", grants::select(schema, &settings.user))];
            judge.find(Severity::Refuse, error.to_string(), fix);
        }
    }
    for rule in rules.iter().filter(|rule| rule.table().starts_with('/')) {
        let found =
            judge.answers.tables.iter().any(|table| rule.matches(&table.schema, &table.name));
        if !found {
            let what = format!(
                "rule {:?}: no table matches {} (that the account may see)",
                rule.name(),
                rule.table()
            );
            judge.find(Severity::Warn, what, vec![]);
        }
    }
}

fn columns(judge: &mut Judge<'_>, rules: &Rules, table: &Table) {
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    for error in rules.check_columns(&table.schema, &table.name, &names) {
        judge.find(Severity::Refuse, error.to_string(), vec![]);
    }
    for rule in rules.iter().filter(|rule| rule.matches(&table.schema, &table.name)) {
        for named in rule.columns() {
            let is_named = |column: &&Column| column.name.eq_ignore_ascii_case(named);
            let Some(column) = table.columns.iter().find(is_named) else { continue };
            if column.kind == "json" && !rule.needs_text_of(named) {
                continue; // Of its text, only what a path leads to.
            }
            let Some((why, fix)) = unfit(judge.dialect, column) else { continue };
            let what = format!(
                "rule {:?}: column {} of {}.{} {why}",
                rule.name(),
                column.name,
                table.schema,
                table.name
            );
            judge.find(Severity::Refuse, what, fix);
        }
    }
}

/// Why a column cannot be in a key, and what to do about it; `None` if it can.
fn unfit(dialect: Dialect, column: &Column) -> Option<(String, Vec<String>)> {
    let kind = column.kind.to_ascii_lowercase();
    if NO_KEY_TYPES.contains(&kind.as_str()) {
        return Some((format!("is of type {kind}, which has no text form in keys"), vec![]));
    }
    if kind == "json" {
        let fix = vec![format!("# in the rule: {{{}|json:$.path}}", column.name)];
        return Some(("is JSON, which has many texts for one value".to_owned(), fix));
    }
    if kind.contains('(') {
        let why = format!("is of type {kind}, and the binlog does not say its decimals");
        let plain = kind.split('(').next().unwrap_or_default().to_uppercase();
        return Some((why, vec![format!("# ALTER TABLE ... MODIFY {} {plain}", column.name)]));
    }
    if kind.contains(" in ") {
        let convert =
            "# convert the table: ALTER TABLE ... CONVERT TO CHARACTER SET utf8mb4".to_owned();
        let why = format!("is of type {kind}, which has no conversion to UTF-8");
        return Some((why, vec![convert]));
    }
    let instead = |what: &str| {
        format!(
            "# keep {what} in an ordinary column (a BEFORE trigger can fill it), and name that in the rule"
        )
    };
    // MySQL writes them; MariaDB leaves them out when rows are updated or deleted.
    let is_left_out = dialect == Dialect::MariaDb && column.origin == Values::Generated;
    is_left_out.then(|| {
        ("is generated, and MariaDB leaves it out of the binlog".to_owned(), vec![instead("it")])
    })
}
