//! What `/health` says.

use std::sync::Arc;

use invalidator::LaneStatus;
use serde::Serialize;
use stream::embedded::Embedded;
use tokio::sync::watch;

/// Looks at every part.
pub(crate) struct Watch {
    region: Arc<str>,
    tailer: watch::Receiver<tailer::Status>,
    lanes: Vec<watch::Receiver<LaneStatus>>,
    stream: Embedded,
}

/// The whole, at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    /// Everything is connected, and the stream can be written.
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
    trouble: Option<String>,
}

#[derive(Debug, Serialize)]
struct Lane {
    cluster: String,
    node: String,
    connected: bool,
    last_error: Option<String>,
    backlog_records: usize,
}

impl Watch {
    pub(crate) fn new(
        region: Arc<str>,
        tailer: watch::Receiver<tailer::Status>,
        lanes: Vec<watch::Receiver<LaneStatus>>,
        stream: Embedded,
    ) -> Watch {
        Watch { region, tailer, lanes, stream }
    }

    pub(crate) fn look(&self) -> Health {
        let tailer = self.tailer.borrow().clone();
        let lanes: Vec<Lane> =
            self.lanes.iter().map(|lane| Lane::of(lane.borrow().clone())).collect();
        let trouble = self.stream.trouble().map(|trouble| trouble.to_string());
        Health {
            ok: tailer.connected && trouble.is_none() && lanes.iter().all(|lane| lane.connected),
            region: self.region.to_string(),
            tailer: Tailer {
                connected: tailer.connected,
                server: tailer.server,
                last_error: tailer.last_error,
                executed: tailer.checkpoint.map(|checkpoint| checkpoint.executed.to_string()),
                lag_seconds: tailer.lag_seconds,
                lag_bytes: tailer.lag_bytes,
            },
            stream: Stream { trouble },
            lanes,
        }
    }
}

impl Lane {
    fn of(status: LaneStatus) -> Lane {
        let LaneStatus { cluster, node, connected, last_error, backlog_records } = status;
        Lane { cluster, node, connected, last_error, backlog_records }
    }
}
