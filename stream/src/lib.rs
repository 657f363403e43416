//! The invalidation log: what the tailer writes and invalidators read.

mod any;
mod beside;
mod board;
pub mod embedded;
pub mod follow;
pub mod kafka;
mod metrics;
mod portion;
mod raw;
pub mod relay;
mod request;
mod seam;
pub mod term;
mod window;

pub use any::{AnyCursors, AnyReader, AnyShare, AnyWriter, Log};
pub use board::{Board, NOTE_BYTES_MAX};
pub use metrics::Metrics;
pub use portion::{Portion, Portions};
pub use request::{Desk, REQUEST_KEYS_MAX, Request, Ticket};
pub use seam::*;
