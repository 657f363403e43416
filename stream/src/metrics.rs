//! [`Metrics`]: what a log on Kafka counts, and a relay of any log. Clones share everything.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::relay::RelayMetrics;

/// Filled by whoever opens a log with it; see the help texts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(crate) records: Counter,
    pub(crate) bytes: Counter,
    pub(crate) in_flight_kib: Gauge,
    pub(crate) terms: Counter,
    pub(crate) refusals: Counter,
    pub(crate) lost_tails: Counter,
    pub(crate) holes: Counter,
    pub(crate) catch_ups: Counter,
    pub(crate) rebalances: Counter,
    /// Of both sides of a relay.
    pub relay: RelayMetrics,
}

impl Metrics {
    /// Enters all of them.
    pub fn register(registry: &mut Registry) -> Metrics {
        let relay = RelayMetrics::register(registry);
        let metrics = Metrics { relay, ..Metrics::default() };
        let registry = registry.sub_registry_with_prefix("mcsqueal_stream");
        let Metrics {
            records,
            bytes,
            in_flight_kib,
            terms,
            refusals,
            lost_tails,
            holes,
            catch_ups,
            rebalances,
            relay: _,
        } = metrics.clone();
        registry.register("appended_records", "Records handed to Kafka", records);
        registry.register("appended_bytes", "Bytes of these records, before compression", bytes);
        registry.register(
            "in_flight_kib",
            "KiB of records that Kafka has not acknowledged; bounded by in_flight_bytes_max",
            in_flight_kib,
        );
        registry.register("terms", "Terms that this process has begun", terms);
        registry.register(
            "refusals",
            "Times that Kafka refused something for good, so that all that waited was sent again in a new term",
            refusals,
        );
        registry.register(
            "lost_tails",
            "Times that a term began in a log that had lost acknowledged records; each raises a floor over all keys",
            lost_tails,
        );
        registry.register(
            "holes",
            "Holes met at the head of a partition: records lost, or removed before they were read",
            holes,
        );
        registry.register(
            "catch_ups",
            "Times that a reader stood behind what is in memory and had to ask Kafka",
            catch_ups,
        );
        registry.register(
            "rebalances",
            "Times that the group said which partitions this process looks after",
            rebalances,
        );
        metrics
    }
}
