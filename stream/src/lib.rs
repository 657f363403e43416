//! The invalidation log: what the tailer writes and invalidators read.

pub mod embedded;
pub mod follow;
pub mod kafka;
mod seam;
pub mod term;
pub use seam::*;
