//! A node from its start to its end, or to the one that takes over.

use std::{
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use cache_node::{
    control::ControlServer,
    http::{self, Bounded},
    server::{Clock, Server, ServerError, Sockets},
    snapshot::Copied,
    warm::Warm,
};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    args::NodeArgs,
    config::Config,
    control::Control,
    daemon::{self, Stderr},
    handover,
    snapshot::{self, Made},
};
use crate::{failure::Failure, ready, run::Signals};

/// The side port and the lanes end by then.
const END_DEADLINE: Duration = Duration::from_secs(5);

/// A node and what it was told.
struct Host {
    config: Config,
    made: Made,
    clock: Clock,
    /// What brings copies of a warm cluster.
    warm: Option<Arc<Warm>>,
    /// One copy to the file at a time.
    saving: AtomicBool,
}

/// Everything is bound.
struct Bound {
    server: Server,
    control: Option<ControlServer>,
    side: Option<TcpListener>,
}

/// Why a node stops serving.
enum End {
    /// Somebody said so.
    Told,
    /// A newer process has what is stored.
    Copied(UnixStream),
    /// A newer process waits for a copy.
    Asked(UnixStream),
}

/// Ways to be told.
struct Told {
    signals: Signals,
    /// As memcached is told to keep what it has.
    user: Signal,
}

pub(super) async fn serve(args: &NodeArgs, mut config: Config) -> Result<(), Failure> {
    // Until it serves, whoever ends this process ends it at once: nothing is lost.
    let (made, mut sockets, older) = begin(args, &config)?;
    let user = signal(SignalKind::user_defined1()).context("catch signals")?;
    let hangup = signal(SignalKind::hangup()).context("catch signals")?;
    let mut told = Told { signals: Signals::install()?, user };
    if config.detailed {
        made.node.usage().begin();
    }
    let clock = Clock::new(Arc::clone(&made.node));
    let warm = match (config.warm.take(), &made.control) {
        (Some(warm), Some(control)) => {
            Some(warm.begin(Arc::clone(&made.node), Arc::clone(control), clock.clone()))
        }
        _ => None,
    };
    let host = Arc::new(Host { config, made, clock, warm, saving: AtomicBool::new(false) });
    let mut bound = host.bind(&mut sockets).await?;
    if let Some(older) = older {
        handover::finish(older).context("take over")?;
        tracing::info!("took over");
    }
    snapshot::note_served(&host.config);
    let newer = match &host.config.snapshots.handover {
        Some(path) => {
            let listening = handover::listen(path);
            Some(listening.with_context(|| format!("listen on {}", path.display()))?)
        }
        None => None,
    };
    announce(args, &bound)?;
    tokio::spawn(Arc::clone(&host).renew(args.clone(), hangup));
    loop {
        let mut kept = Sockets::default();
        bound.keep(&mut kept).context("keep the sockets")?;
        let Served { end, stopped } = host.serve(bound, &mut told, newer.as_ref(), &kept).await?;
        match end {
            End::Told => {
                let copied = if stopped { Copied::Exactly } else { Copied::WhileServing };
                host.stopped(args, copied);
                return Ok(());
            }
            End::Copied(newer) => {
                host.forget_handover();
                handover::yours(newer).context("hand over")?;
                tracing::info!("handed over");
                return Ok(());
            }
            End::Asked(newer) if stopped => match host.hand_over(newer, &kept, Copied::Exactly) {
                Ok(newer) => {
                    host.forget_handover();
                    handover::yours(newer).context("hand over")?;
                    tracing::info!("handed over");
                    return Ok(());
                }
                Err(err) => {
                    tracing::error!(error = format!("{err:#}"), "nobody took over: going on");
                }
            },
            End::Asked(_) => tracing::error!("clients that did not end keep the node: going on"),
        }
        bound = host.bind(&mut kept).await?;
    }
}

/// What the node is made of, the sockets that are open, and the process that it takes over from.
fn begin(args: &NodeArgs, config: &Config) -> Result<(Made, Sockets, Option<UnixStream>), Failure> {
    let path = config.snapshots.handover.as_deref().filter(|_| args.take_over);
    let taken = path.map(handover::take).transpose().context("take over")?.flatten();
    let Some(taken) = taken else {
        return Ok((snapshot::make_of_file(config)?, Sockets::default(), None));
    };
    let (mut memory, bytes, sockets, older) = taken.split();
    std::io::Seek::rewind(&mut memory).context("take over")?;
    let made = match snapshot::load(config, memory, bytes, Copied::Exactly) {
        Ok(made) => made,
        Err(err) => {
            // The sockets are worth something too.
            let reason = format!("{:#}", anyhow::Error::from(err));
            tracing::warn!(reason, "the copy is refused: starting cold");
            snapshot::make(config)?
        }
    };
    Ok((made, sockets, Some(older)))
}

/// How serving ended.
struct Served {
    end: End,
    /// Nobody is served any more.
    stopped: bool,
}

impl Host {
    async fn bind(&self, open: &mut Sockets) -> Result<Bound, Failure> {
        let Host { config, made, clock, .. } = self;
        let side = match config.http {
            Some(address) => {
                let listener = match open.take(address) {
                    Some(open) => TcpListener::from_std(open),
                    None => TcpListener::bind(address).await,
                };
                Some(listener.with_context(|| format!("listen on {address} (--http)"))?)
            }
            None => None,
        };
        let (node, options) = (Arc::clone(&made.node), config.server.clone());
        let server = Server::bind_with(node, clock.clone(), options, open).await;
        let mut server = server.map_err(not_bound)?;
        if let Some(warm) = &self.warm {
            server = server.warmed_by(Arc::clone(warm));
        }
        let control = match (&made.control, &config.control) {
            (Some(control), Some(Control { options, .. })) => {
                let control = Arc::clone(control);
                let bound = ControlServer::bind_with(control, clock.clone(), options, open).await;
                Some(bound.map_err(not_bound)?)
            }
            _ => None,
        };
        Ok(Bound { server, control, side })
    }

    /// Serves until somebody wants an end.
    async fn serve(
        self: &Arc<Host>,
        bound: Bound,
        told: &mut Told,
        newer: Option<&UnixListener>,
        sockets: &Sockets,
    ) -> Result<Served, Failure> {
        let shutdown = CancellationToken::new();
        let mut beside: Vec<JoinHandle<()>> = Vec::new();
        if let Some(listener) = bound.side {
            let (node, users) = (Arc::clone(&self.made.node), self.config.server.users.clone());
            let router = http::router(node, users, self.clock.clone()).merge(self.saves());
            let listener = Bounded::new(listener, http::CONNECTIONS_MAX, http::REQUEST_DEADLINE);
            let stop = shutdown.clone().cancelled_owned();
            let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
            beside.push(tokio::spawn(async move {
                drop(serving.await);
            }));
        }
        if let Some(warm) = &self.warm {
            beside.push(tokio::spawn(Arc::clone(warm).run(shutdown.clone())));
        }
        if let Some(control) = bound.control {
            beside.push(tokio::spawn(control.run(shutdown.clone())));
        }
        let serving = bound.server.run(shutdown.clone());
        tokio::pin!(serving);
        let end = tokio::select! {
            ended = &mut serving => {
                ended.map_err(|err| Failure::Failed(err.into()))?;
                shutdown.cancel();
                let stopped = all_ended(beside).await;
                return Ok(Served { end: End::Told, stopped });
            }
            () = told.wait() => End::Told,
            end = self.taken_over(newer, sockets) => end,
        };
        shutdown.cancel();
        serving.await.map_err(|err| Failure::Failed(err.into()))?;
        let stopped = all_ended(beside).await;
        Ok(Served { end, stopped })
    }

    /// Returns once a newer process takes over.
    async fn taken_over(self: &Arc<Host>, newer: Option<&UnixListener>, sockets: &Sockets) -> End {
        let Some(listener) = newer else { return std::future::pending().await };
        loop {
            let newer = match handover::asked(listener).await {
                Ok(newer) => newer,
                Err(err) => {
                    tracing::warn!(error = %err, "nobody who may takes over");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // What has no version must not change after it was copied.
            if !self.copies_while_serving() {
                tracing::info!("a newer process takes over: stopping first");
                return End::Asked(newer);
            }
            tracing::info!("a newer process takes over: copying while serving");
            let mut duplicates = Sockets::default();
            let kept = duplicate(sockets, &mut duplicates);
            let host = Arc::clone(self);
            let handed = tokio::task::spawn_blocking(move || {
                kept?;
                host.hand_over(newer, &duplicates, Copied::WhileServing)
            });
            match handed.await {
                Ok(Ok(newer)) => return End::Copied(newer),
                Ok(Err(err)) => {
                    tracing::error!(error = format!("{err:#}"), "nobody took over: going on");
                }
                Err(err) => tracing::error!(error = %err, "nobody took over: going on"),
            }
        }
    }

    fn copies_while_serving(&self) -> bool {
        let Some(control) = &self.config.control else { return false };
        let marks = !control.rules.marker_ttl_max.is_zero();
        control.rules.unsourced.is_empty() && !marks
    }

    /// At SIGHUP: users and certificates are read again. What is refused changes nothing.
    async fn renew(self: Arc<Host>, args: NodeArgs, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            let renewed = Config::load(&args).and_then(|config| {
                self.made.node.server().renew_certificates().transpose()?;
                self.config.server.users.replace(&config.server.users);
                Ok(())
            });
            match renewed {
                Ok(()) => tracing::info!("took up users and certificates"),
                Err(err) => {
                    let error = format!("{err:#}");
                    tracing::error!(error, "the file is refused: going on as before");
                }
            }
        }
    }

    /// Gives everything to a newer process; returns when it has read it.
    fn hand_over(
        &self,
        newer: UnixStream,
        sockets: &Sockets,
        copied: Copied,
    ) -> anyhow::Result<UnixStream> {
        let mut memory = handover::memory().context("get memory for a copy")?;
        let (now, _) = self.clock.read();
        let mut out = std::io::BufWriter::with_capacity(1 << 20, &mut memory);
        let copied = snapshot::copy(&self.config, &self.made, now, copied, &mut out);
        let flushed = std::io::Write::flush(&mut out);
        drop(out);
        let bytes = match copied.and_then(|written| flushed.map(|()| written)) {
            Ok(written) => {
                tracing::info!(
                    entries = written.entries,
                    bytes = written.bytes,
                    "copied what is stored"
                );
                memory.metadata().context("measure the copy")?.len()
            }
            Err(err) => {
                tracing::warn!(error = %err, "handing over the sockets alone");
                memory = handover::memory().context("get memory for a copy")?;
                0
            }
        };
        handover::give(&newer, &memory, bytes, sockets).context("hand over")?;
        Ok(newer)
    }

    /// `POST /snapshot`: saves what is stored, and goes on.
    fn saves(self: &Arc<Host>) -> Router {
        if self.config.snapshots.file.is_none() {
            return Router::new();
        }
        let host = Arc::clone(self);
        Router::new().route("/snapshot", post(async move |headers| host.save(headers).await))
    }

    async fn save(self: Arc<Host>, headers: HeaderMap) -> Response {
        if let Some(refused) = http::not_admin(&self.config.server.users, &headers) {
            return refused;
        }
        let said = |status: StatusCode, error: &str| {
            (status, Json(serde_json::json!({ "error": error }))).into_response()
        };
        if self.made.control.is_none() {
            let why = "without versions nobody could say what changed afterwards: what is stored is saved when the node stops";
            return said(StatusCode::CONFLICT, why);
        }
        if self.saving.swap(true, Ordering::AcqRel) {
            return said(StatusCode::CONFLICT, "it is being saved");
        }
        let host = Arc::clone(&self);
        let saved = tokio::task::spawn_blocking(move || {
            let (now, _) = host.clock.read();
            snapshot::save(&host.config, &host.made, now, Copied::WhileServing)
        });
        let saved = saved.await.ok().flatten();
        self.saving.store(false, Ordering::Release);
        match saved {
            None => {
                said(StatusCode::INTERNAL_SERVER_ERROR, "it could not be saved; the log says why")
            }
            Some(written) => {
                let (entries, bytes) = (written.entries, written.bytes);
                Json(serde_json::json!({ "entries": entries, "bytes": bytes })).into_response()
            }
        }
    }

    /// Nobody is served any more, and nobody takes over.
    fn stopped(&self, args: &NodeArgs, copied: Copied) {
        let (now, _) = self.clock.read();
        if self.config.snapshots.file.is_some() {
            tracing::info!("saving what is stored");
            snapshot::save(&self.config, &self.made, now, copied);
        }
        self.forget_handover();
        if let Some(unix) = &self.config.server.unix {
            drop(std::fs::remove_file(&unix.path));
        }
        if let Some(path) = &args.pidfile
            && let Err(err) = std::fs::remove_file(path)
        {
            // Whoever we have become may not be allowed to, or somebody else has done it.
            tracing::warn!(path = %path.display(), error = %err, "the pidfile is left behind");
        }
        tracing::info!("stopped");
    }

    /// A newer process listens there from now on, or nobody does.
    fn forget_handover(&self) {
        if let Some(path) = &self.config.snapshots.handover {
            drop(std::fs::remove_file(path));
        }
    }
}

impl Bound {
    /// Adds a handle of each socket.
    fn keep(&self, kept: &mut Sockets) -> std::io::Result<()> {
        self.server.keep_sockets(kept)?;
        if let Some(control) = &self.control {
            control.keep_socket(kept)?;
        }
        self.side.as_ref().map_or(Ok(()), |side| kept.keep(side))
    }
}

impl Told {
    async fn wait(&mut self) {
        let name = tokio::select! {
            name = self.signals.wait() => name,
            _ = self.user.recv() => "SIGUSR1",
        };
        tracing::info!(signal = name, "stopping");
    }
}

fn duplicate(sockets: &Sockets, into: &mut Sockets) -> std::io::Result<()> {
    sockets.tcp().try_for_each(|listener| into.keep(listener))?;
    sockets.unix().try_for_each(|(path, listener)| into.keep_unix(path, listener))
}

/// Whether everything beside the data port has ended too.
async fn all_ended(beside: Vec<JoinHandle<()>>) -> bool {
    let mut all = true;
    for mut task in beside {
        if timeout(END_DEADLINE, &mut task).await.is_err() {
            task.abort();
            all = false;
        }
    }
    all
}

/// Everything is bound, and whoever waits for that is told.
fn announce(args: &NodeArgs, bound: &Bound) -> Result<(), Failure> {
    if let Some(path) = &args.pidfile {
        ready::write_whole(path, &format!("{}\n", std::process::id()))?;
    }
    let addresses = bound.server.addresses();
    let side = bound.side.as_ref();
    let http = side.map(TcpListener::local_addr).transpose().context("--http")?;
    let control = bound.control.as_ref();
    let lanes = control.map(ControlServer::address).transpose().context("--control")?;
    if let Some(path) = &args.ready_file {
        ready::write_whole(path, &ready::lines(&addresses, http, lanes))?;
    }
    tracing::info!(addresses = ?addresses, http = ?http, control = ?lanes, "ready");
    if args.daemon {
        daemon::ready(if args.verbose > 0 { Stderr::Keep } else { Stderr::Close })?;
    }
    Ok(())
}

/// Certificates are configuration; a port that is taken is not.
pub(crate) fn not_bound(err: ServerError) -> Failure {
    match err {
        ServerError::Tls { .. } => Failure::Config(err.into()),
        err => Failure::Failed(err.into()),
    }
}
