//! [`Proxy`]: between a tailer and its server; spoils what the server says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
    time::sleep,
};

/// In a row: one bit of it is turned, the first time that it passes.
pub(super) const SPOIL: &str = "spoil@me";
/// Likewise, every time.
pub(super) const SPOIL_EVER: &str = "spoil@ever";
/// In a row: the connection ends in the middle of it, the first time.
pub(super) const CUT: &str = "cut@me";
/// In a row: the event says that it is longer than its packet, the first time.
pub(super) const SHORTEN: &str = "shorten@me";
/// In a row: the event gets a type that nobody knows, and a checksum for it.
pub(super) const UNKNOWN: &str = "unknown@me";
/// In a row: nothing more passes, for [`STALL`].
pub(super) const STALLED: &str = "stall@me";
/// Long enough to stop a server in.
pub(super) const STALL: Duration = Duration::from_secs(3);
/// A type that no server writes.
pub(super) const UNKNOWN_KIND: u8 = 200;

/// Before an event: length and number of its packet, and a zero.
const BEFORE_EVENT: usize = 5;
/// Where its type, its length and, from the end, its checksum are.
const KIND_AT: usize = 4;
const LENGTH_AT: usize = 9;
const FLAGS_AT: usize = 17;
const CHECKSUM_BYTES: usize = 4;

/// Dropping it closes everything.
pub(super) struct Proxy {
    address: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    spoiled: AtomicBool,
    cut: AtomicBool,
    shortened: AtomicBool,
    stalled: AtomicBool,
    /// Connections that were made before stay open and say nothing any more.
    frozen_before: AtomicU64,
    connections: AtomicU64,
}

impl Proxy {
    pub(super) async fn start(server: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared: Arc<Shared> = Arc::default();
        let ours = Arc::clone(&shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // One that is down is down for whoever asks.
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let number = ours.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(questions(from_client, to_server));
                connections.spawn(answers(from_server, to_client, Arc::clone(&ours), number));
            }
        });
        Proxy { address, shared, _tasks: tasks }
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Whether it has begun to stall.
    pub(super) fn has_stalled(&self) -> bool {
        self.shared.stalled.load(Ordering::Relaxed)
    }

    /// From now on, connections that exist say nothing.
    pub(super) fn freeze(&self) {
        let made = self.shared.connections.load(Ordering::Relaxed);
        self.shared.frozen_before.store(made, Ordering::Relaxed);
    }
}

async fn questions(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    // It ends when either side does.
    drop(tokio::io::copy(&mut from, &mut to).await);
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    number: u64,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = &mut buffer[..count];
        if number < shared.frozen_before.load(Ordering::Relaxed) {
            continue;
        }
        let first = |text: &str, flag: &AtomicBool| {
            find(bytes, text).filter(|_| !flag.swap(true, Ordering::Relaxed))
        };
        let stalls = first(STALLED, &shared.stalled).is_some();
        let shortened = first(SHORTEN, &shared.shortened);
        let spoiled = first(SPOIL, &shared.spoiled).or_else(|| find(bytes, SPOIL_EVER));
        let unknown = find(bytes, UNKNOWN);
        if let Some(at) = spoiled {
            bytes[at] ^= 1;
        }
        if let Some(event) = shortened.and_then(|at| event_around(bytes, at)) {
            event[LENGTH_AT] += 1;
        }
        if let Some(event) = unknown.and_then(|at| event_around(bytes, at)) {
            event[KIND_AT] = UNKNOWN_KIND;
            event[FLAGS_AT..FLAGS_AT + 2].fill(0); // Not one that may be ignored.
            let (covered, checksum) = event.split_at_mut(event.len() - CHECKSUM_BYTES);
            checksum.copy_from_slice(&crc32fast::hash(covered).to_le_bytes());
        }
        if stalls {
            sleep(STALL).await;
        }
        if let Some(at) = find(bytes, CUT).filter(|_| !shared.cut.swap(true, Ordering::Relaxed)) {
            drop(to.write_all(&bytes[..at]).await);
            return;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text.as_bytes())
}

/// The event whose body has a byte at `at`: the packet before it whose length fits.
fn event_around(bytes: &mut [u8], at: usize) -> Option<&mut [u8]> {
    let (begin, length) = (0..at).rev().find_map(|begin| {
        let packet = bytes.get(begin..)?;
        let says = number(packet.get(..3)?)?;
        let length_at = BEFORE_EVENT + LENGTH_AT;
        let length = number(packet.get(length_at..length_at + 4)?)?;
        (says == length + 1 && begin + says > at).then_some((begin + BEFORE_EVENT, length))
    })?;
    bytes.get_mut(begin..begin + length)
}

/// Little-endian.
fn number(bytes: &[u8]) -> Option<usize> {
    let number = bytes.iter().rev().fold(0_u64, |number, &byte| (number << 8) | u64::from(byte));
    usize::try_from(number).ok()
}
