//! The way back: which template could have made a key.
//!
//! It errs on one side only: a key that a template can make is always found, and some that it cannot
//! make are found too (two places for one column are not compared, and a `match` may give any text).

use std::{fmt::Write, sync::Arc};

use regex::bytes::Regex;

use super::{
    Rule, RuleKey,
    filter::Filter,
    table::TableKind,
    template::{Part, Place, Source},
};
use crate::key::Key;

/// Which template could have made a key, and from what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOrigin {
    /// As written in the file.
    pub template: Arc<str>,
    /// Each place of the template, in its shortest spelling and without the braces, with the text that
    /// it has in the key; of several ways to cut the key, the first with the shortest texts on the left.
    pub columns: Vec<(String, String)>,
}

/// What a place can put into a key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Any,
    Literal(String),
    HexLower { digits: Option<usize> },
    HexUpper { digits: Option<usize> },
    Base64,
}

impl Rule {
    /// The first of the rule's templates that could have made `key`.
    pub fn explain_key(&self, key: &Key) -> Option<KeyOrigin> {
        self.keys.iter().find_map(|template| self.explain_with(template, key))
    }

    /// Whether one of the rule's templates could have made `key`.
    pub fn could_make(&self, key: &Key) -> bool {
        self.explain_key(key).is_some()
    }

    fn explain_with(&self, rule_key: &RuleKey, key: &Key) -> Option<KeyOrigin> {
        let template = &rule_key.template;
        if !key.as_bytes().starts_with(template.prefix().as_bytes()) {
            return None; // Spares most templates the regex.
        }
        let mut pattern = String::from("(?s-u)\\A");
        for part in &template.parts {
            match part {
                Part::Text(text) => pattern.push_str(&escape_bytes(text)),
                Part::Place(place) => {
                    let shapes: Vec<String> = self.shapes(place).iter().map(Shape::regex).collect();
                    write!(pattern, "({})", shapes.join("|")).expect("a String takes all text");
                }
            }
        }
        pattern.push_str("\\z");
        let regex =
            Regex::new(&pattern).expect("short texts and classes within the default limits");
        let captures = regex.captures(key.as_bytes())?;
        let texts = captures.iter().skip(1).map(|found| {
            found.map_or_else(String::new, |found| String::from_utf8_lossy(found.as_bytes()).into())
        });
        let columns = template.places().map(ToString::to_string).zip(texts).collect();
        Some(KeyOrigin { template: Arc::clone(&rule_key.text), columns })
    }

    fn shapes(&self, place: &Place) -> Vec<Shape> {
        let first = match (&place.source, &self.table.kind) {
            (Source::Schema, TableKind::Exact { schema, .. }) => Shape::Literal(schema.clone()),
            (Source::Table, TableKind::Exact { table, .. }) => Shape::Literal(table.clone()),
            _ => Shape::Any,
        };
        place.filters.iter().fold(vec![first], after_filter)
    }
}

fn after_filter(shapes: Vec<Shape>, filter: &Filter) -> Vec<Shape> {
    let hex = |digits| vec![Shape::HexLower { digits }];
    match filter {
        Filter::Sha1 => hex(Some(40)),
        Filter::Md5 => hex(Some(32)),
        Filter::Xxh64 => hex(Some(16)),
        Filter::Hex => hex(None),
        Filter::Base64 => vec![Shape::Base64],
        Filter::Match(_) | Filter::Json(_) => vec![Shape::Any],
        Filter::Default(text) => {
            let mut shapes = shapes;
            shapes.push(Shape::Literal(text.clone()));
            shapes
        }
        Filter::Lower => shapes.into_iter().map(Shape::lower).collect(),
        Filter::Upper => shapes.into_iter().map(Shape::upper).collect(),
    }
}

impl Shape {
    fn lower(self) -> Shape {
        match self {
            Shape::Any | Shape::Base64 => Shape::Any,
            Shape::Literal(text) => Shape::Literal(text.to_lowercase()),
            Shape::HexLower { digits } | Shape::HexUpper { digits } => Shape::HexLower { digits },
        }
    }

    fn upper(self) -> Shape {
        match self {
            Shape::Any | Shape::Base64 => Shape::Any,
            Shape::Literal(text) => Shape::Literal(text.to_uppercase()),
            Shape::HexLower { digits } | Shape::HexUpper { digits } => Shape::HexUpper { digits },
        }
    }

    fn regex(&self) -> String {
        let hex = |class: &str, digits: &Option<usize>| match digits {
            Some(digits) => format!("{class}{{{digits}}}"),
            None => format!("(?:{class}{{2}})*?"),
        };
        match self {
            Shape::Any => ".*?".to_owned(),
            Shape::Literal(text) => escape_bytes(text),
            Shape::HexLower { digits } => hex("[0-9a-f]", digits),
            Shape::HexUpper { digits } => hex("[0-9A-F]", digits),
            Shape::Base64 => {
                "(?:[A-Za-z0-9+/]{4})*?(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?".to_owned()
            }
        }
    }
}

/// Without Unicode mode only ASCII may stand in a regex as it is.
fn escape_bytes(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "\\x{byte:02x}").expect("a String takes all text");
        out
    })
}
