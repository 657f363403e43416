//! What a router is told: what stays as long as it runs, and what may change.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use cache_node::server::Options;
use client::route::{Routes, leases::Leases};

use crate::link::Link;

/// Tokens of nodes that stood in, at most, at a time.
const LEASES_MAX: usize = 100_000;

/// What stays as long as the process runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub server: Options,
    pub workers: usize,
    /// Where changes are kept that a stock node has missed.
    pub spool: Option<SpoolSettings>,
}

/// The log of changes that nodes have missed.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    pub directory: PathBuf,
    /// Beyond that, a node is emptied when it returns, instead.
    pub bytes_max: u64,
    /// Between two tries to tell a node.
    pub retry: Duration,
}

/// What may change while it runs.
#[derive(Debug)]
pub struct Current {
    pub routes: Arc<Routes>,
    pub leases: Arc<Mutex<Leases>>,
    pub link: Link,
    /// Another number for another link.
    pub link_number: usize,
    pub value_bytes_max: usize,
    /// Keys of one read that are asked for at once.
    pub multiget_keys_max: usize,
    /// What a client's replies may hold before it is read from again.
    pub client_bytes_max: usize,
    pub flush_all: FlushAll,
    /// What `config get cluster` says.
    pub discovery: Discovery,
}

/// Whether clients may empty all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushAll {
    Refused,
    Allowed,
}

/// What clients with discovery are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    pub version: u64,
    /// `host:port` of each.
    pub addresses: Vec<String>,
}

impl Current {
    /// An empty book of leases, for other routes.
    pub fn no_leases() -> Arc<Mutex<Leases>> {
        Arc::new(Mutex::new(Leases::new(LEASES_MAX)))
    }
}
