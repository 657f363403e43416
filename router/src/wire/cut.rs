//! Where a node's reply ends, and what it says. Values are stepped over by their length, never looked at.
//!
//! ```text
//! values = *( ("VALUE" / "LVALUE") SP key *(SP number) CRLF data CRLF ) ("END" / "NOT_FOUND_HOT" / error) CRLF
//! line   = one line, whatever it says
//! meta   = "VA" SP length *(SP flag) CRLF data CRLF / one line
//! block  = *(line CRLF) ("END" / "OK" / "RESET" / error) CRLF
//! ```
//!
//! Limits: a line has at most [`LINE_BYTES_MAX`], a value at most [`VALUE_BYTES_MAX`]. What is not in the grammar is [`Wrong`]: the two
//! sides are out of step, and the connection is of no use any more.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

use protocol::{
    reply::{LINE_BYTES_MAX, VALUE_BYTES_MAX},
    server::number,
};

/// What the reply to a command looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Of `get` and its kin.
    Values,
    /// Of everything else in text.
    Line,
    /// Of meta commands.
    Meta,
    /// Of `stats`.
    Block,
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// At least one value; of a meta read, the key is there.
    Hit,
    /// No value, and nothing else is wrong.
    Miss,
    /// It is done: stored, deleted, touched, counted.
    Done,
    /// `add`, `replace` and their kin, with the condition not met.
    NotStored,
    /// Another CAS.
    Exists,
    /// There is no such key.
    NotFound,
    /// The client is to blame.
    ClientError,
    /// The node is to blame, and says so.
    ServerError,
    /// The node does not know the command.
    Unknown,
}

/// One reply at the front of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub bytes: usize,
    pub said: Said,
    /// How many values it has.
    pub values: usize,
}

/// Bytes that are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed reply {line:?}")]
pub struct Wrong {
    line: String,
}

/// Finds replies, and remembers how far it has looked.
#[derive(Clone, Debug, Default)]
pub struct Cutter {
    /// Where the next line begins, within the reply.
    line_at: usize,
    /// So many bytes of that line hold no line end.
    scanned: usize,
    values: usize,
    wanted: usize,
}

impl Cutter {
    /// How many bytes the buffer must hold before [`Cutter::next`] can say more; 0 if that is not known.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Looks at the front of `buf`; `None` asks for more bytes. The caller drops what was cut before he asks again.
    pub fn next(&mut self, shape: Shape, buf: &[u8]) -> Result<Option<Cut>, Wrong> {
        if buf.len() < self.wanted {
            return Ok(None);
        }
        loop {
            let rest = buf.get(self.line_at..).unwrap_or_default();
            let unseen = rest.get(self.scanned..).unwrap_or_default();
            let Some(at) = memchr::memchr(b'\n', unseen) else {
                self.scanned = rest.len();
                return if rest.len() < LINE_BYTES_MAX { Ok(None) } else { Err(wrong(rest)) };
            };
            let end = self.scanned.saturating_add(at);
            let line = rest.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").ok_or_else(|| wrong(rest))?;
            if line.len() > LINE_BYTES_MAX {
                return Err(wrong(rest));
            }
            let after = self.line_at.saturating_add(end).saturating_add(1);
            match look(shape, line, self.values).ok_or_else(|| wrong(rest))? {
                Line::Last(said) => {
                    let cut = Cut { bytes: after, said, values: self.values };
                    *self = Cutter::default();
                    return Ok(Some(cut));
                }
                Line::Another => (self.line_at, self.scanned) = (after, 0),
                Line::Data { length, last } => {
                    let data_end = after.saturating_add(length);
                    let end = data_end.saturating_add(2);
                    let Some(ending) = buf.get(data_end..end) else {
                        // The line is looked at again then, and found at once.
                        self.wanted = end;
                        return Ok(None);
                    };
                    if ending != b"\r\n" {
                        return Err(wrong(rest));
                    }
                    self.values = self.values.saturating_add(1);
                    if last == Ends::Here {
                        let cut = Cut { bytes: end, said: Said::Hit, values: self.values };
                        *self = Cutter::default();
                        return Ok(Some(cut));
                    }
                    (self.line_at, self.scanned, self.wanted) = (end, 0, 0);
                }
            }
        }
    }
}

enum Line {
    Last(Said),
    /// More lines follow.
    Another,
    Data {
        length: usize,
        last: Ends,
    },
}

#[derive(PartialEq, Eq)]
enum Ends {
    Here,
    Later,
}

fn look(shape: Shape, line: &[u8], values: usize) -> Option<Line> {
    let data = |length: &[u8], last| {
        let length = number(length).filter(|length| *length <= VALUE_BYTES_MAX)?;
        Some(Line::Data { length, last })
    };
    let mut words = line.split(|byte| *byte == b' ');
    match (shape, words.next()?) {
        (Shape::Values, b"VALUE") => data(words.nth(2)?, Ends::Later),
        (Shape::Values, b"LVALUE") => data(words.nth(3)?, Ends::Later),
        (Shape::Values, b"END") if values > 0 => Some(Line::Last(Said::Hit)),
        (Shape::Meta, b"VA") => data(words.next()?, Ends::Here),
        (Shape::Block, word) => match said(word) {
            Some(said) if line == word || !matches!(said, Said::Done | Said::Miss) => {
                Some(Line::Last(said))
            }
            _ => Some(Line::Another),
        },
        (shape, word) => match (said(word), shape) {
            (Some(said), _) => Some(Line::Last(said)),
            // A number that was counted up or down; memcached pads it with spaces.
            (None, Shape::Line) if number::<u64>(word).is_some() => Some(Line::Last(Said::Done)),
            (None, Shape::Meta) if word == b"ME" => Some(Line::Last(Said::Hit)),
            _ => None,
        },
    }
}

/// What the first word of a last line says.
fn said(word: &[u8]) -> Option<Said> {
    Some(match word {
        b"END" | b"EN" | b"NOT_FOUND_HOT" => Said::Miss,
        b"STORED" | b"DELETED" | b"TOUCHED" | b"OK" | b"HD" | b"MN" | b"VERSION" | b"RESET"
        | b"STALE_STORED" => Said::Done,
        b"NOT_STORED" | b"NS" => Said::NotStored,
        b"EXISTS" | b"EX" => Said::Exists,
        b"NOT_FOUND" | b"NF" => Said::NotFound,
        b"ERROR" => Said::Unknown,
        b"CLIENT_ERROR" => Said::ClientError,
        b"SERVER_ERROR" | b"SERVER_ERROR:" => Said::ServerError,
        _ => return None,
    })
}

fn wrong(rest: &[u8]) -> Wrong {
    let line = rest.get(..rest.len().min(100)).unwrap_or_default();
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Wrong { line: line.escape_ascii().to_string() }
}

/// One value of a reply that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// As the node knows it.
    pub key: &'a [u8],
    /// Behind the key: flags, length, CAS; then the data; up to and with the last CRLF.
    pub rest: &'a [u8],
    /// `VALUE` or `LVALUE`.
    pub word: &'a [u8],
    pub flags: u32,
    pub data: &'a [u8],
}

/// The values of a reply that was cut by [`Shape::Values`]; what follows the last of them is its last line.
#[derive(Clone, Debug)]
pub struct Entries<'a>(pub &'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let end = memchr::memchr(b'\n', self.0)?;
        let line = self.0.get(..end)?;
        let mut words = line.strip_suffix(b"\r")?.split(|byte| *byte == b' ');
        let word = words.next().filter(|word| matches!(*word, b"VALUE" | b"LVALUE"))?;
        let key = words.next()?;
        if word == b"LVALUE" {
            words.next()?;
        }
        let flags = number(words.next()?)?;
        let length: usize = number(words.next()?)?;
        let data_at = end.saturating_add(1);
        let data_end = data_at.saturating_add(length);
        let (whole, after) = self.0.split_at_checked(data_end.saturating_add(2))?;
        let rest_at = word.len().saturating_add(1).saturating_add(key.len());
        self.0 = after;
        Some(Entry {
            key,
            rest: whole.get(rest_at..)?,
            word,
            flags,
            data: whole.get(data_at..data_end)?,
        })
    }
}
