//! The wall clock: for the times in records and for ages, never for order.

use std::time::{SystemTime, UNIX_EPOCH};

use schemas::record::UnixMicros;

/// Now.
pub(crate) fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
