//! Paths into JSON text, for the filter `json:`. Pure, and bounded: nothing is built, and nesting is limited.
//!
//! ```text
//! path = "$" *( "." name / "[" number "]" )         ; a name has letters, digits, _ and -
//! ```
//!
//! What a path leads to: of a string its characters, of a number, `true` and `false` the text as it stands there, of an
//! object or an array likewise; NULL where it leads nowhere, to `null`, or where the text is no JSON. Of a name that comes twice
//! in an object, the first one counts.

use std::borrow::Cow;

/// MySQL's own bound; MariaDB's is lower.
const DEPTH_MAX: usize = 100;
/// Steps of a path.
const STEPS_MAX: usize = 32;

/// A path, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    At(usize),
}

impl Path {
    /// `None` if `text` is no path.
    pub(super) fn parse(text: &str) -> Option<Path> {
        let mut steps = Vec::new();
        let mut rest = text.strip_prefix('$')?;
        while !rest.is_empty() {
            if let Some(named) = rest.strip_prefix('.') {
                let is_name = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-');
                let end = named.find(|char| !is_name(char)).unwrap_or(named.len());
                let (name, behind) = named.split_at_checked(end)?;
                if name.is_empty() {
                    return None;
                }
                steps.push(Step::Name(name.to_owned()));
                rest = behind;
            } else {
                let (number, behind) = rest.strip_prefix('[')?.split_once(']')?;
                let digits = number.bytes().all(|byte| byte.is_ascii_digit());
                steps.push(Step::At(number.parse().ok().filter(|_| digits)?));
                rest = behind;
            }
        }
        (steps.len() <= STEPS_MAX).then(|| Path { text: text.to_owned(), steps })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What it leads to in `json`.
    pub(super) fn find<'a>(&self, json: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let mut at = Scanner { rest: json };
        for step in &self.steps {
            at.enter(step)?;
        }
        at.blanks();
        let value = at.rest;
        if value.first() == Some(&b'"') {
            return Some(match at.string()? {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            });
        }
        at.skip(0)?;
        let length = value.len().saturating_sub(at.rest.len());
        value.get(..length).filter(|text| *text != b"null").map(Cow::Borrowed)
    }
}

/// What is left of a text.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn blanks(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Past `byte`, which may have blanks before it; false if something else is there.
    fn passes(&mut self, byte: u8) -> bool {
        self.blanks();
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// To the value that `step` leads to.
    fn enter(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::Name(wanted) => {
                self.passes(b'{').then_some(())?;
                loop {
                    self.blanks();
                    let name = self.string()?;
                    self.passes(b':').then_some(())?;
                    if name == *wanted {
                        return Some(());
                    }
                    self.skip(0)?;
                    self.passes(b',').then_some(())?;
                }
            }
            Step::At(index) => {
                self.passes(b'[').then_some(())?;
                for _ in 0..*index {
                    self.skip(0)?;
                    self.passes(b',').then_some(())?;
                }
                self.blanks();
                (self.rest.first() != Some(&b']')).then_some(())
            }
        }
    }

    /// Past a value.
    fn skip(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        let depth = depth.saturating_add(1);
        self.blanks();
        match self.rest.first()? {
            b'"' => self.string().map(drop),
            b'{' => {
                self.passes(b'{');
                self.members(b'}', |inside| {
                    inside.blanks();
                    inside.string()?;
                    inside.passes(b':').then_some(())?;
                    inside.skip(depth)
                })
            }
            b'[' => {
                self.passes(b'[');
                self.members(b']', |inside| inside.skip(depth))
            }
            _ => {
                let is_end = |byte: &u8| {
                    matches!(byte, b',' | b']' | b'}' | b':') || byte.is_ascii_whitespace()
                };
                let end = self.rest.iter().position(is_end).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at_checked(end)?;
                self.rest = rest;
                (!word.is_empty()).then_some(())
            }
        }
    }

    fn members(
        &mut self,
        end: u8,
        mut member: impl FnMut(&mut Scanner<'a>) -> Option<()>,
    ) -> Option<()> {
        if self.passes(end) {
            return Some(());
        }
        loop {
            member(self)?;
            if self.passes(end) {
                return Some(());
            }
            self.passes(b',').then_some(())?;
        }
    }

    /// Past a string; its characters.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        let text = self.rest.strip_prefix(b"\"")?;
        let mut escaped = false;
        let end = text.iter().position(|&byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        let (inside, rest) = text.split_at_checked(end)?;
        self.rest = rest.get(1..)?;
        if !inside.contains(&b'\\') {
            return str::from_utf8(inside).ok().map(Cow::Borrowed);
        }
        unescaped(str::from_utf8(inside).ok()?).map(Cow::Owned)
    }
}

/// Without its backslashes.
fn unescaped(text: &str) -> Option<String> {
    let mut units = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let plain = match (char, if char == '\\' { chars.next()? } else { ' ' }) {
            ('\\', 'u') => {
                let digits = chars.as_str().get(..4)?;
                chars.nth(3)?;
                units.push(u16::from_str_radix(digits, 16).ok()?);
                continue;
            }
            ('\\', 'b') => '\u{8}',
            ('\\', 'f') => '\u{c}',
            ('\\', 'n') => '\n',
            ('\\', 'r') => '\r',
            ('\\', 't') => '\t',
            ('\\', other @ ('"' | '\\' | '/')) => other,
            ('\\', _) => return None,
            (other, _) => other,
        };
        units.extend(plain.encode_utf16(&mut [0; 2]).iter());
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(path: &str, json: &str) -> Option<String> {
        let found = Path::parse(path).unwrap().find(json.as_bytes())?;
        Some(String::from_utf8(found.into_owned()).unwrap())
    }

    #[test]
    fn values() {
        let json = r#" {"a": {"b": [1, 2.50, "x\u00e4\n\"y", true, null, {"c": []}, ""]}, "d-e_f": -0e1, "a": 2} "#;
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(found(path, json).as_deref(), expected, "{path}");
        };
        check("$.a.b[0]", Some("1"));
        check("$.a.b[1]", Some("2.50"));
        check("$.a.b[2]", Some("xä\n\"y"));
        check("$.a.b[3]", Some("true"));
        check("$.a.b[4]", None);
        check("$.a.b[5]", Some(r#"{"c": []}"#));
        check("$.a.b[5].c[0]", None);
        check("$.a.b[6]", Some(""));
        check("$.a.b[7]", None);
        check("$.d-e_f", Some("-0e1"));
        check("$.nothing", None);
        check("$.a[0]", None);
        check("$.d-e_f.g", None);
        assert_eq!(found("$", " 7 ").as_deref(), Some("7"));
        assert_eq!(found("$", ""), None);
        assert_eq!(found("$.a", "{\"a\""), None);
    }

    #[test]
    fn paths() {
        for path in
            ["", "a", "$a", "$.", "$..a", "$[", "$[]", "$[-1]", "$[+1]", "$.a[1", "$.*", "$ .a"]
        {
            assert_eq!(Path::parse(path), None, "{path}");
        }
        assert_eq!(Path::parse(&format!("${}", ".a".repeat(STEPS_MAX + 1))), None);
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(100_000);
        assert_eq!(found("$", &deep), None);
        assert_eq!(found("$[1]", &format!("[{deep}")), None);
    }

    proptest! {
        #[test]
        fn never_panics(json in "[\\[\\]{}\",:a1 \\\\]{0,40}", path in "\\$(\\.a|\\[[01]\\]){0,3}") {
            drop(found(&path, &json));
        }
    }
}
