//! [`Server`]: the sockets around a [`Node`].
//!
//! ```text
//! listeners ── accept ──▶ worker 0: its connections ──┐
//!              (round robin) worker 1: its connections ├──▶ Node: shards, rules
//!                            ...                       ┘
//! ```
//!
//! A worker is a thread with a runtime of its own; it owns its connections for as long as they live. A connection executes
//! everything that one read brought and answers with one write. Nothing is queued but accepted sockets, and those have a bound.

mod clock;
mod connection;
mod listen;
mod session;
mod sockets;
mod spare;
mod worker;

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinSet, time};
use tokio_util::sync::CancellationToken;

use self::worker::{Client, Worker};
pub use self::{
    clock::Clock,
    listen::{Accepted, Listener, Socket, Tls, TlsSettings, bind},
    session::{Session, Todo},
    sockets::Sockets,
};
use crate::{
    access::Users,
    node::Node,
    server_facts::{Connection, Port},
    warm::Warm,
};

/// How often the node looks after itself: expired entries, processor time.
const TICK: Duration = Duration::from_secs(1);
/// Expired entries are swept every so many ticks.
const TICKS_PER_SWEEP: u64 = 1;
/// What a client is told that is one too many.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct Options {
    pub tcp: Vec<Address>,
    pub unix: Option<UnixSocket>,
    pub tls: Option<TlsSettings>,
    /// Most clients at once.
    pub connections_max: usize,
    /// Most connections that wait to be accepted.
    pub backlog: u32,
    /// Whoever does nothing for so long is dropped.
    pub idle_max: Option<Duration>,
    /// How long clients may take to finish when the server stops.
    pub drain: Duration,
    pub users: Users,
}

/// One TCP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub socket: SocketAddr,
    pub transport: Transport,
}

/// Whether an address speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Plain,
    Tls,
}

/// A socket in the file system.
#[derive(Clone, Debug)]
pub struct UnixSocket {
    pub path: PathBuf,
    /// Permissions, as in `chmod`.
    pub mode: u32,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    #[error("listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error("another server is listening on {}", path.display())]
    Taken { path: PathBuf },
    #[error("set up TLS: {what}")]
    Tls { what: String },
    #[error("start a worker")]
    Worker { source: io::Error },
}

/// Every socket is bound; nobody is served yet.
#[derive(Debug)]
pub struct Server {
    node: Arc<Node>,
    clock: Clock,
    options: Options,
    listeners: Vec<Listener>,
    warm: Option<Arc<Warm>>,
}

impl Server {
    /// Binds every socket, or none.
    pub async fn bind(node: Arc<Node>, options: Options) -> Result<Server, ServerError> {
        let clock = Clock::new(Arc::clone(&node));
        Server::bind_with(node, clock, options, &mut Sockets::default()).await
    }

    /// Likewise, but takes those that are open already. `clock` is the one by which the node has served, if it has.
    pub async fn bind_with(
        node: Arc<Node>,
        clock: Clock,
        options: Options,
        open: &mut Sockets,
    ) -> Result<Server, ServerError> {
        let listeners = listen::bind(&options, open).await?;
        let server = Server { node, clock, options, listeners, warm: None };
        server.introduce();
        Ok(server)
    }

    /// Adds a handle of each listening socket: it stays open when this server ends.
    pub fn keep_sockets(&self, kept: &mut Sockets) -> io::Result<()> {
        self.listeners.iter().try_for_each(|listener| listener.keep(kept))
    }

    /// Where it listens, TCP only; ports that were 0 are known now.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(Listener::address).collect()
    }

    /// The clock by which it serves. Whoever else speaks to the node's rules must use it too.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Reads ask there for what they miss.
    #[must_use]
    pub fn warmed_by(self, warm: Arc<Warm>) -> Server {
        Server { warm: Some(warm), ..self }
    }

    /// Serves until `shutdown`, then drains.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServerError> {
        let clock = self.clock.clone();
        let drain = connection::Drain::default();
        let mut workers = Vec::new();
        for number in 0..self.node.settings().workers.max(1) {
            let around = connection::Surroundings {
                clock: clock.clone(),
                drain: drain.clone(),
                stop: shutdown.clone(),
                idle_max: self.options.idle_max,
                warm: self.warm.clone(),
            };
            let users = self.options.users.clone();
            let worker = Worker::start(number, Arc::clone(&self.node), users, around);
            workers.push(worker.map_err(|source| ServerError::Worker { source })?);
        }
        let places = Arc::new(Semaphore::new(self.options.connections_max));
        let workers = Arc::new(workers);
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            let (node, workers) = (Arc::clone(&self.node), Arc::clone(&workers));
            accepting.spawn(accept(listener, node, workers, Arc::clone(&places)));
        }
        accepting.spawn(look_after(Arc::clone(&self.node), clock));
        shutdown.cancelled().await;
        accepting.shutdown().await;
        drain.begin();
        let all = u32::try_from(self.options.connections_max).unwrap_or(u32::MAX);
        if time::timeout(self.options.drain, places.acquire_many(all)).await.is_err() {
            tracing::warn!(drain = ?self.options.drain, "clients that were not done are dropped");
        }
        if let Ok(workers) = Arc::try_unwrap(workers) {
            workers.into_iter().for_each(Worker::end);
        }
        Ok(())
    }

    /// Tells `stats` what this server is.
    fn introduce(&self) {
        let (server, options) = (self.node.server(), &self.options);
        let (now, _) = self.clock.read();
        server.pid.store(u64::from(std::process::id()), Ordering::Relaxed);
        server.started.store(now.unix, Ordering::Relaxed);
        let most = u64::try_from(options.connections_max).unwrap_or(u64::MAX);
        server.connections_max.store(most, Ordering::Relaxed);
        if let Some(tls) = self.listeners.iter().find_map(Listener::tls) {
            server.shows(Port::Data, tls.clone());
        }
        for listener in &self.listeners {
            let last = Arc::new(AtomicU64::new(now.unix));
            let connection = Connection { address: listener.name(), listener: None, last };
            server.opened(next_number(), connection);
        }
        let ports = self.addresses();
        let port = ports.first().map_or(0, SocketAddr::port);
        let inter = ports.first().map_or_else(String::new, |it| it.ip().to_string());
        let socket = options.unix.as_ref().map(|it| it.path.display().to_string());
        let idle = options.idle_max.map_or(0, |idle| idle.as_secs());
        let settings = vec![
            ("maxconns", options.connections_max.to_string()),
            ("tcpport", port.to_string()),
            ("udpport", "0".to_owned()),
            ("inter", inter),
            ("domain_socket", socket.unwrap_or_else(|| "NULL".to_owned())),
            ("tcp_backlog", options.backlog.to_string()),
            ("idle_timeout", idle.to_string()),
            ("auth_enabled_ascii", if options.users.is_empty() { "no" } else { "yes" }.to_owned()),
            ("ssl_enabled", if options.tls.is_some() { "yes" } else { "no" }.to_owned()),
        ];
        // A node has one server; a second one does not change what the first has said.
        drop(server.settings.set(settings));
    }
}

/// Numbers for `stats conns`.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Hands clients to the workers in turn.
async fn accept(
    listener: Listener,
    node: Arc<Node>,
    workers: Arc<Vec<Worker>>,
    places: Arc<Semaphore>,
) {
    let mut turn = 0_usize;
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(err) => {
                // No descriptors are left, for one; some client will leave.
                tracing::warn!(error = %err, "a connection could not be accepted");
                time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            node.server().connections_rejected.fetch_add(1, Ordering::Relaxed);
            stream.refuse(TOO_MANY);
            continue;
        };
        turn = turn.wrapping_add(1);
        let at = turn.checked_rem(workers.len()).unwrap_or_default();
        if let Some(worker) = workers.get(at) {
            worker.give(Client { stream, place, number: next_number() }).await;
        }
    }
}

async fn look_after(node: Arc<Node>, clock: Clock) {
    let mut tick = time::interval(TICK);
    let mut ticks = 0_u64;
    loop {
        tick.tick().await;
        ticks = ticks.wrapping_add(1);
        note_processor_time(&node);
        if ticks.is_multiple_of(TICKS_PER_SWEEP) {
            let (node, (now, _)) = (Arc::clone(&node), clock.read());
            drop(tokio::task::spawn_blocking(move || node.sweep(now)).await);
        }
    }
}

/// From `/proc`, in ticks of a hundredth of a second.
fn note_processor_time(node: &Node) {
    const TICK_MICROS: u64 = 10_000;
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    let Some((_, fields)) = stat.rsplit_once(") ") else { return };
    let mut fields = fields.split(' ').skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let (user, system) = (next(), next());
    node.server().user_micros.store(user.saturating_mul(TICK_MICROS), Ordering::Relaxed);
    node.server().system_micros.store(system.saturating_mul(TICK_MICROS), Ordering::Relaxed);
}

fn permit(path: &std::path::Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
