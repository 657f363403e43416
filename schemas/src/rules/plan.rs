//! [`TablePlan`]: the rules of one table, ready to run. Columns are indexes, and whatever depends on
//! the table's name alone is fixed text already.

use std::{borrow::Cow, sync::Arc};

use super::{
    Image, Operations, Outcome, Row, Rule, Value, Written,
    template::{Part, Place, Source, Template},
};
use crate::{
    cure::Cure,
    key::{KEY_BYTES_MAX, KeyRef},
    record::Operation,
};

/// The rules of one table, with columns as indexes.
#[derive(Clone, Debug)]
pub struct TablePlan {
    table: Arc<str>,
    columns: Vec<Arc<str>>,
    rules: Vec<PlanRule>,
}

#[derive(Clone, Debug)]
struct PlanRule {
    name: Arc<str>,
    operations: Operations,
    /// An update that changes none of these does not fire; `None` fires always.
    watched: Option<Vec<usize>>,
    keys: Vec<PlanKey>,
}

#[derive(Clone, Debug)]
struct PlanKey {
    /// Owns the filters of `steps`.
    template: Arc<Template>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    /// Text of the template, or made of the table's name.
    Fixed(Vec<u8>),
    /// The table's name makes a NULL, so that there is never a key.
    Null,
    /// Column `column`, as it is.
    Plain { column: usize },
    /// Column `column`, through the filters of the template's part `part`.
    Column { column: usize, part: usize },
}

impl TablePlan {
    /// `None` without rules.
    pub(super) fn new<'a>(
        schema: &str,
        table: &str,
        rules: impl Iterator<Item = &'a Rule>,
    ) -> Option<TablePlan> {
        let full_name: Arc<str> = Arc::from(format!("{schema}.{table}"));
        let mut plan = TablePlan { table: full_name, columns: Vec::new(), rules: Vec::new() };
        for rule in rules {
            let keys = rule.keys.iter().map(|key| plan.key(schema, table, rule, &key.template));
            let keys: Vec<PlanKey> = keys.collect();
            let watched = rule.columns.as_ref().map(|columns| {
                let own = columns.iter().map(|(_, name)| name.as_str());
                let in_keys = rule.keys.iter().flat_map(|key| key.template.columns());
                let mut watched: Vec<usize> =
                    own.chain(in_keys).map(|name| plan.column(name)).collect();
                watched.sort_unstable();
                watched.dedup();
                watched
            });
            let (name, operations) = (Arc::clone(&rule.name), rule.operations);
            plan.rules.push(PlanRule { name, operations, watched, keys });
        }
        (!plan.rules.is_empty()).then_some(plan)
    }

    /// `schema.table`.
    pub fn table(&self) -> &Arc<str> {
        &self.table
    }

    /// The columns that [`Row`] is asked for, by index. Their case is the rules file's: compare with
    /// [`str::eq_ignore_ascii_case`].
    pub fn columns(&self) -> &[Arc<str>] {
        &self.columns
    }

    /// Every outcome of a row change, into `sink`; a key may come more than once.
    pub fn apply(&self, operation: Operation, row: &impl Row, sink: &mut impl FnMut(Outcome<'_>)) {
        let images: &[Image] = match operation {
            Operation::Update if Cure::MapsBothImages.works() => &[Image::Before, Image::After],
            Operation::Insert | Operation::Update => &[Image::After],
            Operation::Delete => &[Image::Before],
        };
        // Two buffers for all keys of the row: what is made, and what the image before it made.
        let (mut text, mut text_before) = (&mut Text::new(), &mut Text::new());
        for rule in self.rules.iter().filter(|rule| rule.fires(operation, row)) {
            for key in &rule.keys {
                if let [image] = images {
                    let made = key.make(*image, row, text);
                    sink(self.outcome(rule, made, text.bytes()));
                    continue;
                }
                let mut made_before = None;
                for image in images {
                    let made = key.make(*image, row, text);
                    if made_before != Some(made) || text.bytes() != text_before.bytes() {
                        sink(self.outcome(rule, made, text.bytes()));
                    }
                    made_before = Some(made);
                    std::mem::swap(&mut text, &mut text_before);
                }
            }
        }
    }

    fn outcome<'a>(&'a self, rule: &'a PlanRule, made: Made, text: &'a [u8]) -> Outcome<'a> {
        let rule = &rule.name;
        match made {
            Made::Null => Outcome::Null { rule },
            Made::Unknown { column } => {
                Outcome::Unknown { rule, column: self.columns.get(column).map_or("", |it| it) }
            }
            Made::Text => match KeyRef::new(text) {
                Ok(key) => Outcome::Key { rule, key },
                Err(error) => Outcome::Unusable { rule, shown: show(text), error },
            },
        }
    }

    fn column(&mut self, name: &str) -> usize {
        let same = |column: &Arc<str>| column.eq_ignore_ascii_case(name);
        self.columns.iter().position(same).unwrap_or_else(|| {
            self.columns.push(Arc::from(name));
            self.columns.len().saturating_sub(1)
        })
    }

    fn key(&mut self, schema: &str, table: &str, rule: &Rule, template: &Arc<Template>) -> PlanKey {
        let full_name = Arc::clone(&self.table);
        let captures = rule.table.captures(&full_name);
        let step = |(part, content): (usize, &Part)| match content {
            Part::Text(text) => Step::Fixed(text.clone().into_bytes()),
            Part::Place(place) => match &place.source {
                Source::Column(name) if place.filters.is_empty() => {
                    Step::Plain { column: self.column(name) }
                }
                Source::Column(name) => Step::Column { column: self.column(name), part },
                Source::Schema => fixed(place, Some(schema)),
                Source::Table => fixed(place, Some(table)),
                Source::Group(number) => {
                    let group = captures.as_ref().and_then(|captures| captures.get(*number));
                    fixed(place, group.map(|group| group.as_str()))
                }
            },
        };
        let steps = template.parts.iter().enumerate().map(step).collect();
        PlanKey { template: Arc::clone(template), steps }
    }
}

/// What a template made of an image. The text is in a buffer, cut off where no key can be as long; it
/// is empty for all but `Text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Text,
    Null,
    Unknown { column: usize },
}

impl PlanRule {
    fn fires(&self, operation: Operation, row: &impl Row) -> bool {
        let watched_changed = || match (operation, &self.watched) {
            (Operation::Update, Some(watched)) => watched.iter().any(|column| row.changed(*column)),
            _ => true,
        };
        let wanted = operation != Operation::Insert || Cure::MapsInserts.works();
        self.operations.contains(operation) && watched_changed() && wanted
    }
}

impl PlanKey {
    /// One NULL is enough: whatever the absent columns were, there is no key.
    fn make(&self, image: Image, row: &impl Row, out: &mut Text) -> Made {
        out.clear();
        let mut absent = None;
        for step in &self.steps {
            let (written, column) = match step {
                Step::Fixed(text) => {
                    out.append(text);
                    continue;
                }
                Step::Null => (Written::Null, 0),
                Step::Plain { column } => {
                    let written = row.write(image, *column, &mut |text| out.append(text));
                    (written, *column)
                }
                Step::Column { column, part } => {
                    (self.write_filtered(*part, row.value(image, *column), out), *column)
                }
            };
            match written {
                Written::Text => {}
                Written::Absent => absent = absent.or(Some(column)),
                Written::Null => {
                    out.clear();
                    return Made::Null;
                }
            }
        }
        absent.map_or(Made::Text, |column| {
            out.clear();
            Made::Unknown { column }
        })
    }

    fn write_filtered(&self, part: usize, value: Value<'_>, out: &mut Text) -> Written {
        let value = match value {
            Value::Null => None,
            Value::Text(text) => Some(text),
            Value::Absent => return Written::Absent,
        };
        let filtered = match self.template.parts.get(part) {
            Some(Part::Place(place)) => place.filtered(value),
            _ => value,
        };
        let Some(text) = filtered else { return Written::Null };
        out.append(&text);
        Written::Text
    }
}

fn fixed(place: &Place, text: Option<&str>) -> Step {
    match place.filtered(text.map(|text| Cow::Borrowed(text.as_bytes()))) {
        Some(text) => Step::Fixed(text.into_owned()),
        None => Step::Null,
    }
}

/// The text of a key, without an allocation. One byte too many is enough to know that it is no key, so a long value is
/// never copied whole.
struct Text {
    bytes: [u8; KEY_BYTES_MAX + 1],
    length: usize,
}

impl Text {
    fn new() -> Text {
        Text { bytes: [0; KEY_BYTES_MAX + 1], length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.length = 0;
    }

    fn append(&mut self, text: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let count = room.len().min(text.len());
        if let (Some(room), Some(text)) = (room.get_mut(..count), text.get(..count)) {
            room.copy_from_slice(text);
        }
        self.length = self.length.saturating_add(count);
    }
}

/// For people: as far as a key could go.
fn show(text: &[u8]) -> String {
    let cut = text.get(..KEY_BYTES_MAX).unwrap_or(text);
    let ellipsis = if cut.len() < text.len() { "..." } else { "" };
    format!("{}{ellipsis}", cut.escape_ascii())
}
