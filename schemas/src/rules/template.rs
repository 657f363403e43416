//! A key template, parsed. The grammar is in the module's page.
//!
//! One pass over the characters, one function for each rule of the grammar; a position is the number
//! of characters read, so that errors can name the column.

use std::{borrow::Cow, fmt};

use super::{
    error::TemplateError,
    filter::{Argument, Filter},
    limits::{KEY_TEMPLATE_BYTES_MAX, TEMPLATE_PLACES_MAX},
};
use crate::key::KEY_BYTES_MAX;

/// What a key is made of, in order. Two texts never stand side by side.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    Text(String),
    Place(Place),
}

/// `{source|filter|..}`.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) source: Source,
    pub(super) filters: Vec<Filter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Column(String),
    /// `@schema`
    Schema,
    /// `@table`
    Table,
    /// `@1`: a group of the rule's table regex, from 1.
    Group(usize),
}

impl Template {
    /// Parses `text`, for a table pattern with `groups` capture groups.
    pub(super) fn parse(text: &str, groups: usize) -> Result<Template, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        if text.len() > KEY_TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong { bytes: text.len() });
        }
        let mut parser = Parser { rest: text, column: 1, groups };
        let mut parts = Vec::new();
        let mut fixed = String::new();
        let (mut places, mut fixed_bytes) = (0_usize, 0_usize);
        while let Some(next) = parser.part()? {
            match next {
                Piece::Character(character) => {
                    fixed.push(character);
                    fixed_bytes = fixed_bytes.saturating_add(character.len_utf8());
                }
                Piece::Place(place) => {
                    places = places.saturating_add(1);
                    if !fixed.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut fixed)));
                    }
                    parts.push(Part::Place(place));
                }
            }
        }
        if !fixed.is_empty() {
            parts.push(Part::Text(fixed));
        }
        if places > TEMPLATE_PLACES_MAX {
            return Err(TemplateError::TooManyPlaces);
        }
        if fixed_bytes > KEY_BYTES_MAX {
            return Err(TemplateError::TextTooLong);
        }
        Ok(Template { parts })
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.parts.iter().filter_map(|part| match part {
            Part::Place(place) => Some(place),
            Part::Text(_) => None,
        })
    }

    /// The columns that it names; some may come twice.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.places().filter_map(|place| match &place.source {
            Source::Column(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether a place takes the text of this column as it is.
    pub(super) fn needs_text_of(&self, column: &str) -> bool {
        self.places().any(|place| match (&place.source, place.filters.first()) {
            (Source::Column(_), Some(Filter::Json(_))) => false,
            (Source::Column(name), _) => name.eq_ignore_ascii_case(column),
            _ => false,
        })
    }

    /// The text before the first place.
    pub(super) fn prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// One text for each meaning.
    pub(super) fn canonical(&self) -> String {
        let mut template = self.clone();
        for part in &mut template.parts {
            if let Part::Place(Place { source: Source::Column(name), .. }) = part {
                name.make_ascii_lowercase();
            }
        }
        template.to_string()
    }

    pub(super) fn regexes(&self) -> usize {
        let filters = self.places().flat_map(|place| &place.filters);
        filters.filter(|filter| matches!(filter, Filter::Match(_))).count()
    }
}

impl Place {
    /// `value` through all filters; `None` is NULL.
    pub(super) fn filtered<'a>(&self, value: Option<Cow<'a, [u8]>>) -> Option<Cow<'a, [u8]>> {
        self.filters.iter().fold(value, |value, filter| filter.apply(value))
    }
}

/// The template in its shortest spelling.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    f.write_str(&text.replace('{', "{{").replace('}', "}}"))?;
                }
                Part::Place(place) => write!(f, "{{{place}}}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Column(name) => f.write_str(&escape(name))?,
            Source::Schema => f.write_str("@schema")?,
            Source::Table => f.write_str("@table")?,
            Source::Group(number) => write!(f, "@{number}")?,
        }
        self.filters.iter().try_for_each(|filter| write!(f, "|{filter}"))
    }
}

/// `text` as it must be written inside of braces.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if ESCAPED.contains(&character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// What a backslash makes ordinary, inside of braces.
const ESCAPED: [char; 7] = ['{', '}', '|', ':', '@', '\\', ' '];

enum Piece {
    Character(char),
    Place(Place),
}

/// A run of characters inside of braces, with what ended it.
struct Word {
    text: String,
    /// Whether it began with an `@` of its own, not an escaped one.
    is_meta: bool,
}

struct Parser<'a> {
    rest: &'a str,
    column: usize,
    groups: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next()?;
        self.rest = characters.as_str();
        self.column = self.column.saturating_add(1);
        Some(character)
    }

    fn eat(&mut self, wanted: char) -> Option<char> {
        if self.peek() == Some(wanted) { self.next() } else { None }
    }

    fn part(&mut self) -> Result<Option<Piece>, TemplateError> {
        let column = self.column;
        let Some(character) = self.next() else { return Ok(None) };
        match character {
            '{' if self.eat('{').is_some() => {}
            '{' => return self.place(column).map(|place| Some(Piece::Place(place))),
            '}' if self.eat('}').is_some() => {}
            '}' => return Err(TemplateError::StrayClose { column }),
            ' ' => return Err(TemplateError::BadText { column, what: "space" }),
            '\0' => return Err(TemplateError::BadText { column, what: "NUL" }),
            '\r' | '\n' => return Err(TemplateError::BadText { column, what: "line end" }),
            _ => {}
        }
        Ok(Some(Piece::Character(character)))
    }

    /// After its opening brace, which stands at `open`.
    fn place(&mut self, open: usize) -> Result<Place, TemplateError> {
        self.blanks();
        let column = self.column;
        let word = self.word(open, &['|', '}'])?;
        if word.text.is_empty() {
            return Err(TemplateError::EmptyPlace { column: open });
        }
        let source =
            if word.is_meta { self.meta(&word.text, column)? } else { Source::Column(word.text) };
        let mut filters = Vec::new();
        loop {
            match self.next() {
                Some('}') => return Ok(Place { source, filters }),
                Some('|') => filters.push(self.filter(open)?),
                _ => return Err(TemplateError::Unclosed { column: open }),
            }
        }
    }

    fn meta(&self, text: &str, column: usize) -> Result<Source, TemplateError> {
        let name = text.strip_prefix('@').unwrap_or(text);
        match name {
            "schema" => return Ok(Source::Schema),
            "table" => return Ok(Source::Table),
            _ => {}
        }
        let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        match name.parse() {
            Ok(number) if digits && (1..=self.groups).contains(&number) => {
                Ok(Source::Group(number))
            }
            Ok(number) if digits => {
                Err(TemplateError::NoSuchGroup { column, number, groups: self.groups })
            }
            _ => Err(TemplateError::UnknownMeta { column, name: name.to_owned() }),
        }
    }

    fn filter(&mut self, open: usize) -> Result<Filter, TemplateError> {
        self.blanks();
        let column = self.column;
        let name = self.word(open, &['|', '}', ':'])?.text;
        let argument = if self.eat(':').is_none() {
            Argument::None
        } else if name == "match" && self.eat('/').is_some() {
            Argument::Regex(self.regex(open)?)
        } else if name == "match" {
            return Err(TemplateError::MatchArgument { column });
        } else {
            Argument::Text(self.text(open, &['|', '}'])?)
        };
        Filter::new(&name, argument, column)
    }

    /// Up to the closing slash; only `\/` is ours, all else belongs to the regex.
    fn regex(&mut self, open: usize) -> Result<String, TemplateError> {
        let mut source = String::new();
        loop {
            match self.next() {
                None => return Err(TemplateError::Unclosed { column: open }),
                Some('/') => break,
                Some('\\') => match self.next() {
                    None => return Err(TemplateError::Unclosed { column: open }),
                    Some('/') => source.push('/'),
                    Some(character) => source.extend(['\\', character]),
                },
                Some(character) => source.push(character),
            }
        }
        self.blanks();
        Ok(source)
    }

    /// A name: blanks after it are not part of it, unless escaped.
    fn word(&mut self, open: usize, ends: &[char]) -> Result<Word, TemplateError> {
        let is_meta = self.peek() == Some('@');
        let (mut text, solid) = self.run(open, ends)?;
        text.truncate(solid);
        Ok(Word { text, is_meta })
    }

    fn text(&mut self, open: usize, ends: &[char]) -> Result<String, TemplateError> {
        self.run(open, ends).map(|(text, _)| text)
    }

    /// The characters up to one of `ends`, and their length without plain blanks at the end.
    fn run(&mut self, open: usize, ends: &[char]) -> Result<(String, usize), TemplateError> {
        let mut text = String::new();
        let mut solid = 0;
        while let Some(character) = self.peek() {
            if ends.contains(&character) {
                return Ok((text, solid));
            }
            let column = self.column;
            self.next();
            match character {
                '{' => break, // Only ever escaped: most likely the brace before was left open.
                '\\' => match self.next() {
                    Some(escaped) if ESCAPED.contains(&escaped) => text.push(escaped),
                    _ => return Err(TemplateError::BadEscape { column }),
                },
                _ => text.push(character),
            }
            if character != ' ' {
                solid = text.len();
            }
        }
        Err(TemplateError::Unclosed { column: open })
    }

    fn blanks(&mut self) {
        while self.eat(' ').is_some() {}
    }
}
