//! Compiled row layouts: where the columns that rules need are, and how to skip the others.
//!
//! ```text
//! image = null_bits:(present columns + 7)/8 value*        ; only present columns that are not NULL have a value
//! ```
//!
//! A [`Layout`] is compiled once per table map. Walking allocates nothing for columns that nobody asked for.
//! The text forms of values are listed in `text.rs`.

use std::borrow::Cow;

use schemas::{record::Operation, rules::Written};

use crate::{
    assemble::Rows,
    read::Bytes,
    table_map::{Column, TableMap, kind},
    text,
};

/// Compiled once per table map.
#[derive(Clone, Debug)]
pub struct Layout {
    steps: Vec<Step>,
    /// The way through an image that carries every column, none of them NULL: most are.
    strides: Vec<Stride>,
    /// The columns that are wanted, for their text forms; index as in [`Layout::compile`].
    wanted: Vec<Column>,
    /// How many JSON columns the table has, and which of them are wanted: counted among themselves, and as in `wanted`.
    json_columns: usize,
    json_wanted: Vec<(usize, usize)>,
}

/// How to get past one column.
#[derive(Clone, Copy, Debug)]
struct Step {
    width: Width,
    /// The index in `wanted`s of [`Layout::compile`]; each column is wanted once at most.
    wanted: Option<usize>,
}

/// A piece of the way through a whole image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stride {
    /// Columns of fixed width that nobody wants, together.
    Skip(usize),
    /// A value that nobody wants, with its length before it.
    SkipPrefixed(usize),
    /// A column that is wanted.
    Take { width: Width, wanted: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Fixed(usize),
    /// A length of so many bytes stands before the value.
    Prefixed(usize),
}

/// Why a layout cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A column of a type that has no text form for keys.
    #[error("column {column} has no text form for keys: {kind}")]
    NoTextForm { column: String, kind: String },
    /// A column type whose length is not known, so nothing behind it can be found.
    #[error("column {column} has the unknown type {kind}")]
    UnknownType { column: usize, kind: u8 },
    /// The table has no such column.
    #[error("there is no column {column}")]
    NoColumn { column: usize },
}

/// Rows that contradict their table map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} cannot be decoded: {what}")]
pub struct RowError {
    /// Counted from 0 within the event.
    pub row: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// A column of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// SQL NULL.
    Null,
    /// The image does not carry the column.
    Absent,
    /// The documented text form.
    Text(Cow<'a, [u8]>),
}

/// One changed row, seen through a layout.
#[derive(Clone, Debug)]
pub struct RowImages<'a> {
    wanted: &'a [Column],
    /// An after image lacks what the update did not change.
    update: bool,
    before: Vec<Raw<'a>>,
    after: Vec<Raw<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raw<'a> {
    Absent,
    /// Only how it differs from before.
    Difference,
    Null,
    Value(&'a [u8]),
}

impl Layout {
    /// A layout that locates `columns` (indexes into the table map) and skips all others.
    pub fn compile(table: &TableMap, columns: &[usize]) -> Result<Layout, LayoutError> {
        let mut steps = Vec::with_capacity(table.columns.len());
        for (at, column) in table.columns.iter().enumerate() {
            let width =
                width(column).ok_or(LayoutError::UnknownType { column: at, kind: column.kind })?;
            steps.push(Step { width, wanted: columns.iter().position(|&wanted| wanted == at) });
        }
        let mut wanted = Vec::with_capacity(columns.len());
        for &at in columns {
            let column = table.columns.get(at).ok_or(LayoutError::NoColumn { column: at })?;
            if let Err(kind) = text::check(column) {
                let name = column
                    .name
                    .as_deref()
                    .map_or_else(|| at.to_string(), |name| format!("{name:?}"));
                return Err(LayoutError::NoTextForm { column: name, kind: kind.to_owned() });
            }
            wanted.push(column.clone());
        }
        let strides = strides(&steps);
        let is_json =
            |&at: &usize| table.columns.get(at).is_some_and(|column| column.kind == kind::JSON);
        let json: Vec<usize> = (0..table.columns.len()).filter(is_json).collect();
        let place = |(nth, at): (usize, &usize)| {
            columns.iter().position(|wanted| wanted == at).map(|wanted| (nth, wanted))
        };
        let json_wanted = json.iter().enumerate().filter_map(place).collect();
        Ok(Layout { steps, strides, wanted, json_columns: json.len(), json_wanted })
    }

    /// Calls `each` for every row of the event.
    pub fn walk(
        &self,
        rows: &Rows<'_>,
        each: &mut dyn FnMut(&RowImages<'_>),
    ) -> Result<(), RowError> {
        let mut bytes = Bytes(rows.images);
        let absent = || vec![Raw::Absent; self.wanted.len()];
        let mut images = RowImages {
            wanted: &self.wanted,
            update: rows.operation == Operation::Update,
            before: absent(),
            after: absent(),
        };
        let is_whole = |present| bits_are_set(present, self.steps.len());
        let (before, after) = (
            Present { bits: rows.before_columns, whole: is_whole(rows.before_columns) },
            Present { bits: rows.after_columns, whole: is_whole(rows.after_columns) },
        );
        let mut row = 0_usize;
        while !bytes.is_empty() {
            let error = |what| RowError { row, what };
            let left = bytes.0.len();
            if rows.operation != Operation::Insert {
                self.image(&mut bytes, before, &mut images.before).map_err(error)?;
            }
            if rows.operation != Operation::Delete {
                let differences = if rows.partial {
                    self.differences(&mut bytes).ok_or_else(|| error(IN_DIFFERENCES))?
                } else {
                    &[]
                };
                self.image(&mut bytes, after, &mut images.after).map_err(error)?;
                for &(nth, wanted) in &self.json_wanted {
                    if bit(differences, nth)
                        && let Some(raw @ Raw::Value(_)) = images.after.get_mut(wanted)
                    {
                        *raw = Raw::Difference;
                    }
                }
            }
            if bytes.0.len() == left {
                return Err(error("it takes no bytes, though some are left"));
            }
            each(&images);
            row = row.saturating_add(1);
        }
        Ok(())
    }

    fn image<'a>(
        &self,
        bytes: &mut Bytes<'a>,
        present: Present<'_>,
        out: &mut [Raw<'a>],
    ) -> Result<(), &'static str> {
        if present.whole {
            let nulls = bytes.take(self.steps.len().div_ceil(8)).ok_or(IN_NULL_BITS)?;
            if bits_are_clear(nulls, self.steps.len()) {
                return self.stride(bytes, out).ok_or(IN_VALUE);
            }
            return self.columns(bytes, nulls, out).ok_or(IN_VALUE);
        }
        let present = present.bits;
        let count = (0..self.steps.len()).filter(|&at| bit(present, at)).count();
        let nulls = bytes.take(count.div_ceil(8)).ok_or(IN_NULL_BITS)?;
        let mut seen = 0_usize;
        for (at, step) in self.steps.iter().enumerate() {
            let raw = if bit(present, at) {
                let null = bit(nulls, seen);
                seen = seen.saturating_add(1);
                if null { Raw::Null } else { Raw::Value(value(bytes, step.width).ok_or(IN_VALUE)?) }
            } else {
                Raw::Absent
            };
            if let Some(slot) = step.wanted.and_then(|wanted| out.get_mut(wanted)) {
                *slot = raw;
            }
        }
        Ok(())
    }
}

impl Layout {
    /// An image with every column, none of them NULL.
    fn stride<'a>(&self, bytes: &mut Bytes<'a>, out: &mut [Raw<'a>]) -> Option<()> {
        for stride in &self.strides {
            match *stride {
                Stride::Skip(count) => {
                    bytes.take(count)?;
                }
                Stride::SkipPrefixed(prefix) => {
                    value(bytes, Width::Prefixed(prefix))?;
                }
                Stride::Take { width, wanted } => {
                    *out.get_mut(wanted)? = Raw::Value(value(bytes, width)?);
                }
            }
        }
        Some(())
    }

    /// An image with every column.
    fn columns<'a>(&self, bytes: &mut Bytes<'a>, nulls: &[u8], out: &mut [Raw<'a>]) -> Option<()> {
        for (at, step) in self.steps.iter().enumerate() {
            let raw =
                if bit(nulls, at) { Raw::Null } else { Raw::Value(value(bytes, step.width)?) };
            if let Some(wanted) = step.wanted {
                *out.get_mut(wanted)? = raw;
            }
        }
        Some(())
    }
}

impl Layout {
    /// Before an after image of PARTIAL_UPDATE_ROWS: which JSON columns of the table are differences only. These have
    /// a length before them like whole ones.
    fn differences<'a>(&self, bytes: &mut Bytes<'a>) -> Option<&'a [u8]> {
        const PARTIAL_JSON: u64 = 1;
        let options = bytes.lenenc()?;
        if options & PARTIAL_JSON == 0 {
            Some(&[])
        } else {
            bytes.take(self.json_columns.div_ceil(8))
        }
    }
}

/// Which columns an image carries.
#[derive(Clone, Copy, Debug)]
struct Present<'a> {
    bits: &'a [u8],
    /// All of them.
    whole: bool,
}

const IN_NULL_BITS: &str = "it ends within the NULL bits";
const IN_DIFFERENCES: &str = "it ends before its JSON differences";
const IN_VALUE: &str = "it ends within a value";

fn strides(steps: &[Step]) -> Vec<Stride> {
    let mut strides: Vec<Stride> = Vec::new();
    for step in steps {
        let next = match (step.width, step.wanted) {
            (width, Some(wanted)) => Stride::Take { width, wanted },
            (Width::Prefixed(prefix), None) => Stride::SkipPrefixed(prefix),
            (Width::Fixed(count), None) => {
                if let Some(Stride::Skip(before)) = strides.last_mut() {
                    *before = before.saturating_add(count);
                    continue;
                }
                Stride::Skip(count)
            }
        };
        strides.push(next);
    }
    strides
}

impl RowImages<'_> {
    /// Column `at` (index into the `columns` of [`Layout::compile`]) before the change; `Absent` for inserts.
    pub fn before(&self, at: usize) -> Field<'_> {
        self.field(&self.before, at)
    }

    /// Likewise after the change; `Absent` for deletes. What an update did not change is as before.
    pub fn after(&self, at: usize) -> Field<'_> {
        match self.after.get(at) {
            Some(Raw::Absent) if self.update => self.before(at),
            _ => self.field(&self.after, at),
        }
    }

    /// Whether an update changed the column: compares bytes, decodes nothing; true when it cannot be known.
    pub fn changed(&self, at: usize) -> bool {
        match (self.before.get(at), self.after.get(at)) {
            (_, Some(Raw::Absent)) if self.update => false,
            (Some(Raw::Absent) | None, _) | (_, Some(Raw::Absent) | None) => true,
            (Some(before), Some(after)) => before != after,
        }
    }

    /// [`RowImages::before`], with its text written to `out`.
    pub fn write_before(&self, at: usize, out: &mut impl FnMut(&[u8])) -> Written {
        self.write(&self.before, at, out)
    }

    /// [`RowImages::after`], with its text written to `out`.
    pub fn write_after(&self, at: usize, out: &mut impl FnMut(&[u8])) -> Written {
        match self.after.get(at) {
            Some(Raw::Absent) if self.update => self.write_before(at, out),
            _ => self.write(&self.after, at, out),
        }
    }

    fn write(&self, image: &[Raw<'_>], at: usize, out: &mut impl FnMut(&[u8])) -> Written {
        match (image.get(at), self.wanted.get(at)) {
            (Some(Raw::Null), _) => Written::Null,
            (Some(Raw::Value(bytes)), Some(column)) => {
                text::write(column, bytes, out).map_or(Written::Absent, |()| Written::Text)
            }
            _ => Written::Absent,
        }
    }

    fn field<'a>(&'a self, image: &[Raw<'a>], at: usize) -> Field<'a> {
        match (image.get(at), self.wanted.get(at)) {
            (Some(Raw::Null), _) => Field::Null,
            (Some(Raw::Value(bytes)), Some(column)) => {
                // A value that does not fit its type cannot be told from an absent one: its key is unknown.
                text::text(column, bytes).map_or(Field::Absent, Field::Text)
            }
            _ => Field::Absent,
        }
    }
}

fn bit(bits: &[u8], at: usize) -> bool {
    bits.get(at >> 3).is_some_and(|byte| byte & (1 << (at & 7)) != 0)
}

/// Whether the first `count` bits are all 1.
fn bits_are_set(bits: &[u8], count: usize) -> bool {
    (0..count).all(|at| bit(bits, at))
}

/// Whether the first `count` bits are all 0. Those behind them may be anything.
fn bits_are_clear(bits: &[u8], count: usize) -> bool {
    let Some((last, whole)) = bits.split_last() else { return true };
    let unused = whole.len().saturating_add(1).saturating_mul(8).saturating_sub(count).min(7);
    whole.iter().all(|&byte| byte == 0) && last & (0xff >> unused) == 0
}

fn value<'a>(bytes: &mut Bytes<'a>, width: Width) -> Option<&'a [u8]> {
    match width {
        Width::Fixed(count) => bytes.take(count),
        Width::Prefixed(1) => {
            let count = usize::from(bytes.u8()?);
            bytes.take(count)
        }
        Width::Prefixed(2) => {
            let count = usize::from(bytes.u16()?);
            bytes.take(count)
        }
        Width::Prefixed(prefix) => {
            let count = usize::try_from(bytes.uint(prefix)?).ok()?;
            bytes.take(count)
        }
    }
}

fn width(column: &Column) -> Option<Width> {
    let meta = usize::from(column.meta);
    let fraction = meta.div_ceil(2);
    let short_or_long = Width::Prefixed(if meta > 255 { 2 } else { 1 });
    Some(match column.kind {
        kind::TINY | kind::YEAR => Width::Fixed(1),
        kind::SHORT => Width::Fixed(2),
        kind::INT24 | kind::DATE | kind::TIME => Width::Fixed(3),
        kind::LONG | kind::FLOAT | kind::TIMESTAMP => Width::Fixed(4),
        kind::LONGLONG | kind::DOUBLE | kind::DATETIME => Width::Fixed(8),
        kind::TIMESTAMP2 => Width::Fixed(fraction.saturating_add(4)),
        kind::DATETIME2 => Width::Fixed(fraction.saturating_add(5)),
        kind::TIME2 => Width::Fixed(fraction.saturating_add(3)),
        kind::NEWDECIMAL => Width::Fixed(text::decimal_bytes(column.meta)),
        kind::BIT => Width::Fixed((meta >> 8).saturating_add(usize::from(meta & 0xff != 0))),
        kind::ENUM | kind::SET => Width::Fixed(meta),
        kind::STRING | kind::VARCHAR | kind::VAR_STRING | kind::VARCHAR_COMPRESSED => short_or_long,
        kind::TINY_BLOB
        | kind::MEDIUM_BLOB
        | kind::LONG_BLOB
        | kind::BLOB
        | kind::BLOB_COMPRESSED
        | kind::JSON
        | kind::VECTOR
        | kind::GEOMETRY
            if (1..=4).contains(&meta) =>
        {
            Width::Prefixed(meta)
        }
        _ => return None,
    })
}
