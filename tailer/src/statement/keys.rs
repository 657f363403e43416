//! Keys that a statement names itself, in a comment. Pure.
//!
//! ```text
//! comment = "/* mcsqueal:" *( blanks key ) blanks "*/"
//! key     = 1*( character / "%" hex hex )     ; %20 is a space, %25 a percent sign, %2a%2f the end of a comment
//! ```
//!
//! Comments count wherever they stand, as many as there are, but not inside of strings and quoted names.

use schemas::key::{Key, KeyError};

/// What a comment begins with, after `/*` and blanks.
const MARK: &[u8] = b"mcsqueal:";
/// Keys of one statement; those behind them are not read, and the caller is told.
pub(crate) const KEYS_MAX: usize = 1000;

/// What was named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) keys: Vec<Key>,
    /// What was meant as a key and can be none, as it was written, and why.
    pub(crate) unusable: Vec<(String, KeyError)>,
    /// There were more than [`KEYS_MAX`].
    pub(crate) cut: bool,
}

/// Reads the comments of a statement.
pub(crate) fn named(statement: &[u8]) -> Named {
    let mut named = Named::default();
    let mut rest = statement;
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\'' | b'"' | b'`', _) => behind_quoted(first, after),
            (b'#', _) => behind_line(after),
            (b'-', [b'-', blank, ..]) if blank.is_ascii_whitespace() => behind_line(after),
            (b'/', [b'*', body @ ..]) => {
                let end = body.windows(2).position(|pair| pair == b"*/").unwrap_or(body.len());
                let (comment, behind) = body.split_at(end);
                if let Some(list) = comment.trim_ascii_start().strip_prefix(MARK) {
                    named.take(list);
                }
                behind.get(2..).unwrap_or_default()
            }
            _ => after,
        };
    }
    named
}

impl Named {
    fn take(&mut self, list: &[u8]) {
        for word in list.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            if self.keys.len().saturating_add(self.unusable.len()) >= KEYS_MAX {
                self.cut = true;
                return;
            }
            match Key::new(unescaped(word)) {
                Ok(key) => self.keys.push(key),
                Err(error) => {
                    self.unusable.push((String::from_utf8_lossy(word).into_owned(), error));
                }
            }
        }
    }
}

/// A percent sign without two digits stands for itself.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut out, mut rest) = (Vec::with_capacity(word.len()), word);
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if let (b'%', [high, low, behind @ ..]) = (first, after)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            out.push((high << 4) | low);
            rest = behind;
        } else {
            out.push(first);
        }
    }
    out
}

fn behind_quoted(quote: u8, text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == quote {
            return rest;
        }
        if first == b'\\' && quote != b'`' {
            rest = after.get(1..).unwrap_or_default();
        }
    }
    rest
}

fn behind_line(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(statement: &str, expect: Expect) {
        let Named { keys, unusable, cut } = named(statement.as_bytes());
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let unusable: Vec<String> =
            unusable.iter().map(|(word, error)| format!("; {word}: {error}")).collect();
        let cut = if cut { "; and more" } else { "" };
        expect.assert_eq(&format!("{}{}{cut}", keys.join(" "), unusable.concat()));
    }

    #[test]
    fn comments() {
        check("UPDATE a SET b = 1", expect![""]);
        check("/* mcsqueal: user:1 user:2 */ UPDATE a SET b = 1", expect!["user:1 user:2"]);
        check("UPDATE a /*mcsqueal:x*/ SET b = 1 /* mcsqueal:\n\ty\tz */", expect!["x y z"]);
        check(
            "/* other */ /* mcsqueal: a%20b a%25 %2a%2f 100% %zz */ DELETE FROM a",
            expect!["a% */ 100% %zz; a%20b: the key contains a space, a line end or a NUL"],
        );
        check(
            "/* mcsqueal: ok a%0ab %00 */ DELETE FROM a",
            expect![
                "ok; a%0ab: the key contains a space, a line end or a NUL; %00: the key contains a space, a line end or a NUL"
            ],
        );
        check("/* mcsqueal: unfinished", expect!["unfinished"]);
    }

    #[test]
    fn texts_name_no_keys() {
        check("INSERT INTO a VALUES ('/* mcsqueal: x */', \"/* mcsqueal: y */\")", expect![""]);
        check("INSERT INTO a VALUES ('\\'/* mcsqueal: x */', '''/* mcsqueal: y */')", expect![""]);
        check(
            "SELECT `/* mcsqueal: x */` -- /* mcsqueal: y */\n# /* mcsqueal: z */\n/* mcsqueal: k */",
            expect!["k"],
        );
        check("SELECT 5--/* mcsqueal: k */4", expect!["k"]);
    }

    #[test]
    fn a_list_has_an_end() {
        let many = format!("/* mcsqueal: {} */", "k ".repeat(KEYS_MAX + 1));
        let Named { keys, cut, .. } = named(many.as_bytes());
        assert_eq!((keys.len(), cut), (KEYS_MAX, true));
    }
}
