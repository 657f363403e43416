//! Pure types that every part of mcsqueal shares; no I/O, no clock.
//!
//! Versions and GTID sets say *when*, keys and rules say *what*, records and cursors are how the two
//! travel on the stream, and the ring says *where* a key lives.

pub mod config;
pub mod cure;
pub mod cursor;
pub mod defaults;
pub mod epochs;
pub mod gtid;
pub mod key;
pub mod moment;
pub mod record;
pub mod ring;
pub mod rules;
pub mod version;
