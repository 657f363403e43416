//! The memcached text protocol, client side, as a pure codec: requests to bytes, bytes to replies. No I/O.
//!
//! Source: `doc/protocol.txt` of memcached 1.6; exact error texts were observed on 1.6.45.

pub mod control;
pub mod reply;
pub mod request;
