//! Requests.
//!
//! ```text
//! request = "delete" SP key CRLF / "get" 1*(SP key) CRLF / "set" SP key SP flags SP exptime SP length CRLF data CRLF
//!         / "flush_all" CRLF / "version" CRLF / "stats" CRLF
//! ```
//!
//! A [`Key`] can be sent as it stands, so no request that is built here can break out of its line.

use bytes::{BufMut, BytesMut};
use schemas::key::Key;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Removes a key; answered by [`crate::reply::Reply::Deleted`] or `NotFound`.
    Delete { key: &'a Key },
    /// Reads keys; answered by a [`crate::reply::Reply::Value`] for each that is there, then `End`.
    Get { keys: &'a [Key] },
    /// Stores a value; `exptime_s` as memcached has it (0: never, up to 30 days: from now).
    Set { key: &'a Key, flags: u32, exptime_s: u32, value: &'a [u8] },
    /// Empties the node; answered by `Ok`.
    FlushAll,
    /// Answered by `Version`.
    Version,
    /// Answered by a `Stat` for each, then `End`.
    Stats,
}

impl Request<'_> {
    /// Appends the request to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Request::Delete { key } => put(out, &[b"delete ", key.as_bytes()]),
            Request::Get { keys } => {
                out.put_slice(b"get");
                for key in *keys {
                    put(out, &[b" ", key.as_bytes()]);
                }
            }
            Request::Set { key, flags, exptime_s, value } => {
                let numbers = format!(" {flags} {exptime_s} {}\r\n", value.len());
                put(out, &[b"set ", key.as_bytes(), numbers.as_bytes(), value]);
            }
            Request::FlushAll => out.put_slice(b"flush_all"),
            Request::Version => out.put_slice(b"version"),
            Request::Stats => out.put_slice(b"stats"),
        }
        out.put_slice(b"\r\n");
    }
}

fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        out.put_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        let key = Key::new("k").unwrap();
        let keys = [Key::new("a").unwrap(), Key::new("b").unwrap()];
        let mut out = BytesMut::new();
        for request in [
            Request::Delete { key: &key },
            Request::Get { keys: &keys },
            Request::Set { key: &key, flags: 7, exptime_s: 60, value: b"v\r\n" },
            Request::FlushAll,
            Request::Version,
            Request::Stats,
        ] {
            request.encode(&mut out);
        }
        let expected: &[u8] =
            b"delete k\r\nget a b\r\nset k 7 60 3\r\nv\r\n\r\nflush_all\r\nversion\r\nstats\r\n";
        assert_eq!(out, expected);
    }
}
