//! What `/health` says.

use std::{sync::Arc, time::Duration};

use invalidator::LaneStatus;
use schemas::record::UnixMicros;
use serde::Serialize;
use stream::{AnyWriter, Log};
use tokio::sync::watch;

use crate::clock;

/// Looks at every part.
pub(crate) struct Watch {
    region: Arc<str>,
    tailer: watch::Receiver<tailer::Status>,
    lanes: Vec<watch::Receiver<LaneStatus>>,
    log: Log,
    /// While this process leads.
    writer: watch::Receiver<Option<AnyWriter>>,
}

/// The whole, at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    /// Everything is connected that this process needs, and the stream can be written.
    pub(crate) ok: bool,
    region: String,
    tailer: Tailer,
    stream: Stream,
    lanes: Vec<Lane>,
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

impl Watch {
    pub(crate) fn new(
        region: Arc<str>,
        tailer: watch::Receiver<tailer::Status>,
        lanes: Vec<watch::Receiver<LaneStatus>>,
        log: Log,
        writer: watch::Receiver<Option<AnyWriter>>,
    ) -> Watch {
        Watch { region, tailer, lanes, log, writer }
    }

    pub(crate) fn look(&self) -> Health {
        let tailer = self.tailer.borrow().clone();
        let now = clock::now();
        let lanes: Vec<Lane> =
            self.lanes.iter().map(|lane| Lane::of(lane.borrow().clone(), now)).collect();
        let writer = self.writer.borrow().clone();
        let leads = writer.is_some();
        let stands_by = !leads && self.log.is_begun();
        let trouble = writer.and_then(|writer| writer.trouble()).map(|trouble| trouble.to_string());
        Health {
            ok: (tailer.connected || stands_by)
                && trouble.is_none()
                && lanes.iter().all(|lane| lane.connected),
            region: self.region.to_string(),
            tailer: Tailer {
                connected: tailer.connected,
                server: tailer.server,
                last_error: tailer.last_error,
                executed: tailer.checkpoint.map(|checkpoint| checkpoint.executed.to_string()),
                lag_seconds: tailer.lag_seconds,
                lag_bytes: tailer.lag_bytes,
            },
            stream: Stream { leads, trouble },
            lanes,
        }
    }
}

impl Lane {
    fn of(status: LaneStatus, now: UnixMicros) -> Lane {
        let backlog = status.backlog(now);
        let LaneStatus { cluster, node, connected, last_error, backlog_records, .. } = status;
        // To the millisecond: more would be noise.
        let backlog_seconds =
            Duration::from_millis(backlog.as_millis().try_into().unwrap_or(u64::MAX)).as_secs_f64();
        Lane { cluster, node, connected, last_error, backlog_records, backlog_seconds }
    }
}
