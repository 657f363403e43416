//! The meta commands. Flags are answered in the order in which they were sent.

use base64::{Engine, engine::general_purpose::STANDARD};
use protocol::server::{Direction, Meta, Value};
use schemas::version::Version;

use super::{
    Turn,
    gate::{Turned, unmarked},
    number,
    text::{
        Missing, Mode, NO_MEMORY, NOT_A_NUMBER, NotCounted, Outdated, Stored, TOO_LARGE, Write,
        length, unused_seconds,
    },
};
use crate::{
    node::{Shard, make_stale},
    now::{Expiry, Now},
    rules::{Ask, Fill, Mark, Named, Nonce, Reader, Served, Stale, Token},
    store::{Entry, Held, Traits, item_bytes},
    usage::Access,
};

const MODE_OF_STORE: &[u8] = b"CLIENT_ERROR invalid mode for ms M token\r\n";
const MODE_OF_ARITHMETIC: &[u8] = b"CLIENT_ERROR invalid mode for ma M token\r\n";

/// What `mg` found, or made.
pub(super) struct Found {
    /// Whether this reader shall renew it, so far.
    won: Won,
    /// Whether it was made just now.
    pub(super) origin: Origin,
    served: Served,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Won {
    Yes,
    /// With what the primary says.
    FromPrimary,
    No,
}

impl Won {
    fn is_win(self) -> bool {
        self != Won::No
    }
}

/// Where the sender can read what is not cached.
fn reader(meta: &Meta<'_>) -> Reader {
    if meta.flags.has(b'G') { Reader::CanReadPrimary } else { Reader::Anywhere }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Found,
    Made,
}

impl Turn<'_> {
    pub(super) fn meta_get(&mut self, meta: &Meta<'_>, out: &mut Vec<u8>) {
        let (key, flags, now) = (&*meta.key, &meta.flags, self.now);
        self.gets = self.gets.saturating_add(1);
        self.counters.cmd_meta.up();
        if self.may_lease(meta) {
            self.gate.change();
        }
        let mut shard = self.shard(key);
        let found = self.find(&mut shard, meta);
        let entry = shard.get(key, now).filter(|_| found.is_some());
        let (Some(mut found), Some(mut entry)) = (found, entry) else {
            return self.missed(meta, out);
        };
        self.settle(meta, &mut entry, &mut found);
        let matches = flags.cas.is_some_and(|cas| cas == entry.cas);
        let with_value = flags.has(b'v') && !matches;
        if with_value {
            out.extend_from_slice(b"VA ");
            number(length(entry.value().len()), out);
        } else {
            out.extend_from_slice(b"HD");
        }
        for word in meta.words.clone() {
            self.answer_get(word, meta, &mut entry, &mut found, out);
        }
        Turn::flag_win(&mut entry, &found, out);
        if flags.has(b'V') && found.served == Served::Degraded {
            out.extend_from_slice(b" D");
        }
        out.extend_from_slice(b"\r\n");
        if with_value {
            entry.value().append_to(out);
            out.extend_from_slice(b"\r\n");
        }
        if flags.has(b'u') {
            drop(entry);
        } else {
            entry.note_read();
        }
        drop(shard);
        if flags.exptime.is_some() {
            self.counters.cmd_touch.up();
            self.counters.touch_hits.up();
        }
        self.hits = self.hits.saturating_add(1);
        self.note(key, Access::Hit);
    }

    /// Whether this reader may be told to renew a value: he asks for that, or the value is one that a client called outdated.
    fn may_lease(&self, meta: &Meta<'_>) -> bool {
        let (flags, key, now) = (&meta.flags, &*meta.key, self.now);
        if flags.vivify.is_some() || flags.recache.is_some() {
            return true;
        }
        // It can be called so only by one who changes, and nobody does while this turn lasts.
        let renewed = Traits::PLACEHOLDER.with(Traits::STALE);
        self.gate.has_source()
            && !self.gate.may_change()
            && self.node.shard(key).look(key, now).is_some_and(|hit| hit.traits().has(renewed))
    }

    fn missed(&mut self, meta: &Meta<'_>, out: &mut Vec<u8>) {
        self.counters.get_misses.up();
        if meta.flags.exptime.is_some() {
            self.counters.cmd_touch.up();
            self.counters.touch_misses.up();
        }
        self.note(&meta.key, Access::Miss);
        if !meta.flags.is_quiet() {
            out.extend_from_slice(b"EN");
            echo(meta, out);
            if meta.flags.has(b'G') && self.gate.hints_primary(self.now, &meta.key) {
                out.extend_from_slice(b" G");
            }
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Finds the entry; or, for `N`, makes one that holds its place.
    pub(super) fn find(&mut self, shard: &mut Shard<'_>, meta: &Meta<'_>) -> Option<Found> {
        let (key, flags, now) = (&*meta.key, &meta.flags, self.now);
        let stale = if flags.vivify.is_some() { Stale::Allow } else { Stale::Refuse };
        let at_least = flags.version.map_or(Version::ZERO, Version::from_bits);
        if let Some(mut entry) = shard.get(key, now) {
            let hidden = entry.traits.has(Traits::PLACEHOLDER) && self.gate.has_source();
            let served = if hidden && flags.vivify.is_none() {
                Served::Miss
            } else {
                self.gate.serve(now, key, || entry.mark, Ask { at_least, stale })
            };
            if served == Served::Stale && !entry.traits.has(Traits::STALE) {
                make_stale(&mut entry, self.node.next_cas());
            }
            if served != Served::Miss {
                return Some(Found { won: Won::No, origin: Origin::Found, served });
            }
            // What is too old for one reader alone stays. What nobody is served is filled anew, by one reader at a time.
            if at_least > Version::ZERO {
                return None;
            }
        }
        let vivify = flags.vivify?;
        let cas = flags.cas_new.unwrap_or_else(|| self.node.next_cas());
        let turned = self.gate.lease(now, key, reader(meta), cas);
        let won = match turned {
            Turned::Win => Won::Yes,
            Turned::WinFromPrimary => Won::FromPrimary,
            // What the winner will name is in its place already, but for a value that is gone since.
            Turned::Wait if shard.get(key, now).is_some() => {
                let (won, origin, served) = (Won::No, Origin::Found, Served::Hit);
                let held = shard.get(key, now).filter(|it| it.traits.has(Traits::PLACEHOLDER));
                return held.map(|_| Found { won, origin, served });
            }
            Turned::Wait => Won::No,
            Turned::ReadPrimary | Turned::Never => return None,
        };
        // It says nothing of the database, but must be served as long as it is there.
        let mark = Mark { filled: Version::MAX, ..unmarked(now) };
        let mut entry = Entry::new(0, Expiry::NEVER, cas, mark, now);
        entry.traits = Traits::PLACEHOLDER;
        if turned == Turned::Wait {
            entry.traits = entry.traits.with(Traits::WON);
            entry.expiry = Expiry::from_client(vivify, now);
        }
        shard.put(key, &[], &entry, now).ok()?;
        let origin = if won.is_win() { Origin::Made } else { Origin::Found };
        Some(Found { won, origin, served: Served::Hit })
    }

    fn answer_get(
        &self,
        word: &[u8],
        meta: &Meta<'_>,
        entry: &mut Held<'_>,
        found: &mut Found,
        out: &mut Vec<u8>,
    ) {
        let (flags, now) = (&meta.flags, self.now);
        let letter = word.first().copied().unwrap_or_default();
        match letter {
            b'T' => {
                entry.expiry = Expiry::from_client(flags.exptime.unwrap_or_default(), now);
            }
            b'N' if found.origin == Origin::Made => {
                entry.expiry = Expiry::from_client(flags.vivify.unwrap_or_default(), now);
            }
            b'R' if self.may_recache(entry, found) && is_soon_over(entry, meta, now) => {
                found.won = Won::Yes;
            }
            b's' => flag(b's', length(entry.value().len()), out),
            b't' => flag_left(entry.expiry.seconds_left(now), out),
            b'c' => flag(b'c', entry.cas, out),
            b'f' => flag(b'f', u64::from(entry.flags), out),
            b'l' => flag(b'l', unused_seconds(entry, now), out),
            b'h' => flag(b'h', u64::from(entry.traits.has(Traits::FETCHED)), out),
            b'V' => flag(b'V', entry.mark.filled.bits(), out),
            b'O' => opaque(word, out),
            b'k' => flag_key(&meta.key, entry.traits, out),
            _ => {}
        }
    }

    fn may_recache(&self, entry: &Entry, found: &Found) -> bool {
        let free = found.origin == Origin::Found && !entry.traits.has(Traits::WON);
        free && !self.gate.has_source()
    }

    /// With a source, the rules say who renews a value; their lease ends with its time, so the next one has a CAS of its own.
    pub(super) fn settle(&mut self, meta: &Meta<'_>, entry: &mut Entry, found: &mut Found) {
        let (key, now) = (&*meta.key, self.now);
        let missing = entry.traits.has(Traits::PLACEHOLDER.with(Traits::STALE));
        let early = is_soon_over(entry, meta, now) && !entry.traits.has(Traits::WON);
        let open = missing || early;
        if !self.gate.has_source() || found.origin == Origin::Made || !open {
            return;
        }
        let cas = self.node.next_cas();
        found.won = match self.gate.lease(now, key, reader(meta), cas) {
            Turned::Win => Won::Yes,
            Turned::WinFromPrimary => Won::FromPrimary,
            Turned::Wait | Turned::ReadPrimary | Turned::Never => Won::No,
        };
        if found.won.is_win() {
            entry.cas = cas;
            entry.traits = entry.traits.without(Traits::WON);
        } else if missing {
            entry.traits = entry.traits.with(Traits::WON);
        }
    }

    /// Says whether the value is outdated, and who renews it.
    fn flag_win(entry: &mut Entry, found: &Found, out: &mut Vec<u8>) {
        if entry.traits.has(Traits::WON) {
            out.extend_from_slice(b" Z");
        }
        if entry.traits.has(Traits::STALE) {
            out.extend_from_slice(b" X");
        }
        if Turn::win(entry, found) == Won::Yes {
            out.extend_from_slice(b" W");
        }
        if found.won == Won::FromPrimary {
            out.extend_from_slice(b" G");
        }
    }

    /// Whether this reader renews the value; then nobody else does.
    pub(super) fn win(entry: &mut Entry, found: &Found) -> Won {
        let free = entry.traits.has(Traits::STALE) && !entry.traits.has(Traits::WON);
        if found.won.is_win() || free {
            entry.traits = entry.traits.with(Traits::WON);
            return Won::Yes;
        }
        Won::No
    }

    pub(super) fn meta_store(&mut self, meta: &Meta<'_>, value: Value<'_>, out: &mut Vec<u8>) {
        self.counters.cmd_meta.up();
        let (key, flags, now) = (&*meta.key, &meta.flags, self.now);
        let missing = if flags.vivify.is_some() { Missing::Create } else { Missing::Refuse };
        let (mode, appends) = match flags.mode {
            None | Some(b'S') => (Mode::Set, false),
            Some(b'E') => (Mode::Add, false),
            Some(b'A') => (Mode::Append(missing), true),
            Some(b'P') => (Mode::Prepend(missing), true),
            Some(b'R') => (Mode::Replace, false),
            Some(_) => return out.extend_from_slice(MODE_OF_STORE),
        };
        let mode = match mode {
            Mode::Set | Mode::Replace if flags.cas.is_some() => Mode::Cas,
            mode => mode,
        };
        let Value::Bytes(value) = value else { return self.refuse_large(key, out) };
        if !self.fits(key, value, flags.client_flags) {
            return self.refuse_large(key, out);
        }
        let exptime = if appends { flags.vivify.or(flags.exptime) } else { flags.exptime };
        let stored = self.write(&Write {
            key,
            value,
            flags: flags.client_flags,
            expiry: exptime.map_or(Expiry::NEVER, |exptime| Expiry::from_client(exptime, now)),
            mode,
            cas: flags.cas.unwrap_or_default(),
            cas_new: flags.cas_new,
            outdated: if flags.has(b'I') { Outdated::Keep } else { Outdated::Refuse },
            traits: sent_as(meta),
            fill: match (flags.version, flags.cas) {
                (Some(version), _) => Fill::Version(Version::from_bits(version)),
                (None, Some(cas)) => Fill::Lease(Token(cas)),
                (None, None) => Fill::Plain,
            },
        });
        let (code, cas, bytes): (&[u8], _, _) = match stored {
            Stored::Yes { .. } if flags.is_quiet() => return,
            Stored::Yes { cas, bytes } => (b"HD", cas, length(bytes)),
            Stored::No => (b"NS", 0, length(value.len())),
            Stored::Exists => (b"EX", 0, length(value.len())),
            Stored::NotFound => (b"NF", 0, length(value.len())),
            Stored::NoMemory => return out.extend_from_slice(NO_MEMORY),
        };
        out.extend_from_slice(code);
        for word in meta.words.clone() {
            match word.first() {
                Some(b'c') => flag(b'c', cas, out),
                Some(b's') => flag(b's', bytes, out),
                _ => echo_word(word, meta, out),
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn refuse_large(&mut self, key: &[u8], out: &mut Vec<u8>) {
        self.counters.store_too_large.up();
        // What it was to replace is outdated.
        self.node.shard(key).remove(key, self.now);
        out.extend_from_slice(TOO_LARGE);
    }

    pub(super) fn meta_delete(&mut self, meta: &Meta<'_>, out: &mut Vec<u8>) {
        self.counters.cmd_meta.up();
        let removed = if let Some(nonce) = meta.flags.mark {
            self.mark(meta, Nonce(nonce))
        } else {
            self.note(&meta.key, Access::Delete);
            self.remove(meta)
        };
        let code: &[u8] = match removed {
            Stored::Yes { .. } if meta.flags.is_quiet() => return,
            Stored::Yes { .. } => b"HD",
            Stored::Exists => b"EX",
            Stored::NotFound => b"NF",
            Stored::No => b"NS",
            Stored::NoMemory => return out.extend_from_slice(b"SERVER_ERROR out of memory\r\n"),
        };
        out.extend_from_slice(code);
        echo(meta, out);
        out.extend_from_slice(b"\r\n");
    }

    /// Says that the key is about to be written, or (`V`) at which version it was.
    fn mark(&mut self, meta: &Meta<'_>, nonce: Nonce) -> Stored {
        self.gate.change();
        let (key, now) = (&*meta.key, self.now);
        let Some(version) = meta.flags.version else {
            let marked = self.gate.mark(now, key, nonce);
            return marked.map_or(Stored::No, |()| Stored::Yes { cas: 0, bytes: 0 });
        };
        match self.gate.name_mark(now, key, nonce, Version::from_bits(version)) {
            Named::InTime => Stored::Yes { cas: 0, bytes: 0 },
            Named::Expired => Stored::NotFound,
        }
    }

    /// Takes the entry away, or its value (`x`), or its good name (`I`).
    fn remove(&mut self, meta: &Meta<'_>) -> Stored {
        let (key, flags, now, node) = (&*meta.key, &meta.flags, self.now, self.node);
        self.gate.change();
        let mut shard = node.shard(key);
        let Some(entry) = shard.get(key, now) else {
            self.counters.delete_misses.up();
            return Stored::NotFound;
        };
        let cas_before = entry.cas;
        if flags.cas.is_some_and(|cas| cas != cas_before) {
            self.counters.delete_misses.up();
            return Stored::Exists;
        }
        self.gate.void_lease(key, cas_before);
        if !flags.has(b'x') && !flags.has(b'I') {
            self.counters.delete_hits.up();
            drop(entry);
            shard.remove(key, now);
            return Stored::Yes { cas: 0, bytes: 0 };
        }
        let (mut changed, mut value) = (*entry, Vec::new());
        if !flags.has(b'x') {
            entry.value().append_to(&mut value);
        }
        drop(entry);
        if flags.has(b'x') {
            let cas = flags.cas_new.unwrap_or(cas_before);
            let (client_flags, mark) = (flags.client_flags, changed.mark);
            changed = Entry::new(client_flags, Expiry::NEVER, cas, mark, now);
        }
        if let Some(exptime) = flags.exptime {
            changed.expiry = Expiry::from_client(exptime, now);
        }
        if flags.has(b'I') {
            make_stale(&mut changed, flags.cas_new.unwrap_or_else(|| node.next_cas()));
        } else {
            self.counters.delete_hits.up();
        }
        if shard.put(key, &[&value], &changed, now).is_err() {
            return Stored::NoMemory;
        }
        Stored::Yes { cas: 0, bytes: 0 }
    }

    pub(super) fn meta_arithmetic(&mut self, meta: &Meta<'_>, out: &mut Vec<u8>) {
        self.counters.cmd_meta.up();
        let (key, flags) = (&*meta.key, &meta.flags);
        let direction = match flags.mode {
            None | Some(b'I' | b'+') => Direction::Up,
            Some(b'D' | b'-') => Direction::Down,
            Some(_) => return out.extend_from_slice(MODE_OF_ARITHMETIC),
        };
        let by = (direction, flags.delta.unwrap_or(1));
        let code: &[u8] = match self.count(key, by, flags.cas.unwrap_or_default(), flags.cas_new) {
            Ok(counted) => return self.counted(meta, counted.value, Origin::Found, out),
            Err(NotCounted::NotFound) if flags.vivify.is_some() => {
                return self.vivify_number(meta, out);
            }
            Err(NotCounted::NotFound) => b"NF",
            Err(NotCounted::Exists) => b"EX",
            Err(NotCounted::Refused) => b"NS",
            Err(NotCounted::NotANumber) => return out.extend_from_slice(NOT_A_NUMBER),
            Err(NotCounted::NoMemory) => {
                return out.extend_from_slice(b"SERVER_ERROR out of memory\r\n");
            }
        };
        out.extend_from_slice(code);
        echo(meta, out);
        out.extend_from_slice(b"\r\n");
    }

    fn vivify_number(&mut self, meta: &Meta<'_>, out: &mut Vec<u8>) {
        let flags = &meta.flags;
        let digits = flags.initial.to_string();
        let stored = self.write(&Write {
            key: &meta.key,
            value: digits.as_bytes(),
            flags: 0,
            expiry: Expiry::NEVER,
            mode: Mode::Set,
            cas: 0,
            cas_new: flags.cas_new,
            outdated: Outdated::Refuse,
            // Memcached forgets how the key was sent.
            traits: Traits::NONE,
            fill: Fill::Plain,
        });
        match stored {
            Stored::Yes { .. } => self.counted(meta, flags.initial, Origin::Made, out),
            Stored::NoMemory => {
                out.extend_from_slice(b"SERVER_ERROR Out of memory allocating new item\r\n");
            }
            Stored::No | Stored::Exists | Stored::NotFound => {
                out.extend_from_slice(b"NS");
                echo(meta, out);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Answers with the number, and gives its entry the expiry that was asked for.
    fn counted(&mut self, meta: &Meta<'_>, value: u64, origin: Origin, out: &mut Vec<u8>) {
        let (flags, now, node) = (&meta.flags, self.now, self.node);
        let begin = out.len();
        let digits = value.to_string();
        if flags.has(b'v') {
            out.extend_from_slice(b"VA ");
            number(length(digits.len()), out);
        } else {
            out.extend_from_slice(b"HD");
        }
        let mut shard = node.shard(&meta.key);
        let mut entry = shard.get(&meta.key, now);
        for word in meta.words.clone() {
            let letter = word.first().copied().unwrap_or_default();
            match (letter, &mut entry) {
                (b'c', Some(entry)) => flag(b'c', entry.cas, out),
                (b't', Some(entry)) => flag_left(entry.expiry.seconds_left(now), out),
                (b'T', Some(entry)) => {
                    let exptime = flags.exptime.unwrap_or_default();
                    entry.expiry = Expiry::from_client(exptime, now);
                }
                (b'N', Some(entry)) if origin == Origin::Made => {
                    let exptime = flags.vivify.unwrap_or_default();
                    entry.expiry = Expiry::from_client(exptime, now);
                }
                _ => echo_word(word, meta, out),
            }
        }
        drop(entry);
        drop(shard);
        out.extend_from_slice(b"\r\n");
        if flags.has(b'v') {
            out.extend_from_slice(digits.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if flags.is_quiet() {
            out.truncate(begin);
        }
    }

    pub(super) fn meta_debug(&mut self, key: &[u8], out: &mut Vec<u8>) {
        let now = self.now;
        let mut shard = self.node.shard(key);
        let Some(entry) = shard.get(key, now) else { return out.extend_from_slice(b"EN\r\n") };
        out.extend_from_slice(b"ME ");
        if entry.traits.has(Traits::BASE64) {
            out.extend_from_slice(STANDARD.encode(key).as_bytes());
        } else {
            out.extend_from_slice(key);
        }
        let left =
            entry.expiry.seconds_left(now).map_or_else(|| "-1".to_owned(), |it| it.to_string());
        let fetched = if entry.traits.has(Traits::FETCHED) { "yes" } else { "no" };
        let bytes = item_bytes(key.len(), entry.value().len(), entry.flags);
        let (unused, cas) = (unused_seconds(&entry, now), entry.cas);
        let facts =
            format!(" exp={left} la={unused} cas={cas} fetch={fetched} cls=1 size={bytes}\r\n");
        out.extend_from_slice(facts.as_bytes());
    }
}

/// Whether the entry ends sooner than the `R` of the reader says. A limit of 0 is none, as an expiry of 0 is never.
fn is_soon_over(entry: &Entry, meta: &Meta<'_>, now: Now) -> bool {
    let Some(recache) = meta.flags.recache else { return false };
    let limit = Expiry::from_client(recache, now);
    entry.expiry < limit && limit != Expiry::NEVER
}

/// What the entry keeps of how its key was sent.
fn sent_as(meta: &Meta<'_>) -> Traits {
    if meta.flags.is_base64() { Traits::BASE64 } else { Traits::NONE }
}

fn flag(letter: u8, value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b' ', letter]);
    number(value, out);
}

fn flag_left(seconds: Option<u64>, out: &mut Vec<u8>) {
    match seconds {
        Some(seconds) => flag(b't', seconds, out),
        None => out.extend_from_slice(b" t-1"),
    }
}

fn flag_key(key: &[u8], traits: Traits, out: &mut Vec<u8>) {
    out.extend_from_slice(b" k");
    if traits.has(Traits::BASE64) {
        out.extend_from_slice(STANDARD.encode(key).as_bytes());
        out.extend_from_slice(b" b");
    } else {
        out.extend_from_slice(key);
    }
}

fn opaque(word: &[u8], out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(word);
}

/// Repeats the opaque and the key, where they were sent.
fn echo(meta: &Meta<'_>, out: &mut Vec<u8>) {
    for word in meta.words.clone() {
        echo_word(word, meta, out);
    }
}

fn echo_word(word: &[u8], meta: &Meta<'_>, out: &mut Vec<u8>) {
    match word.first() {
        Some(b'O') => opaque(word, out),
        Some(b'k') => flag_key(&meta.key, sent_as(meta), out),
        _ => {}
    }
}
