//! A node's reply as its client must see it: with the key that the client sent, and silent where he wished that.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

use protocol::server::{Command, Reply};

use super::cut::{Entries, Said};

/// What a client does not want to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Everything is said.
    None,
    /// `noreply`: nothing is said.
    All,
    /// `mg` with `q`: not that there is nothing.
    Miss,
    /// Other meta commands with `q`: not that it is done.
    Done,
}

impl Silence {
    /// What the command says about its own reply.
    pub fn of(command: &Command<'_>) -> Silence {
        match command {
            Command::Store(store) => Silence::by(store.reply),
            Command::Delete { reply, .. }
            | Command::Touch { reply, .. }
            | Command::Arithmetic { reply, .. }
            | Command::Refused { reply, .. } => Silence::by(*reply),
            Command::MetaGet(meta) if meta.flags.is_quiet() => Silence::Miss,
            Command::MetaStore { meta, .. }
            | Command::MetaDelete(meta)
            | Command::MetaArithmetic(meta)
                if meta.flags.is_quiet() =>
            {
                Silence::Done
            }
            _ => Silence::None,
        }
    }

    fn by(reply: Reply) -> Silence {
        match reply {
            Reply::Wanted => Silence::None,
            Reply::Unwanted => Silence::All,
        }
    }

    /// Whether a reply that says this is left out.
    pub fn hides(self, said: Said) -> bool {
        match self {
            Silence::None => false,
            Silence::All => true,
            Silence::Miss => said == Said::Miss,
            // What `ma` counted comes as a value.
            Silence::Done => matches!(said, Said::Done | Said::Hit),
        }
    }
}

/// Appends a reply in which the node's key stands; `sent_key` takes its place.
pub fn renamed(reply: &[u8], sent_key: &[u8], out: &mut Vec<u8>) {
    if reply.starts_with(b"VALUE ") || reply.starts_with(b"LVALUE ") {
        let mut entries = Entries(reply);
        for entry in entries.by_ref() {
            for part in [entry.word, b" ", sent_key, entry.rest] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(entries.0);
        return;
    }
    let meta = [&b"VA "[..], b"HD ", b"EN ", b"NF ", b"NS ", b"EX ", b"ME "];
    if !meta.iter().any(|word| reply.starts_with(word)) {
        out.extend_from_slice(reply);
        return;
    }
    let end = memchr::memchr(b'\r', reply).unwrap_or(reply.len());
    let (line, rest) = reply.split_at_checked(end).unwrap_or((reply, b""));
    let (is_debug, mut first) = (line.starts_with(b"ME "), true);
    for (at, word) in line.split(|byte| *byte == b' ').enumerate() {
        if !std::mem::take(&mut first) {
            out.push(b' ');
        }
        if is_debug && at == 1 {
            out.extend_from_slice(sent_key);
        } else if at > 0 && word.first() == Some(&b'k') && !is_debug {
            out.push(b'k');
            out.extend_from_slice(sent_key);
        } else {
            out.extend_from_slice(word);
        }
    }
    out.extend_from_slice(rest);
}

/// Appends the values of a reply to a read of several keys, without its last line. `sent` gives the key that the client sent for the one
/// that the node knows.
pub fn merge<'k>(reply: &[u8], sent: impl Fn(&[u8]) -> Option<&'k [u8]>, out: &mut Vec<u8>) {
    for entry in Entries(reply) {
        let key = sent(entry.key).unwrap_or(entry.key);
        for part in [entry.word, b" ", key, entry.rest] {
            out.extend_from_slice(part);
        }
    }
}
