//! Commands towards a node: what the client sent, with the node's own key, and without the words that only the way back needs.
//!
//! Text stays text, meta stays meta. `noreply` and the meta flag `q` are left out, so that every command has a reply and replies stay
//! in step; the router applies them to what comes back. The meta flags `P` and `L` are for proxies, and end here.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

use base64::{Engine, engine::general_purpose::STANDARD};
use protocol::server::{Command, Direction, GetVerb, Meta, Store, StoreVerb, Value, error, number};

use super::cut::Shape;

/// Longest expiry time that counts from now, in seconds; above, it is a moment.
const RELATIVE_MAX: i32 = 60 * 60 * 24 * 30;

/// How long an entry may live where it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As the client says.
    Sent,
    /// Not longer than so many seconds. `now_unix_s` tells moments from spans.
    AtMost { seconds: u32, now_unix_s: u64 },
}

impl Lifetime {
    /// The expiry time that is sent for the one that the client gave.
    pub fn of(self, exptime: i32) -> i32 {
        let Lifetime::AtMost { seconds, now_unix_s } = self else { return exptime };
        let most = i32::try_from(seconds).unwrap_or(RELATIVE_MAX).clamp(1, RELATIVE_MAX);
        if exptime < 0 {
            return exptime;
        }
        let left = if exptime > RELATIVE_MAX {
            let moment = u64::try_from(exptime).unwrap_or_default();
            let left = moment.saturating_sub(now_unix_s);
            // What has expired already, expires.
            i32::try_from(left).unwrap_or(i32::MAX).max(i32::from(moment <= now_unix_s))
        } else if exptime == 0 {
            i32::MAX
        } else {
            exptime
        };
        if left > most { most } else { exptime }
    }
}

/// Appends a command about one key, with `key` for it; what its reply looks like. `None` for a command that is not relayed so: a read of
/// several keys (see [`reads`]), or one that is about no key.
pub fn encode(
    command: &Command<'_>,
    key: &[u8],
    lifetime: Lifetime,
    out: &mut Vec<u8>,
) -> Option<Shape> {
    match command {
        Command::Get { verb, .. } => {
            reads(*verb, [key], lifetime, out);
            return Some(Shape::Values);
        }
        Command::LeaseGet { .. } => {
            put(out, &[b"lease-get ", key, b"\r\n"]);
            return Some(Shape::Values);
        }
        Command::Store(store) => text_store(store, key, lifetime, out)?,
        Command::Delete { .. } => put(out, &[b"delete ", key, b"\r\n"]),
        Command::Touch { exptime, .. } => {
            put(out, &[b"touch ", key, b" "]);
            put_signed(out, lifetime.of(*exptime));
            out.extend_from_slice(b"\r\n");
        }
        Command::Arithmetic { direction, delta, .. } => {
            let verb: &[u8] = if *direction == Direction::Up { b"incr " } else { b"decr " };
            put(out, &[verb, key, b" "]);
            put_number(out, *delta);
            out.extend_from_slice(b"\r\n");
        }
        Command::MetaGet(meta) => return Some(meta_line(b"mg ", meta, key, lifetime, out)),
        Command::MetaDelete(meta) => return Some(meta_line(b"md ", meta, key, lifetime, out)),
        Command::MetaArithmetic(meta) => return Some(meta_line(b"ma ", meta, key, lifetime, out)),
        Command::MetaStore { meta, value: Value::Bytes(value) } => {
            meta_store(meta, value, key, lifetime, out);
            return Some(Shape::Meta);
        }
        Command::MetaDebug { .. } => {
            let plain = key.iter().all(|byte| !byte.is_ascii_whitespace() && *byte != 0);
            if plain {
                put(out, &[b"me ", key, b"\r\n"]);
            } else {
                put(out, &[b"me ", STANDARD.encode(key).as_bytes(), b" b\r\n"]);
            }
            return Some(Shape::Meta);
        }
        _ => return None,
    }
    Some(Shape::Line)
}

/// Appends one read of many keys.
pub fn reads<'k>(
    verb: GetVerb,
    keys: impl IntoIterator<Item = &'k [u8]>,
    lifetime: Lifetime,
    out: &mut Vec<u8>,
) {
    match verb {
        GetVerb::Get => out.extend_from_slice(b"get"),
        GetVerb::Gets => out.extend_from_slice(b"gets"),
        GetVerb::Gat(exptime) | GetVerb::Gats(exptime) => {
            let word: &[u8] = if matches!(verb, GetVerb::Gat(_)) { b"gat " } else { b"gats " };
            out.extend_from_slice(word);
            put_signed(out, lifetime.of(exptime));
        }
    }
    for key in keys {
        put(out, &[b" ", key]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the removal of a key.
pub fn delete(key: &[u8], out: &mut Vec<u8>) {
    put(out, &[b"delete ", key, b"\r\n"]);
}

/// Likewise, whatever bytes the key has; the answer is one line in either case.
pub fn delete_any(key: &[u8], out: &mut Vec<u8>) {
    if key.iter().all(|byte| !byte.is_ascii_whitespace() && *byte != 0) {
        delete(key, out);
    } else {
        put(out, &[b"md ", STANDARD.encode(key).as_bytes(), b" b\r\n"]);
    }
}

/// Appends a look at a key: `words` are the flags, and the end of the line.
pub(crate) fn look(key: &[u8], words: &[u8], out: &mut Vec<u8>) {
    let plain = key.iter().all(|byte| !byte.is_ascii_whitespace() && *byte != 0);
    if plain {
        put(out, &[b"mg ", key, words]);
    } else {
        put(out, &[b"mg ", STANDARD.encode(key).as_bytes(), b" b", words]);
    }
}

/// Flags and time of a copy, and the token that allows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    pub(crate) flags: u32,
    pub(crate) exptime: i32,
    pub(crate) token: u64,
}

/// Appends an `add`.
pub(crate) fn add(key: &[u8], flags: u32, exptime: i32, value: &[u8], out: &mut Vec<u8>) {
    put(out, &[b"add ", key, b" "]);
    put_number(out, u64::from(flags));
    out.push(b' ');
    put_signed(out, exptime);
    out.push(b' ');
    put_length(out, value);
    put(out, &[b"\r\n", value, b"\r\n"]);
}

/// Appends the set of a lease.
pub(crate) fn lease_set(key: &[u8], fill: Fill, value: &[u8], out: &mut Vec<u8>) {
    put(out, &[b"lease-set ", key, b" "]);
    put_number(out, fill.token);
    out.push(b' ');
    put_number(out, u64::from(fill.flags));
    out.push(b' ');
    put_signed(out, fill.exptime);
    out.push(b' ');
    put_length(out, value);
    put(out, &[b"\r\n", value, b"\r\n"]);
}

/// Likewise in meta.
pub(crate) fn meta_lease_set(key: &[u8], fill: Fill, value: &[u8], out: &mut Vec<u8>) {
    put(out, &[b"ms ", key, b" "]);
    put_length(out, value);
    out.extend_from_slice(b" C");
    put_number(out, fill.token);
    out.extend_from_slice(b" F");
    put_number(out, u64::from(fill.flags));
    out.extend_from_slice(b" T");
    put_signed(out, fill.exptime);
    put(out, &[b"\r\n", value, b"\r\n"]);
}

/// What a client is told of a value that is too large.
pub const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
/// What a client is told whose command no node could have.
pub const MALFORMED: &[u8] = error::FORMAT;

fn text_store(store: &Store<'_>, key: &[u8], lifetime: Lifetime, out: &mut Vec<u8>) -> Option<()> {
    let Value::Bytes(value) = store.value else { return None };
    let verb: &[u8] = match store.verb {
        StoreVerb::Set => b"set ",
        StoreVerb::Add => b"add ",
        StoreVerb::Replace => b"replace ",
        StoreVerb::Append => b"append ",
        StoreVerb::Prepend => b"prepend ",
        StoreVerb::Cas(_) => b"cas ",
        StoreVerb::Lease(_) => b"lease-set ",
    };
    put(out, &[verb, key, b" "]);
    if let StoreVerb::Lease(token) = store.verb {
        put_number(out, token);
        out.push(b' ');
    }
    put_number(out, u64::from(store.flags));
    out.push(b' ');
    put_signed(out, lifetime.of(store.exptime));
    out.push(b' ');
    put_length(out, value);
    if let StoreVerb::Cas(cas) = store.verb {
        out.push(b' ');
        put_number(out, cas);
    }
    put(out, &[b"\r\n", value, b"\r\n"]);
    Some(())
}

fn meta_store(meta: &Meta<'_>, value: &[u8], key: &[u8], lifetime: Lifetime, out: &mut Vec<u8>) {
    out.extend_from_slice(b"ms ");
    meta_key(meta, key, out);
    out.push(b' ');
    put_length(out, value);
    meta_flags(meta, lifetime, out);
    if meta.flags.exptime.is_none() && lifetime != Lifetime::Sent {
        out.extend_from_slice(b" T");
        put_signed(out, lifetime.of(0));
    }
    put(out, &[b"\r\n", value, b"\r\n"]);
}

fn meta_line(
    verb: &[u8],
    meta: &Meta<'_>,
    key: &[u8],
    lifetime: Lifetime,
    out: &mut Vec<u8>,
) -> Shape {
    out.extend_from_slice(verb);
    meta_key(meta, key, out);
    meta_flags(meta, lifetime, out);
    out.extend_from_slice(b"\r\n");
    Shape::Meta
}

fn meta_key(meta: &Meta<'_>, key: &[u8], out: &mut Vec<u8>) {
    if *meta.key == *key {
        out.extend_from_slice(meta.sent_key);
    } else if meta.flags.is_base64() {
        out.extend_from_slice(STANDARD.encode(key).as_bytes());
    } else {
        out.extend_from_slice(key);
    }
}

fn meta_flags(meta: &Meta<'_>, lifetime: Lifetime, out: &mut Vec<u8>) {
    for word in meta.words.clone() {
        match word.split_first() {
            Some((b'q' | b'P' | b'L', _)) | None => {}
            Some((letter @ (b'T' | b'N'), argument)) if lifetime != Lifetime::Sent => {
                put(out, &[b" ", &[*letter]]);
                put_signed(out, lifetime.of(number(argument).unwrap_or(0)));
            }
            Some(_) => put(out, &[b" ", word]),
        }
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_length(out: &mut Vec<u8>, value: &[u8]) {
    put_number(out, u64::try_from(value.len()).unwrap_or(u64::MAX));
}

fn put_signed(out: &mut Vec<u8>, number: i32) {
    if number < 0 {
        out.push(b'-');
    }
    put_number(out, u64::from(number.unsigned_abs()));
}

/// Decimal digits.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u64) {
    const DIGITS_MAX: usize = 20;
    let (mut digits, mut at, mut rest) = ([b'0'; DIGITS_MAX], DIGITS_MAX, number);
    while at > 0 {
        at = at.saturating_sub(1);
        let digit = u8::try_from(rest.checked_rem(10).unwrap_or_default()).unwrap_or_default();
        if let Some(place) = digits.get_mut(at) {
            *place = b'0'.saturating_add(digit);
        }
        rest = rest.checked_div(10).unwrap_or_default();
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}
