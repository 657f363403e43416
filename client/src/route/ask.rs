//! What is asked of nodes, and what their answers mean to routing: nothing of values, flags or bytes on the wire.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// A command, as far as its way depends on it. Text and meta commands that do the same have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// `get`, and `mg` that changes nothing and asks for no token.
    Get,
    /// `gets`, and `mg` with the flag `c`: its answer has a token that only the same node knows.
    Gets,
    /// `gat`, and `mg` with the flag `T`.
    Gat,
    /// `gats`, and `mg` with the flags `T` and `c`.
    Gats,
    /// `lease-get`, and `mg` with the flag `N`: one who misses gets the right to fill.
    LeaseGet,
    /// `set`, and `ms` in its mode for that.
    Set,
    /// `add`, and `ms` with `ME`.
    Add,
    /// `replace`, and `ms` with `MR`.
    Replace,
    /// `append`, and `ms` with `MA`.
    Append,
    /// `prepend`, and `ms` with `MP`.
    Prepend,
    /// `cas`, and `ms` with the flag `C` that did not come from a lease: only the node that gave the token knows it.
    Cas,
    /// `lease-set`, and `ms` with the token of a lease.
    LeaseSet,
    /// `delete`, and `md`, with `I` too.
    Delete,
    /// `touch`.
    Touch,
    /// `incr`, and `ma` with `MI`.
    Incr,
    /// `decr`, and `ma` with `MD`.
    Decr,
}

/// What [`Op`]s have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Gets of any kind.
    Read,
    /// What changes a value, or only the time it has.
    Update,
    /// Deletes.
    Delete,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 16] = [
        Op::Get,
        Op::Gets,
        Op::Gat,
        Op::Gats,
        Op::LeaseGet,
        Op::Set,
        Op::Add,
        Op::Replace,
        Op::Append,
        Op::Prepend,
        Op::Cas,
        Op::LeaseSet,
        Op::Delete,
        Op::Touch,
        Op::Incr,
        Op::Decr,
    ];

    /// Which class it is of.
    pub fn class(self) -> Class {
        match self {
            Op::Get | Op::Gets | Op::Gat | Op::Gats | Op::LeaseGet => Class::Read,
            Op::Delete => Class::Delete,
            _ => Class::Update,
        }
    }

    /// Whether it carries a token that only the node knows that gave it: such a request goes to no other node.
    pub fn is_bound(self) -> bool {
        matches!(self, Op::Cas | Op::LeaseSet)
    }

    /// Whether a node that did not get it may hold a value that should not be there any more. `add` and the set of a lease only
    /// fill, `touch` only changes a time.
    pub fn changes(self) -> bool {
        self.class() != Class::Read && !matches!(self, Op::Add | Op::LeaseSet | Op::Touch)
    }

    /// Whether an answer may hold a token that is worth nothing to another node.
    pub fn gives_token(self) -> bool {
        matches!(self, Op::Gets | Op::Gats | Op::LeaseGet)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Get => "get",
            Op::Gets => "gets",
            Op::Gat => "gat",
            Op::Gats => "gats",
            Op::LeaseGet => "lease-get",
            Op::Set => "set",
            Op::Add => "add",
            Op::Replace => "replace",
            Op::Append => "append",
            Op::Prepend => "prepend",
            Op::Cas => "cas",
            Op::LeaseSet => "lease-set",
            Op::Delete => "delete",
            Op::Touch => "touch",
            Op::Incr => "incr",
            Op::Decr => "decr",
        })
    }
}

/// One request for one key.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What is to be done.
    pub op: Op,
    /// The key as the client wrote it, with its routing prefix if it has one.
    pub key: &'a [u8],
}

/// What an answer of a node means. The order is from the best to the worst: of several answers, the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A read found a value.
    Hit,
    /// A lease was asked for, somebody else has it: wait and ask again. It comes with a stale value or with none.
    HotMiss,
    /// An update was done: `STORED`, `TOUCHED`, `HD`, a number.
    Stored,
    /// `DELETED`, or `HD` for `md`.
    Deleted,
    /// Nothing is there: a miss of a read, `NOT_FOUND` of anything else.
    NotFound,
    /// `NOT_STORED`.
    NotStored,
    /// `EXISTS`.
    Exists,
    /// A refusal for what the request says, `CLIENT_ERROR` or `ERROR`: any node would refuse it.
    Refused,
    /// The request was not done, or nobody knows whether it was.
    Failed(Failure),
}

/// Why there is no answer, or none that says anything. What the client reads is its [`Display`](fmt::Display).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The node or our queue for it is full.
    Busy,
    /// The node says that it cannot now.
    TryAgain,
    /// The node is closing down.
    Shutdown,
    /// `SERVER_ERROR` of the node.
    RemoteError,
    /// Something in the router itself.
    LocalError,
    /// The node is out of use, or it is asked for a value while changes are missing on it.
    Tko,
    /// Refused, unreachable, or closed before it answered.
    ConnectError,
    /// No connection in time.
    ConnectTimeout,
    /// No answer in time.
    Timeout,
}

impl Failure {
    /// All of them.
    pub const ALL: [Failure; 9] = [
        Failure::Busy,
        Failure::TryAgain,
        Failure::Shutdown,
        Failure::RemoteError,
        Failure::LocalError,
        Failure::Tko,
        Failure::ConnectError,
        Failure::ConnectTimeout,
        Failure::Timeout,
    ];
}

impl fmt::Display for Failure {
    /// In mcrouter's words, because clients look for them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Busy => "SERVER_ERROR 307 busy",
            Failure::TryAgain => "SERVER_ERROR 302 try again",
            Failure::Shutdown => "SERVER_ERROR 301 shutdown",
            Failure::RemoteError => "SERVER_ERROR remote error",
            Failure::LocalError => "SERVER_ERROR local error",
            Failure::Tko => "SERVER_ERROR unavailable",
            Failure::ConnectError => "SERVER_ERROR connection error",
            Failure::ConnectTimeout => "SERVER_ERROR connection timeout",
            Failure::Timeout => "SERVER_ERROR timeout",
        })
    }
}
