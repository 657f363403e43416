//! One line: which command it is, and whether data follows.

use std::borrow::Cow;

use super::{
    Admin, Command, Direction, GetVerb, KEY_BYTES_MAX, Limits, Reply, Store, StoreVerb, Value,
    error,
    meta::{self, Meta},
    words::{Words, exptime_cut, flags, number},
};

/// Longest data, in bytes: what fits memcached's 32-bit length with its CRLF.
const DATA_BYTES_MAX: usize = 0x7fff_fffd;
/// Words behind the key of a `delete`: a time, which has had no meaning for long, and `noreply`.
const DELETE_WORDS_MAX: usize = 2;
/// Shortest line, in bytes, that memcached looks at.
const LINE_BYTES_MIN: usize = 2;

/// What a line says.
pub(super) enum Line<'a> {
    Command(Command<'a>),
    /// Data of `length` bytes follows, then CRLF.
    Data {
        head: Head<'a>,
        length: usize,
    },
    /// An error line; `skip` bytes of data are to be dropped.
    Refused {
        line: &'static [u8],
        reply: Reply,
        skip: usize,
    },
}

/// A storage command without its value.
pub(super) enum Head<'a> {
    Text(Store<'a>),
    Meta(Meta<'a>),
}

impl<'a> Head<'a> {
    pub(super) fn with(self, value: Value<'a>) -> Command<'a> {
        match self {
            Head::Text(store) => Command::Store(Store { value, ..store }),
            Head::Meta(meta) => Command::MetaStore { meta, value },
        }
    }

    /// With the data and the CRLF behind it.
    pub(super) fn with_data(self, data: &'a [u8]) -> Command<'a> {
        match data.strip_suffix(b"\r\n") {
            Some(value) => self.with(Value::Bytes(value)),
            None => Command::Refused { line: error::DATA, reply: self.reply() },
        }
    }

    /// Errors of meta commands are always shown.
    fn reply(&self) -> Reply {
        match self {
            Head::Text(store) => store.reply,
            Head::Meta(_) => Reply::Wanted,
        }
    }
}

#[inline]
pub(super) fn parse(line: &[u8], limits: Limits) -> Line<'_> {
    if line.len() < LINE_BYTES_MIN {
        return refused(error::FORMAT);
    }
    if line.starts_with(b" ") {
        return refused(if Words::new(line).is_empty() { error::FORMAT } else { error::UNKNOWN });
    }
    let mut words = Words::new(line);
    let verb = words.next().unwrap_or_default();
    match verb {
        b"get" => get(GetVerb::Get, words),
        b"gets" => get(GetVerb::Gets, words),
        b"gat" => get_and_touch(GetVerb::Gat, words),
        b"gats" => get_and_touch(GetVerb::Gats, words),
        b"set" => store(StoreVerb::Set, words),
        b"add" => store(StoreVerb::Add, words),
        b"replace" => store(StoreVerb::Replace, words),
        b"append" => store(StoreVerb::Append, words),
        b"prepend" => store(StoreVerb::Prepend, words),
        b"cas" => store(StoreVerb::Cas(0), words),
        b"lease-get" => lease_get(words),
        b"lease-set" => store(StoreVerb::Lease(0), words),
        b"delete" => with_key(words, 1, |key, rest, reply| {
            let few = rest.count() <= DELETE_WORDS_MAX;
            if few { Ok(Command::Delete { key, reply }) } else { Err(error::DELETE) }
        }),
        b"touch" => with_key(words, 2, |key, mut rest, reply| {
            let exptime = rest.next().and_then(number).ok_or(error::EXPTIME)?;
            Ok(Command::Touch { key, exptime, reply })
        }),
        b"incr" => arithmetic(Direction::Up, words),
        b"decr" => arithmetic(Direction::Down, words),
        b"mg" | b"ms" | b"md" | b"ma" | b"me" | b"mn" => meta_line(verb, words, limits),
        b"quit" => Line::Command(Command::Quit),
        b"version" => Line::Command(Command::Version),
        _ => admin(verb)
            .map_or(refused(error::UNKNOWN), |admin| Line::Command(Command::Admin(admin, words))),
    }
}

fn refused<'a>(line: &'static [u8]) -> Line<'a> {
    Line::Refused { line, reply: Reply::Wanted, skip: 0 }
}

#[inline]
fn get(verb: GetVerb, keys: Words<'_>) -> Line<'_> {
    if keys.is_empty() {
        return refused(error::FORMAT);
    }
    if keys.has_longer(KEY_BYTES_MAX) {
        return refused(error::GET_KEY);
    }
    Line::Command(Command::Get { verb, keys })
}

fn lease_get(keys: Words<'_>) -> Line<'_> {
    if keys.is_empty() || keys.has_longer(KEY_BYTES_MAX) {
        return refused(error::FORMAT);
    }
    Line::Command(Command::LeaseGet { keys })
}

fn get_and_touch(verb: fn(i32) -> GetVerb, mut words: Words<'_>) -> Line<'_> {
    let Some(exptime) = words.next() else { return refused(error::FORMAT) };
    if words.is_empty() {
        return refused(error::FORMAT);
    }
    match number(exptime) {
        Some(exptime) => get(verb(exptime), words),
        None => refused(error::EXPTIME),
    }
}

/// The last word decides, wherever else the command has words.
fn reply(words: &Words<'_>) -> Reply {
    if words.last_word() == Some(b"noreply") { Reply::Unwanted } else { Reply::Wanted }
}

fn store(verb: StoreVerb, words: Words<'_>) -> Line<'_> {
    let mut rest = words.clone();
    let key = rest.next();
    // A lease's token stands before the flags, a CAS at the end.
    let verb = match verb {
        StoreVerb::Lease(_) => rest.next().and_then(number).map(StoreVerb::Lease),
        verb => Some(verb),
    };
    let (Some(key), Some(flag_word), Some(exptime_word), Some(length_word)) =
        (key, rest.next(), rest.next(), rest.next())
    else {
        return refused(error::FORMAT);
    };
    let Some(length) = data_length(length_word) else { return refused(error::FORMAT) };
    let reply = reply(&words);
    let verb = match verb {
        Some(StoreVerb::Cas(_)) => rest.next().and_then(number).map(StoreVerb::Cas),
        verb => verb,
    };
    let parsed = (flags(flag_word), exptime_cut(exptime_word), verb);
    let (Some(flags), Some(exptime), Some(verb), true) =
        (parsed.0, parsed.1, parsed.2, key.len() <= KEY_BYTES_MAX)
    else {
        return Line::Refused { line: error::FORMAT, reply, skip: length.saturating_add(2) };
    };
    let value = Value::TooLarge;
    Line::Data { head: Head::Text(Store { verb, key, flags, exptime, value, reply }), length }
}

fn data_length(word: &[u8]) -> Option<usize> {
    number(word).filter(|length| *length <= DATA_BYTES_MAX)
}

/// `words_min` words; a key that fits; then what `finish` says.
fn with_key<'a>(
    words: Words<'a>,
    words_min: usize,
    finish: impl FnOnce(&'a [u8], Words<'a>, Reply) -> Result<Command<'a>, &'static [u8]>,
) -> Line<'a> {
    let mut rest = words.clone();
    let Some(key) = rest.next() else { return refused(error::FORMAT) };
    if words.clone().take(words_min).count() < words_min {
        return refused(error::FORMAT);
    }
    let reply = reply(&words);
    if key.len() > KEY_BYTES_MAX {
        return Line::Refused { line: error::FORMAT, reply, skip: 0 };
    }
    match finish(key, rest, reply) {
        Ok(command) => Line::Command(command),
        Err(line) => Line::Refused { line, reply, skip: 0 },
    }
}

fn arithmetic(direction: Direction, words: Words<'_>) -> Line<'_> {
    with_key(words, 2, |key, mut rest, reply| {
        let delta = rest.next().and_then(number).ok_or(error::DELTA)?;
        Ok(Command::Arithmetic { key, direction, delta, reply })
    })
}

fn meta_line<'a>(verb: &[u8], mut words: Words<'a>, limits: Limits) -> Line<'a> {
    if verb == b"mn" {
        return Line::Command(Command::MetaNoop);
    }
    let Some(key) = words.next() else { return refused(error::FORMAT) };
    if verb == b"me" {
        return debug(key, words);
    }
    let length = if verb == b"ms" {
        let Some(length) = words.next().and_then(data_length) else {
            return refused(error::FORMAT);
        };
        Some(length)
    } else {
        None
    };
    let mut flags = words.clone();
    if !flags.all(|flag| flag.first().is_some_and(u8::is_ascii_alphabetic)) {
        return refused(error::FORMAT);
    }
    let skip = length.map_or(0, |length| length.saturating_add(2));
    match (meta::parse(key, words, limits.versions), length) {
        (Ok(meta), Some(length)) => Line::Data { head: Head::Meta(meta), length },
        (Ok(meta), None) => Line::Command(match verb {
            b"mg" => Command::MetaGet(meta),
            b"md" => Command::MetaDelete(meta),
            _ => Command::MetaArithmetic(meta),
        }),
        // `ma` does not tell what is wrong.
        (Err(line), _) => {
            let line = if verb == b"ma" && line != meta::OPAQUE { meta::INVALID } else { line };
            Line::Refused { line, reply: Reply::Wanted, skip }
        }
    }
}

/// `me` prints an item, and takes one flag, right behind the key.
fn debug<'a>(key: &'a [u8], mut words: Words<'a>) -> Line<'a> {
    if key.len() > KEY_BYTES_MAX {
        return refused(error::FORMAT);
    }
    let key = if words.next() == Some(b"b") {
        let Some(decoded) = meta::decode(key) else { return refused(b"EN\r\n") };
        Cow::Owned(decoded)
    } else {
        Cow::Borrowed(key)
    };
    Line::Command(Command::MetaDebug { key })
}

fn admin(verb: &[u8]) -> Option<Admin> {
    Some(match verb {
        b"cache_memlimit" => Admin::CacheMemlimit,
        b"config" => Admin::Config,
        b"debugtime" => Admin::DebugTime,
        b"flush_all" => Admin::FlushAll,
        b"lru" => Admin::Lru,
        b"lru_crawler" => Admin::LruCrawler,
        b"refresh_certs" => Admin::RefreshCerts,
        b"shutdown" => Admin::Shutdown,
        b"slabs" => Admin::Slabs,
        b"stats" => Admin::Stats,
        b"verbosity" => Admin::Verbosity,
        b"watch" => Admin::Watch,
        _ => return None,
    })
}
