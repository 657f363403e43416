//! [`Report`]: what one lane says about itself: status, metrics and log, from the same values.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use schemas::record::UnixMicros;
use tokio::sync::watch;

use crate::{
    intake::Unread,
    lane::{Answered, Lane, Pass},
    metrics::{Cause, LaneLabel, LaneMetrics, Metrics},
};

/// What one lane says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// The cluster's name.
    pub cluster: String,
    /// The node's address.
    pub node: String,
    /// Whether the node is connected.
    pub connected: bool,
    /// Why not, or why not the last time.
    pub last_error: Option<String>,
    /// Records of the stream whose deletes are not all answered, also those that the lane has not read. Up to a
    /// second old.
    pub backlog_records: u64,
    /// Since when the oldest change waits for its first delete.
    pub waiting_since: Option<UnixMicros>,
}

impl LaneStatus {
    /// How far the node is behind at `now`.
    pub fn backlog(&self, now: UnixMicros) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| age(since, now))
    }
}

/// Where one lane's news go.
pub(crate) struct Report {
    node: String,
    metrics: LaneMetrics,
    status: watch::Sender<LaneStatus>,
    /// What the lane has said of that so far.
    given_up: AtomicU64,
}

impl Report {
    pub(crate) fn new(
        label: LaneLabel,
        metrics: &Metrics,
    ) -> (Report, watch::Receiver<LaneStatus>) {
        let metrics = metrics.lane(&label);
        let LaneLabel { cluster, node } = label;
        let names = LaneStatus { cluster, node: node.clone(), ..LaneStatus::default() };
        let (status, told) = watch::channel(names);
        (Report { node, metrics, status, given_up: AtomicU64::new(0) }, told)
    }

    pub(crate) fn connected(&self) {
        tracing::info!(node = self.node, "connected");
        self.metrics.connects.inc();
        self.metrics.connected.set(1);
        self.status.send_modify(|status| status.connected = true);
    }

    /// Other processes look after everything.
    pub(crate) fn idle(&self) {
        self.metrics.connected.set(0);
        self.status.send_modify(|status| status.connected = false);
        self.waiting(0, None);
    }

    /// The lane cannot go on for now. The same again and again is logged once.
    pub(crate) fn interrupted(&self, cause: Cause, err: &dyn std::error::Error) {
        let error = chain(err);
        self.metrics.failed(cause);
        self.metrics.connected.set(0);
        if self.status.borrow().last_error.as_ref() == Some(&error) {
            tracing::debug!(node = self.node, error, "still interrupted");
        } else {
            tracing::warn!(node = self.node, error, "the lane is interrupted; its deletes wait");
        }
        self.status.send_modify(|status| {
            status.connected = false;
            status.last_error = Some(error);
        });
    }

    /// Deletes are answered: if the lane is interrupted again, that is news again.
    pub(crate) fn recovered(&self) {
        self.status.send_if_modified(|status| status.last_error.take().is_some());
    }

    pub(crate) fn answered(&self, answered: Answered) {
        match answered.pass {
            Pass::First => {
                self.metrics.first_deletes.inc();
                let age = age(answered.since, wall_clock());
                self.metrics.commit_to_delete.observe(age.as_secs_f64());
            }
            Pass::Covered => {
                self.metrics.covered_deletes.inc();
            }
            Pass::Second => {
                self.metrics.second_deletes.inc();
            }
        }
    }

    /// A node of ours has deleted so many keys of one transaction; there is no second time.
    pub(crate) fn deleted(&self, since: UnixMicros, keys: u64) {
        self.metrics.first_deletes.inc_by(keys);
        self.metrics.commit_to_delete.observe(age(since, wall_clock()).as_secs_f64());
    }

    pub(crate) fn floor(&self, reason: &str) {
        self.metrics.floors.inc();
        tracing::warn!(node = self.node, reason, "stale keys cannot be listed");
    }

    pub(crate) fn gap(&self, gap: &str) {
        self.metrics.gaps.inc();
        tracing::error!(
            node = self.node,
            gap,
            "the stream no longer reaches back to the node's cursor"
        );
    }

    pub(crate) fn backlog(&self, lane: &Lane, unread: Unread) {
        let records = u64::try_from(lane.backlog()).unwrap_or(u64::MAX);
        let records = records.saturating_add(unread.records);
        let before = self.given_up.swap(lane.given_up(), Ordering::Relaxed);
        self.metrics.uncovered.inc_by(lane.given_up().saturating_sub(before));
        // What was taken is older than what was not.
        self.waiting(records, lane.oldest_waiting().or(unread.since));
    }

    /// So many records, or transactions, are not answered; the oldest since then.
    pub(crate) fn waiting(&self, records: u64, since: Option<UnixMicros>) {
        let ms = since.map_or(0, |since| age(since, wall_clock()).as_millis());
        self.metrics.backlog_records.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.metrics.backlog_ms.set(i64::try_from(ms).unwrap_or(i64::MAX));
        self.status.send_if_modified(|status| {
            let changed = status.backlog_records != records || status.waiting_since != since;
            status.backlog_records = records;
            status.waiting_since = since;
            changed
        });
    }
}

fn age(since: UnixMicros, now: UnixMicros) -> Duration {
    Duration::from_micros(now.0.saturating_sub(since.0))
}

/// For ages against the source's commit times only; never for order.
pub(crate) fn wall_clock() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// An error and its causes, in one line.
fn chain(err: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(err), |err| err.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
