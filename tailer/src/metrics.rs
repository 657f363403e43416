//! The tailer's metrics, all under `mcsqueal_tailer_`.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::map::Cause;

/// Handles to the metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) events: Counter,
    pub(crate) bytes: Counter,
    pub(crate) rows: Counter,
    pub(crate) keys: Counter,
    keys_null: Family<RuleLabel, Counter>,
    keys_unusable: Family<RuleLabel, Counter>,
    floors: Family<CauseLabel, Counter>,
    pub(crate) epochs: Counter,
    pub(crate) epochs_of_hour: Gauge,
    pub(crate) hold_off: Gauge,
    pub(crate) xa_prepared: Gauge,
    pub(crate) reconnects: Counter,
    pub(crate) connected: Gauge,
    pub(crate) writable: Gauge,
    pub(crate) lag_seconds: Gauge<f64, AtomicU64>,
    pub(crate) lag_bytes: Gauge,
    pub(crate) append_seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabel {
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    reason: &'static str,
}

impl Metrics {
    /// Makes the metrics, and puts them into `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        let of = registry.sub_registry_with_prefix("mcsqueal_tailer");
        of.register("events", "Binlog events read", metrics.events.clone());
        of.register_with_unit("read", "Binlog bytes read", Unit::Bytes, metrics.bytes.clone());
        of.register("rows", "Changed rows of mapped tables", metrics.rows.clone());
        of.register(
            "keys",
            "Keys that rows were mapped to, before those that come twice are left out",
            metrics.keys.clone(),
        );
        of.register(
            "keys_null",
            "Keys that do not exist because a column is NULL",
            metrics.keys_null.clone(),
        );
        of.register(
            "keys_unusable",
            "Keys that no client can have stored",
            metrics.keys_unusable.clone(),
        );
        of.register(
            "floors",
            "Floors raised because keys could not be listed",
            metrics.floors.clone(),
        );
        metrics.register_epochs(of);
        of.register(
            "xa_prepared",
            "XA transactions that are prepared, and whose keys are published again when they are committed",
            metrics.xa_prepared.clone(),
        );
        of.register(
            "reconnects",
            "Connections to the source that were lost or failed",
            metrics.reconnects.clone(),
        );
        of.register("connected", "1 while the binlog is being read", metrics.connected.clone());
        of.register(
            "writable",
            "1 if the source takes writes; else no Progress is said",
            metrics.writable.clone(),
        );
        of.register_with_unit(
            "lag",
            "Age of the newest event read; 0 when there is nothing more to read",
            Unit::Seconds,
            metrics.lag_seconds.clone(),
        );
        of.register_with_unit(
            "lag",
            "Bytes between the end of the binlog and our position, within the newest file",
            Unit::Bytes,
            metrics.lag_bytes.clone(),
        );
        of.register_with_unit(
            "append",
            "From a batch's hand-over to the stream to its acknowledgement",
            Unit::Seconds,
            metrics.append_seconds.clone(),
        );
        // A reason that never came is 0, not absent: alerts need that.
        for cause in Cause::ALL {
            drop(metrics.floors.get_or_create(&CauseLabel { reason: cause.name() }));
        }
        metrics
    }

    fn register_epochs(&self, of: &mut Registry) {
        of.register("epochs", "Epochs opened", self.epochs.clone());
        of.register(
            "epochs_of_hour",
            "Epochs opened within the last hour; above 60, several servers seem to write at the same time",
            self.epochs_of_hour.clone(),
        );
        of.register(
            "hold_off",
            "1 in hold-off mode: what changed is not stored again for a fixed time, and versions are not compared",
            self.hold_off.clone(),
        );
    }

    pub(crate) fn floor(&self, cause: Cause) {
        self.floors.get_or_create(&CauseLabel { reason: cause.name() }).inc();
    }

    pub(crate) fn key_null(&self, rule: &Arc<str>) {
        self.keys_null.get_or_create(&RuleLabel { rule: rule.to_string() }).inc();
    }

    pub(crate) fn key_unusable(&self, rule: &Arc<str>) {
        self.keys_unusable.get_or_create(&RuleLabel { rule: rule.to_string() }).inc();
    }
}

/// Not in any registry; for tests and tools.
impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            events: Counter::default(),
            bytes: Counter::default(),
            rows: Counter::default(),
            keys: Counter::default(),
            keys_null: Family::default(),
            keys_unusable: Family::default(),
            floors: Family::default(),
            epochs: Counter::default(),
            epochs_of_hour: Gauge::default(),
            hold_off: Gauge::default(),
            xa_prepared: Gauge::default(),
            reconnects: Counter::default(),
            connected: Gauge::default(),
            writable: Gauge::default(),
            lag_seconds: Gauge::default(),
            lag_bytes: Gauge::default(),
            // 50 us to 26 s.
            append_seconds: Histogram::new(exponential_buckets(50e-6, 2.0, 20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn names() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.key_null(&"users".into());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        expect![[r#"
            mcsqueal_tailer_events counter
            mcsqueal_tailer_read_bytes counter
            mcsqueal_tailer_rows counter
            mcsqueal_tailer_keys counter
            mcsqueal_tailer_keys_null counter
            mcsqueal_tailer_floors counter
            mcsqueal_tailer_epochs counter
            mcsqueal_tailer_epochs_of_hour gauge
            mcsqueal_tailer_hold_off gauge
            mcsqueal_tailer_xa_prepared gauge
            mcsqueal_tailer_reconnects counter
            mcsqueal_tailer_connected gauge
            mcsqueal_tailer_writable gauge
            mcsqueal_tailer_lag_seconds gauge
            mcsqueal_tailer_lag_bytes gauge
            mcsqueal_tailer_append_seconds histogram"#]]
        .assert_eq(&names.join("\n"));
        assert!(text.contains("mcsqueal_tailer_keys_null_total{rule=\"users\"} 1"), "{text}");
        assert!(text.contains("mcsqueal_tailer_floors_total{reason=\"gap\"} 0"), "{text}");
    }
}
