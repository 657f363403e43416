//! MySQL and MariaDB binlogs, no I/O: events in, changed rows out, in pure steps.
//!
//! ```text
//! file --frame--> or packets --dump--> Event --Assembler--> Change (Begin, Rows, Statement, .., Commit) --Layout--> row images
//! ```
//!
//! Bytes come from a network or a disk: whatever they are, nothing panics, and what cannot be understood
//! is handed out as such ([`assemble::Change::Undecodable`]), never passed over.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)
)]

pub mod assemble;
pub mod charset;
mod compressed;
pub mod dump;
mod event;
pub mod frame;
mod json;
pub mod layout;
mod number;
mod read;
pub mod table_map;
mod text;
