//! What the lanes count.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// One lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LaneLabel {
    pub(crate) cluster: String,
    pub(crate) node: String,
}

/// One lane, and which delete.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PassLabel {
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) pass: PassValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum PassValue {
    First,
    Second,
}

/// Metrics of all lanes; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) deletes: Family<PassLabel, Counter>,
    pub(crate) connects: Family<LaneLabel, Counter>,
    pub(crate) floors: Family<LaneLabel, Counter>,
    pub(crate) gaps: Family<LaneLabel, Counter>,
    pub(crate) backlog_records: Family<LaneLabel, Gauge>,
    pub(crate) backlog_ms: Family<LaneLabel, Gauge>,
    pub(crate) commit_to_delete: Family<LaneLabel, Histogram>,
}

/// Upper bounds, in seconds, of the commit-to-delete histogram.
const BOUNDS: [f64; 14] =
    [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

impl Metrics {
    /// Makes the metrics, and shows them in `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            deletes: Family::default(),
            connects: Family::default(),
            floors: Family::default(),
            gaps: Family::default(),
            backlog_records: Family::default(),
            backlog_ms: Family::default(),
            commit_to_delete: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
        };
        let registry = registry.sub_registry_with_prefix("mcsqueal_lane");
        registry.register("deletes", "Deletes that the node answered", metrics.deletes.clone());
        registry.register("connects", "Connections made to the node", metrics.connects.clone());
        registry.register("floors", "Floors that reached the node", metrics.floors.clone());
        registry.register(
            "gaps",
            "Records that retention took before the node had them",
            metrics.gaps.clone(),
        );
        registry.register(
            "backlog_records",
            "Records that are not passed yet",
            metrics.backlog_records.clone(),
        );
        registry.register(
            "backlog_ms",
            "Age of the oldest key that waits for its first delete",
            metrics.backlog_ms.clone(),
        );
        registry.register(
            "commit_to_delete_seconds",
            "From the commit (where the source says it; else from its receipt) to the answer of the first delete",
            metrics.commit_to_delete.clone(),
        );
        metrics
    }
}
