//! [`RelayMetrics`]: what both sides of a relay count. Clones share everything.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// In seconds.
const DELAYS: [f64; 16] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.045, 0.05, 0.06, 0.08, 0.1, 0.2, 0.5, 1.0, 5.0];

/// See the help texts.
#[derive(Clone, Debug)]
pub struct RelayMetrics {
    pub(crate) readers: Gauge,
    pub(crate) pushed: Counter,
    pub(crate) answered: Counter,
    pub(crate) connected: Gauge,
    pub(crate) connections: Counter,
    pub(crate) received: Counter,
    pub(crate) asked: Counter,
    pub(crate) holes: Counter,
    pub(crate) direct: Gauge,
    pub(crate) delay: Histogram,
}

impl Default for RelayMetrics {
    fn default() -> RelayMetrics {
        RelayMetrics {
            readers: Gauge::default(),
            pushed: Counter::default(),
            answered: Counter::default(),
            connected: Gauge::default(),
            connections: Counter::default(),
            received: Counter::default(),
            asked: Counter::default(),
            holes: Counter::default(),
            direct: Gauge::default(),
            delay: Histogram::new(DELAYS),
        }
    }
}

impl RelayMetrics {
    /// Enters all of them.
    pub fn register(registry: &mut Registry) -> RelayMetrics {
        let all = RelayMetrics::default();
        let registry = registry.sub_registry_with_prefix("mcsqueal_relay");
        let it = all.clone();
        registry.register("readers", "Readers elsewhere that this process pushes to", it.readers);
        registry.register("pushed_records", "Records pushed to them", it.pushed);
        registry.register("answered", "Questions of theirs that were answered", it.answered);
        registry.register("connected", "1 while a relay pushes to this process", it.connected);
        registry.register("connections", "Connections to relays that were made", it.connections);
        registry.register("received_records", "Records that a relay has pushed", it.received);
        registry.register("asked", "Questions to a relay: whoever is behind asks", it.asked);
        registry.register("holes", "Records that did not join the ones before", it.holes);
        registry.register("direct", "1 while Kafka is read without a relay", it.direct);
        registry.register(
            "delay_seconds",
            "From the time that a record was appended, by its writer's clock, until it was here",
            it.delay,
        );
        all
    }
}
