//! Free loopback ports for servers that cannot be told to choose one.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    net::{Ipv4Addr, TcpListener},
};

use anyhow::{Result, bail};

/// Below the range from which kernels take ports for outgoing connections, so that a server that is
/// restarted finds its port free again.
const PORTS: std::ops::Range<u16> = 12_000..30_000;
const ATTEMPTS_MAX: u32 = 200;

/// A port that nobody listens on. Another process may take it first: whoever uses it must look.
pub fn free_port() -> Result<u16> {
    for _ in 0..ATTEMPTS_MAX {
        let random = RandomState::new().build_hasher().finish();
        let span = u64::from(PORTS.end - PORTS.start);
        let offset = u16::try_from(random % span).unwrap_or(0);
        let port = PORTS.start + offset;
        if !is_taken(port) {
            return Ok(port);
        }
    }
    bail!("no free port on loopback after {ATTEMPTS_MAX} attempts")
}

/// Whether somebody listens on `port`.
pub(super) fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err()
}
