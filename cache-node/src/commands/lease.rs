//! mcrouter's lease commands, over the same entries as `mg` with `N` and `ms` with `C`.
//!
//! ```text
//! lease-get 1*key                        VALUE key flags length        a value
//!                                        LVALUE key token flags length nothing, or an outdated value, and what to do:
//!                                                                      token 1: wait and ask again; else fetch it, and
//! lease-set key token flags exptime length                             store it with the token
//! ```
//!
//! `lease-set` stores only what its token was given for. Facebook's memcached also stores over a value that is there, and keeps an
//! outdated one for those who can bear it; here both are `NOT_STORED`, because the value may be older than what is there.

use protocol::server::{self, Meta, Words};

use super::{
    After, Turn, end_line,
    meta::{Origin, Won},
    say,
    text::{Mode, NO_MEMORY, Outdated, Stored, Write, length},
};
use crate::{
    now::Expiry,
    rules::{Fill, Token},
    store::{Held, Traits},
    usage::Access,
};

/// How long whoever has a lease has it to himself, where no source's rules say it.
const LEASE_SECONDS: i32 = 10;
/// Somebody else fetches the value.
const WAIT: u64 = 1;

impl Turn<'_> {
    pub(super) fn lease_get(
        &mut self,
        keys: Words<'_>,
        keys_done: usize,
        out: &mut Vec<u8>,
    ) -> After {
        self.each_key(keys, keys_done, out, Self::lease_one)
    }

    fn lease_one(&mut self, key: &[u8], out: &mut Vec<u8>) {
        let (meta, now, node) = (Meta::lease(key, LEASE_SECONDS), self.now, self.node);
        self.counters.cmd_get.up();
        self.gate.change();
        let mut shard = node.shard(key);
        let found = self.find(&mut shard, &meta);
        let entry = shard.get(key, now).filter(|_| found.is_some());
        let access = if let (Some(mut found), Some(mut entry)) = (found, entry) {
            self.settle(&meta, &mut entry, &mut found);
            if found.origin == Origin::Made {
                entry.expiry = Expiry::from_client(LEASE_SECONDS, now);
            }
            let is_good = !entry.traits.has(Traits::PLACEHOLDER.with(Traits::STALE));
            let token = if Turn::win(&mut entry, &found) == Won::Yes { entry.cas } else { WAIT };
            answer(key, (!is_good).then_some(token), &entry, out);
            entry.note_read();
            if is_good { Access::Hit } else { Access::Miss }
        } else {
            // Nobody can fetch it now, or there is no room to note who does.
            let line = [b"LVALUE ".as_slice(), key, b" 1 0 0\r\n\r\n"].concat();
            out.extend_from_slice(&line);
            Access::Miss
        };
        drop(shard);
        match access {
            Access::Hit => self.counters.get_hits.up(),
            _ => self.counters.get_misses.up(),
        }
        self.note(key, access);
    }

    pub(super) fn lease_set(
        &mut self,
        store: &server::Store<'_>,
        value: &[u8],
        token: u64,
        out: &mut Vec<u8>,
    ) {
        let stored = self.write(&Write {
            key: store.key,
            value,
            flags: store.flags,
            expiry: Expiry::from_client(store.exptime, self.now),
            mode: Mode::Cas,
            cas: token,
            cas_new: None,
            outdated: Outdated::Refuse,
            traits: Traits::NONE,
            fill: Fill::Lease(Token(token)),
        });
        let line: &[u8] = match stored {
            Stored::Yes { .. } => b"STORED\r\n",
            Stored::No | Stored::Exists | Stored::NotFound => b"NOT_STORED\r\n",
            Stored::NoMemory => NO_MEMORY,
        };
        say(store.reply, line, out);
    }
}

/// With a token: what to do about a value that is missing or outdated.
fn answer(key: &[u8], token: Option<u64>, entry: &Held<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(if token.is_some() { b"LVALUE " } else { b"VALUE " });
    out.extend_from_slice(key);
    let sizes = [u64::from(entry.flags), length(entry.value().len())];
    end_line(token.into_iter().chain(sizes), out);
    entry.value().append_to(out);
    out.extend_from_slice(b"\r\n");
}
