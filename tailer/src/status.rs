//! [`Status`]: what a tailer says about itself, for health checks and people.

use schemas::record::Checkpoint;

/// A snapshot; published whenever something in it changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Whether the binlog is being read.
    pub connected: bool,
    /// What went wrong last, with its causes; `None` once the connection stands again.
    pub last_error: Option<String>,
    /// The server's family and version; `None` before the first connection.
    pub server: Option<String>,
    /// The last checkpoint that is durable.
    pub checkpoint: Option<Checkpoint>,
    /// Age of the newest event in seconds; 0 when there is nothing more to read, `None` before the first connection.
    pub lag_seconds: Option<f64>,
    /// Bytes to the end of the binlog, within the newest file; `None` if the server may not be asked.
    pub lag_bytes: Option<u64>,
    /// Events read since the start.
    pub events: u64,
    /// Changed rows of mapped tables since the start.
    pub rows: u64,
    /// Keys since the start.
    pub keys: u64,
}
