//! [`Reply`]: what a memcached answers, and [`Expect`], which answers a request can have.

use std::fmt;

use bytes::Bytes;
use schemas::key::Key;

/// Which replies fit a request. Each may also be a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expect {
    /// `DELETED`, `NOT_FOUND`.
    Delete,
    /// `STORED`, `NOT_STORED`, `EXISTS`, `NOT_FOUND`.
    Store,
    /// `TOUCHED`, `NOT_FOUND`.
    Touch,
    /// Digits, `NOT_FOUND`.
    Number,
    /// `VALUE key flags bytes`, as often as a key was found, then `END`.
    Get { values_max: usize },
    /// `VALUE key flags bytes cas`, as often as a key was found, then `END`.
    Gets { values_max: usize },
    /// `STAT name value`, any number of them, then `END`.
    Stats,
    /// `VERSION text`.
    Version,
    /// `OK`.
    Ok,
}

/// One whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The value was there, and is gone.
    Deleted,
    /// There was no value.
    NotFound,
    /// The value was stored.
    Stored,
    /// The condition of the store did not hold.
    NotStored,
    /// The value has changed since its CAS number was read.
    Exists,
    /// The value has its new time to live.
    Touched,
    /// The number after `incr` or `decr`.
    Number(u64),
    /// The values that were found, in the server's order.
    Values(Vec<Value>),
    /// Counters or settings, in the server's order.
    Stats(Vec<Stat>),
    /// The server's version.
    Version(String),
    /// Done.
    Ok,
    /// Not done; the connection goes on.
    Refused(Refusal),
}

/// A value that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its key.
    pub key: Key,
    /// What the client that stored it said about it.
    pub flags: u32,
    /// Its CAS number, if it was asked for.
    pub cas: Option<u64>,
    /// The value itself.
    pub data: Bytes,
}

/// One line of statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Without spaces.
    pub name: String,
    /// Everything after the name; may be empty.
    pub value: String,
}

/// A request that the server did not carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose fault it is, as the server sees it.
    pub kind: RefusalKind,
    /// What the server says, for people.
    pub text: String,
}

/// Whose fault a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// `ERROR`: the server does not know the request.
    Unknown,
    /// `CLIENT_ERROR`: the request is wrong, or not allowed.
    Client,
    /// `SERVER_ERROR`: the server could not.
    Server,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RefusalKind::Unknown => "ERROR",
            RefusalKind::Client => "CLIENT_ERROR",
            RefusalKind::Server => "SERVER_ERROR",
        })?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", self.text) }
    }
}
