//! The classic commands.

use std::borrow::Cow;

use protocol::server::{Direction, GetVerb, Reply, Store, StoreVerb, Value, Words};

use super::{After, REPLY_BYTES_MAX, Turn, end_line, number, say};
use crate::{
    now::{Expiry, Now},
    rules::{Fill, Refused, Token},
    store::{Entry, Held, Hit, Traits, item_bytes},
    usage::Access,
};

pub(super) const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
pub(super) const NO_MEMORY: &[u8] = b"SERVER_ERROR out of memory storing object\r\n";
pub(super) const NOT_A_NUMBER: &[u8] =
    b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";

/// What a conditional write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// With this CAS, as so many bytes.
    Yes {
        cas: u64,
        bytes: usize,
    },
    No,
    Exists,
    NotFound,
    NoMemory,
}

/// A write, whichever way it was said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) flags: u32,
    pub(super) expiry: Expiry,
    pub(super) mode: Mode,
    /// What the entry's CAS must be; 0 if that does not matter.
    pub(super) cas: u64,
    /// What it will be; `None` for the next.
    pub(super) cas_new: Option<u64>,
    pub(super) outdated: Outdated,
    pub(super) traits: Traits,
    pub(super) fill: Fill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Set,
    Add,
    Replace,
    Append(Missing),
    Prepend(Missing),
    Cas,
}

/// What an append to nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Refuse,
    Create,
}

/// What happens to a write with a CAS that is older than the entry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outdated {
    Refuse,
    /// It is stored, and is outdated.
    Keep,
}

/// Why `incr` did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotCounted {
    NotFound,
    NotANumber,
    Exists,
    NoMemory,
    Refused,
}

impl Turn<'_> {
    pub(super) fn get(
        &mut self,
        verb: GetVerb,
        keys: Words<'_>,
        keys_done: usize,
        out: &mut Vec<u8>,
    ) -> After {
        self.each_key(keys, keys_done, out, |turn, key, out| turn.get_one(verb, key, out))
    }

    /// Answers key by key, and interrupts the answer where it gets too long.
    pub(super) fn each_key(
        &mut self,
        keys: Words<'_>,
        keys_done: usize,
        out: &mut Vec<u8>,
        mut answer: impl FnMut(&mut Self, &[u8], &mut Vec<u8>),
    ) -> After {
        for (at, key) in keys.enumerate().skip(keys_done) {
            if out.len() >= REPLY_BYTES_MAX {
                return After::Keys(at);
            }
            answer(self, key, out);
        }
        out.extend_from_slice(b"END\r\n");
        After::Next
    }

    fn get_one(&mut self, verb: GetVerb, key: &[u8], out: &mut Vec<u8>) {
        let now = self.now;
        self.gets = self.gets.saturating_add(1);
        let touch = match verb {
            GetVerb::Gat(exptime) | GetVerb::Gats(exptime) => {
                self.counters.cmd_touch.up();
                Some(exptime)
            }
            GetVerb::Get | GetVerb::Gets => None,
        };
        let mut shard = self.shard(key);
        let Some(hit) = self.visible(&mut shard, key) else {
            self.counters.get_misses.up();
            if touch.is_some() {
                self.counters.touch_misses.up();
            }
            return self.note(key, Access::Miss);
        };
        let cas = matches!(verb, GetVerb::Gets | GetVerb::Gats(_)).then(|| hit.cas());
        let value = hit.value();
        out.extend_from_slice(b"VALUE ");
        out.extend_from_slice(key);
        let sizes = [u64::from(hit.flags()), length(value.len())];
        end_line(sizes.into_iter().chain(cas), out);
        value.append_to(out);
        out.extend_from_slice(b"\r\n");
        if let Some(exptime) = touch {
            let mut entry = hit.hold();
            entry.expiry = Expiry::from_client(exptime, now);
            entry.note_read();
            self.counters.touch_hits.up();
        } else {
            hit.note_read();
        }
        drop(shard);
        self.hits = self.hits.saturating_add(1);
        self.note(key, Access::Hit);
    }

    pub(super) fn store(&mut self, store: &Store<'_>, out: &mut Vec<u8>) {
        let Value::Bytes(value) = store.value else {
            return self.refuse_too_large(store, out);
        };
        if !self.fits(store.key, value, store.flags) {
            return self.refuse_too_large(store, out);
        }
        let (mode, cas) = match store.verb {
            StoreVerb::Lease(token) => return self.lease_set(store, value, token, out),
            StoreVerb::Set => (Mode::Set, 0),
            StoreVerb::Add => (Mode::Add, 0),
            StoreVerb::Replace => (Mode::Replace, 0),
            StoreVerb::Append => (Mode::Append(Missing::Refuse), 0),
            StoreVerb::Prepend => (Mode::Prepend(Missing::Refuse), 0),
            StoreVerb::Cas(cas) => (Mode::Cas, cas),
        };
        let stored = self.write(&Write {
            key: store.key,
            value,
            flags: store.flags,
            expiry: Expiry::from_client(store.exptime, self.now),
            mode,
            cas,
            cas_new: None,
            outdated: Outdated::Refuse,
            traits: Traits::NONE,
            fill: if mode == Mode::Cas { Fill::Lease(Token(cas)) } else { Fill::Plain },
        });
        let line: &[u8] = match stored {
            Stored::Yes { .. } => b"STORED\r\n",
            Stored::No => b"NOT_STORED\r\n",
            Stored::Exists => b"EXISTS\r\n",
            Stored::NotFound => b"NOT_FOUND\r\n",
            Stored::NoMemory => NO_MEMORY,
        };
        say(store.reply, line, out);
    }

    fn refuse_too_large(&mut self, store: &Store<'_>, out: &mut Vec<u8>) {
        self.counters.store_too_large.up();
        if store.verb == StoreVerb::Set {
            // What it was to replace is outdated.
            self.node.shard(store.key).remove(store.key, self.now);
        }
        say(store.reply, TOO_LARGE, out);
    }

    pub(super) fn fits(&self, key: &[u8], value: &[u8], flags: u32) -> bool {
        item_bytes(key.len(), value.len(), flags) <= self.node.settings().item_bytes_max
    }

    /// Every write ends here.
    pub(super) fn write(&mut self, write: &Write<'_>) -> Stored {
        let (key, now) = (write.key, self.now);
        self.gate.change();
        self.counters.cmd_set.up();
        self.note(key, Access::Set);
        let cas_new = write.cas_new.unwrap_or_else(|| self.node.next_cas());
        let node = self.node;
        let mut shard = node.shard(key);
        let old = match write.mode {
            // The CAS is the token of whoever fills a placeholder or renews an outdated value.
            Mode::Cas => shard.get(key, now),
            _ => self.visible(&mut shard, key).map(Hit::hold),
        };
        let awaited = old.as_deref().is_some_and(is_awaited);
        let fill = match (write.mode, old.as_deref()) {
            (Mode::Append(_) | Mode::Prepend(_), Some(old)) => Fill::Derived(old.mark.filled),
            _ => write.fill,
        };
        let entry = match judge(write, old.as_deref()) {
            Verdict::Store => Outcome::new(write),
            Verdict::Outdated => Outcome::outdated(write, old.as_deref()),
            Verdict::Join => Outcome::joined(write, old.as_ref()),
            Verdict::Answer(answer) => {
                self.count_cas(write.mode, answer);
                return answer;
            }
        };
        drop(old);
        if !self.fits(key, &entry.value, entry.flags) {
            return Stored::No;
        }
        let accepted = match self.accept(key, fill) {
            // Not every CAS is a lease: this writer has read a value, and changes it.
            Err(Refused::NoLease) if !awaited => self.accept(key, Fill::Plain),
            accepted => accepted,
        };
        let Ok(accepted) = accepted else { return Stored::No };
        let bytes = entry.value.len();
        let mut stored = self.entry(entry.flags, entry.expiry, accepted, cas_new);
        stored.traits = entry.traits;
        if shard.put(key, &[&entry.value], &stored, now).is_err() {
            drop(shard);
            self.counters.store_no_memory.up();
            return Stored::NoMemory;
        }
        drop(shard);
        self.counters.total_items.up();
        let answer = Stored::Yes { cas: cas_new, bytes };
        self.count_cas(write.mode, answer);
        answer
    }

    fn count_cas(&self, mode: Mode, answer: Stored) {
        if mode == Mode::Cas {
            match answer {
                Stored::Yes { .. } => self.counters.cas_hits.up(),
                Stored::Exists => self.counters.cas_badval.up(),
                _ => self.counters.cas_misses.up(),
            }
        }
    }

    pub(super) fn delete(&mut self, key: &[u8], reply: Reply, out: &mut Vec<u8>) {
        self.note(key, Access::Delete);
        self.gate.change();
        let node = self.node;
        let mut shard = node.shard(key);
        let seen = self.visible(&mut shard, key).is_some();
        let gone = shard.get(key, self.now).map(|entry| entry.cas);
        shard.remove(key, self.now);
        drop(shard);
        if let Some(cas) = gone {
            self.gate.void_lease(key, cas);
        }
        if seen {
            self.counters.delete_hits.up();
            say(reply, b"DELETED\r\n", out);
        } else {
            self.counters.delete_misses.up();
            say(reply, b"NOT_FOUND\r\n", out);
        }
    }

    pub(super) fn touch(&mut self, key: &[u8], exptime: i32, reply: Reply, out: &mut Vec<u8>) {
        self.counters.cmd_touch.up();
        let node = self.node;
        let mut shard = node.shard(key);
        if let Some(mut entry) = self.visible(&mut shard, key).map(Hit::hold) {
            entry.expiry = Expiry::from_client(exptime, self.now);
            entry.note_read();
            self.counters.touch_hits.up();
            say(reply, b"TOUCHED\r\n", out);
        } else {
            self.counters.touch_misses.up();
            say(reply, b"NOT_FOUND\r\n", out);
        }
    }

    pub(super) fn arithmetic(
        &mut self,
        key: &[u8],
        by: (Direction, u64),
        reply: Reply,
        out: &mut Vec<u8>,
    ) {
        let line: &[u8] = match self.count(key, by, 0, None) {
            Ok(counted) => {
                if reply == Reply::Wanted {
                    number(counted.value, out);
                    out.extend_from_slice(b"\r\n");
                }
                return;
            }
            Err(NotCounted::NotFound | NotCounted::Refused) => b"NOT_FOUND\r\n",
            Err(NotCounted::NotANumber) => NOT_A_NUMBER,
            Err(NotCounted::Exists) => b"EXISTS\r\n",
            Err(NotCounted::NoMemory) => b"SERVER_ERROR out of memory\r\n",
        };
        say(reply, line, out);
    }

    /// Counts. `cas` is what the entry's must be, 0 if that does not matter; `cas_new` what it will be, `None` for the next.
    pub(super) fn count(
        &mut self,
        key: &[u8],
        (direction, delta): (Direction, u64),
        cas: u64,
        cas_new: Option<u64>,
    ) -> Result<Counted, NotCounted> {
        let now = self.now;
        self.gate.change();
        let (hits, misses) = match direction {
            Direction::Up => (&self.counters.incr_hits, &self.counters.incr_misses),
            Direction::Down => (&self.counters.decr_hits, &self.counters.decr_misses),
        };
        let node = self.node;
        let mut shard = node.shard(key);
        let Some(entry) = self.visible(&mut shard, key).map(Hit::hold) else {
            misses.up();
            return Err(NotCounted::NotFound);
        };
        let old = entry.value().to_vec();
        if old.is_empty() {
            return Err(NotCounted::NotANumber);
        }
        if cas != 0 && entry.cas != cas {
            return Err(NotCounted::Exists);
        }
        let before = parse(&old).ok_or(NotCounted::NotANumber)?;
        let value = match direction {
            Direction::Up => before.wrapping_add(delta),
            Direction::Down => before.saturating_sub(delta),
        };
        let accepted = self.gate.accept(now, key, Fill::Derived(entry.mark.filled));
        let mut changed = *entry;
        drop(entry);
        let Ok(accepted) = accepted else {
            shard.remove(key, now);
            return Err(NotCounted::Refused);
        };
        let next = self.node.next_cas();
        let mut digits = value.to_string().into_bytes();
        // Memcached writes a shorter number over a longer one, and spaces over the rest.
        if digits.len() <= old.len() {
            digits.resize(old.len(), b' ');
        } else {
            changed.traits = Traits::NONE;
        }
        changed.mark = accepted.mark;
        changed.cas = cas_new.unwrap_or(next);
        let counted = Counted { value, cas: changed.cas };
        shard.put(key, &[&digits], &changed, now).map_err(|_| NotCounted::NoMemory)?;
        hits.up();
        Ok(counted)
    }
}

/// What `incr` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) value: u64,
    pub(super) cas: u64,
}

/// Whether whoever shows the right CAS is the one who was told to fetch the value.
fn is_awaited(entry: &Entry) -> bool {
    entry.traits.has(Traits::PLACEHOLDER.with(Traits::STALE))
}

/// Whether a write's conditions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Store,
    /// In place of a newer one, and marked so.
    Outdated,
    /// Together with what is there.
    Join,
    Answer(Stored),
}

fn judge(write: &Write<'_>, old: Option<&Entry>) -> Verdict {
    let Some(old) = old else {
        return match write.mode {
            Mode::Set
            | Mode::Add
            | Mode::Append(Missing::Create)
            | Mode::Prepend(Missing::Create) => Verdict::Store,
            Mode::Cas => Verdict::Answer(Stored::NotFound),
            Mode::Replace | Mode::Append(_) | Mode::Prepend(_) => Verdict::Answer(Stored::No),
        };
    };
    let matches = write.cas == old.cas;
    match write.mode {
        Mode::Set | Mode::Replace => Verdict::Store,
        Mode::Add => Verdict::Answer(Stored::No),
        Mode::Append(_) | Mode::Prepend(_) if write.cas == 0 || matches => Verdict::Join,
        Mode::Cas if write.cas != 0 && matches => Verdict::Store,
        Mode::Cas if write.outdated == Outdated::Keep && write.cas != 0 && write.cas < old.cas => {
            Verdict::Outdated
        }
        Mode::Append(_) | Mode::Prepend(_) | Mode::Cas => Verdict::Answer(Stored::Exists),
    }
}

/// What will be there.
struct Outcome<'w> {
    value: Cow<'w, [u8]>,
    flags: u32,
    expiry: Expiry,
    traits: Traits,
}

impl<'w> Outcome<'w> {
    fn new(write: &Write<'w>) -> Outcome<'w> {
        let Write { value, flags, expiry, traits, .. } = *write;
        Outcome { value: value.into(), flags, expiry, traits }
    }

    fn outdated(write: &Write<'w>, old: Option<&Entry>) -> Outcome<'w> {
        let mut outcome = Outcome::new(write);
        if let Some(old) = old {
            outcome.expiry = old.expiry;
            let won = if old.traits.has(Traits::WON) { Traits::WON } else { Traits::NONE };
            outcome.traits = outcome.traits.with(Traits::STALE).with(won);
        }
        outcome
    }

    fn joined(write: &Write<'w>, old: Option<&Held<'_>>) -> Outcome<'w> {
        let Some(old) = old else { return Outcome::new(write) };
        let there = old.value().to_vec();
        let value = match write.mode {
            Mode::Prepend(_) => [write.value, &there].concat(),
            _ => [&there, write.value].concat(),
        };
        Outcome { value: value.into(), flags: old.flags, expiry: old.expiry, traits: Traits::NONE }
    }
}

pub(super) fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The number that a value begins with; white space may stand before it, and anything behind white space or a NUL.
fn parse(value: &[u8]) -> Option<u64> {
    let text = value.trim_ascii_start();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let end = text.iter().position(ends).unwrap_or(text.len());
    protocol::server::number(text.get(..end)?)
}

/// Seconds since an entry was last used.
pub(super) fn unused_seconds(entry: &Entry, now: Now) -> u64 {
    now.unix.saturating_sub(entry.used)
}
