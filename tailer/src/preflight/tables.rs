//! The rules against the tables that exist.

use schemas::rules::Rules;

use super::{Judge, Severity, Table, grants};
use crate::{cascades::Cascade, settings::Settings};

/// Cascading foreign keys that are reported.
const CASCADES_SHOWN_MAX: usize = 20;

/// `data_type`s that have no text form for keys.
const NO_KEY_TYPES: [&str; 13] = [
    "float",
    "double",
    "json",
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

/// MariaDB's types that look like BINARY in a binlog, and the longest text of each, in characters.
const DISGUISED_TYPES: [(&str, usize); 3] = [("uuid", 36), ("inet4", 15), ("inet6", 39)];

pub(super) fn judge(judge: &mut Judge<'_>, settings: &Settings, rules: &Rules) {
    missing_tables(judge, settings, rules);
    let tables = &judge.answers.tables;
    for table in tables {
        columns(judge, rules, table);
        if !["InnoDB", "ROCKSDB", ""].contains(&table.engine.as_str()) {
            let name = format!("{}.{}", table.schema, table.name);
            let what = format!(
                "{name} is of engine {}: its changes cannot be rolled back, and are not atomic",
                table.engine
            );
            let fix =
                vec![format!("ALTER TABLE `{}`.`{}` ENGINE = InnoDB;", table.schema, table.name)];
            judge.find(Severity::Warn, what, fix);
        }
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
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
    for error in rules.check_columns(&table.schema, &table.name, &names) {
        judge.find(Severity::Refuse, error.to_string(), vec![]);
    }
    for rule in rules.iter().filter(|rule| rule.matches(&table.schema, &table.name)) {
        for column in rule.columns() {
            let of_name = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(column);
            let Some((name, kind)) = table.columns.iter().find(of_name) else { continue };
            let Some(fix) = fix_of_type(table, name, &kind.to_ascii_lowercase()) else { continue };
            let what = format!(
                "rule {:?}: column {name} of {}.{} is of type {kind}, which has no text form in keys",
                rule.name(),
                table.schema,
                table.name
            );
            judge.find(Severity::Refuse, what, fix);
        }
    }
}

/// What to do about a column that cannot be in a key; `None` if it can.
fn fix_of_type(table: &Table, column: &str, kind: &str) -> Option<Vec<String>> {
    if NO_KEY_TYPES.contains(&kind) {
        return Some(vec![]);
    }
    let (_, characters) = DISGUISED_TYPES.iter().find(|(disguised, _)| *disguised == kind)?;
    Some(vec![format!(
        "ALTER TABLE `{}`.`{}` ADD `{column}_text` VARCHAR({characters}) CHARACTER SET ascii AS (CAST(`{column}` AS CHAR)) STORED; \
         # and name that column in the rule",
        table.schema, table.name
    )])
}
