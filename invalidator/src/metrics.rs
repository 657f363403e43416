//! What the lanes count, and what databases say of themselves.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

use crate::poller::Role;

/// One lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub(crate) struct LaneLabel {
    pub(crate) cluster: String,
    pub(crate) node: String,
}

/// One lane, and which delete.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassLabel {
    cluster: String,
    node: String,
    pass: PassValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum PassValue {
    First,
    Covered,
    Second,
}

/// One lane, and why it was interrupted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabel {
    cluster: String,
    node: String,
    cause: Cause,
}

/// Why a lane was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Cause {
    /// The node cannot be reached, or the connection broke.
    Unreachable,
    /// The node did not answer in time.
    Deadline,
    /// The node answered an error.
    Refused,
    /// What the node answered makes no sense.
    OutOfStep,
    /// The stream could not be read, or the cursor not be stored.
    Stream,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct InstanceLabel {
    pub(crate) address: String,
    pub(crate) role: RoleValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum RoleValue {
    Primary,
    Replica,
}

impl From<Role> for RoleValue {
    fn from(role: Role) -> RoleValue {
        match role {
            Role::Primary => RoleValue::Primary,
            Role::Replica => RoleValue::Replica,
        }
    }
}

/// Metrics of all lanes and databases; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    deletes: Family<PassLabel, Counter>,
    connected: Family<LaneLabel, Gauge>,
    connects: Family<LaneLabel, Counter>,
    failures: Family<FailureLabel, Counter>,
    floors: Family<LaneLabel, Counter>,
    uncovered: Family<LaneLabel, Counter>,
    gaps: Family<LaneLabel, Counter>,
    backlog_records: Family<LaneLabel, Gauge>,
    backlog_ms: Family<LaneLabel, Gauge>,
    commit_to_delete: Family<LaneLabel, Histogram>,
    instances: Instances,
}

/// What databases say of themselves.
#[derive(Clone, Debug, Default)]
struct Instances {
    answered_ms: Family<InstanceLabel, Gauge>,
    foreign: Family<InstanceLabel, Gauge>,
    epoch: Family<InstanceLabel, Gauge>,
    sequence: Family<InstanceLabel, Gauge>,
    behind: Family<InstanceLabel, Gauge>,
}

/// Upper bounds, in seconds, of the commit-to-delete histogram.
const BOUNDS: [f64; 14] =
    [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

impl Metrics {
    /// Makes the metrics, and shows them in `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            deletes: Family::default(),
            connected: Family::default(),
            connects: Family::default(),
            failures: Family::default(),
            floors: Family::default(),
            uncovered: Family::default(),
            gaps: Family::default(),
            backlog_records: Family::default(),
            backlog_ms: Family::default(),
            commit_to_delete: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
            instances: Instances::register(registry.sub_registry_with_prefix("mcsqueal_instance")),
        };
        let lanes = registry.sub_registry_with_prefix("mcsqueal_lane");
        show(lanes, "deletes", "Deletes that the node answered", &metrics.deletes);
        show(lanes, "connected", "1 while the node is connected", &metrics.connected);
        show(lanes, "connects", "Connections made to the node", &metrics.connects);
        show(
            lanes,
            "failures",
            "Interruptions; what was not answered is sent again",
            &metrics.failures,
        );
        show(lanes, "floors", "Floors that reached the node", &metrics.floors);
        show(
            lanes,
            "uncovered",
            "Records whose keys were deleted again although some database was not known to show them",
            &metrics.uncovered,
        );
        show(
            lanes,
            "gaps",
            "Times that retention took records before the node had them",
            &metrics.gaps,
        );
        show(lanes, "backlog_records", "Records that are not passed yet", &metrics.backlog_records);
        show(
            lanes,
            "backlog_ms",
            "Age of the oldest change that waits for its first delete",
            &metrics.backlog_ms,
        );
        show(
            lanes,
            "commit_to_delete_seconds",
            "From the commit (where the source says it; else from its receipt) to the answer of the first delete",
            &metrics.commit_to_delete,
        );
        metrics
    }

    /// The metrics of one database.
    pub(crate) fn instance(&self, label: &InstanceLabel) -> InstanceMetrics {
        let Instances { answered_ms, foreign, epoch, sequence, behind } = &self.instances;
        InstanceMetrics {
            answered_ms: answered_ms.get_or_create_owned(label),
            foreign: foreign.get_or_create_owned(label),
            epoch: epoch.get_or_create_owned(label),
            sequence: sequence.get_or_create_owned(label),
            behind: behind.get_or_create_owned(label),
        }
    }

    /// A lane that is no more: what it says of the present is not shown any longer. What it has counted stays.
    pub(crate) fn forget(&self, lane: &LaneLabel) {
        self.connected.remove(lane);
        self.backlog_records.remove(lane);
        self.backlog_ms.remove(lane);
    }

    /// The metrics of one lane, found once.
    pub(crate) fn lane(&self, lane: &LaneLabel) -> LaneMetrics {
        let LaneLabel { cluster, node } = lane.clone();
        let pass = |pass| PassLabel { cluster: cluster.clone(), node: node.clone(), pass };
        // Owned, because two borrowed ones of the same family would wait for each other.
        LaneMetrics {
            first_deletes: self.deletes.get_or_create_owned(&pass(PassValue::First)),
            covered_deletes: self.deletes.get_or_create_owned(&pass(PassValue::Covered)),
            second_deletes: self.deletes.get_or_create_owned(&pass(PassValue::Second)),
            connected: self.connected.get_or_create_owned(lane),
            connects: self.connects.get_or_create_owned(lane),
            uncovered: self.uncovered.get_or_create_owned(lane),
            floors: self.floors.get_or_create_owned(lane),
            gaps: self.gaps.get_or_create_owned(lane),
            backlog_records: self.backlog_records.get_or_create_owned(lane),
            backlog_ms: self.backlog_ms.get_or_create_owned(lane),
            commit_to_delete: self.commit_to_delete.get_or_create_owned(lane),
            failures: self.failures.clone(),
            lane: lane.clone(),
        }
    }
}

impl Instances {
    fn register(registry: &mut Registry) -> Instances {
        let all = Instances::default();
        show(
            registry,
            "answered_ms",
            "Age of the database's last answer; since when it is asked, if it never answered",
            &all.answered_ms,
        );
        show(
            registry,
            "foreign",
            "1 while the database has transactions that the source does not have, for longer than a moment",
            &all.foreign,
        );
        show(registry, "epoch", "Epoch of the database's position", &all.epoch);
        show(
            registry,
            "sequence",
            "Transaction of the database's position in its epoch",
            &all.sequence,
        );
        show(
            registry,
            "behind",
            "Transactions that the furthest database shows and this one does not; 2^63 - 1 if they are of several epochs",
            &all.behind,
        );
        all
    }
}

/// One database's share of the metrics.
pub(crate) struct InstanceMetrics {
    pub(crate) answered_ms: Gauge,
    pub(crate) foreign: Gauge,
    pub(crate) epoch: Gauge,
    pub(crate) sequence: Gauge,
    pub(crate) behind: Gauge,
}

/// One lane's share of the metrics.
pub(crate) struct LaneMetrics {
    pub(crate) first_deletes: Counter,
    pub(crate) covered_deletes: Counter,
    pub(crate) second_deletes: Counter,
    pub(crate) connected: Gauge,
    pub(crate) connects: Counter,
    pub(crate) floors: Counter,
    pub(crate) uncovered: Counter,
    pub(crate) gaps: Counter,
    pub(crate) backlog_records: Gauge,
    pub(crate) backlog_ms: Gauge,
    pub(crate) commit_to_delete: Histogram,
    failures: Family<FailureLabel, Counter>,
    lane: LaneLabel,
}

impl LaneMetrics {
    pub(crate) fn failed(&self, cause: Cause) {
        let LaneLabel { cluster, node } = self.lane.clone();
        self.failures.get_or_create(&FailureLabel { cluster, node, cause }).inc();
    }
}

fn show<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: &M) {
    registry.register(name, help, metric.clone());
}
