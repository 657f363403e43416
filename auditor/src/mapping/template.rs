//! Key templates, read and filled in on the auditor's own account: one template, one row, no plans and no indexes. The
//! grammar is the one that the rules' own page defines; whoever reads a rules file has checked it before.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use regex::bytes::Regex;
use sha1::Sha1;

use super::json;

/// What a place of a template or a column of a row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// The image lacks it, or it has no text form.
    Absent,
    /// Its text form.
    Text(Vec<u8>),
}

/// One image of a row: columns by their names in lower case.
pub type Image = HashMap<String, Cell>;

/// A template, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Place(Source, Vec<Filter>),
}

#[derive(Clone, Debug)]
enum Source {
    /// In lower case.
    Column(String),
    Schema,
    Table,
    Group(usize),
}

#[derive(Clone, Debug)]
enum Filter {
    Lower,
    Upper,
    Sha1,
    Md5,
    Xxh64,
    Hex,
    Base64,
    Default(String),
    Match(Regex),
    Json(String),
}

/// What templates know of a table: its names, and what its rule's regex found in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) schema: &'a str,
    pub(super) table: &'a str,
    pub(super) groups: &'a [Option<String>],
}

impl Template {
    /// `None` for text that is no template.
    pub(super) fn read(text: &str) -> Option<Template> {
        let mut cursor = Cursor { rest: text };
        let (mut parts, mut plain) = (Vec::new(), String::new());
        while let Some(next) = cursor.next() {
            match next {
                '{' | '}' if cursor.takes(next) => plain.push(next),
                '{' => {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(cursor.place()?);
                }
                '}' => return None,
                other => plain.push(other),
            }
        }
        parts.push(Part::Text(plain));
        Some(Template { parts })
    }

    /// The columns that it names, in lower case and in their order.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Place(Source::Column(name), _) => Some(&**name),
            _ => None,
        })
    }

    /// The key that it makes of an image; `None` where a place is NULL, or cannot be known.
    pub(super) fn fill(&self, names: Names<'_>, image: &Image) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => key.extend_from_slice(text.as_bytes()),
                Part::Place(source, filters) => {
                    let cell = filters.iter().fold(source.cell(names, image), Filter::apply);
                    let Cell::Text(text) = cell else { return None };
                    key.extend_from_slice(&text);
                }
            }
        }
        Some(key)
    }
}

impl Source {
    fn cell(&self, names: Names<'_>, image: &Image) -> Cell {
        let text = |text: &str| Cell::Text(text.as_bytes().to_vec());
        match self {
            Source::Column(name) => image.get(name).cloned().unwrap_or(Cell::Absent),
            Source::Schema => text(names.schema),
            Source::Table => text(names.table),
            Source::Group(number) => {
                let group = number.checked_sub(1).and_then(|at| names.groups.get(at));
                group.and_then(Option::as_deref).map_or(Cell::Null, text)
            }
        }
    }
}

impl Filter {
    fn read(name: &str, argument: Option<String>) -> Option<Filter> {
        Some(match (name, argument) {
            ("lower", None) => Filter::Lower,
            ("upper", None) => Filter::Upper,
            ("sha1", None) => Filter::Sha1,
            ("md5", None) => Filter::Md5,
            ("xxh64", None) => Filter::Xxh64,
            ("hex", None) => Filter::Hex,
            ("base64", None) => Filter::Base64,
            ("default", Some(text)) => Filter::Default(text),
            ("match", Some(source)) => Filter::Match(Regex::new(&source).ok()?),
            ("json", Some(path)) => Filter::Json(path),
            _ => return None,
        })
    }

    fn apply(cell: Cell, filter: &Filter) -> Cell {
        let text = match (cell, filter) {
            (Cell::Null, Filter::Default(text)) => return Cell::Text(text.clone().into_bytes()),
            (Cell::Text(text), _) => text,
            (cell, _) => return cell,
        };
        Cell::Text(match filter {
            Filter::Default(_) => text,
            Filter::Lower => match str::from_utf8(&text) {
                Ok(text) => text.to_lowercase().into_bytes(),
                Err(_) => text.to_ascii_lowercase(),
            },
            Filter::Upper => match str::from_utf8(&text) {
                Ok(text) => text.to_uppercase().into_bytes(),
                Err(_) => text.to_ascii_uppercase(),
            },
            Filter::Sha1 => hex(&Sha1::digest(&text)),
            Filter::Md5 => hex(&Md5::digest(&text)),
            Filter::Xxh64 => format!("{:016x}", xxhash_rust::xxh64::xxh64(&text, 0)).into_bytes(),
            Filter::Hex => hex(&text),
            Filter::Base64 => STANDARD.encode(&text).into_bytes(),
            Filter::Match(regex) => {
                let Some(found) = regex.captures(&text) else { return Cell::Null };
                let group = if regex.captures_len() > 1 { found.get(1) } else { found.get(0) };
                let Some(group) = group else { return Cell::Null };
                group.as_bytes().to_vec()
            }
            Filter::Json(path) => {
                let Some(found) = json::find(path, &text) else { return Cell::Null };
                found
            }
        })
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}").into_bytes());
    digits.collect::<Vec<_>>().concat()
}

struct Cursor<'a> {
    rest: &'a str,
}

/// What stands behind a backslash within braces.
const ESCAPED: &str = "{}|:@\\ ";

impl Cursor<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        Some(next)
    }

    fn takes(&mut self, text: impl Into<String>) -> bool {
        match self.rest.strip_prefix(&text.into()) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    /// Behind its opening brace.
    fn place(&mut self) -> Option<Part> {
        self.blanks();
        let special = self.rest.starts_with('@');
        let name = self.word("|}")?;
        let source = match (special, &*name) {
            (false, "") => return None,
            (false, _) => Source::Column(name.to_ascii_lowercase()),
            (true, "@schema") => Source::Schema,
            (true, "@table") => Source::Table,
            (true, group) => Source::Group(group.strip_prefix('@')?.parse().ok()?),
        };
        let mut filters = Vec::new();
        loop {
            match self.next()? {
                '}' => return Some(Part::Place(source, filters)),
                '|' => filters.push(self.filter()?),
                _ => return None,
            }
        }
    }

    fn filter(&mut self) -> Option<Filter> {
        self.blanks();
        let name = self.word("|}:")?;
        let argument = if !self.takes(":") {
            None
        } else if name == "match" {
            self.takes("/").then(|| self.regex()).flatten()
        } else {
            self.text("|}").map(|(text, _)| text)
        };
        Filter::read(&name, argument)
    }

    fn regex(&mut self) -> Option<String> {
        let mut source = String::new();
        loop {
            match self.next()? {
                '/' => break,
                '\\' => match self.next()? {
                    '/' => source.push('/'),
                    other => source.extend(['\\', other]),
                },
                other => source.push(other),
            }
        }
        self.blanks();
        Some(source)
    }

    /// Without the blanks behind it.
    fn word(&mut self, ends: &str) -> Option<String> {
        self.text(ends).map(|(mut text, solid)| {
            text.truncate(solid);
            text
        })
    }

    /// Everything before one of `ends`, and its length up to the last that is no plain blank.
    fn text(&mut self, ends: &str) -> Option<(String, usize)> {
        let (mut text, mut solid) = (String::new(), 0);
        loop {
            let next = self.rest.chars().next()?;
            if ends.contains(next) {
                return Some((text, solid));
            }
            self.next();
            if next == '{' {
                return None;
            }
            let plain = if next == '\\' {
                self.next().filter(|char| ESCAPED.contains(*char))?
            } else {
                next
            };
            text.push(plain);
            if next != ' ' {
                solid = text.len();
            }
        }
    }
}
