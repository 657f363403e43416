//! What becomes of one command of a client.

use std::{rc::Rc, sync::PoisonError};

use client::route::{Ask, Class, Op, Outcome, leases::Whose};
use protocol::server::{Command, StoreVerb, Value};
use tokio::time::Instant;

use crate::{
    admin,
    desk::{Desk, Single, Work, key_of, with_command},
    many::Many,
    session::Next,
    speak,
    table::Table,
    target::From,
    trip::Trip,
    wire::{
        answer::Silence,
        cut::Shape,
        request::{self, Lifetime},
    },
};

/// Which memcached this stands in for.
pub(crate) const VERSION: &[u8] = b"VERSION 1.6.45\r\n";

/// Takes one command; `raw` are its bytes.
pub(crate) fn command(desk: &Rc<Desk>, command: &Command<'_>, raw: &[u8], now: Instant) -> Next {
    let silence = Silence::of(command);
    match command {
        Command::Quit => return Next::Close,
        Command::Version => desk.say(VERSION),
        Command::MetaNoop => desk.say(b"MN\r\n"),
        Command::Refused { line, .. } => {
            if silence != Silence::All {
                desk.say(line);
            }
        }
        Command::Admin(admin, words) => admin::command(desk, *admin, words.clone()),
        Command::Get { keys, .. } if admin::is_question(keys) => {
            admin::question(desk);
        }
        Command::Get { keys, .. } | Command::LeaseGet { keys } if keys.clone().nth(1).is_some() => {
            let count = keys.clone().count();
            let Some(op) = speak::op_of(command) else { return Next::Go };
            count_ask(desk, op, count);
            let table = Rc::clone(&desk.hub.table.borrow());
            desk.begin_many(Many::new(table, op, raw, count));
        }
        Command::Store(protocol::server::Store { value: Value::TooLarge, key, .. }) => {
            too_large(desk, key, silence, now);
        }
        Command::MetaStore { value: Value::TooLarge, meta } => {
            too_large(desk, &meta.key, silence, now);
        }
        command => about_key(desk, command, raw, now),
    }
    Next::Go
}

/// A value that is refused must not leave the one of before behind.
fn too_large(desk: &Rc<Desk>, key: &[u8], silence: Silence, now: Instant) {
    let mut raw = Vec::new();
    request::delete(key, &mut raw);
    raw.truncate(raw.len().saturating_sub(2));
    raw.extend_from_slice(b" noreply\r\n");
    with_command(&raw, |command| about_key(desk, command, &raw, now));
    if silence != Silence::All {
        desk.say(request::TOO_LARGE);
    }
}

fn count_ask(desk: &Desk, op: Op, keys: usize) {
    let counters = &desk.hub.counters;
    match op.class() {
        Class::Read => counters.reads.add(1),
        Class::Update => counters.updates.add(1),
        Class::Delete => counters.deletes.add(1),
    }
    counters.keys.add(u64::try_from(keys).unwrap_or(u64::MAX));
}

fn about_key(desk: &Rc<Desk>, command: &Command<'_>, raw: &[u8], now: Instant) {
    let Some(op) = speak::op_of(command) else {
        desk.say(b"ERROR\r\n");
        return;
    };
    count_ask(desk, op, 1);
    let table = Rc::clone(&desk.hub.table.borrow());
    let silence = Silence::of(command);
    if let Some(token) = token_of(command)
        && is_ours(token)
    {
        return redeem(desk, &table, (command, raw, token), now);
    }
    let (key, dice) = (key_of(command, 0), fastrand::u64(..));
    let ask = Ask { op, key };
    let Some(direct) = table.routes.direct(&ask, &*table, dice) else {
        let raw: Rc<[u8]> = Rc::from(raw);
        desk.hub.counters.errands.add(1);
        desk.begin(silence, |place| Trip::begin(&table, (op, raw, 0), 0, place));
        return;
    };
    let Some(target) = table.targets.get(direct.target.index()).cloned() else { return };
    let raw = desk.hub.spare.copy(raw);
    let single = Single { table, direct, op, dice, raw };
    let slot = desk.put(silence, Work::Direct(single));
    let from = From { desk: Rc::clone(desk), slot, part: 0 };
    target.send(from, now, |out| {
        let key = key.get(usize::from(direct.strip)..).unwrap_or_default();
        encoded(command, key, Lifetime::Sent, out)
    });
}

fn encoded(command: &Command<'_>, key: &[u8], lifetime: Lifetime, out: &mut Vec<u8>) -> Shape {
    request::encode(command, key, lifetime, out).unwrap_or_else(|| {
        // Whatever cannot be said still has to be answered, or replies were out of step.
        out.extend_from_slice(b"version\r\n");
        Shape::Line
    })
}

fn token_of(command: &Command<'_>) -> Option<u64> {
    match command {
        Command::Store(store) => match store.verb {
            StoreVerb::Cas(token) | StoreVerb::Lease(token) => Some(token),
            _ => None,
        },
        Command::MetaStore { meta, .. }
        | Command::MetaDelete(meta)
        | Command::MetaArithmetic(meta) => meta.flags.cas,
        _ => None,
    }
}

/// Whether a token may be one that was given in place of another.
pub(crate) fn is_ours(token: u64) -> bool {
    token >> 32 == 0x7ace_b00c
}

/// A token of a node that stood in goes back to that node.
fn redeem(
    desk: &Rc<Desk>,
    table: &Rc<Table>,
    (command, raw, token): (&Command<'_>, &[u8], u64),
    now: Instant,
) {
    let silence = Silence::of(command);
    let whose = {
        let mut leases = table.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.redeem(now, token)
    };
    let lease = match whose {
        Whose::Away(lease) => lease,
        Whose::Home | Whose::Nobody => {
            let nothing = match command {
                Command::Store(store) if matches!(store.verb, StoreVerb::Lease(_)) => {
                    Outcome::NotStored
                }
                _ => Outcome::Exists,
            };
            let mut said = Vec::new();
            let what = speak::local(command, nothing, &mut said);
            if !silence.hides(what) {
                desk.say(&said);
            }
            return;
        }
    };
    let Some(target) = table.targets.get(lease.target.index()).cloned() else { return };
    let strip = lease.change.strip;
    let raw = with_token(raw, token, lease.token);
    let slot = desk.put(silence, Work::Bound { raw: raw.clone(), strip });
    let from = From { desk: Rc::clone(desk), slot, part: 0 };
    let lifetime = match lease.change.ttl_s_max {
        None => Lifetime::Sent,
        Some(seconds) => Lifetime::AtMost { seconds, now_unix_s: desk.hub.unix_s.get() },
    };
    target.send(from, now, |out| {
        let mut shape = Shape::Line;
        with_command(&raw, |command| {
            let key = key_of(command, 0).get(usize::from(strip)..).unwrap_or_default();
            shape = encoded(command, key, lifetime, out);
        });
        shape
    });
}

/// The same command with another token. Only its line is looked at.
fn with_token(raw: &[u8], ours: u64, theirs: u64) -> Vec<u8> {
    let end = memchr::memchr(b'\n', raw).unwrap_or(raw.len());
    let (line, rest) = raw.split_at_checked(end).unwrap_or((raw, b""));
    let ours = ours.to_string();
    let (mut out, mut is_first) = (Vec::with_capacity(raw.len()), true);
    for word in line.split(|byte| *byte == b' ') {
        if !std::mem::take(&mut is_first) {
            out.push(b' ');
        }
        let (word, end) = match word.strip_suffix(b"\r") {
            Some(word) => (word, &b"\r"[..]),
            None => (word, &b""[..]),
        };
        let letter = if word.first() == Some(&b'C') { &b"C"[..] } else { b"" };
        if word.strip_prefix(letter) == Some(ours.as_bytes()) {
            out.extend_from_slice(letter);
            request::put_number(&mut out, theirs);
        } else {
            out.extend_from_slice(word);
        }
        out.extend_from_slice(end);
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_exchanged() {
        let of =
            |raw: &[u8]| String::from_utf8(with_token(raw, 8_848_085_010_000, 7)).expect("text");
        assert_eq!(
            of(b"lease-set 8848 8848085010000 0 0 13\r\n8848085010000\r\n"),
            "lease-set 8848 7 0 0 13\r\n8848085010000\r\n"
        );
        assert_eq!(of(b"ms k 1 C8848085010000\r\nx\r\n"), "ms k 1 C7\r\nx\r\n");
        assert_eq!(of(b"cas k 0 0 1 8848085010000\r\nx\r\n"), "cas k 0 0 1 7\r\nx\r\n");
    }
}
