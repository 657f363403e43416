//! [`Metrics`]: what a router has counted, for Prometheus and for its health.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::shared::{AllFacts, Counter, Counters, NodeFacts};

/// Reads what workers count.
#[derive(Clone, Debug)]
pub struct Metrics {
    facts: Arc<AllFacts>,
    counters: Arc<Vec<Arc<Counters>>>,
}

/// One number without labels.
struct Family {
    name: &'static str,
    help: &'static str,
    of: fn(&Counters) -> &Counter,
}

const COUNTERS: [Family; 14] = [
    Family { name: "reads", help: "Reads by clients; one of many keys is one", of: |it| &it.reads },
    Family { name: "keys", help: "Keys that clients asked for, in any way", of: |it| &it.keys },
    Family { name: "updates", help: "Commands that change a value", of: |it| &it.updates },
    Family { name: "deletes", help: "Deletes by clients", of: |it| &it.deletes },
    Family {
        name: "errands",
        help: "Commands for which one node was not enough",
        of: |it| &it.errands,
    },
    Family {
        name: "retries",
        help: "Requests that went on to another node after a timeout",
        of: |it| &it.retries,
    },
    Family {
        name: "retries_refused",
        help: "Timeouts that clients were told, because the budget of retries was used up",
        of: |it| &it.retries_refused,
    },
    Family {
        name: "changes_kept",
        help: "Changes written to the log for a node that missed them",
        of: |it| &it.kept,
    },
    Family {
        name: "changes_not_kept",
        help: "Changes that a node missed and the log could not take",
        of: |it| &it.not_kept,
    },
    Family { name: "read_bytes", help: "Bytes from clients", of: |it| &it.bytes_read },
    Family { name: "written_bytes", help: "Bytes to clients", of: |it| &it.bytes_written },
    Family { name: "connections", help: "Clients that have connected", of: |it| &it.connections },
    Family {
        name: "connections_ended",
        help: "Clients that have left",
        of: |it| &it.connections_ended,
    },
    Family {
        name: "connections_refused",
        help: "Clients that were one too many",
        of: |it| &it.refused,
    },
];

/// One number of each node.
struct NodeFamily {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    of: fn(&NodeFacts) -> u64,
}

const OF_NODES: [NodeFamily; 4] = [
    NodeFamily {
        name: "down",
        help: "Workers for which the node is out of use",
        kind: MetricType::Gauge,
        of: |it| it.down_workers.load(Ordering::Relaxed),
    },
    NodeFamily {
        name: "owed",
        help: "Changes that are kept for the node",
        kind: MetricType::Gauge,
        of: |it| it.owed.load(Ordering::Acquire),
    },
    NodeFamily {
        name: "tkos",
        help: "How often the node went out of use, for any worker",
        kind: MetricType::Counter,
        of: |it| it.tkos.load(Ordering::Relaxed),
    },
    NodeFamily {
        name: "timeouts",
        help: "Requests that the node has not answered in time",
        kind: MetricType::Counter,
        of: |it| it.timeouts.load(Ordering::Relaxed),
    },
];

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    pub address: Arc<str>,
    /// For some worker it is out of use.
    pub down: bool,
    /// Changes that are kept for it; nobody reads from it while there are any.
    pub owed: u64,
}

impl Metrics {
    pub(crate) fn new(facts: Arc<AllFacts>, counters: Arc<Vec<Arc<Counters>>>) -> Metrics {
        Metrics { facts, counters }
    }

    /// All nodes that there are or have been.
    pub fn nodes(&self) -> Vec<NodeState> {
        let each = |it: Arc<NodeFacts>| NodeState {
            address: Arc::clone(&it.address),
            down: it.down_workers.load(Ordering::Relaxed) > 0,
            owed: it.owed.load(Ordering::Acquire),
        };
        self.facts.all().into_iter().map(each).collect()
    }

    /// Everything, as OpenMetrics text.
    pub fn page(&self) -> Result<String, fmt::Error> {
        let (mut registry, mut page) = (Registry::default(), String::new());
        registry.register_collector(Box::new(self.clone()));
        encode(&mut page, &registry)?;
        Ok(page)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { name, help, of } in COUNTERS {
            let sum =
                ConstCounter::new(self.counters.iter().map(|each| of(each).get()).sum::<u64>());
            let name = format!("mcsqueal_router_{name}");
            sum.encode(encoder.encode_descriptor(&name, help, None, sum.metric_type())?)?;
        }
        let facts = self.facts.all();
        for NodeFamily { name, help, kind, of } in OF_NODES {
            let name = format!("mcsqueal_router_node_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, kind)?;
            for it in &facts {
                let labels = [("node", &*it.address)];
                let each = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(of(it)).encode(each)?,
                    _ => ConstGauge::new(of(it)).encode(each)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_page_has_every_worker_and_every_node() {
        let facts = Arc::new(AllFacts::default());
        facts.of("a\"b:1").timeouts.store(3, Ordering::Relaxed);
        let counters: Vec<Arc<Counters>> = vec![Arc::default(), Arc::default()];
        for each in &counters {
            each.reads.add(2);
        }
        let page = Metrics::new(facts, Arc::new(counters)).page().expect("a text takes everything");
        let lines = page.lines().filter(|line| line.contains("_reads") || line.contains("_node_"));
        expect![[r#"
            # HELP mcsqueal_router_reads Reads by clients; one of many keys is one
            # TYPE mcsqueal_router_reads counter
            mcsqueal_router_reads_total 4
            # HELP mcsqueal_router_node_down Workers for which the node is out of use
            # TYPE mcsqueal_router_node_down gauge
            mcsqueal_router_node_down{node="a\"b:1"} 0
            # HELP mcsqueal_router_node_owed Changes that are kept for the node
            # TYPE mcsqueal_router_node_owed gauge
            mcsqueal_router_node_owed{node="a\"b:1"} 0
            # HELP mcsqueal_router_node_tkos How often the node went out of use, for any worker
            # TYPE mcsqueal_router_node_tkos counter
            mcsqueal_router_node_tkos_total{node="a\"b:1"} 0
            # HELP mcsqueal_router_node_timeouts Requests that the node has not answered in time
            # TYPE mcsqueal_router_node_timeouts counter
            mcsqueal_router_node_timeouts_total{node="a\"b:1"} 3"#]]
        .assert_eq(&lines.collect::<Vec<_>>().join("\n"));
    }
}
