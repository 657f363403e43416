//! What `/health` says.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use invalidator::{
    Databases, LaneStatus, Statuses,
    poller::{Hold, InstanceState, Role},
};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use schemas::{cursor::Partition, epochs::ListedEpoch, record::UnixMicros};
use serde::Serialize;
use stream::{AnyReader, AnyShare, AnyWriter, Log, Portions, Reader, StreamError, Writer};
use tokio::sync::watch;

use crate::{
    clock,
    reload::{Config, Shown},
};

/// Looks at every part, as soon as it is there.
#[derive(Clone)]
pub(crate) struct Watch {
    region: Arc<str>,
    waiting: watch::Receiver<Option<String>>,
    config: Shown,
    parts: Arc<OnceLock<Parts>>,
    gauges: Gauges,
}

/// What a scrape learns from the same look.
#[derive(Clone, Default)]
struct Gauges {
    leads: Gauge,
    term: Gauge,
    writable: Gauge,
    partitions: Gauge,
}

/// What there is to look at once the stream is open.
pub(crate) struct Parts {
    pub(crate) tailer: watch::Receiver<tailer::Status>,
    pub(crate) lanes: watch::Receiver<Statuses>,
    pub(crate) databases: Databases,
    pub(crate) log: Log,
    /// Reads the table of epochs.
    pub(crate) reader: AnyReader,
    /// While this process leads.
    pub(crate) writer: watch::Receiver<Option<AnyWriter>>,
    pub(crate) shared: Shared,
}

/// What this process looks after, of what all processes of the region do.
pub(crate) struct Shared {
    portions: Portions,
    trouble: watch::Receiver<Option<Arc<str>>>,
    of: u16,
}

impl Shared {
    /// `of` so many partitions.
    pub(crate) fn of(share: &AnyShare, of: u16) -> Shared {
        Shared { portions: share.portions(), trouble: share.trouble(), of }
    }

    fn ours(&self) -> Vec<u16> {
        let portion = self.portions.now();
        (0..self.of).filter(|partition| portion.has(Partition(*partition))).collect()
    }
}

/// The whole, at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    /// Everything is connected that this process needs, the stream can be written, and no database keeps the region waiting.
    pub(crate) ok: bool,
    region: String,
    /// Which configuration is in force.
    config: Config,
    tailer: Tailer,
    stream: Stream,
    lanes: Vec<Lane>,
    /// Those that caches are filled from; empty where no node needs to know.
    databases: Vec<Database>,
}

#[derive(Debug, Serialize)]
struct Tailer {
    connected: bool,
    server: Option<String>,
    last_error: Option<String>,
    executed: Option<String>,
    lag_seconds: Option<f64>,
    lag_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Stream {
    /// Whether this process writes it; else it stands by for the one that does.
    leads: bool,
    /// Which partitions this process delivers; others of the region deliver the others.
    partitions: Vec<u16>,
    /// Why they do not count this process in, if so.
    sharing: Option<String>,
    trouble: Option<String>,
}

#[derive(Debug, Serialize)]
struct Lane {
    cluster: String,
    node: String,
    connected: bool,
    last_error: Option<String>,
    /// Records of the stream whose deletes are not all answered; counted while the node is away, too.
    backlog_records: u64,
    /// How long the oldest change has waited for its first delete.
    backlog_seconds: f64,
}

/// Everything up to the lowest `position` is visible everywhere in the region: what is cached cannot be newer.
#[derive(Debug, Serialize)]
struct Database {
    address: String,
    role: &'static str,
    /// `EPOCH.NUMBER`.
    position: String,
    /// Transactions that the furthest database shows and this one does not; null if they are of several epochs.
    behind: Option<u64>,
    /// How old its last answer is; null if it never answered.
    answered_seconds: Option<f64>,
    foreign: bool,
    /// Why the region waits for it, if so.
    holds: Option<&'static str>,
}

impl Watch {
    /// `waiting` says what is waited for before there are parts.
    pub(crate) fn new(
        region: Arc<str>,
        waiting: watch::Receiver<Option<String>>,
        config: Shown,
        registry: &mut Registry,
    ) -> Watch {
        let gauges = Gauges::default();
        let Gauges { leads, term, writable, partitions } = gauges.clone();
        registry.register("mcsqueal_stream_leads", "1 while this process writes the stream", leads);
        registry.register("mcsqueal_stream_term", "The term that it leads, or has led last", term);
        registry.register(
            "mcsqueal_stream_writable",
            "0 while the stream cannot be opened or takes nothing: appends wait",
            writable,
        );
        registry.register(
            "mcsqueal_stream_partitions",
            "Partitions that this process delivers; all processes of a region share them",
            partitions,
        );
        Watch { region, waiting, config, parts: Arc::default(), gauges }
    }

    /// Everything is there to be looked at. Only the first call counts.
    pub(crate) fn is_open(&self, parts: Parts) {
        drop(self.parts.set(parts));
    }

    pub(crate) fn look(&self) -> Health {
        let health = match self.parts.get() {
            Some(parts) => self.look_at(parts),
            None => self.not_yet(),
        };
        self.gauges.leads.set(i64::from(health.stream.leads));
        self.gauges.writable.set(i64::from(health.stream.trouble.is_none()));
        let partitions = health.stream.partitions.len();
        self.gauges.partitions.set(i64::try_from(partitions).unwrap_or(i64::MAX));
        health
    }

    /// Every epoch that is announced, oldest first; `None` before the stream is open.
    pub(crate) async fn epochs(&self) -> Option<Result<Vec<ListedEpoch>, StreamError>> {
        let epochs = self.parts.get()?.reader.epochs().await;
        Some(epochs.map(|epochs| epochs.iter().map(ListedEpoch::from).collect()))
    }

    fn not_yet(&self) -> Health {
        let trouble = self.waiting.borrow().clone();
        let trouble = Some(trouble.unwrap_or_else(|| "the stream is being opened".to_owned()));
        Health {
            ok: false,
            region: self.region.to_string(),
            config: self.config.look(),
            tailer: Tailer::of(tailer::Status::default()),
            stream: Stream { leads: false, partitions: Vec::new(), sharing: None, trouble },
            lanes: Vec::new(),
            databases: Vec::new(),
        }
    }

    fn look_at(&self, parts: &Parts) -> Health {
        let tailer = parts.tailer.borrow().clone();
        let now = clock::now();
        let lanes: Vec<Lane> =
            parts.lanes.borrow().iter().map(|lane| Lane::of(lane.borrow().clone(), now)).collect();
        let databases = parts.databases.look();
        let unheld = databases.iter().all(|(_, of)| !of.hold.is_some_and(Hold::is_alarm));
        let writer = parts.writer.borrow().clone();
        let leads = writer.is_some();
        if let Some(writer) = &writer {
            self.gauges.term.set(i64::from(writer.term().0));
        }
        let stands_by = !leads && parts.log.is_begun();
        let trouble = writer.and_then(|writer| writer.trouble()).map(|trouble| trouble.to_string());
        let sharing = parts.shared.trouble.borrow().as_ref().map(ToString::to_string);
        let partitions = parts.shared.ours();
        Health {
            ok: (tailer.connected || stands_by)
                && trouble.is_none()
                && sharing.is_none()
                && unheld
                && (partitions.is_empty() || lanes.iter().all(|lane| lane.connected)),
            region: self.region.to_string(),
            config: self.config.look(),
            tailer: Tailer::of(tailer),
            stream: Stream { leads, partitions, sharing, trouble },
            lanes,
            databases: databases.into_iter().map(Database::of).collect(),
        }
    }
}

impl Tailer {
    fn of(status: tailer::Status) -> Tailer {
        Tailer {
            connected: status.connected,
            server: status.server,
            last_error: status.last_error,
            executed: status.checkpoint.map(|checkpoint| checkpoint.executed.to_string()),
            lag_seconds: status.lag_seconds,
            lag_bytes: status.lag_bytes,
        }
    }
}

impl Lane {
    fn of(status: LaneStatus, now: UnixMicros) -> Lane {
        let backlog = status.backlog(now);
        let LaneStatus { cluster, node, connected, last_error, backlog_records, .. } = status;
        let backlog_seconds = seconds(backlog);
        Lane { cluster, node, connected, last_error, backlog_records, backlog_seconds }
    }
}

impl Database {
    fn of((address, state): (String, InstanceState)) -> Database {
        let InstanceState { role, position, behind, answered, hold, .. } = state;
        Database {
            address,
            role: match role {
                Role::Primary => "primary",
                Role::Replica => "replica",
            },
            position: position.to_string(),
            behind,
            answered_seconds: answered.map(seconds),
            foreign: hold == Some(Hold::Foreign),
            holds: hold.map(Hold::name),
        }
    }
}

/// To the millisecond: more would be noise.
fn seconds(of: Duration) -> f64 {
    Duration::from_millis(of.as_millis().try_into().unwrap_or(u64::MAX)).as_secs_f64()
}
