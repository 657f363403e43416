//! Messages to lines.

use bytes::{BufMut, BytesMut};
use schemas::{
    cursor::Place,
    key::{KEY_BYTES_MAX, Key},
    record::Scope,
    version::Version,
};

use super::{
    super::{Agreement, Answer, Batch, Continuity, Finding, Item, Rewind},
    Copied, Copy, FLOOR_PREFIXES_MAX, GiverState, Hello, Introduction, NodeState, PROTOCOL, Peer,
    ToLane, ToNode, rings,
};

/// Appends a lane's message.
pub fn encode(message: &ToNode, out: &mut BytesMut) {
    match message {
        ToNode::Hello(hello) => hello_line(hello, out),
        ToNode::Rings(places) => rings::encode(places, out),
        ToNode::Heads(heads) => {
            out.put_slice(b"heads");
            for (partition, place) in heads {
                word(out, &format!("{partition}={place}"));
            }
        }
        ToNode::Begin { partition, at } => line(out, "begin", &[&partition, &at]),
        ToNode::Epoch(news) => {
            let continuity = match news.continuity {
                Continuity::Lossless => "lossless",
                Continuity::NewServer => "new-server",
                Continuity::SameServer => "same-server",
            };
            line(out, "epoch", &[&news.epoch, &news.last, &continuity, &news.resumed]);
        }
        ToNode::Push(push) => {
            let (region, primary, highest) = (&push.region, &push.primary, &push.highest);
            line(out, "push", &[region, primary, highest, &push.echo, &push.epoch]);
        }
        ToNode::Clocks(Finding { agreement, steps }) => {
            let agreement = match agreement {
                Agreement::Close => "close",
                Agreement::Apart => "apart",
            };
            line(out, "clocks", &[&agreement, steps]);
        }
        ToNode::Apply(batch) => return encode_batch(batch, out),
        ToNode::Quarantine => out.put_slice(b"quarantine"),
        ToNode::Statistics => out.put_slice(b"stats"),
        ToNode::Peer(Peer { stream, partitions, proof }) => {
            let proof = proof.map_or_else(|| "-".to_owned(), |proof| hex(&proof));
            line(out, "peer", &[&PROTOCOL, stream, partitions, &proof]);
        }
        ToNode::Copies(keys) => {
            out.put_slice(b"copies");
            for key in keys {
                out.put_u8(b' ');
                out.put_slice(key.as_bytes());
            }
        }
        ToNode::Walk { walk, looks } => line(out, "walk", &[&walk_name(*walk), looks]),
    }
    out.put_u8(b'\n');
}

/// Appends a node's message.
pub fn encode_answer(message: &ToLane, out: &mut BytesMut) {
    match message {
        ToLane::Challenge(nonce) => line(out, "mcsqueal", &[&PROTOCOL, &hex(nonce)]),
        ToLane::Greeting(introduction) => introduce(introduction, out),
        ToLane::Answer { partition, answer } => {
            let Answer { cursor, age_floor, wall, steps } = answer;
            let (verb, cursor) = match cursor {
                Ok(cursor) => ("ok", cursor.to_string()),
                Err(Rewind { cursor }) => ("rewind", place_or_none(*cursor)),
            };
            line(out, verb, &[partition, &cursor, age_floor, &wall.0, steps]);
        }
        ToLane::Statistic { name, value } => line(out, "stat", &[name, value]),
        ToLane::End => out.put_slice(b"end"),
        ToLane::Copy(copy) => copy_line(copy, out),
        ToLane::Copied(copied) => copied_line(copied, out),
        ToLane::Refused(why) => {
            let clean: String = why.chars().filter(|it| !it.is_control()).take(200).collect();
            line(out, "error", &[&clean]);
        }
    }
    out.put_u8(b'\n');
}

fn hello_line(hello: &Hello, out: &mut BytesMut) {
    let Hello { stream, partitions, ring, proof } = hello;
    let proof = proof.map_or_else(|| "-".to_owned(), |proof| hex(&proof));
    line(out, "hello", &[&PROTOCOL, stream, partitions, ring, &proof]);
}

fn introduce(introduction: &Introduction, out: &mut BytesMut) {
    let Introduction { incarnation, state, ring, greeting } = introduction;
    let state = match state {
        NodeState::Fresh => "fresh",
        NodeState::Degraded => "degraded",
        NodeState::Quarantined => "quarantined",
    };
    line(out, "greeting", &[&format!("{incarnation:016x}"), &state, ring, &greeting.age_floor]);
    for cursor in &greeting.cursors {
        word(out, &place_or_none(*cursor));
    }
}

/// The value follows its line, and has a line end of its own.
fn copy_line(copy: &Copy, out: &mut BytesMut) {
    let Copy { key, version, flags, ttl_s, value } = copy;
    out.put_slice(b"copy ");
    out.put_slice(key.as_bytes());
    let ttl = ttl_s.map_or_else(|| "-".to_owned(), |ttl| ttl.to_string());
    line(out, "", &[version, flags, &ttl, &value.len()]);
    out.put_u8(b'\n');
    out.put_slice(value);
}

fn copied_line(copied: &Copied, out: &mut BytesMut) {
    let Copied { state, walk, looked, entries, gets, hits } = copied;
    let state = match state {
        GiverState::Gives => "gives",
        GiverState::Busy => "busy",
        GiverState::Degraded => "degraded",
        GiverState::Quarantined => "quarantined",
    };
    line(out, "copied", &[&state, &walk_name(*walk), looked, entries, gets, hits]);
}

fn walk_name(walk: Option<u64>) -> String {
    walk.map_or_else(|| "-".to_owned(), |walk| format!("{walk:016x}"))
}

/// The header says what all items begin with; a delete costs three bytes beside its key, and a transaction a few more.
fn encode_batch(batch: &Batch, out: &mut BytesMut) {
    let Batch { partition, from, to, items } = batch;
    let mut current = items.first().map_or(Version::ZERO, version_of);
    line(out, "batch", &[partition, from, to, &items.len(), &current]);
    out.put_u8(b'\n');
    for item in items {
        let version = version_of(item);
        if version != current {
            match version.bits().checked_sub(current.bits()) {
                Some(more) if version.epoch() == current.epoch() => {
                    out.put_u8(b'+');
                    decimal(more, out);
                }
                _ => {
                    out.put_u8(b'=');
                    out.put_slice(version.to_string().as_bytes());
                }
            }
            out.put_u8(b'\n');
            current = version;
        }
        encode_item(item, out);
        out.put_u8(b'\n');
    }
}

fn encode_item(item: &Item, out: &mut BytesMut) {
    match item {
        Item::Delete { key, .. } => {
            out.put_slice(b"d ");
            out.put_slice(key.as_bytes());
        }
        Item::Applied { .. } => out.put_u8(b'a'),
        Item::Progress { at, .. } => {
            out.put_slice(b"p ");
            decimal(at.0, out);
        }
        Item::Floor { scope, .. } => {
            out.put_u8(b'f');
            for prefix in listed(scope) {
                word(out, prefix);
            }
        }
    }
}

fn version_of(item: &Item) -> Version {
    match item {
        Item::Delete { version, .. }
        | Item::Floor { version, .. }
        | Item::Applied { version }
        | Item::Progress { version, .. } => *version,
    }
}

/// The prefixes of a scope. None stands for all keys, and so does what cannot be said: wider is safe.
fn listed(scope: &Scope) -> &[std::sync::Arc<str>] {
    match scope {
        Scope::Prefixes(prefixes)
            if prefixes.len() <= FLOOR_PREFIXES_MAX
                && prefixes.iter().all(|prefix| Key::new(prefix.as_bytes().to_vec()).is_ok()) =>
        {
            prefixes
        }
        Scope::All | Scope::Prefixes(_) => &[],
    }
}

const _: () = assert!(KEY_BYTES_MAX < 1 << 16);

pub(super) fn line(out: &mut BytesMut, verb: &str, words: &[&dyn std::fmt::Display]) {
    out.put_slice(verb.as_bytes());
    for each in words {
        word(out, &each.to_string());
    }
}

fn word(out: &mut BytesMut, text: &str) {
    out.put_u8(b' ');
    out.put_slice(text.as_bytes());
}

fn decimal(value: u64, out: &mut BytesMut) {
    let mut digits = [0_u8; 20];
    let (mut at, mut rest) = (digits.len(), value);
    loop {
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
    out.put_slice(digits.get(at..).unwrap_or_default());
}

fn place_or_none(place: Option<Place>) -> String {
    place.map_or_else(|| "-".to_owned(), |place| place.to_string())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
