//! `mcsqueal explain`: the rules, asked by hand. No server, no stream.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
};

use anyhow::{Context, anyhow};
use schemas::{
    key::Key,
    record::Operation,
    rules::{Image, Outcome, Row, Rules, Value},
};

use crate::{args::ExplainArgs, diff, failure::Failure, load};

/// Runs the command.
pub(crate) fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    if let Some([old, new]) = args.diff.as_deref() {
        return diff::diff(args, old, new);
    }
    let rules = match (&args.rules, &args.config) {
        (Some(path), _) => load::rules(path)?,
        (None, Some(path)) => load::region(path)?.1,
        (None, None) => return Err(Failure::Config(anyhow!("give --rules or --config"))),
    };
    let mut out = io::stdout().lock();
    match (&args.key, &args.table) {
        (Some(key), _) => explain_key(&rules, key, &mut out),
        (None, Some(table)) => explain_row(&rules, table, args, &mut out),
        (None, None) => Err(Failure::Config(anyhow!("give --table or --key"))),
    }
}

/// Which rules and tables feed `key`.
fn explain_key(rules: &Rules, key: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let key = Key::new(key.to_owned())
        .with_context(|| format!("--key {key:?}"))
        .map_err(Failure::Config)?;
    let mut lines = Vec::new();
    for rule in rules.iter() {
        if let Some(origin) = rule.explain_key(&key) {
            let columns: Vec<String> =
                origin.columns.iter().map(|(name, text)| format!("{name} = {text}")).collect();
            lines.push([
                rule.name().to_string(),
                rule.table().to_owned(),
                origin.template.to_string(),
                columns.join(", "),
            ]);
        }
    }
    if lines.is_empty() {
        print(out, &format!("{key}: no rule makes this key, so no change of a row deletes it\n"))?;
        return Err(Failure::Said);
    }
    print(out, &table(["RULE", "TABLE", "TEMPLATE", "WHEN"], &lines))
}

/// Which rules a change of a row fires, and which keys result.
fn explain_row(
    rules: &Rules,
    table_name: &str,
    args: &ExplainArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (schema, name) = table_name
        .split_once('.')
        .ok_or_else(|| Failure::Config(anyhow!("--table {table_name:?}: write SCHEMA.TABLE")))?;
    let before = args.before.as_deref().map(|text| columns("--before", text)).transpose()?;
    let after = args.after.as_deref().map(|text| columns("--after", text)).transpose()?;
    let operation = match (&before, &after) {
        (None, Some(_)) => Operation::Insert,
        (Some(_), Some(_)) => Operation::Update,
        (Some(_), None) => Operation::Delete,
        (None, None) => {
            return Err(Failure::Config(anyhow!(
                "give --before (DELETE), --after (INSERT) or both (UPDATE)"
            )));
        }
    };
    let Some(plan) = rules.for_table(schema, name) else {
        print(out, &format!("{table_name}: no rule is about this table\n"))?;
        return Err(Failure::Said);
    };
    let row = JsonRow { names: plan.columns(), before, after };
    let mut lines = Vec::new();
    let mut unknown = false;
    plan.apply(operation, &row, &mut |outcome| {
        unknown |= matches!(outcome, Outcome::Unknown { .. });
        lines.push(describe(&outcome));
    });
    print(out, &format!("{table_name} {operation}\n"))?;
    if lines.is_empty() {
        return print(out, "no rule fires: the columns that the rules watch did not change\n");
    }
    print(out, &table(["RULE", "KEY", ""], &lines))?;
    if unknown { Err(Failure::SaidConfig) } else { Ok(()) }
}

fn describe(outcome: &Outcome<'_>) -> [String; 3] {
    match outcome {
        Outcome::Key { rule, key } => [rule.to_string(), key.to_string(), String::new()],
        Outcome::Null { rule } => {
            let why = "a column is NULL and has no default: no client can have built this key";
            [rule.to_string(), "-".to_owned(), why.to_owned()]
        }
        Outcome::Unusable { rule, shown, error } => {
            [rule.to_string(), shown.clone(), format!("{error}: memcached cannot hold it")]
        }
        Outcome::Unknown { rule, column } => {
            let why = format!("column {column:?} is not in the row that you gave");
            [rule.to_string(), "-".to_owned(), why]
        }
    }
}

/// A row given as JSON. A column that is not there is absent, not NULL.
struct JsonRow<'a> {
    names: &'a [std::sync::Arc<str>],
    before: Option<BTreeMap<String, Option<String>>>,
    after: Option<BTreeMap<String, Option<String>>>,
}

impl JsonRow<'_> {
    fn cell(&self, image: Image, column: usize) -> Option<&Option<String>> {
        let row = match image {
            Image::Before => self.before.as_ref(),
            Image::After => self.after.as_ref(),
        };
        let name = self.names.get(column)?;
        row?.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, cell)| cell)
    }
}

impl Row for JsonRow<'_> {
    fn value(&self, image: Image, column: usize) -> Value<'_> {
        match self.cell(image, column) {
            None => Value::Absent,
            Some(None) => Value::Null,
            Some(Some(text)) => Value::Text(Cow::Borrowed(text.as_bytes())),
        }
    }

    fn changed(&self, column: usize) -> bool {
        self.cell(Image::Before, column) != self.cell(Image::After, column)
    }
}

fn columns(flag: &str, text: &str) -> Result<BTreeMap<String, Option<String>>, Failure> {
    let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)
        .with_context(|| format!("{flag} must be a JSON object"))
        .map_err(Failure::Config)?;
    let cell = |(name, value): (String, serde_json::Value)| match value {
        serde_json::Value::Null => Ok((name, None)),
        serde_json::Value::String(text) => Ok((name, Some(text))),
        serde_json::Value::Number(number) => Ok((name, Some(number.to_string()))),
        other => {
            Err(Failure::Config(anyhow!("{flag}: {name}: {other} is no string, number or null")))
        }
    };
    object.into_iter().map(cell).collect()
}

/// Columns as wide as their widest cell; the last one ends where it ends.
fn table<const N: usize>(head: [&str; N], lines: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let head = head.map(str::to_owned);
    for line in std::iter::once(&head).chain(lines) {
        let cells: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str("  ");
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn print(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes()).context("write to standard output").map_err(Failure::Failed)
}
