//! Replies.
//!
//! ```text
//! reply = line CRLF / "VALUE" SP key SP flags SP length [SP cas] CRLF data CRLF
//! line  = "STORED" / "NOT_STORED" / "EXISTS" / "NOT_FOUND" / "DELETED" / "TOUCHED" / "OK" / "END"
//!       / "VERSION" SP text / "STAT" SP name SP text
//!       / "ERROR" [SP text] / "CLIENT_ERROR" SP text / "SERVER_ERROR" SP text
//! ```
//!
//! Limits: a line has at most [`LINE_BYTES_MAX`], a value at most [`VALUE_BYTES_MAX`]. What is not in the grammar is
//! a [`DecodeError`]: the two sides are out of step, and the connection must be closed.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

use bytes::{Buf, Bytes, BytesMut};

use crate::server::number;

/// Longest line, in bytes, line end included.
pub const LINE_BYTES_MAX: usize = 2048;
/// Longest value, in bytes: memcached's largest `-I`.
pub const VALUE_BYTES_MAX: usize = 1 << 30;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Stored,
    NotStored,
    Exists,
    NotFound,
    Deleted,
    Touched,
    Ok,
    End,
    /// One value of a `get`.
    Value {
        key: Bytes,
        flags: u32,
        cas: Option<u64>,
        data: Bytes,
    },
    Version(String),
    Stat {
        name: String,
        value: String,
    },
    /// The server refused; the text is for people.
    Error(String),
}

/// Bytes that are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No line end within the limit.
    #[error("reply line exceeds {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// A value beyond the limit.
    #[error("value exceeds {VALUE_BYTES_MAX} bytes")]
    ValueTooLong,
    /// A line that is not in the grammar.
    #[error("malformed reply {line:?}")]
    Malformed { line: String },
}

/// Takes one reply off the front of `buf`; `Ok(None)` asks for more bytes.
///
/// Whatever way the same bytes are cut into reads, the same replies come out.
pub fn decode(buf: &mut BytesMut) -> Result<Option<Reply>, DecodeError> {
    let head = buf.get(..buf.len().min(LINE_BYTES_MAX)).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', head) else {
        return if buf.len() < LINE_BYTES_MAX { Ok(None) } else { Err(DecodeError::LineTooLong) };
    };
    let line = buf
        .get(..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .ok_or_else(|| malformed(buf, end))?;
    let reply = match line {
        b"DELETED" => Reply::Deleted,
        b"NOT_FOUND" => Reply::NotFound,
        b"STORED" => Reply::Stored,
        b"NOT_STORED" => Reply::NotStored,
        b"EXISTS" => Reply::Exists,
        b"TOUCHED" => Reply::Touched,
        b"OK" => Reply::Ok,
        b"END" => Reply::End,
        b"ERROR" => Reply::Error("ERROR".to_owned()),
        _ if line.starts_with(b"VALUE ") => return decode_value(buf, end),
        _ => text(line).ok_or_else(|| malformed(buf, end))?,
    };
    buf.advance(end.saturating_add(1));
    Ok(Some(reply))
}

fn text(line: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(line);
    if let Some(version) = text.strip_prefix("VERSION ") {
        return Some(Reply::Version(version.to_owned()));
    }
    if let Some(stat) = text.strip_prefix("STAT ") {
        let (name, value) = stat.split_once(' ').unwrap_or((stat, ""));
        return Some(Reply::Stat { name: name.to_owned(), value: value.to_owned() });
    }
    let errors = ["ERROR ", "CLIENT_ERROR ", "SERVER_ERROR"];
    errors.iter().any(|error| text.starts_with(error)).then(|| Reply::Error(text.into_owned()))
}

fn decode_value(buf: &mut BytesMut, end: usize) -> Result<Option<Reply>, DecodeError> {
    let line = buf.get(..end).unwrap_or_default();
    let parsed = parse_value_line(line).ok_or_else(|| malformed(buf, end))?;
    let (key, flags, length, cas) = parsed;
    if length > VALUE_BYTES_MAX {
        return Err(DecodeError::ValueTooLong);
    }
    let data_at = end.saturating_add(1);
    let data_end = data_at.saturating_add(length);
    let Some(after) = buf.get(data_end..data_end.saturating_add(2)) else {
        return Ok(None);
    };
    if after != b"\r\n" {
        return Err(malformed(buf, end));
    }
    let key_at = "VALUE ".len();
    let whole = buf.split_to(data_end.saturating_add(2)).freeze();
    let (key, data) =
        (whole.slice(key_at..key_at.saturating_add(key)), whole.slice(data_at..data_end));
    Ok(Some(Reply::Value { key, flags, cas, data }))
}

/// Length of the key, flags, length of the data, CAS.
fn parse_value_line(line: &[u8]) -> Option<(usize, u32, usize, Option<u64>)> {
    let line = line.strip_suffix(b"\r")?;
    let mut words = line.split(|&byte| byte == b' ').skip(1);
    let (key, flags, length) = (words.next()?, words.next()?, words.next()?);
    let cas = words.next().map(number::<u64>);
    let well_formed = !key.is_empty() && words.next().is_none() && cas != Some(None);
    well_formed.then_some((key.len(), number(flags)?, number(length)?, cas.flatten()))
}

fn malformed(buf: &[u8], end: usize) -> DecodeError {
    let line = buf.get(..end.min(100)).unwrap_or_default();
    DecodeError::Malformed { line: line.escape_ascii().to_string() }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    /// Decodes `input` whole and cut at every byte, and demands the same outcome each time.
    fn check(input: &[u8], expect: Expect) {
        let whole = decode_reads(&[input]);
        for (at, _) in input.iter().enumerate() {
            let (head, tail) = input.split_at(at);
            assert_eq!(decode_reads(&[head, tail]), whole, "cut at {at}");
        }
        expect.assert_eq(&whole.join("\n"));
    }

    fn decode_reads(reads: &[&[u8]]) -> Vec<String> {
        let (mut buf, mut out) = (BytesMut::new(), Vec::new());
        for read in reads {
            buf.extend_from_slice(read);
            loop {
                match decode(&mut buf) {
                    Ok(Some(reply)) => out.push(format!("{reply:?}")),
                    Ok(None) => break,
                    Err(err) => {
                        out.push(format!("error: {err}"));
                        return out;
                    }
                }
            }
        }
        if !buf.is_empty() {
            out.push(format!("{} bytes left", buf.len()));
        }
        out
    }

    #[test]
    fn replies() {
        check(
            b"DELETED\r\nNOT_FOUND\r\nSTORED\r\nOK\r\nERR",
            expect![[r"
            Deleted
            NotFound
            Stored
            Ok
            3 bytes left"]],
        );
        check(
            b"VALUE a 7 4\r\n\r\nEN\r\nVALUE b 0 0 12\r\n\r\nEND\r\n",
            expect![[r#"
            Value { key: b"a", flags: 7, cas: None, data: b"\r\nEN" }
            Value { key: b"b", flags: 0, cas: Some(12), data: b"" }
            End"#]],
        );
        check(
            b"VERSION 1.6.45\r\nSTAT pid 7\r\nSERVER_ERROR out of memory\r\nERROR\r\n",
            expect![[r#"
            Version("1.6.45")
            Stat { name: "pid", value: "7" }
            Error("SERVER_ERROR out of memory")
            Error("ERROR")"#]],
        );
    }

    #[test]
    fn refusals() {
        check(b"deleted\r\n", expect![[r#"error: malformed reply "deleted\\r""#]]);
        check(b"DELETED\n", expect![[r#"error: malformed reply "DELETED""#]]);
        check(b"VALUE a 7\r\n", expect![[r#"error: malformed reply "VALUE a 7\\r""#]]);
        check(b"VALUE a 7 1\r\nabc", expect![[r#"error: malformed reply "VALUE a 7 1\\r""#]]);
        check(b"VALUE a 7 99999999999\r\n", expect!["error: value exceeds 1073741824 bytes"]);
        check(&[b'x'; LINE_BYTES_MAX + 1], expect!["error: reply line exceeds 2048 bytes"]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), ending in "\r\n") {
            let mut buf = BytesMut::from(&bytes[..]);
            buf.extend_from_slice(ending.as_bytes());
            while let Ok(Some(_)) = decode(&mut buf) {}
        }
    }
}
