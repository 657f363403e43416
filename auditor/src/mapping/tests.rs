//! The auditor's mapping against the tailer's: two programs by different hands must make the same keys of the same rows.

use std::{borrow::Cow, collections::BTreeSet};

use proptest::{collection::vec, option, prelude::*, sample::subsequence};
use schemas::rules::{self, Outcome, Rules, Value};

use super::*;

const COLUMNS: [&str; 4] = ["c0", "c1", "c2", "c3"];

/// A row as the tailer's plan asks for it.
struct Planned<'a> {
    columns: &'a [Arc<str>],
    row: &'a WholeRow,
}

impl Planned<'_> {
    fn cell(&self, image: Option<&Image>, column: usize) -> Cell {
        let name = self.columns[column].to_ascii_lowercase();
        image.and_then(|image| image.get(&name)).cloned().unwrap_or(Cell::Absent)
    }
}

impl rules::Row for Planned<'_> {
    fn value(&self, image: rules::Image, column: usize) -> Value<'_> {
        let image = match image {
            rules::Image::Before => self.row.before.as_ref(),
            rules::Image::After => self.row.after.as_ref(),
        };
        match self.cell(image, column) {
            Cell::Null => Value::Null,
            Cell::Absent => Value::Absent,
            Cell::Text(text) => Value::Text(Cow::Owned(text)),
        }
    }

    fn changed(&self, column: usize) -> bool {
        let (before, after) = (self.row.before.as_ref(), self.row.after.as_ref());
        let absent = self.cell(before, column) == Cell::Absent;
        absent || self.cell(before, column) != self.cell(after, column)
    }
}

fn by_the_tailer(text: &str, operation: Operation, row: &WholeRow) -> BTreeSet<Key> {
    let rules = Rules::parse("rules", text).unwrap();
    let mut keys = BTreeSet::new();
    if let Some(plan) = rules.for_table("s", "t") {
        plan.apply(operation, &Planned { columns: plan.columns(), row }, &mut |outcome| {
            if let Outcome::Key { key, .. } = outcome {
                keys.insert(key.to_key());
            }
        });
    }
    keys
}

fn by_the_auditor(text: &str, operation: Operation, row: &WholeRow) -> BTreeSet<Key> {
    let mut mapping = Mapping::default();
    mapping.add_rules("rules", text).unwrap();
    let made = mapping.row("s", "t", operation, row);
    made.into_iter().map(|made| made.key).collect()
}

fn image(cells: &[Cell]) -> Image {
    COLUMNS.iter().zip(cells).map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect()
}

fn part() -> impl Strategy<Value = String> {
    let filter = prop::sample::select(vec![
        "",
        "|lower",
        "| upper ",
        "|sha1",
        "|md5",
        "|xxh64",
        "|hex",
        "|base64",
        "|default:no\\|ne ",
        "|match:/[0-9]+/",
        "|match:/(a)(\\/)?/|upper",
        "|json:$.a[1]",
        "|json:$.b",
    ]);
    let source =
        prop::sample::select(vec!["c0", "C1", " c2 ", "c3", "@schema", "@table", "@1", "@2"]);
    prop_oneof![
        3 => (source, filter).prop_map(|(source, filter)| format!("{{{source}{filter}}}")),
        1 => prop::sample::select(vec!["k:", "{{", "}}", "ä"]).prop_map(str::to_owned),
    ]
}

fn rule() -> impl Strategy<Value = String> {
    let operations = subsequence(vec!["insert", "update", "delete"], 1..=3);
    let columns = option::of(subsequence(COLUMNS.to_vec(), 1..=4));
    let keys = vec(vec(part(), 1..4).prop_map(|parts| parts.concat()), 1..3);
    let tables = prop::sample::select(vec![r"/s\.(t)(x)?/", r"/(z)?s\.(.*)|x/"]);
    (tables, keys, columns, operations).prop_map(|(table, keys, columns, operations)| {
        let columns = columns.map_or(String::new(), |columns| format!("columns = {columns:?}\n"));
        let keys: Vec<String> =
            keys.iter().map(|key| toml::Value::from(&**key).to_string()).collect();
        let keys = keys.join(", ");
        format!(
            "[[rule]]\ntable = '{table}'\n{columns}operations = {operations:?}\nkeys = [{keys}]\n"
        )
    })
}

fn cell() -> impl Strategy<Value = Cell> {
    let json = prop::sample::select(vec![
        r#"{"a": [1, "x"], "b": null}"#,
        r#"{"b": 1.50, "a": [[], {"b": 2}]}"#,
        "[1, 2]",
        "{\"a\": ",
    ]);
    prop_oneof![
        1 => Just(Cell::Absent),
        2 => Just(Cell::Null),
        5 => "[A-Ca-c0-9/äßİ]{0,4}".prop_map(|text| Cell::Text(text.into_bytes())),
        1 => vec(any::<u8>(), 0..4).prop_map(Cell::Text),
        2 => json.prop_map(|text| Cell::Text(text.as_bytes().to_vec())),
    ]
}

proptest! {
    #[test]
    fn agrees_with_the_tailer(
        rules in vec(rule(), 1..4),
        operation in prop::sample::select(vec![Operation::Insert, Operation::Update, Operation::Delete]),
        before in vec(cell(), 4),
        news in vec(option::of(cell()), 4),
    ) {
        let text = rules.concat();
        prop_assume!(Rules::parse("rules", &text).is_ok()); // A key may be there twice.
        let after: Vec<Cell> = before.iter().zip(news).map(|(old, new)| new.unwrap_or_else(|| old.clone())).collect();
        let row = WholeRow {
            before: (operation != Operation::Insert).then(|| image(&before)),
            after: (operation != Operation::Delete).then(|| image(&after)),
        };
        prop_assert_eq!(
            by_the_auditor(&text, operation, &row),
            by_the_tailer(&text, operation, &row),
            "{}", text
        );
    }

    /// Whatever a rules file may say can be read.
    #[test]
    fn reads_what_the_tailer_reads(text in "[a{}|:@/\\\\1 ä]{0,12}|(\\{(@1|a)(\\||lower|default|match|:|/|\\(|\\)|\\\\|a){0,6}\\})+") {
        let quoted = toml::Value::from(&*text).to_string();
        let file = format!("[[rule]]\ntable = '/s\\.(t)/'\nkeys = [{quoted}]");
        let read = Mapping::default().add_rules("r", &file).is_ok();
        prop_assert!(read || Rules::parse("r", &file).is_err(), "{}", text);
    }
}

#[test]
fn value_rules_map_by_themselves() {
    let mut mapping = Mapping::default();
    let rules = "[[rule]]\nname = 'users'\ntable = 's.t'\ncolumns = ['c1']\nkeys = ['user:{c0}']";
    mapping.add_rules("r", rules).unwrap();
    mapping.add_value("s.t", "user:{c0}").unwrap();
    let text = |text: &str| Cell::Text(text.as_bytes().to_vec());
    let row = |name: &str, mail: &str| image(&[text("7"), text(name), text(mail), Cell::Null]);
    let made = |before: Image, after: Image| {
        let row = WholeRow { before: Some(before), after: Some(after) };
        let made = mapping.row("s", "t", Operation::Update, &row);
        made.iter()
            .map(|made| {
                let value = made.value.as_ref().map(|value| value.parameters.clone());
                format!("{} by {:?}, {value:?}", made.key, made.rule)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(made(row("a", "m"), row("b", "m")), [r#"user:7 by Some("users"), Some([b"7"])"#]);
    // The rule does not fire, and the value rule does.
    assert_eq!(made(row("a", "m"), row("a", "n")), [r#"user:7 by None, Some([b"7"])"#]);
}
