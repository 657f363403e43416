//! The invalidation log: what the tailer writes and invalidators read.

pub mod embedded;
mod seam;
pub use seam::*;
