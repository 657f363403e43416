//! The memcached text protocol as a pure codec, no I/O.
//!
//! The client direction: [`Request`]s are encoded, and [`Decoder`] takes replies off a buffer. A reply
//! cannot be told apart without knowing what was asked (`OK` and `END` mean nothing alone), so each
//! request names the [`Expect`] of its reply, and the caller hands it to the decoder. Replies come in
//! the order of the requests, without a number: whatever does not fit what was asked means that the
//! two sides have lost each other, and the connection must be dropped.
//!
//! Source of the grammar: memcached's `doc/protocol.txt`, and what version 1.6.45 was seen to answer.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

mod decode;
mod reply;
mod request;

pub use decode::{DecodeError, Decoder, LINE_BYTES_MAX, Limits};
pub use reply::{Expect, Refusal, RefusalKind, Reply, Stat, Value};
pub use request::{ReplyWanted, Request, StatsOf, Storage};
