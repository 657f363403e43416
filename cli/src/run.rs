//! `mcsqueal run`: tailer, stream and invalidator in one process; `mcsqueal invalidator`: the same without the tailer.
//!
//! Everything is opened and bound before it says that it is ready; a source or a node that is down is not an error
//! but a state, shown at `/health`.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use invalidator::{ControlPort, Feed, Instance, Invalidator, Visibility, poller::Role};
use prometheus_client::registry::Registry;
use schemas::{
    config::{self, Region},
    rules::Rules,
};
use stream::{AnyCursors, AnyReader, AnyWriter, Log, Reader, StreamError};
use tailer::{TailerError, preflight};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::{JoinError, JoinHandle},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh64::xxh64;

use crate::{
    args::{Nodes, RunArgs},
    failure::Failure,
    health::{Parts, Shared, Watch},
    http,
    load::{self, Loaded},
    log::{self, Opened},
    node, ready, relay,
    reload::{self, Lanes, Reloader, Shown},
    telemetry,
};

/// How long a source may take to answer before we start without its answer.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// Before it is tried again to lead.
const STAND_BY_DELAY: Duration = Duration::from_millis(500);

/// Which parts a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// All of them.
    Whole,
    /// It delivers a stream that others write, or copy to here.
    Invalidator,
}

impl Daemon {
    /// As it is called on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Daemon::Whole => "run",
            Daemon::Invalidator => "invalidator",
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &RunArgs, daemon: Daemon) -> Result<(), Failure> {
    telemetry::init(args.log_format, &args.log)?;
    let loaded = load::loaded(&args.config).map_err(|(_, failure)| failure)?;
    let region = loaded.region.clone();
    let settings = settings_of(args, &region)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(serve(args, daemon, &region, loaded, settings))
}

/// What the tailer needs; nodes of this process know versions, whatever the file says.
fn settings_of(args: &RunArgs, region: &Region) -> Result<tailer::Settings, Failure> {
    let mut settings = tailer_settings(&args.config, region)?;
    if args.nodes == Nodes::Mcsqueal {
        settings.versions = tailer::Versions::Compared;
    }
    Ok(settings)
}

async fn serve(
    args: &RunArgs,
    daemon: Daemon,
    region: &Region,
    loaded: Loaded,
    settings: tailer::Settings,
) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    let mut signals = Signals::install()?;
    if daemon == Daemon::Whole {
        look_first(&settings, &loaded.rules).await?;
    }
    let side = Side::open(args, region, &shutdown).await?;

    let opened = tokio::select! {
        opened = log::open_in_time(&args.config, region, daemon, &side.stream, &side.waiting) => opened?,
        name = signals.wait() => {
            tracing::info!(signal = name, "stopped before the stream could be opened");
            return Ok(());
        }
    };
    let Opened { log, board, reader, cursors } = opened;
    let _relaying = relay::serve(&args.config, region, &reader, &side.stream).await?;
    let (published, loaded) = reload::begin(&args.config, loaded, &board);
    let region = &loaded.region.clone();
    let settings = settings_of(args, region)?;
    let share = log.share(&region.name, args.instance.as_deref()).context("share the stream")?;
    let feed = Feed { reader, cursors, portions: share.portions() };
    let reader = feed.reader.clone();
    let visibility = visibility(region, &settings);
    let mut lanes = deliver(&args.config, region, feed, &visibility, &side, &shutdown)?;
    let (tell, told) = watch::channel(tailer::Status::default());
    let (tell_writer, writer) = watch::channel(None);
    let (status, databases, of) = (lanes.status(), lanes.databases(), log.clone());
    let shared = Shared::of(&share, reader.partitions());
    let mut reloader = Reloader::new(reload::Start {
        daemon,
        file: args.config.clone(),
        inside: side.inside.clone(),
        settings: settings.clone(),
        running: loaded,
        published,
        board,
        id: reload::id(args.instance.as_deref()),
        tailer: told.clone(),
        shown: side.config.clone(),
    })?;
    let parts = Parts { tailer: told, lanes: status, databases, log: of, reader, writer, shared };
    side.watch.is_open(parts);
    let tailing = Tailing {
        settings,
        rules: reloader.rules(),
        log,
        metrics: side.tailer,
        tell,
        writer: tell_writer,
        shutdown: shutdown.clone(),
    };
    let mut tailing = match daemon {
        Daemon::Whole => tokio::spawn(tailing.run()),
        Daemon::Invalidator => tokio::spawn(nothing_to_tail(shutdown.clone())),
    };

    if let Some(path) = &args.ready_file {
        ready::write_whole(path, &format!("http={}\n", side.address))?;
    }
    tracing::info!(region = &*region.name, http = side.address, "ready");

    let ending = attend(&mut signals, &mut tailing, &mut lanes, &mut reloader).await;
    shutdown.cancel();
    reloader.leave().await;
    // Others may take over at once. To leave takes a moment, and longer without brokers: nobody waits for it.
    drop(tokio::task::spawn_blocking(move || drop(share)));
    let stopped = stop(ending, tailing, lanes, region.shutdown_grace).await;
    if let Some(serving) = side.serving {
        serving.abort();
    }
    stopped
}

fn deliver(
    file: &Path,
    region: &Region,
    feed: Feed<AnyReader, AnyCursors>,
    visibility: &Visibility,
    side: &Side,
    shutdown: &CancellationToken,
) -> Result<Lanes, Failure> {
    let clusters = region.clusters.iter().map(|it| cluster_settings(file, it, &side.inside));
    let clusters = clusters.collect::<Result<Vec<_>, _>>()?;
    Invalidator::start(&clusters, feed, visibility, &side.lanes, shutdown)
        .context("spread keys over the nodes")
        .map_err(Failure::Config)
}

/// Takes up other configurations, until it is over.
async fn attend(
    signals: &mut Signals,
    tailing: &mut JoinHandle<Result<(), TailerError>>,
    lanes: &mut Lanes,
    reloader: &mut Reloader,
) -> Ending {
    loop {
        let wake = tokio::select! {
            name = signals.wait() => return Ending::signal(name),
            tailed = &mut *tailing => return Ending::Tailer(tailed),
            ended = lanes.ended() => return Ending::Lanes(ended),
            wake = reloader.wait() => wake,
        };
        tokio::select! {
            name = signals.wait() => return Ending::signal(name),
            () = reloader.look(wake, lanes) => {}
        }
    }
}

/// The side port, which answers from the beginning, and what is counted.
struct Side {
    address: String,
    serving: Option<JoinHandle<std::io::Result<()>>>,
    watch: Watch,
    /// What is waited for before the stream is open.
    waiting: watch::Sender<Option<String>>,
    /// Which configuration runs.
    config: Shown,
    lanes: invalidator::Metrics,
    tailer: tailer::Metrics,
    stream: stream::Metrics,
    /// The control ports of nodes in this process, by their data ports.
    inside: HashMap<String, ControlPort>,
}

impl Side {
    async fn open(
        args: &RunArgs,
        region: &Region,
        shutdown: &CancellationToken,
    ) -> Result<Side, Failure> {
        let listener = listen(region).await?;
        let inside = if args.nodes == Nodes::Mcsqueal {
            node::inside(region, shutdown).await?
        } else {
            HashMap::new()
        };
        let mut registry = Registry::default();
        let lanes = invalidator::Metrics::register(&mut registry);
        let tailer = tailer::Metrics::register(&mut registry);
        let stream = stream::Metrics::register(&mut registry);
        let (waiting, waited) = watch::channel(None);
        let config = Shown::register(&mut registry);
        let name = Arc::clone(&region.name);
        let watch = Watch::new(name, waited, config.clone(), &mut registry);
        let address =
            listener.as_ref().map(TcpListener::local_addr).transpose().context("http.listen")?;
        let address = address.map_or_else(|| "off".to_owned(), |address| address.to_string());
        tracing::info!(http = address, "listening");
        let serving = listener.map(|listener| {
            let (watch, stop) = (watch.clone(), shutdown.clone().cancelled_owned());
            tokio::spawn(http::serve(listener, registry, watch, stop))
        });
        Ok(Side { address, serving, watch, waiting, config, lanes, tailer, stream, inside })
    }
}

/// What a tailer's task comes to.
type Tailed = Result<Result<(), TailerError>, JoinError>;

/// Why we stop.
enum Ending {
    Signal,
    Tailer(Tailed),
    /// A lane cannot go on: the stream cannot be used any more.
    Lanes(Result<(), StreamError>),
}

impl Ending {
    fn signal(name: &str) -> Ending {
        tracing::info!(signal = name, "stopping");
        Ending::Signal
    }
}

/// Waits until tailer and lanes have drained, and says how it went.
async fn stop(
    ending: Ending,
    tailing: JoinHandle<Result<(), TailerError>>,
    mut lanes: Lanes,
    grace: Duration,
) -> Result<(), Failure> {
    let (tailed, ended) = match ending {
        Ending::Signal => (None, Ok(())),
        Ending::Tailer(tailed) => (Some(tailed), Ok(())),
        Ending::Lanes(ended) => (None, ended),
    };
    let tailed = match tailed {
        Some(tailed) => tailed,
        None => timeout(grace, tailing).await.unwrap_or(Ok(Ok(()))),
    };
    let rest = timeout(grace, lanes.ended()).await;
    ended.context("read the stream")?;
    match rest {
        Ok(Ok(())) => {}
        // Whatever was not read, or not made, is when we start again.
        Ok(Err(StreamError::Read { .. })) | Err(_) => tracing::warn!(
            ?grace,
            "some deletes are still on their way; they are made after the next start"
        ),
        Ok(Err(unusable)) => return Err(unusable).context("read the stream")?,
    }
    match tailed.context("the tailer panicked")? {
        Ok(()) => {
            tracing::info!("stopped");
            Ok(())
        }
        Err(err @ TailerError::Refused(_)) => Err(Failure::Config(err.into())),
        Err(err) => Err(Failure::Failed(err.into())),
    }
}

/// Who only delivers stops when it is told to.
async fn nothing_to_tail(shutdown: CancellationToken) -> Result<(), TailerError> {
    shutdown.cancelled().await;
    Ok(())
}

async fn listen(region: &Region) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = region.http else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    Ok(Some(listener.with_context(|| format!("listen on {address} (http.listen)"))?))
}

/// The tailer, as often as this process leads.
struct Tailing {
    settings: tailer::Settings,
    rules: watch::Receiver<Arc<Rules>>,
    log: Log,
    metrics: tailer::Metrics,
    tell: watch::Sender<tailer::Status>,
    /// The writer, while this process leads.
    writer: watch::Sender<Option<AnyWriter>>,
    shutdown: CancellationToken,
}

impl Tailing {
    async fn run(self) -> Result<(), TailerError> {
        loop {
            let writer = tokio::select! {
                () = self.shutdown.cancelled() => return Ok(()),
                writer = self.log.lead() => writer,
            };
            let ended = match writer {
                Ok(writer) => {
                    self.writer.send_replace(Some(writer.clone()));
                    let (settings, rules) = (self.settings.clone(), self.rules.clone());
                    let (metrics, tell) = (self.metrics.clone(), self.tell.clone());
                    let shutdown = self.shutdown.clone();
                    let ended = tailer::run(settings, rules, writer, metrics, tell, shutdown).await;
                    self.writer.send_replace(None);
                    ended
                }
                Err(err) => Err(TailerError::Stream(err)),
            };
            match ended {
                Err(TailerError::Stream(err)) if is_temporary(&err) => {
                    tracing::warn!(error = %err, "no longer the writer of the stream, standing by");
                    sleep(STAND_BY_DELAY).await;
                }
                ended => return ended,
            }
        }
    }
}

/// Whether another process may go on, or this one a little later.
fn is_temporary(err: &StreamError) -> bool {
    matches!(
        err,
        StreamError::Deposed { .. } | StreamError::Append { .. } | StreamError::Read { .. }
    )
}

/// A source that can be asked, and cannot be used as it is, is refused before anything is made. One that is down
/// is no reason not to start.
async fn look_first(settings: &tailer::Settings, rules: &Rules) -> Result<(), Failure> {
    match timeout(LOOK_DEADLINE, preflight::check(settings, rules)).await {
        Ok(Ok(report)) if !report.is_passed() => {
            Err(Failure::Config(TailerError::Refused(Box::new(report)).into()))
        }
        Ok(Ok(_) | Err(_)) | Err(_) => Ok(()),
    }
}

/// What the tailer needs of the region file; reads the password.
pub(crate) fn tailer_settings(file: &Path, region: &Region) -> Result<tailer::Settings, Failure> {
    let source = &region.source;
    let mut settings =
        tailer::Settings::new(Arc::clone(&source.name), source.address.clone(), source.server_id);
    settings.standbys.clone_from(&source.standbys);
    settings.user.clone_from(&source.user);
    settings.password = tailer::Password(load::password(file, &source.password)?);
    settings.tls = match &source.tls {
        config::Tls::Off => tailer::Tls::Off,
        config::Tls::Required { ca_file } => {
            tailer::Tls::Required { ca_file: ca_file.as_ref().map(|path| load::beside(file, path)) }
        }
    };
    if source.statement_keys {
        settings.statement_keys = tailer::StatementKeys::Taken;
    }
    settings.progress_interval = source.progress_interval;
    settings.accept.clone_from(&source.accept);
    if source.hold_off.is_some() {
        settings.order = tailer::Order::Binlog;
    }
    let mut nodes = region.clusters.iter().flat_map(|cluster| &cluster.nodes);
    let marked = region.clusters.iter().any(|cluster| cluster.markers);
    if marked || !source.replicas.is_empty() || nodes.any(|node| node.control.is_some()) {
        settings.versions = tailer::Versions::Compared;
    }
    settings.drain = region.shutdown_grace;
    Ok(settings)
}

/// All servers that may take writes, each of which readers may take for the primary, and the replicas beside them.
fn visibility(region: &Region, settings: &tailer::Settings) -> Visibility {
    if let Some(hold_off) = region.source.hold_off {
        return Visibility::HoldOff(hold_off);
    }
    let instance = |address: &config::Address, role| {
        let settings = tailer::Settings { address: address.clone(), ..settings.clone() };
        Instance { address: address.to_string(), opts: settings.opts(), role }
    };
    let source = &region.source;
    let writers = std::iter::once(&source.address).chain(&source.standbys);
    let writers = writers.map(|it| instance(it, Role::Primary));
    let replicas = source.replicas.iter().map(|it| instance(it, Role::Replica));
    Visibility::Asked(writers.chain(replicas).collect())
}

/// `inside` has the control ports of nodes in this process.
pub(crate) fn cluster_settings(
    file: &Path,
    cluster: &config::Cluster,
    inside: &HashMap<String, ControlPort>,
) -> Result<invalidator::Settings, Failure> {
    let path = cluster.control_secret.as_ref().map(|path| load::beside(file, path));
    let secret = path.as_deref().map(node::read_secret).transpose().map_err(Failure::Config)?;
    let tls = cluster.control_tls.as_ref().map(|tls| control_tls(file, tls)).transpose();
    let tls = tls.context("cluster.control_tls").map_err(Failure::Config)?;
    let named = |node: &config::Node| {
        let address = node.control.as_ref()?.to_string();
        let (secret, tls, ring_version) = (secret.clone(), tls.clone(), cluster.ring_version);
        Some(ControlPort { address, secret, tls, ring_version })
    };
    let node = |node: &config::Node| {
        let address = node.address.to_string();
        let control = inside.get(&address).cloned().or_else(|| named(node));
        invalidator::NodeSettings { address, weight: node.weight, control }
    };
    let former = cluster.former.as_ref();
    let former = former.map(|former| (former.hashing, former.nodes.iter().map(node).collect()));
    Ok(invalidator::Settings {
        cluster: cluster.name.to_string(),
        hashing: cluster.hashing,
        nodes: cluster.nodes.iter().map(node).collect(),
        fill_age_max: cluster.fill_age_max,
        former: former.map(|(hashing, nodes)| invalidator::Former { hashing, nodes }),
        // What is in files that it names is read anew with it.
        revision: xxh64(format!("{cluster:?}").as_bytes(), 0),
        markers: if cluster.markers {
            invalidator::Markers::Deleted
        } else {
            invalidator::Markers::None
        },
        on_floor: match cluster.on_floor {
            config::OnFloor::FlushAll => invalidator::OnFloor::FlushAll,
            config::OnFloor::Alarm => invalidator::OnFloor::Alarm,
        },
    })
}

/// What other daemons of ours are connected to with.
pub(crate) fn control_tls(
    file: &Path,
    tls: &config::ControlTls,
) -> Result<invalidator::Tls, invalidator::TlsError> {
    let identity = tls.identity.as_ref().map(|identity| invalidator::Identity {
        certificate_chain: load::beside(file, &identity.certificate_chain),
        key: load::beside(file, &identity.key),
    });
    invalidator::Tls::load(&load::beside(file, &tls.ca_file), identity.as_ref())
}

/// SIGTERM and SIGINT, caught from before we are ready.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn install() -> Result<Signals, Failure> {
        let install = |kind| signal(kind).map_err(|err| anyhow!(err).context("catch signals"));
        Ok(Signals {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
