//! Tests of the rules as a whole.

#![expect(clippy::arithmetic_side_effects, reason = "a panic is how a test fails")]

mod behaviour;
mod model;
mod refusals;

use std::borrow::Cow;

use super::*;
use crate::key::Key;

/// The example that the documentation and the demo use.
const EXAMPLE: &str = include_str!("../../../../region-configs/shop.rules.toml");

/// A cell of a test's row.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cell {
    Absent,
    Null,
    Text(Vec<u8>),
}

/// A change of a row, as names and cells.
struct Change<'a> {
    plan: &'a TablePlan,
    names: &'a [&'a str],
    before: Option<&'a [Cell]>,
    after: Option<&'a [Cell]>,
}

impl Change<'_> {
    fn cell(&self, image: Image, column: usize) -> &Cell {
        let cells = match image {
            Image::Before => self.before,
            Image::After => self.after,
        };
        let cells = cells.expect("an image that the operation lacks is never asked for");
        let wanted = &self.plan.columns()[column];
        let at = self.names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        at.map_or(&Cell::Absent, |at| &cells[at])
    }
}

impl Row for Change<'_> {
    fn value(&self, image: Image, column: usize) -> Value<'_> {
        match self.cell(image, column) {
            Cell::Absent => Value::Absent,
            Cell::Null => Value::Null,
            Cell::Text(text) => Value::Text(Cow::Borrowed(text)),
        }
    }

    fn changed(&self, column: usize) -> bool {
        assert!(self.before.is_some() && self.after.is_some(), "only asked of updates");
        let images = [Image::Before, Image::After].map(|image| self.cell(image, column));
        images[0] != images[1] || *images[0] == Cell::Absent
    }
}

/// An [`Outcome`], kept.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Key { rule: Arc<str>, key: Key },
    Null { rule: Arc<str> },
    Unusable { rule: Arc<str>, shown: String, error: KeyError },
    Unknown { rule: Arc<str>, column: Arc<str> },
}

impl From<Outcome<'_>> for Kept {
    fn from(outcome: Outcome<'_>) -> Kept {
        match outcome {
            Outcome::Key { rule, key } => Kept::Key { rule: Arc::clone(rule), key: key.to_key() },
            Outcome::Null { rule } => Kept::Null { rule: Arc::clone(rule) },
            Outcome::Unusable { rule, shown, error } => {
                Kept::Unusable { rule: Arc::clone(rule), shown, error }
            }
            Outcome::Unknown { rule, column } => {
                Kept::Unknown { rule: Arc::clone(rule), column: Arc::from(column) }
            }
        }
    }
}

/// Everything that the change gives, in order.
fn outcomes(
    rules: &Rules,
    (schema, table): (&str, &str),
    names: &[&str],
    before: Option<&[Cell]>,
    after: Option<&[Cell]>,
) -> Vec<Kept> {
    let operation = match (before, after) {
        (None, _) => Operation::Insert,
        (Some(_), Some(_)) => Operation::Update,
        (Some(_), None) => Operation::Delete,
    };
    let Some(plan) = rules.for_table(schema, table) else { return Vec::new() };
    let mut out = Vec::new();
    let change = Change { plan: &plan, names, before, after };
    plan.apply(operation, &change, &mut |outcome| out.push(Kept::from(outcome)));
    out
}

#[test]
fn two_files_side_by_side() {
    let parse = |file: &str, text: &str| Rules::parse(file, text).unwrap();
    let old = parse(
        "old.toml",
        "[[rule]]\nname = 'a'\ntable = 's.t'\nkeys = ['a:{id}']\n[[rule]]\nname = 'b'\ntable = 's.t'\nkeys = ['b:{id}']",
    );
    let new = parse(
        "new.toml",
        "[[rule]]\nname = 'a'\ntable = 's.t'\nkeys = ['a:{ id }']\n[[rule]]\nname = 'b'\ntable = 's.t'\nkeys = ['b:v2:{id}']",
    );
    let both = old.beside(new.clone()).unwrap();
    let shown: Vec<String> = both
        .iter()
        .map(|rule| format!("{}: {}", rule.name(), rule.prefixes().collect::<Vec<_>>().join(" ")))
        .collect();
    assert_eq!(shown, ["a: a:", "b: b:", "b (new.toml): b:v2:"]);
    let again = both.clone().beside(new).unwrap();
    assert_eq!(again.iter().count(), 4, "a rule that was renamed is another one");
}
