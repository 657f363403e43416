//! Random rules and rows against an interpreter that knows nothing of plans, indexes or buffers: it
//! writes a mark for each place into the key and replaces the marks one after the other.

use proptest::{collection::vec, option, prelude::*, sample::subsequence};

use super::*;
use crate::key::KEY_BYTES_MAX;

const COLUMNS: [&str; 4] = ["c0", "c1", "c2", "c3"];
const OPERATIONS: [&str; 3] = ["insert", "update", "delete"];

/// A rule as it is drawn, before it is written down.
#[derive(Clone, Debug)]
struct Drawn {
    table: &'static str,
    /// The text of `@1`, if the table pattern has that group and it takes part.
    group: Option<&'static str>,
    keys: Vec<Vec<DrawnPart>>,
    columns: Option<Vec<usize>>,
    operations: Vec<&'static str>,
}

#[derive(Clone, Debug)]
enum DrawnPart {
    Text(String),
    Place(DrawnSource, Vec<DrawnFilter>),
}

#[derive(Clone, Debug)]
enum DrawnSource {
    Column(usize),
    Schema,
    Table,
    Group,
}

#[derive(Clone, Debug)]
enum DrawnFilter {
    Named(&'static str),
    Default(String),
}

fn drawn_rule() -> impl Strategy<Value = Drawn> {
    let tables = prop_oneof![
        Just(("s.t", None, false)),
        Just((r"/s\.(t)/", Some("t"), true)),
        Just((r"/(z)?s\.t|x/", None, true)),
    ];
    let columns = subsequence(vec![0, 1, 2, 3], 1..=4);
    let operations = subsequence(OPERATIONS.to_vec(), 1..=3);
    (tables, option::of(columns), operations).prop_flat_map(|(table, columns, operations)| {
        let (table, group, has_group) = table;
        let last = if has_group { DrawnSource::Group } else { DrawnSource::Table };
        vec(vec(drawn_part(last), 1..5), 1..4).prop_map(move |keys| {
            let (columns, operations) = (columns.clone(), operations.clone());
            Drawn { table, group, keys, columns, operations }
        })
    })
}

fn drawn_part(last: DrawnSource) -> impl Strategy<Value = DrawnPart> {
    let source = prop_oneof![
        6 => (0..COLUMNS.len()).prop_map(DrawnSource::Column),
        1 => Just(DrawnSource::Schema),
        1 => Just(DrawnSource::Table),
        1 => Just(last),
    ];
    let named = prop::sample::select(vec![
        "lower",
        "upper",
        "sha1",
        "md5",
        "xxh64",
        "hex",
        "base64",
        "match:/[0-9]+/",
        "match:/^([a-z])/",
        "match:/b(c)?/",
    ]);
    let filter = prop_oneof![
        3 => named.prop_map(DrawnFilter::Named),
        1 => "[ab|:{}\\\\ ß]{0,3}".prop_map(DrawnFilter::Default),
    ];
    prop_oneof![
        "[a-c{}:|ä]{1,3}".prop_map(DrawnPart::Text),
        (source, vec(filter, 0..3)).prop_map(|(source, filters)| DrawnPart::Place(source, filters)),
    ]
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        1 => Just(Cell::Absent),
        2 => Just(Cell::Null),
        6 => "[A-Ca-c0-9 äßİ]{0,4}".prop_map(|text| Cell::Text(text.into_bytes())),
        2 => vec(any::<u8>(), 0..4).prop_map(Cell::Text),
        1 => (0..300_usize).prop_map(|length| Cell::Text(vec![b'x'; length])),
    ]
}

/// Two rows that are often alike.
fn rows() -> impl Strategy<Value = (Vec<Cell>, Vec<Cell>)> {
    let columns = COLUMNS.len();
    (vec(cell(), columns), vec(option::of(cell()), columns)).prop_map(|(before, news)| {
        let after = before.iter().zip(news).map(|(old, new)| new.unwrap_or_else(|| old.clone()));
        let after = after.collect();
        (before, after)
    })
}

impl Drawn {
    fn write(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|key| quoted(&write_key(key))).collect();
        let columns = self.columns.as_ref().map_or(String::new(), |columns| {
            let names: Vec<String> =
                columns.iter().map(|at| quoted(&COLUMNS[*at].to_uppercase())).collect();
            format!("columns = [{}]\n", names.join(", "))
        });
        format!(
            "[[rule]]\ntable = {}\n{columns}operations = {:?}\nkeys = [{}]\n",
            quoted(self.table),
            self.operations,
            keys.join(", ")
        )
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn write_key(parts: &[DrawnPart]) -> String {
    let part = |part: &DrawnPart| match part {
        DrawnPart::Text(text) => text.replace('{', "{{").replace('}', "}}"),
        DrawnPart::Place(source, filters) => {
            let source = match source {
                DrawnSource::Column(at) => COLUMNS[*at],
                DrawnSource::Schema => "@schema",
                DrawnSource::Table => "@table",
                DrawnSource::Group => "@1",
            };
            let filters = filters.iter().map(|filter| match filter {
                DrawnFilter::Named(name) => format!("|{name}"),
                DrawnFilter::Default(text) => format!("| default:{}", escaped(text)),
            });
            format!("{{{source}{}}}", filters.collect::<String>())
        }
    };
    parts.iter().map(part).collect()
}

fn escaped(text: &str) -> String {
    ['\\', '{', '}', '|', ':'].iter().fold(text.to_owned(), |text, character| {
        text.replace(*character, &format!("\\{character}"))
    })
}

/// What the rule gives for one image of a row, for each key.
fn interpret(rule: &Drawn, name: &str, key: &[DrawnPart], row: &[Cell]) -> Kept {
    let name: Arc<str> = Arc::from(name);
    let mut text: Vec<u8> = Vec::new();
    let mut values = Vec::new();
    for part in key {
        match part {
            DrawnPart::Text(literal) => text.extend(literal.as_bytes()),
            DrawnPart::Place(source, filters) => {
                text.extend(mark(values.len()));
                let cell = match source {
                    DrawnSource::Column(at) => row[*at].clone(),
                    DrawnSource::Schema => Cell::Text(b"s".to_vec()),
                    DrawnSource::Table => Cell::Text(b"t".to_vec()),
                    DrawnSource::Group => {
                        rule.group.map_or(Cell::Null, |group| Cell::Text(group.into()))
                    }
                };
                values.push((source, filters.iter().fold(cell, filtered)));
            }
        }
    }
    if values.iter().any(|(_, cell)| *cell == Cell::Null) {
        return Kept::Null { rule: name };
    }
    for (number, (source, cell)) in values.iter().enumerate() {
        match (source, cell) {
            (_, Cell::Text(value)) => text = replaced(&text, &mark(number), value),
            (DrawnSource::Column(at), _) => {
                return Kept::Unknown { rule: name, column: Arc::from(COLUMNS[*at]) };
            }
            _ => unreachable!("names of tables are never absent"),
        }
    }
    match Key::new(text.clone()) {
        Ok(key) => Kept::Key { rule: name, key },
        Err(error) => {
            let cut = text.iter().take(KEY_BYTES_MAX).copied().collect::<Vec<u8>>();
            let dots = if text.len() > KEY_BYTES_MAX { "..." } else { "" };
            Kept::Unusable { rule: name, shown: format!("{}{dots}", cut.escape_ascii()), error }
        }
    }
}

/// Bytes that no drawn text or value contains.
fn mark(number: usize) -> Vec<u8> {
    format!("<<mark {number:04}>>").into_bytes()
}

fn replaced(text: &[u8], mark: &[u8], value: &[u8]) -> Vec<u8> {
    let at = text.windows(mark.len()).position(|window| window == mark).unwrap();
    [&text[..at], value, &text[at + mark.len()..]].concat()
}

fn filtered(cell: Cell, filter: &DrawnFilter) -> Cell {
    let value = match (cell, filter) {
        (Cell::Null, DrawnFilter::Default(text)) => return Cell::Text(text.clone().into_bytes()),
        (Cell::Text(value), DrawnFilter::Named(_)) => value,
        (cell, _) => return cell,
    };
    let DrawnFilter::Named(name) = filter else { unreachable!("matched above") };
    let digits =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let text = String::from_utf8(value.clone());
    Cell::Text(match *name {
        "lower" => text.map_or(value.to_ascii_lowercase(), |text| text.to_lowercase().into()),
        "upper" => text.map_or(value.to_ascii_uppercase(), |text| text.to_uppercase().into()),
        "sha1" => digits(&<sha1::Sha1 as sha1::Digest>::digest(&value)).into(),
        "md5" => digits(&<md5::Md5 as md5::Digest>::digest(&value)).into(),
        "xxh64" => format!("{:016x}", xxhash_rust::xxh64::xxh64(&value, 0)).into(),
        "hex" => digits(&value).into(),
        "base64" => base64_by_bits(&value).into(),
        "match:/[0-9]+/" => {
            let from = value.iter().skip_while(|byte| !byte.is_ascii_digit());
            match from.take_while(|byte| byte.is_ascii_digit()).copied().collect::<Vec<u8>>() {
                digits if digits.is_empty() => return Cell::Null,
                digits => digits,
            }
        }
        "match:/^([a-z])/" => match value.first() {
            Some(first) if first.is_ascii_lowercase() => vec![*first],
            _ => return Cell::Null,
        },
        "match:/b(c)?/" => match value.iter().position(|byte| *byte == b'b') {
            Some(at) if value.get(at + 1) == Some(&b'c') => vec![b'c'],
            _ => return Cell::Null,
        },
        other => unreachable!("{other} is not drawn"),
    })
}

fn base64_by_bits(bytes: &[u8]) -> String {
    let alphabet: Vec<char> =
        ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let mut bits = bytes.iter().map(|byte| format!("{byte:08b}")).collect::<Vec<_>>().concat();
    while !bits.len().is_multiple_of(6) {
        bits.push('0');
    }
    let sixes: Vec<char> = bits.chars().collect();
    let mut out: String = sixes
        .chunks(6)
        .map(|six| usize::from_str_radix(&six.iter().collect::<String>(), 2).unwrap())
        .map(|index| alphabet[index])
        .collect();
    while !out.len().is_multiple_of(4) {
        out.push('=');
    }
    out
}

/// All that the rules should give.
fn model(rules: &[Drawn], operation: &str, before: &[Cell], after: &[Cell]) -> Vec<Kept> {
    let changed = |at: usize| before[at] != after[at] || before[at] == Cell::Absent;
    let mut out = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let name = format!("rule-{}", number + 1);
        let in_keys = rule.keys.iter().flatten().filter_map(|part| match part {
            DrawnPart::Place(DrawnSource::Column(at), _) => Some(*at),
            _ => None,
        });
        let watched = rule.columns.as_ref().map(|own| own.iter().copied().chain(in_keys));
        let quiet = watched.is_some_and(|mut watched| !watched.any(changed));
        if !rule.operations.contains(&operation) || (operation == "update" && quiet) {
            continue;
        }
        for key in &rule.keys {
            let of = |row| interpret(rule, &name, key, row);
            match operation {
                "insert" => out.push(of(after)),
                "delete" => out.push(of(before)),
                _ => {
                    out.push(of(before));
                    if of(before) != of(after) {
                        out.push(of(after));
                    }
                }
            }
        }
    }
    out
}

/// Comparable; a plan spells a column as the first rule that names it does.
fn sorted(outcomes: &[Kept]) -> Vec<String> {
    let line = |outcome: &Kept| match outcome {
        Kept::Unknown { rule, column } => format!("{rule} unknown {}", column.to_lowercase()),
        outcome => format!("{outcome:?}"),
    };
    let mut lines: Vec<String> = outcomes.iter().map(line).collect();
    lines.sort();
    lines
}

/// Whether a rule has the same key twice, which is refused.
fn repeats(rules: &[Drawn]) -> bool {
    rules.iter().any(|rule| {
        let mut keys: Vec<String> = rule.keys.iter().map(|key| write_key(key)).collect();
        keys.sort();
        keys.windows(2).any(|two| two[0] == two[1])
    })
}

proptest! {
    #[test]
    fn agrees_with_model(
        drawn in vec(drawn_rule(), 1..4),
        operation in prop::sample::select(OPERATIONS.to_vec()),
        (before, after) in rows(),
    ) {
        prop_assume!(!repeats(&drawn));
        let text: String = drawn.iter().map(Drawn::write).collect();
        let rules = Rules::parse("r", &text).unwrap();
        let image = |row| Some(row);
        let (first, second) = match operation {
            "insert" => (None, image(&after[..])),
            "delete" => (image(&before[..]), None),
            _ => (image(&before[..]), image(&after[..])),
        };
        let made = outcomes(&rules, ("s", "t"), &COLUMNS, first, second);
        prop_assert_eq!(sorted(&made), sorted(&model(&drawn, operation, &before, &after)), "{}", text);
        for outcome in made {
            if let Kept::Key { rule, key } = outcome {
                let own = rules.iter().find(|other| *other.name() == rule).unwrap();
                prop_assert!(own.could_make(&key), "{key} cannot be explained by {text}");
            }
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}", lines in vec(prop::sample::select(LINES.to_vec()), 0..12)) {
        drop(Rules::parse("r", &text));
        drop(Rules::parse("r", &lines.join("\n")));
    }

    /// Whatever parses can be written, read again, applied and explained.
    #[test]
    fn no_template_panics(text in "[a{}|:@/\\\\1 ä]{0,12}|(\\{(@1|a)(\\||lower|default|match|:|/|\\(|\\)|\\\\|a){0,6}\\})+", cells in vec(cell(), 4), key in "[a-f0-9:ä]{1,40}") {
        if let Ok(template) = Template::parse(&text, 1) {
            let written = template.to_string();
            prop_assert_eq!(Template::parse(&written, 1).unwrap().to_string(), written);
        }
        let file = format!("[[rule]]\ntable = '/s\\.(t)/'\nkeys = [{}]", quoted(&text));
        if let Ok(rules) = Rules::parse("r", &file) {
            outcomes(&rules, ("s", "t"), &["a", "b", "c", "d"], Some(&cells), Some(&cells));
            rules.iter().for_each(|rule| drop(rule.explain_key(&Key::new(key.clone()).unwrap())));
        }
    }
}

const LINES: [&str; 14] = [
    "[[rule]]",
    "[rule]",
    "[[query]]",
    "name = 'a'",
    "table = 's.t'",
    "table = '/s\\.(t)/'",
    "table = 7",
    "keys = ['a:{id}', '{@1}']",
    "keys = [",
    "keys = ['{a|match:/(/}']",
    "columns = ['a', 'b']",
    "columns = [['a']]",
    "operations = ['insert', 'delete']",
    "# ä",
];
