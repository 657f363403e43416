//! Between the protocol and the routes: which [`Op`] a command is, which [`Outcome`] a reply, and what a client is told in words that fit
//! its command.

use client::route::{Failure, Op, Outcome};
use protocol::server::{Command, Direction, GetVerb, Meta, StoreVerb, number};

use crate::wire::{
    cut::{Cut, Said},
    request::put_number,
};

/// What a command about keys is to the routes; `None` for all others.
pub(crate) fn op_of(command: &Command<'_>) -> Option<Op> {
    Some(match command {
        Command::Get { verb, .. } => match verb {
            GetVerb::Get => Op::Get,
            GetVerb::Gets => Op::Gets,
            GetVerb::Gat(_) => Op::Gat,
            GetVerb::Gats(_) => Op::Gats,
        },
        Command::LeaseGet { .. } => Op::LeaseGet,
        Command::Store(store) => match store.verb {
            StoreVerb::Set => Op::Set,
            StoreVerb::Add => Op::Add,
            StoreVerb::Replace => Op::Replace,
            StoreVerb::Append => Op::Append,
            StoreVerb::Prepend => Op::Prepend,
            StoreVerb::Cas(_) => Op::Cas,
            StoreVerb::Lease(_) => Op::LeaseSet,
        },
        Command::Delete { .. } | Command::MetaDelete(_) => Op::Delete,
        Command::Touch { .. } => Op::Touch,
        Command::Arithmetic { direction: Direction::Up, .. } => Op::Incr,
        Command::Arithmetic { direction: Direction::Down, .. } => Op::Decr,
        Command::MetaGet(meta) => meta_get(meta),
        Command::MetaStore { meta, .. } => meta_store(meta),
        Command::MetaArithmetic(meta) => match meta.flags.mode {
            Some(b'D' | b'd' | b'-') => Op::Decr,
            _ => Op::Incr,
        },
        Command::MetaDebug { .. } => Op::Get,
        _ => return None,
    })
}

fn meta_get(meta: &Meta<'_>) -> Op {
    let flags = &meta.flags;
    if flags.vivify.is_some() || flags.recache.is_some() {
        return Op::LeaseGet;
    }
    match (flags.exptime.is_some(), flags.has(b'c')) {
        (true, true) => Op::Gats,
        (true, false) => Op::Gat,
        (false, true) => Op::Gets,
        (false, false) => Op::Get,
    }
}

fn meta_store(meta: &Meta<'_>) -> Op {
    if meta.flags.cas.is_some() {
        // A token may be a lease's as well as a CAS: either goes only where it came from. Of a CAS, a node that missed it is behind.
        return Op::Cas;
    }
    match meta.flags.mode {
        Some(b'E' | b'e') => Op::Add,
        Some(b'A' | b'a') => Op::Append,
        Some(b'P' | b'p') => Op::Prepend,
        Some(b'R' | b'r') => Op::Replace,
        _ => Op::Set,
    }
}

/// What a reply means.
pub(crate) fn outcome_of(op: Op, reply: &[u8], cut: Cut) -> Outcome {
    let is_read = op.class() == client::route::Class::Read;
    match cut.said {
        Said::Hit if op == Op::LeaseGet => lease(reply),
        Said::Hit | Said::Done if is_read => Outcome::Hit,
        Said::Done if op == Op::Delete => Outcome::Deleted,
        Said::Hit | Said::Done => Outcome::Stored,
        Said::NotStored => Outcome::NotStored,
        Said::Exists => Outcome::Exists,
        Said::Miss | Said::NotFound => Outcome::NotFound,
        Said::ClientError | Said::Unknown => Outcome::Refused,
        Said::ServerError => server_error(reply),
    }
}

/// A value that is too large, or no room for it, is an answer to the request, and says nothing of the node.
fn server_error(reply: &[u8]) -> Outcome {
    let says = |words: &[u8]| memchr::memmem::find(reply, words).is_some();
    if says(b"object too large") || says(b"out of memory") {
        Outcome::Refused
    } else if says(b"busy") {
        Outcome::Failed(Failure::Busy)
    } else if says(b"try again") {
        Outcome::Failed(Failure::TryAgain)
    } else if says(b"shutdown") {
        Outcome::Failed(Failure::Shutdown)
    } else {
        Outcome::Failed(Failure::RemoteError)
    }
}

/// A place that was made for whoever fills it is a miss, with a lease or without.
fn lease(reply: &[u8]) -> Outcome {
    let end = memchr::memchr(b'\r', reply).unwrap_or(reply.len());
    let line = reply.get(..end).unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    match words.next() {
        Some(b"LVALUE") if words.nth(1) == Some(b"1") => Outcome::HotMiss,
        Some(b"LVALUE") => Outcome::NotFound,
        Some(b"VA") if words.next() == Some(b"0") => {
            let (mut won, mut hot) = (false, false);
            for word in words {
                won |= word == b"W";
                hot |= word == b"Z";
            }
            match (won, hot) {
                (true, _) => Outcome::NotFound,
                (false, true) => Outcome::HotMiss,
                (false, false) => Outcome::Hit,
            }
        }
        _ => Outcome::Hit,
    }
}

/// What a client is told where no node has said it.
pub(crate) fn local(command: &Command<'_>, outcome: Outcome, out: &mut Vec<u8>) -> Said {
    let is_meta = matches!(
        command,
        Command::MetaGet(_)
            | Command::MetaStore { .. }
            | Command::MetaDelete(_)
            | Command::MetaArithmetic(_)
            | Command::MetaDebug { .. }
    );
    let is_read = op_of(command).is_some_and(|op| op.class() == client::route::Class::Read);
    let (words, said): (&[u8], Said) = match outcome {
        Outcome::NotFound if is_read && is_meta => (b"EN\r\n", Said::Miss),
        Outcome::NotFound | Outcome::HotMiss | Outcome::Hit if is_read => (b"END\r\n", Said::Miss),
        Outcome::NotFound if is_meta => (b"NF\r\n", Said::NotFound),
        Outcome::NotFound => (b"NOT_FOUND\r\n", Said::NotFound),
        Outcome::Exists if is_meta => (b"EX\r\n", Said::Exists),
        Outcome::Exists => (b"EXISTS\r\n", Said::Exists),
        Outcome::NotStored if is_meta => (b"NS\r\n", Said::NotStored),
        Outcome::NotStored => (b"NOT_STORED\r\n", Said::NotStored),
        Outcome::Failed(failure) => {
            out.extend_from_slice(failure.to_string().as_bytes());
            (b"\r\n", Said::ServerError)
        }
        _ => (b"SERVER_ERROR local error\r\n", Said::ServerError),
    };
    out.extend_from_slice(words);
    said
}

/// What a plain look at another node has found: `VA length f.. t..`, and the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looked<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) flags: u32,
    /// Seconds that are left; `None`: for ever.
    pub(crate) left_s: Option<u32>,
}

/// What is asked for by a plain look.
pub(crate) const LOOK: &[u8] = b" v f t\r\n";

/// Reads the answer to [`LOOK`].
pub(crate) fn looked(reply: &[u8]) -> Option<Looked<'_>> {
    let end = memchr::memchr(b'\n', reply)?;
    let line = reply.get(..end)?.strip_suffix(b"\r")?;
    let data = reply.get(end.saturating_add(1)..)?.strip_suffix(b"\r\n")?;
    let mut words = line.split(|byte| *byte == b' ');
    if words.next()? != b"VA" {
        return None;
    }
    let length: usize = number(words.next()?)?;
    let mut found = Looked { data, flags: 0, left_s: None };
    for word in words {
        match word.split_first() {
            Some((b'f', flags)) => found.flags = number(flags)?,
            Some((b't', left)) => found.left_s = number(left),
            _ => {}
        }
    }
    (data.len() == length).then_some(found)
}

/// Says what was looked up in the words that the client's command is answered with.
pub(crate) fn phrase(command: &Command<'_>, found: Looked<'_>, sent_key: &[u8], out: &mut Vec<u8>) {
    let length = u64::try_from(found.data.len()).unwrap_or(u64::MAX);
    let Command::MetaGet(meta) = command else {
        let gets = |verb: &GetVerb| matches!(verb, GetVerb::Gets | GetVerb::Gats(_));
        let with_cas = matches!(command, Command::Get { verb, .. } if gets(verb));
        for part in [&b"VALUE "[..], sent_key, b" "] {
            out.extend_from_slice(part);
        }
        put_number(out, u64::from(found.flags));
        out.push(b' ');
        put_number(out, length);
        // No token of another node is worth anything here.
        out.extend_from_slice(if with_cas { b" 0\r\n" } else { b"\r\n" });
        out.extend_from_slice(found.data);
        out.extend_from_slice(b"\r\nEND\r\n");
        return;
    };
    if meta.flags.has(b'v') {
        out.extend_from_slice(b"VA ");
        put_number(out, length);
    } else {
        out.extend_from_slice(b"HD");
    }
    for word in meta.words.clone() {
        match word.first() {
            Some(b'f') => put_flag(out, b" f", u64::from(found.flags)),
            Some(b's') => put_flag(out, b" s", length),
            Some(b't') => match found.left_s {
                Some(left) => put_flag(out, b" t", u64::from(left)),
                None => out.extend_from_slice(b" t-1"),
            },
            Some(b'c') => put_flag(out, b" c", 0),
            Some(b'k') => {
                out.extend_from_slice(b" k");
                out.extend_from_slice(sent_key);
            }
            Some(b'b') => out.extend_from_slice(b" b"),
            Some(b'O') => {
                out.push(b' ');
                out.extend_from_slice(word);
            }
            _ => {}
        }
    }
    out.extend_from_slice(b"\r\n");
    if meta.flags.has(b'v') {
        out.extend_from_slice(found.data);
        out.extend_from_slice(b"\r\n");
    }
}

fn put_flag(out: &mut Vec<u8>, letter: &[u8], number: u64) {
    out.extend_from_slice(letter);
    put_number(out, number);
}

/// Where the token of a reply stands, and what it is.
pub(crate) fn token(reply: &[u8]) -> Option<(std::ops::Range<usize>, u64)> {
    let end = memchr::memchr(b'\r', reply)?;
    let line = reply.get(..end)?;
    let mut at = 0_usize;
    let mut words = Vec::new();
    for word in line.split(|byte| *byte == b' ') {
        words.push((at, word));
        at = at.saturating_add(word.len()).saturating_add(1);
    }
    let (at, word) = match *words.first()? {
        (_, b"LVALUE") => *words.get(2)?,
        (_, b"VALUE") => *words.get(4)?,
        (_, b"VA" | b"HD") => {
            let (at, word) =
                *words.get(1..)?.iter().find(|(_, word)| word.first() == Some(&b'c'))?;
            (at.saturating_add(1), word.get(1..)?)
        }
        _ => return None,
    };
    Some((at..at.saturating_add(word.len()), number(word)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_every_kind_of_reply() {
        let of = |reply: &[u8]| token(reply).map(|(at, token)| (reply[at].to_vec(), token));
        assert_eq!(of(b"LVALUE k 77 0 0\r\n\r\nEND\r\n"), Some((b"77".to_vec(), 77)));
        assert_eq!(of(b"VALUE k 0 1 9\r\nx\r\nEND\r\n"), Some((b"9".to_vec(), 9)));
        assert_eq!(of(b"VALUE k 0 1\r\nx\r\nEND\r\n"), None);
        assert_eq!(of(b"VA 0 f0 c12 W\r\n\r\n"), Some((b"12".to_vec(), 12)));
        assert_eq!(of(b"END\r\n"), None);
    }

    #[test]
    fn a_look_is_said_in_the_clients_words() {
        let reply = b"VA 2 f7 t-1\r\nhi\r\n";
        let found = looked(reply).expect("a value");
        assert_eq!(found, Looked { data: b"hi", flags: 7, left_s: None });
        let mut out = Vec::new();
        let keys = protocol::server::Words::new(b"k");
        phrase(&Command::Get { verb: GetVerb::Get, keys }, found, b"/a/b/k", &mut out);
        assert_eq!(out, b"VALUE /a/b/k 7 2\r\nhi\r\nEND\r\n");
        assert_eq!(looked(b"EN\r\n"), None);
    }

    #[test]
    fn a_place_without_a_value_is_a_miss() {
        let cut = |reply: &[u8]| Cut { bytes: reply.len(), said: Said::Hit, values: 1 };
        let of = |reply: &[u8]| outcome_of(Op::LeaseGet, reply, cut(reply));
        assert_eq!(of(b"LVALUE k 5 0 0\r\n\r\nEND\r\n"), Outcome::NotFound);
        assert_eq!(of(b"LVALUE k 1 0 0\r\n\r\nEND\r\n"), Outcome::HotMiss);
        assert_eq!(of(b"VA 0 c2 W\r\n\r\n"), Outcome::NotFound);
        assert_eq!(of(b"VA 0 c2 Z\r\n\r\n"), Outcome::HotMiss);
        assert_eq!(of(b"VA 1 c2\r\nx\r\n"), Outcome::Hit);
    }
}
