//! The tailer: reads the binlog of one MySQL or MariaDB server, and publishes which keys each commit made stale.
//!
//! ```text
//! socket ──events──▶ Assembler ──changes──▶ Mapper ──keys, floors──▶ Publisher ──batches──▶ stream
//!  source             (binlog)    Epochs     map                      publish                run
//! ```
//!
//! [`tailer::Tailer`] is the whole of it but for the sockets and the clock, and it is pure; [`run`] is the shell.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)
)]
#![cfg_attr(test, expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them"))]

mod backoff;
pub mod cascades;
mod changes;
pub mod disguises;
pub mod epochs;
mod history;
mod input;
pub mod map;
mod metrics;
mod observed;
mod position;
pub mod preflight;
mod prepared;
pub mod publish;
mod run;
mod scope;
mod select;
mod settings;
mod source;
mod stale;
pub mod statement;
mod status;
pub mod tailer;
mod wire;

pub use changes::read_changes;
pub use metrics::Metrics;
pub use run::{TailerError, run};
pub use select::{SelectError, Selecting};
pub use settings::{Limits, Order, Password, Settings, StatementKeys, Tls, Versions};
pub use source::SourceError;
pub use stale::StaleKey;
pub use status::Status;
