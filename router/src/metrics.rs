//! [`Metrics`]: what a router has counted, for Prometheus and for its health.

use std::sync::{Arc, atomic::Ordering};

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

const COUNTERS: [Family; 12] = [
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

/// One number of a node.
type Of = fn(&NodeFacts) -> u64;

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
    pub fn page(&self) -> String {
        let mut out = String::new();
        for Family { name, help, of } in COUNTERS {
            let sum: u64 = self.counters.iter().map(|each| of(each).get()).sum();
            let name = format!("mcsqueal_router_{name}");
            out.push_str(&format!(
                "# HELP {name} {help}.\n# TYPE {name} counter\n{name}_total {sum}\n"
            ));
        }
        let facts = self.facts.all();
        let families: [(&str, &str, &str, Of); 4] = [
            ("node_down", "gauge", "Workers for which the node is out of use", |it| {
                it.down_workers.load(Ordering::Relaxed)
            }),
            ("node_owed", "gauge", "Changes that are kept for the node", |it| {
                it.owed.load(Ordering::Acquire)
            }),
            ("node_tkos", "counter", "How often the node went out of use, for any worker", |it| {
                it.tkos.load(Ordering::Relaxed)
            }),
            ("node_timeouts", "counter", "Requests that the node has not answered in time", |it| {
                it.timeouts.load(Ordering::Relaxed)
            }),
        ];
        for (name, kind, help, of) in families {
            let name = format!("mcsqueal_router_{name}");
            out.push_str(&format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            for it in &facts {
                let node = it.address.replace(['\\', '"', '\n'], "_");
                out.push_str(&format!("{name}{suffix}{{node=\"{node}\"}} {}\n", of(it)));
            }
        }
        out.push_str("# EOF\n");
        out
    }
}
