//! [`Worker`]: a thread with a runtime of its own. It owns its clients and its connections to nodes for as long as they live.

use std::{
    io,
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cache_node::server::{Accepted, Socket};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::LocalSet,
    time::{interval, timeout},
};

use crate::{
    session::{self, Around},
    settings::Current,
    table::{Hub, Parts},
};

/// Accepted connections that wait for a busy worker.
const WAITING_MAX: usize = 256;
/// A client must have finished its TLS handshake by then.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often the worker looks at the clock.
const TICK: Duration = Duration::from_millis(200);

/// A client on its way to its worker.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) accepted: Accepted,
    /// Its place among the connections that are allowed.
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) number: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Worker {
    clients: mpsc::Sender<Client>,
    thread: thread::JoinHandle<()>,
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn start(
        number: usize,
        parts: Parts,
        around: Around,
        current: watch::Receiver<Arc<Current>>,
    ) -> io::Result<Worker> {
        let (clients, waiting) = mpsc::channel(WAITING_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(format!("worker-{number}"));
        let thread = thread.spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, receive(parts, around, current, waiting));
            drop(local);
            // Whoever is still connected has had his time.
            runtime.shutdown_background();
        })?;
        Ok(Worker { clients, thread })
    }

    /// Gives a client to the worker.
    pub(crate) async fn give(&self, client: Client) {
        if self.clients.send(client).await.is_err() {
            tracing::error!("a worker has ended, and its clients are refused");
        }
    }

    /// Ends the thread, and the connections that it has.
    pub(crate) fn end(self) {
        drop(self.clients);
        if self.thread.join().is_err() {
            tracing::error!("a worker has panicked");
        }
    }
}

async fn receive(
    parts: Parts,
    around: Around,
    mut current: watch::Receiver<Arc<Current>>,
    mut waiting: mpsc::Receiver<Client>,
) {
    let first = Arc::clone(&current.borrow_and_update());
    let hub = Hub::new(first, parts);
    tokio::task::spawn_local(tick(Rc::clone(&hub)));
    loop {
        tokio::select! {
            () = around.draining.cancelled(), if !hub.draining.get() => hub.drain(),
            client = waiting.recv() => match client {
                Some(client) => {
                    tokio::task::spawn_local(attend(client, Rc::clone(&hub), around.clone()));
                }
                None => return hub.end(),
            },
            Ok(()) = current.changed() => {
                let next = Arc::clone(&current.borrow_and_update());
                hub.take_up(next);
            }
        }
    }
}

async fn tick(hub: Rc<Hub>) {
    let mut tick = interval(TICK);
    loop {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        hub.unix_s.set(unix.as_secs());
        tick.tick().await;
    }
}

/// Serves one client, and keeps the books.
async fn attend(client: Client, hub: Rc<Hub>, around: Around) {
    let Client { accepted, place, number } = client;
    hub.counters.connections.add(1);
    let desk = hub.seat(number);
    let served = match accepted.socket {
        Socket::Tcp(socket, tls) => match (TcpStream::from_std(socket), tls) {
            (Ok(socket), None) => session::serve(socket, desk, &around).await,
            (Ok(socket), Some(tls)) => {
                match timeout(HANDSHAKE_MAX, tls.acceptor().accept(socket)).await {
                    Ok(Ok(stream)) => session::serve(stream, desk, &around).await,
                    Ok(Err(err)) => Err(err),
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            }
            (Err(err), _) => Err(err),
        },
        Socket::Unix(socket) => match UnixStream::from_std(socket) {
            Ok(socket) => session::serve(socket, desk, &around).await,
            Err(err) => Err(err),
        },
    };
    if let Err(err) = served {
        tracing::debug!(peer = accepted.peer, error = %err, "a connection broke");
    }
    hub.unseat(number);
    hub.counters.connections_ended.add(1);
    drop(place);
}
