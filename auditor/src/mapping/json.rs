//! Paths into JSON text, on the auditor's own account: `serde_json` tells where a value ends, and nothing is built.

use serde::{Deserialize, de::IgnoredAny};

/// What `path` (`$.owner.ids[0]`) leads to: the characters of a string, else the text as it stands there; `None` for
/// `null`, and where it leads nowhere.
pub(super) fn find(path: &str, text: &[u8]) -> Option<Vec<u8>> {
    let mut rest = text;
    let mut steps = path.strip_prefix('$')?;
    while !steps.is_empty() {
        if let Some(named) = steps.strip_prefix('.') {
            let end = named.find(['.', '[']).unwrap_or(named.len());
            let (name, behind) = named.split_at_checked(end)?;
            rest = member(rest, name)?;
            steps = behind;
        } else {
            let (number, behind) = steps.strip_prefix('[')?.split_once(']')?;
            rest = element(rest, number.parse().ok()?)?;
            steps = behind;
        }
    }
    let rest = rest.trim_ascii_start();
    if rest.first() == Some(&b'"') {
        return first::<String>(rest).map(|(found, _)| found.into_bytes());
    }
    let ((), behind) = skipped(rest)?;
    let found = rest.get(..rest.len().saturating_sub(behind.len()))?;
    (found != b"null").then(|| found.to_vec())
}

fn member<'a>(text: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut rest = text.trim_ascii_start().strip_prefix(b"{")?;
    loop {
        let (name, behind) = first::<String>(rest.trim_ascii_start())?;
        let value = behind.trim_ascii_start().strip_prefix(b":")?;
        if name == wanted {
            return Some(value);
        }
        let ((), behind) = skipped(value.trim_ascii_start())?;
        rest = behind.trim_ascii_start().strip_prefix(b",")?;
    }
}

fn element(text: &[u8], wanted: usize) -> Option<&[u8]> {
    let mut rest = text.trim_ascii_start().strip_prefix(b"[")?;
    for _ in 0..wanted {
        let ((), behind) = skipped(rest.trim_ascii_start())?;
        rest = behind.trim_ascii_start().strip_prefix(b",")?;
    }
    (!rest.trim_ascii_start().starts_with(b"]")).then_some(rest)
}

fn skipped(text: &[u8]) -> Option<((), &[u8])> {
    first::<IgnoredAny>(text).map(|(_, behind)| ((), behind))
}

/// The first value of `text`, and what stands behind it.
fn first<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Option<(T, &'a [u8])> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, text.get(values.byte_offset()..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_panics(
            path in "\\$?(\\.[a-z]{0,2}|\\[[0-9]{0,3}\\]){0,4}",
            text in "[\\[\\]{}:,\"a-c0-9. e+-]{0,30}",
            bytes in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            drop(find(&path, text.as_bytes()));
            drop(find(&path, &bytes));
        }
    }

    fn check(path: &str, text: &str, expected: Option<&str>) {
        let found = find(path, text.as_bytes()).map(|found| String::from_utf8(found).unwrap());
        assert_eq!(found.as_deref(), expected, "{path} of {text}");
    }

    #[test]
    fn paths() {
        let text =
            r#"{"a": {"b c": 1}, "owner": {"ids": [1500.0, "x\n", null, [1, 2]]}, "t": true}"#;
        check("$.owner.ids[0]", text, Some("1500.0"));
        check("$.owner.ids[1]", text, Some("x\n"));
        check("$.owner.ids[2]", text, None);
        check("$.owner.ids[3]", text, Some("[1, 2]"));
        check("$.owner.ids[4]", text, None);
        check("$.t", text, Some("true"));
        check("$.none", text, None);
        check("$.a.b", text, None);
        check("$", "7", Some("7"));
        check("$", "", None);
        check("$[0]", "[]", None);
    }
}
