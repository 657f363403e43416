//! The invalidation log: what the tailer writes and invalidators read.

mod seam;
pub use seam::*;
