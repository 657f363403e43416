//! What a node reads: the text and meta protocols of memcached 1.6.45, server side. Bytes in, borrowed commands out; no I/O.
//!
//! ```text
//! command = line [data CRLF]            ; a line ends in LF or CRLF, its words are separated by spaces
//! line    = ("get" / "gets") 1*key / ("gat" / "gats") exptime 1*key
//!         / ("set" / "add" / "replace" / "append" / "prepend") key flags exptime length ["noreply"]  ; data follows
//!         / "cas" key flags exptime length cas ["noreply"]                                           ; data follows
//!         / "lease-get" 1*key / "lease-set" key token flags exptime length ["noreply"]               ; data follows the latter
//!         / "delete" key *word ["noreply"] / "touch" key exptime ["noreply"]
//!         / ("incr" / "decr") key delta ["noreply"]
//!         / "mg" key *flag / "ms" key length *flag / "md" key *flag / "ma" key *flag / "me" key *word / "mn" *word
//!         / administration, see [`Admin`]
//! ```
//!
//! The lease commands are mcrouter's; memcached does not know them.
//!
//! Limits: a key has 1 to [`KEY_BYTES_MAX`] bytes, a line at most [`LINE_BYTES_MAX`], one that reads many keys at most
//! [`MULTIGET_BYTES_MAX`], a value what [`Limits`] says. What memcached answers with an error is [`Command::Refused`]
//! with the same text; what makes it close the connection is [`Step::Close`]. Whatever way the same bytes are cut into
//! reads, the same commands come out. (memcached itself accepts longer lines if they arrive in one read.)

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod line;
mod meta;
#[cfg(test)]
mod tests;
mod words;

use std::borrow::Cow;

pub use self::{
    meta::{Meta, MetaFlags},
    words::{Words, number},
};

/// Longest key, in bytes; of a base64 key, before and after decoding.
pub const KEY_BYTES_MAX: usize = 250;
/// Longest line that is not a multiget, in bytes, without its line feed.
pub const LINE_BYTES_MAX: usize = 2048;
/// Longest line of `get`, `gets`, `gat` and `gats`, in bytes, without its line feed.
pub const MULTIGET_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(KEY_BYTES_MAX < LINE_BYTES_MAX && LINE_BYTES_MAX < MULTIGET_BYTES_MAX);

/// Error lines, as memcached words them.
pub mod error {
    /// An unknown command.
    pub const UNKNOWN: &[u8] = b"ERROR\r\n";
    /// Words are missing, a number is none, the key is too long.
    pub const FORMAT: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
    /// As [`FORMAT`], for a key that is too long in a `get`: memcached adds an empty line.
    pub const GET_KEY: &[u8] = b"CLIENT_ERROR bad command line format\r\n\r\n";
    /// As [`FORMAT`], for a `delete` with too many words. Memcached 1.6.45 takes any number; its own client library expects
    /// this error, which earlier versions answered with.
    pub const DELETE: &[u8] =
        b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
    /// Data is not followed by CRLF.
    pub const DATA: &[u8] = b"CLIENT_ERROR bad data chunk\r\n";
    /// Of `touch`, `gat` and `flush_all`.
    pub const EXPTIME: &[u8] = b"CLIENT_ERROR invalid exptime argument\r\n";
    /// Of `incr` and `decr`.
    pub const DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta argument\r\n";
}

/// What a reader accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longer values are skipped, and reported as [`Value::TooLarge`].
    pub value_bytes_max: usize,
    /// Whether `V` is a meta flag.
    pub versions: Versions,
}

/// Whether the meta flag `V`, the fill version of an entry, is known. Upstream refuses it, so a client can find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    Refuse,
    Accept,
}

/// Takes commands off the front of a buffer.
#[derive(Clone, Debug)]
pub struct Parser {
    limits: Limits,
    /// Bytes of a refused value that are still to come.
    skip: usize,
    /// Nothing can be said before so many bytes are there.
    wanted: usize,
    /// So many bytes at the front hold no line end.
    scanned: usize,
}

/// What the front of the buffer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Not a whole command; see [`Parser::wanted`].
    More,
    /// So many bytes belong to a value that was refused: drop them and ask again.
    Skip(usize),
    /// A command, and its bytes.
    Command(Command<'a>, usize),
    /// No command can begin like this: close the connection.
    Close,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `get`, `gets`, `gat`, `gats`; the keys have been checked.
    Get {
        verb: GetVerb,
        keys: Words<'a>,
    },
    /// `lease-get`; the keys have been checked.
    LeaseGet {
        keys: Words<'a>,
    },
    /// `set`, `add`, `replace`, `append`, `prepend`, `cas`, `lease-set`.
    Store(Store<'a>),
    Delete {
        key: &'a [u8],
        reply: Reply,
    },
    Touch {
        key: &'a [u8],
        exptime: i32,
        reply: Reply,
    },
    /// `incr`, `decr`.
    Arithmetic {
        key: &'a [u8],
        direction: Direction,
        delta: u64,
        reply: Reply,
    },
    /// `mg`.
    MetaGet(Meta<'a>),
    /// `ms`.
    MetaStore {
        meta: Meta<'a>,
        value: Value<'a>,
    },
    /// `md`.
    MetaDelete(Meta<'a>),
    /// `ma`.
    MetaArithmetic(Meta<'a>),
    /// `mn`.
    MetaNoop,
    /// `me`.
    MetaDebug {
        key: Cow<'a, [u8]>,
    },
    /// `quit`.
    Quit,
    /// `version`.
    Version,
    /// Everything that is not about one key.
    Admin(Admin, Words<'a>),
    /// Answered with this line, unless the command said `noreply`.
    Refused {
        line: &'static [u8],
        reply: Reply,
    },
}

/// Whether a command wants an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Wanted,
    /// `noreply`.
    Unwanted,
}

/// How keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetVerb {
    Get,
    Gets,
    /// With the new expiry time, as memcached has it.
    Gat(i32),
    Gats(i32),
}

/// A value on its way into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store<'a> {
    pub verb: StoreVerb,
    pub key: &'a [u8],
    pub flags: u32,
    /// As memcached has it: 0 never, up to 30 days from now, else unix time; negative: has expired.
    pub exptime: i32,
    pub value: Value<'a>,
    pub reply: Reply,
}

/// How a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreVerb {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    /// With the CAS that the entry must have.
    Cas(u64),
    /// With the token that `lease-get` gave.
    Lease(u64),
}

/// The data of a storage command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Bytes(&'a [u8]),
    /// More than [`Limits::value_bytes_max`]; its bytes will be skipped.
    TooLarge,
}

/// Which way `incr`, `decr` and `ma` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// Commands that are not about one key; their words follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    CacheMemlimit,
    Config,
    DebugTime,
    FlushAll,
    Lru,
    LruCrawler,
    RefreshCerts,
    Shutdown,
    Slabs,
    Stats,
    Verbosity,
    Watch,
}

impl Parser {
    pub fn new(limits: Limits) -> Parser {
        Parser { limits, skip: 0, wanted: 0, scanned: 0 }
    }

    /// How many bytes the buffer must hold before [`Parser::next`] can say more; 0 if that is not known.
    pub fn wanted(&self) -> usize {
        self.wanted.max(self.skip)
    }

    /// Other limits, from the next command on.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Looks at the front of `buf`. The caller drops what was used before he asks again.
    pub fn next<'a>(&mut self, buf: &'a [u8]) -> Step<'a> {
        if self.skip > 0 && !buf.is_empty() {
            let used = self.skip.min(buf.len());
            self.skip = self.skip.saturating_sub(used);
            return Step::Skip(used);
        }
        if buf.len() < self.wanted {
            return Step::More;
        }
        let unseen = buf.get(self.scanned..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', unseen) else {
            self.scanned = buf.len();
            return if line_fits(buf) { Step::More } else { Step::Close };
        };
        let end = self.scanned.saturating_add(at);
        let line = buf.get(..end).unwrap_or_default();
        if !line_fits(line) {
            return Step::Close;
        }
        let line_bytes = end.saturating_add(1);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let rest = buf.get(line_bytes..).unwrap_or_default();
        let (command, data_bytes) = match line::parse(line, self.limits) {
            line::Line::Command(command) => {
                (self.wanted, self.scanned) = (0, 0);
                return Step::Command(command, line_bytes);
            }
            line::Line::Refused { line, reply, skip } => {
                self.skip = skip;
                (Command::Refused { line, reply }, 0)
            }
            line::Line::Data { head, length } => {
                if length > self.limits.value_bytes_max {
                    self.skip = length.saturating_add(2);
                    (head.with(Value::TooLarge), 0)
                } else {
                    let data_bytes = length.saturating_add(2);
                    let Some(data) = rest.get(..data_bytes) else {
                        self.wanted = line_bytes.saturating_add(data_bytes);
                        self.scanned = end;
                        return Step::More;
                    };
                    (head.with_data(data), data_bytes)
                }
            }
        };
        (self.wanted, self.scanned) = (0, 0);
        Step::Command(command, line_bytes.saturating_add(data_bytes))
    }
}

/// Whether a line, or the beginning of one, may be so long.
fn line_fits(line: &[u8]) -> bool {
    let multiget = [&b"get "[..], b"gets ", b"gat ", b"gats "];
    line.len() <= LINE_BYTES_MAX
        || (line.len() <= MULTIGET_BYTES_MAX && multiget.iter().any(|verb| line.starts_with(verb)))
}
