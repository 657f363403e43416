//! [`Worker`]: a thread that owns connections.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};

use super::{
    connection::{self, Surroundings},
    listen::{Accepted, Socket},
    session::Session,
};
use crate::{access::Users, node::Node, server_facts::Connection};

/// Accepted connections that wait for a busy worker.
const WAITING_MAX: usize = 256;
/// A client must have finished its TLS handshake by then.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// A connection on its way to its worker.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Accepted,
    /// Its place among the connections that are allowed.
    pub(super) place: OwnedSemaphorePermit,
    pub(super) number: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Worker {
    clients: mpsc::Sender<Client>,
    thread: thread::JoinHandle<()>,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start(
        number: usize,
        node: Arc<Node>,
        users: Users,
        around: Surroundings,
    ) -> io::Result<Worker> {
        let (clients, waiting) = mpsc::channel(WAITING_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(format!("worker-{number}"));
        let thread = thread.spawn(move || {
            runtime.block_on(receive(number, node, users, around, waiting));
            // Whoever is still connected has had his time.
            runtime.shutdown_background();
        })?;
        Ok(Worker { clients, thread })
    }

    /// Gives a connection to the worker.
    pub(super) async fn give(&self, client: Client) {
        if self.clients.send(client).await.is_err() {
            tracing::error!("a worker has ended, and its clients are refused");
        }
    }

    /// Ends the thread, and the connections that it has.
    pub(super) fn end(self) {
        drop(self.clients);
        if self.thread.join().is_err() {
            tracing::error!("a worker has panicked");
        }
    }
}

async fn receive(
    worker: usize,
    node: Arc<Node>,
    users: Users,
    around: Surroundings,
    mut waiting: mpsc::Receiver<Client>,
) {
    while let Some(client) = waiting.recv().await {
        let session = Session::new(Arc::clone(&node), worker, users.clone());
        tokio::spawn(attend(client, Arc::clone(&node), session, around.clone()));
    }
}

/// Serves one client, and keeps the books.
async fn attend(client: Client, node: Arc<Node>, session: Session, around: Surroundings) {
    let Client { stream, place, number } = client;
    let last = Arc::new(AtomicU64::new(0));
    last.store(around.clock.read().0.unix, Ordering::Relaxed);
    let address = stream.peer.clone();
    let listener = Some(stream.listener.clone());
    let books = Books { node, number };
    let connection = Connection { address, listener, last: Arc::clone(&last) };
    books.node.server().opened(number, connection);
    let served = match stream.socket {
        Socket::Tcp(socket, tls) => match (TcpStream::from_std(socket), tls) {
            (Ok(socket), None) => connection::serve(socket, session, around, last).await,
            (Ok(socket), Some(tls)) => {
                match timeout(HANDSHAKE_MAX, tls.acceptor().accept(socket)).await {
                    Ok(Ok(stream)) => connection::serve(stream, session, around, last).await,
                    Ok(Err(err)) => Err(err),
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            }
            (Err(err), _) => Err(err),
        },
        Socket::Unix(socket) => match UnixStream::from_std(socket) {
            Ok(socket) => connection::serve(socket, session, around, last).await,
            Err(err) => Err(err),
        },
    };
    if let Err(err) = served {
        tracing::debug!(peer = stream.peer, error = %err, "a connection broke");
    }
    drop(books);
    drop(place);
}

/// Strikes the connection out, however it ends.
struct Books {
    node: Arc<Node>,
    number: u64,
}

impl Drop for Books {
    fn drop(&mut self) {
        self.node.server().closed(self.number);
    }
}
