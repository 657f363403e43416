//! Filters: what stands after a `|` in a template. The grammar and the list are in the module's page.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use regex::bytes::{Regex, RegexBuilder};
use sha1::Sha1;
use xxhash_rust::xxh64::xxh64;

use super::{error::TemplateError, json::Path};

/// Largest compiled regex, in bytes.
pub(super) const REGEX_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of a regex.
pub(super) const REGEX_NESTING_MAX: u32 = 50;

const NAMES: &str =
    "lower, upper, sha1, md5, xxh64, hex, base64, default:TEXT, match:/REGEX/, json:PATH";

/// One step from a column's text to a part of a key. NULL passes through all but `default`.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    Lower,
    Upper,
    Sha1,
    Md5,
    Xxh64,
    Hex,
    Base64,
    /// Takes the place of NULL.
    Default(String),
    /// The first group of the first match, else all of it; NULL where nothing matches.
    Match(Regex),
    /// What the path leads to in JSON text.
    Json(Path),
}

/// A filter's argument, as the template's grammar found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    None,
    Text(String),
    Regex(String),
}

impl Filter {
    /// The filter `name` at `column` of its template.
    pub(super) fn new(
        name: &str,
        argument: Argument,
        column: usize,
    ) -> Result<Filter, TemplateError> {
        let plain = match name {
            "lower" => Filter::Lower,
            "upper" => Filter::Upper,
            "sha1" => Filter::Sha1,
            "md5" => Filter::Md5,
            "xxh64" => Filter::Xxh64,
            "hex" => Filter::Hex,
            "base64" => Filter::Base64,
            "default" => {
                return match argument {
                    Argument::Text(text) => Ok(Filter::Default(text)),
                    _ => Err(TemplateError::DefaultArgument { column }),
                };
            }
            "match" => {
                return match argument {
                    Argument::Regex(source) => compile(&source, column).map(Filter::Match),
                    _ => Err(TemplateError::MatchArgument { column }),
                };
            }
            "json" => {
                let path = match argument {
                    Argument::Text(text) => Path::parse(&text),
                    _ => None,
                };
                return path.map(Filter::Json).ok_or(TemplateError::JsonArgument { column });
            }
            "" => return Err(TemplateError::EmptyFilter { column }),
            _ => {
                let (name, known) = (name.to_owned(), NAMES);
                return Err(TemplateError::UnknownFilter { column, name, known });
            }
        };
        match argument {
            Argument::None => Ok(plain),
            _ => Err(TemplateError::NoArgument { column, name: name.to_owned() }),
        }
    }

    /// `None` is NULL, in and out.
    pub(super) fn apply<'a>(&self, value: Option<Cow<'a, [u8]>>) -> Option<Cow<'a, [u8]>> {
        if let (Filter::Default(text), None) = (self, &value) {
            return Some(Cow::Owned(text.clone().into_bytes()));
        }
        let value = value?;
        let owned = match self {
            Filter::Default(_) => return Some(value),
            Filter::Match(regex) => return first_match(regex, value),
            Filter::Json(path) => {
                return match value {
                    Cow::Borrowed(json) => path.find(json),
                    Cow::Owned(json) => {
                        path.find(&json).map(|found| Cow::Owned(found.into_owned()))
                    }
                };
            }
            Filter::Lower => match str::from_utf8(&value) {
                Ok(text) => text.to_lowercase().into_bytes(),
                Err(_) => value.to_ascii_lowercase(),
            },
            Filter::Upper => match str::from_utf8(&value) {
                Ok(text) => text.to_uppercase().into_bytes(),
                Err(_) => value.to_ascii_uppercase(),
            },
            Filter::Sha1 => hex(&Sha1::digest(&value)),
            Filter::Md5 => hex(&Md5::digest(&value)),
            Filter::Xxh64 => hex(&xxh64(&value, 0).to_be_bytes()),
            Filter::Hex => hex(&value),
            Filter::Base64 => STANDARD.encode(&value).into_bytes(),
        };
        Some(Cow::Owned(owned))
    }
}

/// The filter in its shortest spelling.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Filter::Lower => "lower",
            Filter::Upper => "upper",
            Filter::Sha1 => "sha1",
            Filter::Md5 => "md5",
            Filter::Xxh64 => "xxh64",
            Filter::Hex => "hex",
            Filter::Base64 => "base64",
            Filter::Json(path) => {
                return write!(f, "json:{}", super::template::escape(path.text()));
            }
            Filter::Default(text) => return write!(f, "default:{}", super::template::escape(text)),
            Filter::Match(regex) => {
                return write!(f, "match:/{}/", regex.as_str().replace('/', "\\/"));
            }
        })
    }
}

fn compile(source: &str, column: usize) -> Result<Regex, TemplateError> {
    RegexBuilder::new(source)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .nest_limit(REGEX_NESTING_MAX)
        .build()
        .map_err(|error| TemplateError::Regex { column, reason: regex_reason(&error) })
}

/// One line of what is wrong with a regex; the library draws it over several.
pub(super) fn regex_reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => {
            format!("it needs more than {REGEX_BYTES_MAX} bytes once compiled")
        }
        other => {
            let text = other.to_string();
            let line = text.lines().last().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    }
}

fn first_match<'a>(regex: &Regex, value: Cow<'a, [u8]>) -> Option<Cow<'a, [u8]>> {
    let captures = regex.captures(&value)?;
    let found = if captures.len() > 1 { captures.get(1) } else { captures.get(0) }?.range();
    match value {
        Cow::Borrowed(bytes) => bytes.get(found).map(Cow::Borrowed),
        Cow::Owned(bytes) => bytes.get(found).map(|part| Cow::Owned(part.to_vec())),
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'?');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: Filter, from: &[u8], to: Option<&str>) {
        let made = filter.apply(Some(Cow::Borrowed(from)));
        assert_eq!(made.as_deref(), to.map(str::as_bytes), "{filter} of {from:?}");
    }

    #[test]
    fn values() {
        check(Filter::Lower, "ÄB İ ΟΔΟΣ".as_bytes(), Some("äb i\u{307} οδος"));
        check(Filter::Upper, "straße".as_bytes(), Some("STRASSE"));
        check(Filter::Sha1, b"abc", Some("a9993e364706816aba3e25717850c26c9cd0d89d"));
        check(Filter::Md5, b"abc", Some("900150983cd24fb0d6963f7d28e17f72"));
        check(Filter::Xxh64, b"", Some("ef46db3751d8e999"));
        check(Filter::Xxh64, b"abc", Some("44bc2cf5ad770999"));
        check(Filter::Hex, b"\x00\x7f\xff", Some("007fff"));
        check(Filter::Base64, b"\xfb\xff\xfe\x00", Some("+//+AA=="));
        check(Filter::Default("x".to_owned()), b"", Some(""));
        check(Filter::Match(Regex::new("[0-9]+").unwrap()), b"ab12cd34", Some("12"));
        check(Filter::Match(Regex::new("([a-z])([0-9])").unwrap()), b"ab12cd34", Some("b"));
        check(Filter::Match(Regex::new("a(x)?").unwrap()), b"ab", None);
        check(Filter::Match(Regex::new("[0-9]").unwrap()), b"ab", None);
    }

    #[test]
    fn bytes_that_are_no_text_change_case_as_ascii() {
        let lower = Filter::Lower.apply(Some(Cow::Borrowed(b"A\xc4\xff")));
        assert_eq!(lower.as_deref(), Some(&b"a\xc4\xff"[..]));
        let upper = Filter::Upper.apply(Some(Cow::Borrowed(b"a\xe4\xff")));
        assert_eq!(upper.as_deref(), Some(&b"A\xe4\xff"[..]));
    }

    #[test]
    fn null_passes_all_but_default() {
        for filter in [Filter::Lower, Filter::Sha1, Filter::Hex, Filter::Base64] {
            assert_eq!(filter.apply(None), None);
        }
        let made = Filter::Default("none".to_owned()).apply(None);
        assert_eq!(made.as_deref(), Some(&b"none"[..]));
    }
}
