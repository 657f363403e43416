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
/// How long a key is leased to one reader.
pub const LEASE: Duration = Duration::from_secs(10);
/// Behind by more than this, a cache node is not fresh.
pub const STALENESS_MAX: Duration = Duration::from_secs(5);
/// Longest life of what is stored in a node that is not fresh, and oldest entry that it serves.
pub const DEGRADED_TTL: Duration = Duration::from_secs(10);
/// How far apart clocks of different machines may be.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_millis(100);
/// Tombstones of a cache node.
pub const TOMBSTONES_MAX: usize = 1_000_000;
/// How often a region's databases are asked how far they are.
pub const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How often nodes hear of the position, also when it stands still.
pub const PUSH_INTERVAL: Duration = Duration::from_millis(50);
