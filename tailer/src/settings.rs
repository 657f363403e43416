//! [`Settings`]: everything that a tailer is told.

use std::{path::PathBuf, sync::Arc, time::Duration};

use schemas::{
    config::{Address, Danger},
    defaults,
};

/// A source, and how to read it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source's name on the stream; the checkpoint is kept under it.
    pub source: Arc<str>,
    /// Where the server listens.
    pub address: Address,
    /// Other servers of its topology: the first of all that takes writes is read.
    pub standbys: Vec<Address>,
    /// The account that reads the binlog.
    pub user: String,
    /// Its password; empty if it has none.
    pub password: Password,
    /// Whether the connections are encrypted.
    pub tls: Tls,
    /// Our id in the replication topology: not that of any other server or tailer.
    pub server_id: u32,
    /// How often an idle server is asked to show that it is alive.
    pub heartbeat: Duration,
    /// How often the source is asked how far it is; each answer becomes a Progress record.
    pub progress_interval: Duration,
    /// How long batches that are on their way may take when the tailer is told to stop.
    pub drain: Duration,
    /// Whether keys that statements name in comments are invalidated.
    pub statement_keys: StatementKeys,
    /// What the order of transactions is.
    pub order: Order,
    /// What versions are used for.
    pub versions: Versions,
    /// What preflight may find and start all the same.
    pub accept: Vec<Danger>,
    /// Bounds of what is published as one.
    pub limits: Limits,
}

/// Whether statements may name keys: `/* mcsqueal: user:1 user:2 */`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatementKeys {
    /// Comments are comments.
    #[default]
    Ignored,
    /// Whoever can write SQL is trusted with the cache.
    Taken,
}

/// What the order of transactions is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// That of their numbers, which one writer at a time gives, and which every server agrees about.
    #[default]
    Numbers,
    /// That of the binlog which is read; other servers may have another one. Versions then only count, and cannot be
    /// compared with what a database says of itself: caches go by hold-off.
    Binlog,
}

/// What versions are used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// Every node is a stock memcached, which knows none.
    #[default]
    Unused,
    /// Some nodes compare them with what databases say of themselves.
    Compared,
}

/// A password that `Debug` does not show.
#[derive(Clone, Default)]
pub struct Password(pub String);

/// Encryption of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain TCP; for loopback and trusted networks.
    Off,
    /// TLS with a verified certificate; `ca_file` instead of the public authorities.
    Required { ca_file: Option<PathBuf> },
}

/// Bounds of what is published as one. Memory is a small multiple of `batch_bytes_max` and of the largest event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A batch is appended when it has this many keys.
    pub batch_keys_max: usize,
    /// Or about this many bytes.
    pub batch_bytes_max: usize,
    /// A record is closed at about this many bytes.
    pub record_bytes_max: usize,
    /// Batches on their way to the stream at a time.
    pub batches_in_flight_max: usize,
    /// A transaction with more keys than this ends in a floor.
    pub transaction_keys_max: usize,
}

/// Largest record that consumers need to take, in bytes: Kafka's usual message limit.
const RECORD_BYTES_LIMIT: usize = 1 << 20;
/// Most bytes that one key adds to a record: the key, the table and rule names, and their frames.
pub(crate) const KEY_RECORD_BYTES_MAX: usize = 1024;

impl Limits {
    /// What suits a stream on this machine.
    pub const DEFAULT: Limits = Limits {
        batch_keys_max: 8192,
        batch_bytes_max: 1 << 20,
        record_bytes_max: 512 << 10,
        batches_in_flight_max: 32,
        transaction_keys_max: defaults::TRANSACTION_KEYS_MAX,
    };
}

const _: () = assert!(Limits::DEFAULT.record_bytes_max + KEY_RECORD_BYTES_MAX < RECORD_BYTES_LIMIT);

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

impl Settings {
    /// Settings with defaults for everything that has one.
    pub fn new(source: impl Into<Arc<str>>, address: Address, server_id: u32) -> Settings {
        Settings {
            source: source.into(),
            address,
            standbys: Vec::new(),
            user: "root".to_owned(),
            password: Password::default(),
            tls: Tls::Off,
            server_id,
            heartbeat: Duration::from_secs(1),
            progress_interval: defaults::PROGRESS_INTERVAL,
            drain: Duration::from_secs(5),
            statement_keys: StatementKeys::Ignored,
            order: Order::Numbers,
            versions: Versions::Unused,
            accept: Vec::new(),
            limits: Limits::DEFAULT,
        }
    }

    /// For the server at place `at` of all that may take writes, counted round and round.
    #[must_use]
    pub fn at(&self, at: usize) -> Settings {
        let mut settings = self.clone();
        let count = self.standbys.len().saturating_add(1);
        let standby = at.checked_rem(count).unwrap_or_default().checked_sub(1);
        if let Some(address) = standby.and_then(|standby| self.standbys.get(standby)) {
            settings.address = address.clone();
        }
        settings
    }

    /// How to connect for questions.
    pub fn opts(&self) -> mysql_async::Opts {
        crate::source::opts(self)
    }

    /// A connection that says nothing for this long is dead: three heartbeats.
    pub fn read_deadline(&self) -> Duration {
        self.heartbeat.saturating_mul(3)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}
