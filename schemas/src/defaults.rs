//! Defaults that several parts share; each is documented where it is configured.

use std::time::Duration;

/// Longest time between a reader's SELECT and its `set`.
pub const FILL_AGE_MAX: Duration = Duration::from_secs(10);
/// How often the tailer says that it is alive, on every partition.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// A transaction with more keys than this becomes a floor.
pub const TRANSACTION_KEYS_MAX: usize = 1_000_000;
/// Partitions of a stream.
pub const PARTITIONS: u16 = 16;
