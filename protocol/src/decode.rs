//! [`Decoder`]: takes whole replies off the front of a buffer.
//!
//! ```text
//! reply = line / *(value) END / *(STAT name SP text CRLF) END / refusal
//! value = "VALUE" SP key SP flags SP bytes [SP cas] CRLF data CRLF
//! refusal = ("ERROR" / "CLIENT_ERROR" / "SERVER_ERROR") [text] CRLF
//! ```
//!
//! A refusal may also stand where the next `VALUE` or `STAT` would: what came before it is then void.
//! However the same bytes are cut into reads, the same replies come out. An error takes nothing off the
//! buffer, so asking again gives the same error; there is no way to find the next reply after one.
//!
//! Limits: a line has at most [`LINE_BYTES_MAX`] bytes; one reply is bounded by [`Limits`].

use bytes::{Buf, BytesMut};
use schemas::key::{KEY_BYTES_MAX, Key};

use crate::reply::{Expect, Refusal, RefusalKind, Reply, Stat, Value};

/// Longest line of a reply, in bytes, line end included.
pub const LINE_BYTES_MAX: usize = 4096;

/// Length of `VALUE SP key SP flags SP bytes SP cas CRLF` at its longest.
const VALUE_LINE_BYTES_MAX: usize = 5 + 1 + KEY_BYTES_MAX + 1 + 10 + 1 + 20 + 1 + 20 + 2;
const _: () = assert!(VALUE_LINE_BYTES_MAX <= LINE_BYTES_MAX);

/// How much one reply may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest value, in bytes.
    pub value_bytes_max: usize,
    /// All values or statistics of one reply together, in bytes, names and keys included.
    pub reply_bytes_max: usize,
    /// Most lines of statistics.
    pub stats_max: usize,
}

/// Why a connection must be dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No line end within the limit.
    #[error("a line of a reply exceeds {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// A line that does not fit what was asked; its beginning, escaped.
    #[error("the reply {line:?} does not fit {expect:?}")]
    Unexpected { expect: Expect, line: String },
    /// A value that is not followed by a line end.
    #[error("the value of {key} is not followed by a line end")]
    ValueEnd { key: Key },
    /// A value above the limit.
    #[error("a value of {bytes} bytes exceeds the limit of {bytes_max}")]
    ValueTooLarge { bytes: usize, bytes_max: usize },
    /// More values or statistics than were asked for or are allowed.
    #[error("the reply exceeds its limit of {what}")]
    ReplyTooLarge { what: &'static str },
}

/// Takes replies off a buffer; holds the part of a long reply that has come so far.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    values: Vec<Value>,
    stats: Vec<Stat>,
    held_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { value_bytes_max: 8 << 20, reply_bytes_max: 64 << 20, stats_max: 65_536 }
    }
}

impl Decoder {
    /// A decoder at the beginning of a reply.
    pub fn new(limits: Limits) -> Decoder {
        Decoder { limits, values: Vec::new(), stats: Vec::new(), held_bytes: 0 }
    }

    /// Takes the next reply, which answers a request that named `expect`; `Ok(None)` asks for more bytes.
    /// Until a reply is whole, `expect` must stay the same.
    pub fn decode(
        &mut self,
        expect: Expect,
        buf: &mut BytesMut,
    ) -> Result<Option<Reply>, DecodeError> {
        loop {
            let Some(line) = first_line(expect, buf)? else { return Ok(None) };
            let line_bytes = line.len().saturating_add(2);
            let step = match expect {
                Expect::Get { values_max } | Expect::Gets { values_max }
                    if line.starts_with(b"VALUE ") =>
                {
                    self.value(expect, values_max, buf)?
                }
                Expect::Stats if line.starts_with(b"STAT ") => {
                    let stat = parse_stat(line).ok_or_else(|| unexpected(expect, line))?;
                    self.hold_stat(stat)?;
                    buf.advance(line_bytes);
                    Step::More
                }
                _ => {
                    let reply =
                        self.last_line(expect, line).ok_or_else(|| unexpected(expect, line))?;
                    self.clear();
                    buf.advance(line_bytes);
                    Step::Whole(reply)
                }
            };
            match step {
                Step::Whole(reply) => return Ok(Some(reply)),
                Step::More => {}
                Step::Wait => return Ok(None),
            }
        }
    }

    /// The reply that ends with `line`.
    fn last_line(&mut self, expect: Expect, line: &[u8]) -> Option<Reply> {
        match (expect, line) {
            (Expect::Delete, b"DELETED") => Some(Reply::Deleted),
            (Expect::Delete | Expect::Store | Expect::Touch | Expect::Number, b"NOT_FOUND") => {
                Some(Reply::NotFound)
            }
            (Expect::Store, b"STORED") => Some(Reply::Stored),
            (Expect::Store, b"NOT_STORED") => Some(Reply::NotStored),
            (Expect::Store, b"EXISTS") => Some(Reply::Exists),
            (Expect::Touch, b"TOUCHED") => Some(Reply::Touched),
            (Expect::Ok, b"OK") => Some(Reply::Ok),
            (Expect::Get { .. } | Expect::Gets { .. }, b"END") => {
                Some(Reply::Values(std::mem::take(&mut self.values)))
            }
            (Expect::Stats, b"END") => Some(Reply::Stats(std::mem::take(&mut self.stats))),
            _ => parse_refusal(line).map(Reply::Refused).or_else(|| parse_text(expect, line)),
        }
    }

    /// Takes the value block at the front of `buf`, whose first line is whole.
    fn value(
        &mut self,
        expect: Expect,
        values_max: usize,
        buf: &mut BytesMut,
    ) -> Result<Step, DecodeError> {
        let Some(line) = first_line(expect, buf)? else { return Ok(Step::Wait) };
        let line_bytes = line.len().saturating_add(2);
        let header = parse_value_header(expect, line).ok_or_else(|| unexpected(expect, line))?;
        let ValueHeader { key, flags, bytes, cas } = header;
        let bytes_max = self.limits.value_bytes_max;
        if bytes > bytes_max {
            return Err(DecodeError::ValueTooLarge { bytes, bytes_max });
        }
        if self.values.len() >= values_max {
            return Err(DecodeError::ReplyTooLarge { what: "values" });
        }
        let held_bytes = self.room_for(bytes.saturating_add(key.as_bytes().len()))?;
        let data_end = line_bytes.saturating_add(bytes);
        let Some(end) = buf.get(data_end..data_end.saturating_add(2)) else {
            return Ok(Step::Wait);
        };
        if end != b"\r\n" {
            return Err(DecodeError::ValueEnd { key });
        }
        buf.advance(line_bytes);
        let data = buf.split_to(bytes).freeze();
        buf.advance(2);
        self.held_bytes = held_bytes;
        self.values.push(Value { key, flags, cas, data });
        Ok(Step::More)
    }

    fn hold_stat(&mut self, stat: Stat) -> Result<(), DecodeError> {
        if self.stats.len() >= self.limits.stats_max {
            return Err(DecodeError::ReplyTooLarge { what: "statistics" });
        }
        self.held_bytes = self.room_for(stat.name.len().saturating_add(stat.value.len()))?;
        self.stats.push(stat);
        Ok(())
    }

    /// What is held once `bytes` more are.
    fn room_for(&self, bytes: usize) -> Result<usize, DecodeError> {
        Some(self.held_bytes.saturating_add(bytes))
            .filter(|&held_bytes| held_bytes <= self.limits.reply_bytes_max)
            .ok_or(DecodeError::ReplyTooLarge { what: "bytes" })
    }

    fn clear(&mut self) {
        self.values.clear();
        self.stats.clear();
        self.held_bytes = 0;
    }
}

/// How far one line, or one value block, has brought the reply.
enum Step {
    Whole(Reply),
    More,
    Wait,
}

struct ValueHeader {
    key: Key,
    flags: u32,
    bytes: usize,
    cas: Option<u64>,
}

/// The first line without its end; `None` if it is not whole yet.
fn first_line(expect: Expect, buf: &BytesMut) -> Result<Option<&[u8]>, DecodeError> {
    let seen = buf.get(..LINE_BYTES_MAX).unwrap_or(buf);
    match memchr::memchr(b'\n', seen) {
        Some(end) => {
            let line = seen.get(..end).unwrap_or(seen);
            // memcached always sends both; a lone line feed means that we look at something else.
            line.strip_suffix(b"\r").map(Some).ok_or_else(|| unexpected(expect, line))
        }
        None if buf.len() < LINE_BYTES_MAX => Ok(None),
        None => Err(DecodeError::LineTooLong),
    }
}

fn parse_refusal(line: &[u8]) -> Option<Refusal> {
    const WORDS: [(&[u8], RefusalKind); 3] = [
        (b"ERROR", RefusalKind::Unknown),
        (b"CLIENT_ERROR", RefusalKind::Client),
        (b"SERVER_ERROR", RefusalKind::Server),
    ];
    WORDS.iter().find_map(|&(word, kind)| {
        let rest = line.strip_prefix(word)?;
        // `SERVER_ERROR: shutdown not enabled` exists, with a colon.
        let text = if rest.is_empty() {
            rest
        } else {
            rest.strip_prefix(b" ").or(rest.strip_prefix(b":"))?
        };
        Some(Refusal { kind, text: shown(text.trim_ascii()) })
    })
}

fn parse_text(expect: Expect, line: &[u8]) -> Option<Reply> {
    match expect {
        Expect::Version => line.strip_prefix(b"VERSION ").map(|text| Reply::Version(shown(text))),
        Expect::Number => parse_u64(line).map(Reply::Number),
        _ => None,
    }
}

fn parse_value_header(expect: Expect, line: &[u8]) -> Option<ValueHeader> {
    let mut words = line.strip_prefix(b"VALUE ")?.split(|&byte| byte == b' ');
    let key = Key::new(words.next()?.to_vec()).ok()?;
    let flags = parse_u64(words.next()?)?.try_into().ok()?;
    let bytes = parse_u64(words.next()?)?.try_into().ok()?;
    let cas = match expect {
        Expect::Gets { .. } => Some(parse_u64(words.next()?)?),
        _ => None,
    };
    if words.next().is_some() {
        return None;
    }
    Some(ValueHeader { key, flags, bytes, cas })
}

fn parse_stat(line: &[u8]) -> Option<Stat> {
    let text = line.strip_prefix(b"STAT ")?;
    let (name, value) = match memchr::memchr(b' ', text) {
        Some(at) => (text.get(..at)?, text.get(at.checked_add(1)?..)?),
        None => (text, b"".as_slice()),
    };
    if name.is_empty() { None } else { Some(Stat { name: shown(name), value: shown(value) }) }
}

fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None; // `u64::from_str` would accept "+1".
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

fn unexpected(expect: Expect, line: &[u8]) -> DecodeError {
    DecodeError::Unexpected { expect, line: shown(line.get(..SHOWN_BYTES_MAX).unwrap_or(line)) }
}

/// Most bytes of a bad line that go into an error.
const SHOWN_BYTES_MAX: usize = 80;

/// Foreign bytes as text that is safe in a log.
fn shown(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests;
