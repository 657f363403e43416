//! The memcached protocol as a pure codec, no I/O: client side (`request`, `reply`), server side (`server`).
//!
//! Source: `doc/protocol.txt` of memcached 1.6; exact error texts were observed on 1.6.45.

pub mod control;
pub mod relay;
pub mod reply;
pub mod request;
pub mod server;
