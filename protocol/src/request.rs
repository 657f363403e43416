//! [`Request`]: what a client asks, and how it is written.
//!
//! ```text
//! get = ("get" / "gets") 1*(SP key) CRLF
//! store = ("set" / "add") SP key SP flags SP exptime SP bytes [SP "noreply"] CRLF data CRLF
//! cas = "cas" SP key SP flags SP exptime SP bytes SP unique [SP "noreply"] CRLF data CRLF
//! delete = "delete" SP key [SP "noreply"] CRLF
//! touch = "touch" SP key SP exptime [SP "noreply"] CRLF
//! arithmetic = ("incr" / "decr") SP key SP delta [SP "noreply"] CRLF
//! flush = "flush_all" [SP seconds] CRLF
//! other = "version" / "stats" [SP ("items" / "slabs" / "settings")] / "quit", each with CRLF
//! ```
//!
//! Keys are [`Key`]s, so nothing that is written can be misread. Times are memcached's: 0 is never,
//! up to 2 592 000 are seconds from now, above that seconds since the Unix epoch, below 0 at once.

use bytes::{BufMut, BytesMut};
use schemas::key::Key;

use crate::reply::Expect;

/// One request to a memcached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Reads values; never of no keys, which memcached refuses.
    Get { keys: &'a [Key] },
    /// Reads values with their CAS numbers; never of no keys.
    Gets { keys: &'a [Key] },
    /// Stores a value whatever is there.
    Set { storage: Storage<'a>, reply: ReplyWanted },
    /// Stores a value if none is there.
    Add { storage: Storage<'a>, reply: ReplyWanted },
    /// Stores a value if the one there still has the CAS number `unique`.
    Cas { storage: Storage<'a>, unique: u64, reply: ReplyWanted },
    /// Drops a value.
    Delete { key: &'a Key, reply: ReplyWanted },
    /// Gives a value a new time to live.
    Touch { key: &'a Key, exptime: i64, reply: ReplyWanted },
    /// Adds to a decimal number; wraps at 2^64.
    Incr { key: &'a Key, delta: u64, reply: ReplyWanted },
    /// Subtracts from a decimal number; stops at 0.
    Decr { key: &'a Key, delta: u64, reply: ReplyWanted },
    /// Drops every value that was stored before now, or before `delay_s` seconds from now.
    FlushAll { delay_s: Option<u32> },
    /// Asks for counters or settings.
    Stats { of: StatsOf },
    /// Asks for the server's version; the customary sign of life.
    Version,
    /// Asks the server to hang up; has no reply.
    Quit,
}

/// What a store stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage<'a> {
    /// Under which key.
    pub key: &'a Key,
    /// The client's own mark, kept with the value.
    pub flags: u32,
    /// Time to live, see the module's page.
    pub exptime: i64,
    /// The value. memcached's default limit is 1 MiB with key and header.
    pub data: &'a [u8],
}

/// Whether a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyWanted {
    /// It is.
    Yes,
    /// `noreply`: it is not, and neither is its failure. memcached still answers a line that it cannot
    /// parse at all, which nobody can then match to its request.
    No,
}

/// Which statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsOf {
    /// The server's counters.
    Server,
    /// Items by slab class.
    Items,
    /// Memory by slab class.
    Slabs,
    /// What the server was started with.
    Settings,
}

impl Request<'_> {
    /// Writes the request at the end of `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match *self {
            Request::Get { keys } => put_keys(out, b"get", keys),
            Request::Gets { keys } => put_keys(out, b"gets", keys),
            Request::Set { storage, reply } => put_storage(out, b"set ", storage, None, reply),
            Request::Add { storage, reply } => put_storage(out, b"add ", storage, None, reply),
            Request::Cas { storage, unique, reply } => {
                put_storage(out, b"cas ", storage, Some(unique), reply);
            }
            Request::Delete { key, reply } => {
                out.put_slice(b"delete ");
                out.put_slice(key.as_bytes());
                put_end(out, reply);
            }
            Request::Touch { key, exptime, reply } => {
                put_number(out, b"touch ", key, &exptime.to_string(), reply);
            }
            Request::Incr { key, delta, reply } => {
                put_number(out, b"incr ", key, &delta.to_string(), reply);
            }
            Request::Decr { key, delta, reply } => {
                put_number(out, b"decr ", key, &delta.to_string(), reply);
            }
            Request::FlushAll { delay_s: None } => out.put_slice(b"flush_all\r\n"),
            Request::FlushAll { delay_s: Some(delay_s) } => {
                out.put_slice(format!("flush_all {delay_s}\r\n").as_bytes());
            }
            Request::Stats { of } => out.put_slice(match of {
                StatsOf::Server => b"stats\r\n",
                StatsOf::Items => b"stats items\r\n",
                StatsOf::Slabs => b"stats slabs\r\n",
                StatsOf::Settings => b"stats settings\r\n",
            }),
            Request::Version => out.put_slice(b"version\r\n"),
            Request::Quit => out.put_slice(b"quit\r\n"),
        }
    }

    /// The reply to wait for; `None` if there will be none.
    pub fn expect(&self) -> Option<Expect> {
        let (expect, reply) = match *self {
            Request::Get { keys } => (Expect::Get { values_max: keys.len() }, ReplyWanted::Yes),
            Request::Gets { keys } => (Expect::Gets { values_max: keys.len() }, ReplyWanted::Yes),
            Request::Set { reply, .. }
            | Request::Add { reply, .. }
            | Request::Cas { reply, .. } => (Expect::Store, reply),
            Request::Delete { reply, .. } => (Expect::Delete, reply),
            Request::Touch { reply, .. } => (Expect::Touch, reply),
            Request::Incr { reply, .. } | Request::Decr { reply, .. } => (Expect::Number, reply),
            Request::FlushAll { .. } => (Expect::Ok, ReplyWanted::Yes),
            Request::Stats { .. } => (Expect::Stats, ReplyWanted::Yes),
            Request::Version => (Expect::Version, ReplyWanted::Yes),
            Request::Quit => return None,
        };
        (reply == ReplyWanted::Yes).then_some(expect)
    }
}

fn put_keys(out: &mut BytesMut, verb: &[u8], keys: &[Key]) {
    assert!(!keys.is_empty(), "a get names at least one key");
    out.put_slice(verb);
    for key in keys {
        out.put_u8(b' ');
        out.put_slice(key.as_bytes());
    }
    out.put_slice(b"\r\n");
}

fn put_storage(
    out: &mut BytesMut,
    verb: &[u8],
    storage: Storage<'_>,
    unique: Option<u64>,
    reply: ReplyWanted,
) {
    let Storage { key, flags, exptime, data } = storage;
    out.put_slice(verb);
    out.put_slice(key.as_bytes());
    out.put_slice(format!(" {flags} {exptime} {}", data.len()).as_bytes());
    if let Some(unique) = unique {
        out.put_slice(format!(" {unique}").as_bytes());
    }
    put_end(out, reply);
    out.put_slice(data);
    out.put_slice(b"\r\n");
}

fn put_number(out: &mut BytesMut, verb: &[u8], key: &Key, number: &str, reply: ReplyWanted) {
    out.put_slice(verb);
    out.put_slice(key.as_bytes());
    out.put_u8(b' ');
    out.put_slice(number.as_bytes());
    put_end(out, reply);
}

fn put_end(out: &mut BytesMut, reply: ReplyWanted) {
    out.put_slice(match reply {
        ReplyWanted::Yes => b"\r\n",
        ReplyWanted::No => b" noreply\r\n",
    });
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect as Snapshot, expect};

    use super::*;

    fn check(request: Request<'_>, snapshot: Snapshot) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        snapshot.assert_eq(&format!("{} -> {:?}", out.escape_ascii(), request.expect()));
    }

    fn key(text: &'static str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn reads() {
        let keys = [key("a"), key("käse")];
        check(
            Request::Get { keys: &keys },
            expect![[r"get a k\xc3\xa4se\r\n -> Some(Get { values_max: 2 })"]],
        );
        check(
            Request::Gets { keys: &keys[..1] },
            expect![[r"gets a\r\n -> Some(Gets { values_max: 1 })"]],
        );
    }

    #[test]
    fn writes() {
        let key = key("k");
        let storage = Storage { key: &key, flags: 7, exptime: -1, data: b"a\r\nb" };
        check(
            Request::Set { storage, reply: ReplyWanted::Yes },
            expect![[r"set k 7 -1 4\r\na\r\nb\r\n -> Some(Store)"]],
        );
        check(
            Request::Add { storage: Storage { data: b"", ..storage }, reply: ReplyWanted::No },
            expect![[r"add k 7 -1 0 noreply\r\n\r\n -> None"]],
        );
        check(
            Request::Cas { storage, unique: u64::MAX, reply: ReplyWanted::No },
            expect![[r"cas k 7 -1 4 18446744073709551615 noreply\r\na\r\nb\r\n -> None"]],
        );
        check(
            Request::Delete { key: &key, reply: ReplyWanted::Yes },
            expect![[r"delete k\r\n -> Some(Delete)"]],
        );
        check(
            Request::Delete { key: &key, reply: ReplyWanted::No },
            expect![[r"delete k noreply\r\n -> None"]],
        );
        check(
            Request::Touch { key: &key, exptime: 60, reply: ReplyWanted::Yes },
            expect![[r"touch k 60\r\n -> Some(Touch)"]],
        );
        check(
            Request::Incr { key: &key, delta: 1, reply: ReplyWanted::Yes },
            expect![[r"incr k 1\r\n -> Some(Number)"]],
        );
        check(
            Request::Decr { key: &key, delta: 2, reply: ReplyWanted::No },
            expect![[r"decr k 2 noreply\r\n -> None"]],
        );
    }

    #[test]
    fn the_rest() {
        check(Request::FlushAll { delay_s: None }, expect![[r"flush_all\r\n -> Some(Ok)"]]);
        check(Request::FlushAll { delay_s: Some(9) }, expect![[r"flush_all 9\r\n -> Some(Ok)"]]);
        check(Request::Stats { of: StatsOf::Server }, expect![[r"stats\r\n -> Some(Stats)"]]);
        check(
            Request::Stats { of: StatsOf::Settings },
            expect![[r"stats settings\r\n -> Some(Stats)"]],
        );
        check(Request::Version, expect![[r"version\r\n -> Some(Version)"]]);
        check(Request::Quit, expect![[r"quit\r\n -> None"]]);
    }
}
