//! [`ServerFacts`]: what the server around a node knows, for `stats`: connections, times, how it was started.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use crate::server::{ServerError, Tls};

/// See the module. The server writes, commands read.
#[derive(Debug, Default)]
pub struct ServerFacts {
    pub pid: AtomicU64,
    /// Seconds since 1970.
    pub started: AtomicU64,
    /// Processor time used, in microseconds: in user mode, in the kernel.
    pub user_micros: AtomicU64,
    pub system_micros: AtomicU64,
    pub connections_max: AtomicU64,
    pub connections_total: AtomicU64,
    pub connections_rejected: AtomicU64,
    /// What `stats settings` says beside what the node knows.
    pub settings: OnceLock<Vec<(&'static str, String)>>,
    pub snapshot: SnapshotFacts,
    connections: Mutex<BTreeMap<u64, Connection>>,
    /// By what they are for.
    certificates: Mutex<BTreeMap<Port, Tls>>,
    verbosity: AtomicU64,
    debug: DebugTime,
}

/// What the node came back with, and what it has saved.
#[derive(Debug, Default)]
pub struct SnapshotFacts {
    /// Entries that it had when it started.
    pub restored: AtomicU64,
    /// Entries of the snapshot that it did not take: over, without room, or without versions.
    pub left_out: AtomicU64,
    /// How old they were, in seconds.
    pub age_seconds: AtomicU64,
    /// Snapshots that it did not take.
    pub refused: AtomicU64,
    pub saved: AtomicU64,
    pub failed: AtomicU64,
    /// Of the last one: when it was saved, in seconds since 1970, and how large it is.
    pub saved_at: AtomicU64,
    pub saved_bytes: AtomicU64,
    pub saved_entries: AtomicU64,
}

/// One open connection.
#[derive(Clone, Debug)]
pub struct Connection {
    pub address: String,
    /// Where it was accepted; a listener itself has none.
    pub listener: Option<String>,
    /// When its last command came, in seconds since 1970; the connection writes it.
    pub last: Arc<AtomicU64>,
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    Data,
    Control,
}

/// Moves the clock, for tests (`debugtime`).
#[derive(Debug, Default)]
struct DebugTime {
    seconds: AtomicI64,
    /// The clock stands here, in seconds since 1970; 0 if it runs.
    stopped: AtomicU64,
}

impl ServerFacts {
    /// Notes an open connection, under the server's number for it.
    pub fn opened(&self, number: u64, connection: Connection) {
        self.connections_total
            .fetch_add(u64::from(connection.listener.is_some()), Ordering::Relaxed);
        self.lock().insert(number, connection);
    }

    /// Notes what is shown to those who connect.
    pub fn shows(&self, port: Port, tls: Tls) {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).insert(port, tls);
    }

    /// Reads the files of all certificates again, for whoever connects from now on; `None` where there are none.
    pub fn renew_certificates(&self) -> Option<Result<(), ServerError>> {
        let certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let renew = || certificates.values().try_for_each(Tls::renew);
        (!certificates.is_empty()).then(renew)
    }

    pub fn closed(&self, number: u64) {
        self.lock().remove(&number);
    }

    /// Connections of clients.
    pub fn connections(&self) -> u64 {
        let clients = self.lock().values().filter(|it| it.listener.is_some()).count();
        u64::try_from(clients).unwrap_or(u64::MAX)
    }

    /// Listeners and connections.
    pub fn each_connection(&self) -> Vec<(u64, Connection)> {
        self.lock().iter().map(|(number, connection)| (*number, connection.clone())).collect()
    }

    pub fn verbosity(&self) -> u64 {
        self.verbosity.load(Ordering::Relaxed)
    }

    pub fn set_verbosity(&self, level: u64) {
        self.verbosity.store(level, Ordering::Relaxed);
    }

    /// What the clock shows, when the real one shows `unix`.
    pub fn shown(&self, unix: u64) -> u64 {
        let stopped = self.debug.stopped.load(Ordering::Relaxed);
        let shown = if stopped == 0 { unix } else { stopped };
        shown.saturating_add_signed(self.debug.seconds.load(Ordering::Relaxed))
    }

    /// Moves the clock.
    pub fn move_time(&self, seconds: i64) {
        self.debug.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Stops the real clock at `unix`, or lets it run again.
    pub fn stop_time(&self, unix: Option<u64>) {
        self.debug.stopped.store(unix.unwrap_or(0), Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
