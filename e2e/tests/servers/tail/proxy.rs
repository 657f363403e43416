//! [`Proxy`]: between a tailer and its server; spoils what the server says.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// In a row: one bit of it is turned, the first time that it passes.
pub(super) const SPOIL: &str = "spoil@me";
/// In a row: the connection ends in the middle of it, the first time.
pub(super) const CUT: &str = "cut@me";

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
                let server = TcpStream::connect(&server).await.expect("the server");
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
        if let Some(at) =
            find(bytes, SPOIL).filter(|_| !shared.spoiled.swap(true, Ordering::Relaxed))
        {
            bytes[at] ^= 1;
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
