//! [`Turn`]: commands in, reply bytes out. Pure but for the locks of [`Node`]: what time it is and what was read come in as arguments.
//!
//! Replies are memcached 1.6.45's, byte for byte; a differential test against the real one holds them to it. Where a source is
//! attached, every read asks the rules whether it may be served, and every write whether it may be stored:
//!
//! - a value that may not be served is a miss; a write that may not be stored is answered as if its condition did not hold
//!   (`NOT_STORED`, `NS`);
//! - an outdated value is shown, flagged `X`, only to `mg` with `N`: to clients that know leases;
//! - `W` is the lease: the CAS beside it is the token, and `ms` with that CAS is the fill. It ends with its deadline, with a delete
//!   of the key by the source, and with a delete by a client.

mod admin;
mod copy;
mod dump;
mod foreseen;
mod gate;
mod lease;
mod meta;
mod stats;
mod text;
mod typed;

use protocol::server::{Command, Reply};

pub(crate) use self::foreseen::guess;
pub use self::{
    copy::{Kept, Walk},
    dump::{Dump, DumpForm},
    typed::{Put, View},
};
use crate::{
    commands::{foreseen::Foreseen, gate::Gate},
    counters::Counters,
    node::{Node, Placeholders, Shard},
    now::{Expiry, Now},
    rules::{self, Accepted, Fill, Refused, Served},
    store::{Entry, Hit, Traits},
    usage::Access,
};

/// A reply that is longer than this is sent before more of it is made.
pub const REPLY_BYTES_MAX: usize = 1 << 20;

/// The longest end of a line: flags, and two numbers of up to 20 digits, each behind a space, and CRLF. A power of two.
const LINE_END_BYTES_MAX: usize = 64;

/// What comes after a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// The next one.
    Next,
    /// The same one again, behind so many keys: there is too much to send already.
    Keys(usize),
    /// The rest of a dump, likewise.
    Dump(Dump),
    /// The end of the connection.
    Close,
    /// The end of the server.
    Shutdown,
}

/// The commands that one read brought, at one time.
#[derive(Debug)]
pub struct Turn<'a> {
    node: &'a Node,
    gate: Gate<'a>,
    now: Now,
    counters: &'a Counters,
    /// Reads of clients, and how many found a value: counted when the turn ends, or somebody asks.
    gets: u64,
    hits: u64,
    /// Differs from access to access.
    number: u64,
    foreseen: Foreseen<'a>,
}

impl<'a> Turn<'a> {
    /// Begins a turn of a worker. `seed` is any number, and not the same each time.
    pub fn new(node: &'a Node, worker: usize, now: Now, seed: u64) -> Turn<'a> {
        let gate = Gate::new(node);
        let counters = node.counters(worker);
        let foreseen = Foreseen::NOTHING;
        Turn { node, gate, now, counters, gets: 0, hits: 0, number: seed, foreseen }
    }

    /// Fetches what the commands at the front of `input` will look up. Returns for how many bytes of it that holds; it is never needed.
    pub fn foresee(&mut self, input: &'a [u8]) -> usize {
        self.foreseen.fetch(self.node, input)
    }

    /// The shard of a key that is looked up.
    fn shard(&mut self, key: &[u8]) -> Shard<'a> {
        let hash = self.foreseen.hash(key).unwrap_or_else(|| self.node.hash(key));
        self.node.shard_with(hash)
    }

    /// Executes a command; `keys_done` is 0, or what [`After::Keys`] said.
    pub fn run(&mut self, command: &Command<'_>, keys_done: usize, out: &mut Vec<u8>) -> After {
        match command {
            Command::Get { verb, keys } => return self.get(*verb, keys.clone(), keys_done, out),
            Command::LeaseGet { keys } => return self.lease_get(keys.clone(), keys_done, out),
            Command::Store(store) => self.store(store, out),
            Command::Delete { key, reply } => self.delete(key, *reply, out),
            Command::Touch { key, exptime, reply } => self.touch(key, *exptime, *reply, out),
            Command::Arithmetic { key, direction, delta, reply } => {
                self.arithmetic(key, (*direction, *delta), *reply, out);
            }
            Command::MetaGet(meta) => self.meta_get(meta, out),
            Command::MetaStore { meta, value } => self.meta_store(meta, *value, out),
            Command::MetaDelete(meta) => self.meta_delete(meta, out),
            Command::MetaArithmetic(meta) => self.meta_arithmetic(meta, out),
            Command::MetaNoop => out.extend_from_slice(b"MN\r\n"),
            Command::MetaDebug { key } => self.meta_debug(key, out),
            Command::Quit => return After::Close,
            Command::Version => out.extend_from_slice(b"VERSION 1.6.45\r\n"),
            Command::Admin(admin, words) => {
                self.count_reads();
                return self.admin(*admin, words.clone(), out);
            }
            Command::Refused { line, reply } => say(*reply, line, out),
        }
        After::Next
    }

    /// The entry, if it is there for a plain reader.
    fn visible<'s>(&self, shard: &'s mut Shard<'_>, key: &[u8]) -> Option<Hit<'s>> {
        let hit = shard.look(key, self.now)?;
        let hidden = self.is_hidden(hit.traits());
        let served = self.gate.serve(self.now, key, || hit.mark(), rules::Ask::default());
        (!hidden && matches!(served, Served::Hit | Served::Degraded)).then_some(hit)
    }

    fn is_hidden(&self, traits: Traits) -> bool {
        traits.has(Traits::PLACEHOLDER)
            && (self.gate.has_source() || self.node.settings().placeholders == Placeholders::Hidden)
    }

    /// Whether a write may be stored.
    fn accept(&mut self, key: &[u8], fill: Fill) -> Result<Accepted, Refused> {
        let accepted = self.gate.accept(self.now, key, fill);
        if accepted.is_err() {
            self.counters.store_refused.up();
        }
        accepted
    }

    /// What a write that was accepted is stored as.
    fn entry(&self, flags: u32, expiry: Expiry, accepted: Accepted, cas: u64) -> Entry {
        let expiry = gate::cap(expiry, accepted, self.now);
        Entry::new(flags, expiry, cas, accepted.mark, self.now)
    }

    fn count_reads(&mut self) {
        self.counters.cmd_get.add(std::mem::take(&mut self.gets));
        self.counters.get_hits.add(std::mem::take(&mut self.hits));
    }

    fn note(&mut self, key: &[u8], access: Access) {
        // Any odd step makes the low bits go through all values; the high ones are the better mixed.
        self.number = self.number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        self.node.usage().note(key, access, self.number >> 32);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.count_reads();
    }
}

fn say(reply: Reply, line: &[u8], out: &mut Vec<u8>) {
    if reply == Reply::Wanted {
        out.extend_from_slice(line);
    }
}

/// Appends a number.
fn number(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Ends a line with numbers, each behind a space.
fn end_line(numbers: impl DoubleEndedIterator<Item = u64>, out: &mut Vec<u8>) {
    // Written from its end, so that a digit is known when its place comes.
    let mut line = [0; LINE_END_BYTES_MAX];
    let mut at = LINE_END_BYTES_MAX;
    let mut put = |byte: u8| {
        at = at.wrapping_sub(1) % LINE_END_BYTES_MAX;
        if let Some(place) = line.get_mut(at) {
            *place = byte;
        }
    };
    put(b'\n');
    put(b'\r');
    for mut rest in numbers.rev() {
        while rest >= 10 {
            let [digit, ..] = (rest % 10).to_le_bytes();
            put(b'0' | digit);
            rest /= 10;
        }
        let [digit, ..] = rest.to_le_bytes();
        put(b'0' | digit);
        put(b' ');
    }
    out.extend_from_slice(line.get(at..).unwrap_or_default());
}

#[cfg(test)]
mod tests;
