//! [`Router`]: the memcached protocol in front of many nodes.
//!
//! ```text
//! listeners ── accept ──▶ worker 0: its clients ─▶ desks ─▶ targets ─▶ lanes ──▶ nodes
//!              (in turn)  worker 1: ...              │ errands
//!                                                    └─▶ spool: changes that a node has missed ─▶ replay ──▶ the node
//! ```
//!
//! Where a request goes is decided by [`client::route`], which does no I/O; here are the sockets around it. A worker is a thread
//! with a runtime of its own, its clients and its own connections to every node: nothing that is asked or answered crosses from one
//! thread to another. What is asked in one turn of its loop leaves for each node in one write. A reply is copied once, from where it was
//! read to where it is sent from. No queue is unbounded: a client has at most so many commands open and so many bytes to take, and who
//! does not take them is not read from.

#![deny(clippy::indexing_slicing)]

mod admin;
mod desk;
mod lane;
pub mod link;
pub mod log;
mod many;
pub mod metrics;
mod replay;
mod session;
pub mod settings;
pub mod shared;
mod spare;
mod speak;
pub mod spool;
mod submit;
mod table;
mod target;
mod trip;
pub mod wire;
mod worker;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cache_node::{
    access::Users,
    server::{Listener, ServerError, Sockets, Tls, bind},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    session::Around,
    settings::{Current, Settings},
    shared::{AllFacts, Counters},
    spool::Spool,
    table::Parts,
    worker::{Client, Worker},
};

/// What a client is told that is one too many.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

/// Why a router does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("open the log of deletes in {directory}")]
    Spool { directory: String, source: io::Error },
    #[error("start a worker")]
    Worker { source: io::Error },
}

/// Every socket is bound; nobody is served yet.
#[derive(Debug)]
pub struct Router {
    settings: Settings,
    listeners: Vec<Listener>,
    facts: Arc<AllFacts>,
    counters: Arc<Vec<Arc<Counters>>>,
    spool: Option<Arc<Spool>>,
    current: watch::Sender<Arc<Current>>,
}

impl Router {
    /// Binds every socket that is not open yet, or none.
    pub async fn bind(
        settings: Settings,
        current: Current,
        open: &mut Sockets,
    ) -> Result<Router, RouterError> {
        let listeners = bind(&settings.server, open).await?;
        let counters = (0..settings.workers.max(1)).map(|_| Arc::default()).collect();
        let facts = Arc::new(AllFacts::default());
        for target in current.routes.targets() {
            facts.of(&target.address);
        }
        let current = watch::Sender::new(Arc::new(current));
        let counters = Arc::new(counters);
        Ok(Router { settings, listeners, facts, counters, spool: None, current })
    }

    /// Opens the log of deletes, where there is one to be: only when no other process has it.
    pub fn open_spool(&mut self) -> Result<(), RouterError> {
        let Some(settings) = &self.settings.spool else { return Ok(()) };
        let opened = Spool::open(settings, &self.facts).map_err(|source| RouterError::Spool {
            directory: settings.directory.display().to_string(),
            source,
        })?;
        self.spool = Some(opened);
        Ok(())
    }

    /// Adds a handle of each listening socket.
    pub fn keep_sockets(&self, kept: &mut Sockets) -> io::Result<()> {
        self.listeners.iter().try_for_each(|listener| listener.keep(kept))
    }

    /// Where it listens, TCP only; ports that were 0 are known now.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(Listener::address).collect()
    }

    /// What others may ask and tell while it runs.
    pub fn handle(&self) -> Handle {
        Handle {
            current: self.current.clone(),
            metrics: Metrics::new(Arc::clone(&self.facts), Arc::clone(&self.counters)),
            users: self.settings.server.users.clone(),
            tls: self.listeners.iter().find_map(Listener::tls).cloned(),
        }
    }

    /// Serves until `shutdown`, then drains.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RouterError> {
        let draining = CancellationToken::new();
        let options = &self.settings.server;
        let around = Around {
            users: options.users.clone(),
            idle_max: options.idle_max,
            draining: draining.clone(),
        };
        let (mut workers, started) = (Vec::new(), Instant::now());
        for (number, counters) in self.counters.iter().enumerate() {
            let parts = Parts {
                spool: self.spool.clone(),
                counters: Arc::clone(counters),
                all_counters: Arc::clone(&self.counters),
                facts: Arc::clone(&self.facts),
                started,
                workers: self.counters.len(),
            };
            let worker = Worker::start(number, parts, around.clone(), self.current.subscribe());
            workers.push(worker.map_err(|source| RouterError::Worker { source })?);
        }
        let places = Arc::new(Semaphore::new(options.connections_max));
        let workers = Arc::new(workers);
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            let accepting_on = Accepting {
                listener,
                workers: Arc::clone(&workers),
                places: Arc::clone(&places),
                counters: self.counters.first().cloned(),
            };
            accepting.spawn(accepting_on.run());
        }
        let stopped = CancellationToken::new();
        let replaying =
            self.spool.clone().zip(self.settings.spool.as_ref()).map(|(spool, settings)| {
                let current = self.current.subscribe();
                let link = move || current.borrow().link.clone();
                tokio::spawn(replay::run(spool, settings.retry, link, stopped.clone()))
            });
        shutdown.cancelled().await;
        accepting.shutdown().await;
        draining.cancel();
        let all = u32::try_from(options.connections_max).unwrap_or(u32::MAX);
        if time::timeout(options.drain, places.acquire_many(all)).await.is_err() {
            tracing::warn!(drain = ?options.drain, "clients that were not done are dropped");
        }
        stopped.cancel();
        if let Some(replaying) = replaying
            && replaying.await.is_err()
        {
            tracing::error!("the task that tells nodes what they missed has panicked");
        }
        if let Ok(workers) = Arc::try_unwrap(workers) {
            workers.into_iter().for_each(Worker::end);
        }
        if let Some(spool) = self.spool {
            spool.close();
        }
        Ok(())
    }
}

/// What others may ask and tell a router while it runs.
#[derive(Clone, Debug)]
pub struct Handle {
    current: watch::Sender<Arc<Current>>,
    pub metrics: Metrics,
    users: Users,
    tls: Option<Tls>,
}

impl Handle {
    /// Lets these users log in from now on, and shows what the files of the certificate have now. An error changes nothing.
    pub fn admit(&self, users: &Users) -> Result<(), ServerError> {
        self.tls.as_ref().map_or(Ok(()), Tls::renew)?;
        self.users.replace(users);
        Ok(())
    }

    /// Routes by another configuration from now on. What was begun goes on as it was.
    pub fn take_up(&self, current: Current) {
        self.current.send_replace(Arc::new(current));
    }

    /// What it routes by.
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.borrow())
    }
}

/// Hands clients to the workers in turn.
struct Accepting {
    listener: Listener,
    workers: Arc<Vec<Worker>>,
    places: Arc<Semaphore>,
    counters: Option<Arc<Counters>>,
}

impl Accepting {
    async fn run(self) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        loop {
            let accepted = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(err) => {
                    // No descriptors are left, for one; some client will leave.
                    tracing::warn!(error = %err, "a connection could not be accepted");
                    time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                if let Some(counters) = &self.counters {
                    counters.refused.add(1);
                }
                accepted.refuse(TOO_MANY);
                continue;
            };
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let at = number.checked_rem(self.workers.len()).unwrap_or_default();
            if let Some(worker) = self.workers.get(at) {
                let number = number.checked_div(self.workers.len()).unwrap_or_default();
                worker.give(Client { accepted, place, number }).await;
            }
        }
    }
}
