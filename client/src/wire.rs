//! The meta commands that a client of cache nodes needs: requests to bytes, bytes to answers. Pure.
//!
//! ```text
//! answer = "VA" SP length flags CRLF data CRLF / code flags CRLF / error CRLF
//!        / "ME" SP key *(SP name "=" text) CRLF
//! code   = "HD" / "EN" / "NS" / "EX" / "NF" / "MN"
//! flags  = *(SP letter [argument])
//! error  = "ERROR" [SP text] / "CLIENT_ERROR" SP text / "SERVER_ERROR" SP text
//! ```
//!
//! Limits: a line has at most [`LINE_BYTES_MAX`], a value at most [`VALUE_BYTES_MAX`]. What is not in the grammar is a
//! [`DecodeError`]: the two sides are out of step, and the connection must be closed. Flags that this client does not
//! know are passed over.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

use bytes::{Buf, BufMut, Bytes, BytesMut};
pub use protocol::reply::LINE_BYTES_MAX;
use protocol::server::{Words, number};
use schemas::{key::Key, version::Version};

/// Longest value, in bytes: the largest that nodes are usually told to take.
pub const VALUE_BYTES_MAX: usize = 1 << 27;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Reads a key; the rest says what else is wanted.
    Get { key: &'a Key, get: Get },
    /// Stores what was read with a lease. `ttl_s` 0 is for ever.
    Fill { key: &'a Key, lease: Lease, ttl_s: u32, kind: ValueKind, value: &'a [u8] },
    /// Gives a lease back unused. A value that is there goes, too.
    Release { key: &'a Key, lease: Lease },
    /// Deletes a key.
    Delete { key: &'a Key },
    /// Says that the key is about to be written.
    Mark { key: &'a Key, nonce: u64 },
    /// Says at which version it was.
    Name { key: &'a Key, nonce: u64, version: Version },
    /// Stores the marker of a stock memcached under a key of its own.
    SetMarker { marker: &'a Key, ttl_s: u32 },
    /// Whether a key is there.
    Peek { key: &'a Key },
    /// Reads a value without any trace: no lease is taken, and it counts as read by nobody.
    Look { key: &'a Key },
    /// Likewise, from a node that knows versions.
    LookVersioned { key: &'a Key },
    /// What memcached knows of an entry, without its value and without any trace.
    Debug { key: &'a Key },
    /// Asks whether the node knows versions: one that does not answers with an error.
    Probe,
}

/// How a key is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Get {
    /// Ask for the right to fill the key if it is missing, for so many seconds.
    pub lease_s: Option<u32>,
    /// Ask for the right to renew a value that has no more than so many seconds left.
    pub renew_s: Option<u32>,
    /// Use what only nodes of ours know: versions, and the hint to read the primary.
    pub versions: Option<AtLeast>,
}

/// The version that a value must contain; [`Version::ZERO`] for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtLeast(pub Version);

/// The right to fill a key: what to show with the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(pub u64);

/// What is stored, told by memcached's client flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// The value itself; flags 0.
    Value,
    /// The database has none: an empty value with flags 1.
    Absent,
}

impl ValueKind {
    /// The client flags of the kind.
    pub const fn flags(self) -> u32 {
        match self {
            ValueKind::Value => 0,
            ValueKind::Absent => 1,
        }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `VA`: a value, or the empty place that is held for one.
    Value(Found),
    /// `ME`: an entry is there; its CAS.
    Known { cas: u64 },
    /// `HD`, `MN`: done.
    Done,
    /// `EN`: nothing is there.
    Missing(Hint),
    /// `NS`.
    NotStored,
    /// `EX`.
    Exists,
    /// `NF`.
    NotFound,
    /// The node refused; the text is for people.
    Refused(String),
}

/// A value, and what the node says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The bytes.
    pub data: Bytes,
    /// Memcached's client flags (`f`).
    pub flags: u32,
    /// Its CAS (`c`): the lease, if this reader has it.
    pub cas: u64,
    /// The version that it contains (`V`).
    pub version: Option<Version>,
    /// Who renews it (`W`, `Z`).
    pub turn: Turn,
    /// How old it may be (`X`, `D`).
    pub age: Age,
    /// Where to read (`G`).
    pub hint: Hint,
}

/// Who renews a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Nobody needs to.
    #[default]
    Nobody,
    /// This reader (`W`).
    Ours,
    /// Somebody else (`Z`).
    Theirs,
}

/// How old a value may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Age {
    /// As new as the rules of the node promise.
    #[default]
    Current,
    /// The node has lost its stream, and does not know (`D`).
    Unknown,
    /// It is outdated (`X`): never to be stored again.
    Old,
}

/// Where to read what is not cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hint {
    /// Wherever the reader usually does.
    #[default]
    None,
    /// The replicas lack the last change of the key (`G`).
    Primary,
}

/// Bytes that are no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No line end within the limit.
    #[error("the answer's line exceeds {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// A value beyond the limit.
    #[error("the value exceeds {VALUE_BYTES_MAX} bytes")]
    ValueTooLong,
    /// A line that is not in the grammar.
    #[error("malformed answer {line:?}")]
    Malformed { line: String },
}

impl Request<'_> {
    /// Appends the request to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Request::Get { key, get } => {
                put(out, &[b"mg ", key.as_bytes(), b" v c f"]);
                if let Some(seconds) = get.lease_s {
                    put_number(out, b" N", u64::from(seconds));
                }
                if let Some(seconds) = get.renew_s {
                    put_number(out, b" R", u64::from(seconds));
                }
                match get.versions {
                    None => {}
                    Some(AtLeast(Version::ZERO)) => out.put_slice(b" V G"),
                    Some(AtLeast(version)) => {
                        put_number(out, b" V", version.bits());
                        out.put_slice(b" G");
                    }
                }
            }
            Request::Fill { key, lease, ttl_s, kind, value } => {
                put(out, &[b"ms ", key.as_bytes(), b" "]);
                out.put_slice(value.len().to_string().as_bytes());
                put_number(out, b" C", lease.0);
                put_number(out, b" T", u64::from(*ttl_s));
                put_number(out, b" F", u64::from(kind.flags()));
                put(out, &[b"\r\n", value]);
            }
            Request::Release { key, lease } => {
                put(out, &[b"md ", key.as_bytes()]);
                put_number(out, b" C", lease.0);
            }
            Request::Delete { key } => put(out, &[b"md ", key.as_bytes()]),
            Request::Mark { key, nonce } => {
                put(out, &[b"md ", key.as_bytes()]);
                put_number(out, b" m", *nonce);
            }
            Request::Name { key, nonce, version } => {
                put(out, &[b"md ", key.as_bytes()]);
                put_number(out, b" m", *nonce);
                put_number(out, b" V", version.bits());
            }
            Request::SetMarker { marker, ttl_s } => {
                put(out, &[b"ms ", marker.as_bytes(), b" 1"]);
                put_number(out, b" T", u64::from(*ttl_s));
                out.put_slice(b"\r\n1");
            }
            Request::Peek { key } => put(out, &[b"mg ", key.as_bytes()]),
            Request::Look { key } => put(out, &[b"mg ", key.as_bytes(), b" v c f u"]),
            Request::LookVersioned { key } => put(out, &[b"mg ", key.as_bytes(), b" v c f u V"]),
            Request::Debug { key } => put(out, &[b"me ", key.as_bytes()]),
            Request::Probe => out.put_slice(b"mg mcsqueal-probe V"),
        }
        out.put_slice(b"\r\n");
    }
}

fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        out.put_slice(part);
    }
}

fn put_number(out: &mut BytesMut, before: &[u8], number: u64) {
    put(out, &[before, number.to_string().as_bytes()]);
}

/// Takes one answer off the front of `buf`; `Ok(None)` asks for more bytes.
///
/// Whatever way the same bytes are cut into reads, the same answers come out.
pub fn decode(buf: &mut BytesMut) -> Result<Option<Answer>, DecodeError> {
    let head = buf.get(..buf.len().min(LINE_BYTES_MAX)).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', head) else {
        return if buf.len() < LINE_BYTES_MAX { Ok(None) } else { Err(DecodeError::LineTooLong) };
    };
    let line = head.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = Words::new(line);
    let answer = match words.next() {
        Some(b"VA") => return decode_value(buf, end),
        Some(b"HD" | b"MN") => Answer::Done,
        Some(b"EN") => {
            let primary = words.any(|word| word == b"G");
            Answer::Missing(if primary { Hint::Primary } else { Hint::None })
        }
        Some(b"ME") => {
            let mut facts = words.filter_map(|word| word.strip_prefix(b"cas="));
            let cas = facts.next().and_then(number).ok_or_else(|| malformed(line))?;
            Answer::Known { cas }
        }
        Some(b"NS") => Answer::NotStored,
        Some(b"EX") => Answer::Exists,
        Some(b"NF") => Answer::NotFound,
        Some(b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR") => {
            Answer::Refused(String::from_utf8_lossy(line).into_owned())
        }
        _ => return Err(malformed(line)),
    };
    buf.advance(end.saturating_add(1));
    Ok(Some(answer))
}

fn decode_value(buf: &mut BytesMut, end: usize) -> Result<Option<Answer>, DecodeError> {
    let line = buf.get(..end).unwrap_or_default();
    let (length, mut found) = value_line(line).ok_or_else(|| malformed(line))?;
    if length > VALUE_BYTES_MAX {
        return Err(DecodeError::ValueTooLong);
    }
    let data_at = end.saturating_add(1);
    let data_end = data_at.saturating_add(length);
    let Some(after) = buf.get(data_end..data_end.saturating_add(2)) else { return Ok(None) };
    if after != b"\r\n" {
        return Err(malformed(line));
    }
    let whole = buf.split_to(data_end.saturating_add(2)).freeze();
    found.data = whole.slice(data_at..data_end);
    Ok(Some(Answer::Value(found)))
}

/// The length of the data, and everything but the data.
fn value_line(line: &[u8]) -> Option<(usize, Found)> {
    let line = line.strip_suffix(b"\r")?;
    let mut words = Words::new(line).skip(1);
    let length = number(words.next()?)?;
    let mut found = Found::default();
    for word in words {
        let (letter, argument) = word.split_first()?;
        match (letter, argument) {
            (b'W', b"") => found.turn = Turn::Ours,
            (b'Z', b"") if found.turn == Turn::Nobody => found.turn = Turn::Theirs,
            (b'X', b"") => found.age = Age::Old,
            (b'D', b"") if found.age == Age::Current => found.age = Age::Unknown,
            (b'G', b"") => found.hint = Hint::Primary,
            (b'c', _) => found.cas = number(argument)?,
            (b'f', _) => found.flags = number(argument)?,
            (b'V', _) => found.version = Some(Version::from_bits(number(argument)?)),
            _ => {}
        }
    }
    Some((length, found))
}

fn malformed(line: &[u8]) -> DecodeError {
    let line = line.get(..line.len().min(100)).unwrap_or_default();
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
                    Ok(Some(answer)) => out.push(said(&answer)),
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

    fn said(answer: &Answer) -> String {
        let Answer::Value(found) = answer else { return format!("{answer:?}") };
        let Found { data, flags, cas, version, turn, age, hint } = found;
        let version = version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        format!("{data:?} flags {flags} cas {cas} version {version} {turn:?} {age:?} {hint:?}")
    }

    #[test]
    fn requests() {
        let key = Key::new("k").unwrap();
        let version = Version::new(1, 7).unwrap();
        let get = |lease_s, renew_s, versions| Request::Get {
            key: &key,
            get: Get { lease_s, renew_s, versions },
        };
        let mut out = BytesMut::new();
        for request in [
            get(None, None, None),
            get(Some(10), Some(5), Some(AtLeast(Version::ZERO))),
            get(Some(10), None, Some(AtLeast(version))),
            Request::Fill {
                key: &key,
                lease: Lease(9),
                ttl_s: 60,
                kind: ValueKind::Value,
                value: b"v",
            },
            Request::Fill {
                key: &key,
                lease: Lease(9),
                ttl_s: 5,
                kind: ValueKind::Absent,
                value: b"",
            },
            Request::Release { key: &key, lease: Lease(9) },
            Request::Delete { key: &key },
            Request::Mark { key: &key, nonce: 3 },
            Request::Name { key: &key, nonce: 3, version },
            Request::SetMarker { marker: &key, ttl_s: 30 },
            Request::Peek { key: &key },
            Request::Look { key: &key },
            Request::LookVersioned { key: &key },
            Request::Debug { key: &key },
            Request::Probe,
        ] {
            request.encode(&mut out);
        }
        let text = String::from_utf8(out.to_vec()).unwrap().replace("\r\n", "\n");
        expect![[r"
            mg k v c f
            mg k v c f N10 R5 V G
            mg k v c f N10 V281474976710663 G
            ms k 1 C9 T60 F0
            v
            ms k 0 C9 T5 F1

            md k C9
            md k
            md k m3
            md k m3 V281474976710663
            ms k 1 T30
            1
            mg k
            mg k v c f u
            mg k v c f u V
            me k
            mg mcsqueal-probe V
        "]]
        .assert_eq(&text);
    }

    #[test]
    fn answers() {
        check(
            b"VA 0 c7001 f0 W G\r\n\r\nVA 3 c7002 f1 V281474976710663\r\nAnn\r\nVA 0 c1 f0 Z X\r\n\r\n",
            expect![[r#"
                b"" flags 0 cas 7001 version - Ours Current Primary
                b"Ann" flags 1 cas 7002 version 1.7 Nobody Current None
                b"" flags 0 cas 1 version - Theirs Old None"#]],
        );
        check(
            b"VA 4 D kxyz\r\n\r\nEN\r\nEN\r\nEN G\r\nHD\r\nMN\r\nNS\r\nEX\r\nNF\r\nCLIENT_ERROR invalid flag\r\nER",
            expect![[r#"
                b"\r\nEN" flags 0 cas 0 version - Nobody Unknown None
                Missing(None)
                Missing(Primary)
                Done
                Done
                NotStored
                Exists
                NotFound
                Refused("CLIENT_ERROR invalid flag")
                2 bytes left"#]],
        );
    }

    #[test]
    fn refusals() {
        check(b"VALUE k 0 1\r\n", expect![[r#"error: malformed answer "VALUE k 0 1""#]]);
        check(b"VA x\r\n", expect![[r#"error: malformed answer "VA x\\r""#]]);
        check(b"VA 1 c+2\r\n", expect![[r#"error: malformed answer "VA 1 c+2\\r""#]]);
        check(b"VA 1\r\nabc", expect![[r#"error: malformed answer "VA 1\\r""#]]);
        check(b"VA 99999999999\r\n", expect!["error: the value exceeds 134217728 bytes"]);
        check(&[b'x'; LINE_BYTES_MAX + 1], expect!["error: the answer's line exceeds 2048 bytes"]);
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
