//! [`Report`]: what was found, as metrics, as a summary, and as one word.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    placement::{NodeId, Place, Placement},
    verdict::{Unjudged, Verdict},
};

/// Measurements of the canary that quantiles are taken of: the last ones.
const CANARY_MAX: usize = 10_000;
/// Upper bounds of staleness, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabel {
    cluster: String,
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabel {
    cluster: String,
    node: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    cluster: String,
    node: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuantileLabel {
    quantile: &'static str,
}

/// Counts; clones count together.
#[derive(Clone, Debug)]
pub struct Report {
    placement: Placement,
    counts: Arc<Mutex<Counts>>,
    verdicts: Family<VerdictLabel, Counter>,
    judged: Family<NodeLabel, Counter>,
    unjudged: Family<ReasonLabel, Counter>,
    changes: Counter,
    skipped: Counter,
    watching: Gauge,
    connected: Gauge,
    canaries: Family<NodeLabel, Histogram>,
    canary_quantiles: Family<QuantileLabel, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

/// The sums.
#[derive(Clone, Debug, Default)]
struct Counts {
    nodes: BTreeMap<NodeId, NodeCounts>,
    changes: u64,
    skipped: u64,
    connected: bool,
    trouble: Option<String>,
    canary: VecDeque<Duration>,
    canaries: u64,
}

#[derive(Clone, Debug, Default)]
struct NodeCounts {
    judged: u64,
    unjudged: u64,
    verdicts: BTreeMap<Verdict, u64>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Keys were judged, and nothing was wrong.
    Green,
    /// Something was wrong.
    Red,
    /// Nothing was judged: that proves nothing.
    Blind,
}

impl Colour {
    /// As in the summary.
    pub fn name(self) -> &'static str {
        match self {
            Colour::Green => "green",
            Colour::Red => "RED",
            Colour::Blind => "BLIND: nothing was judged",
        }
    }
}

/// What is shown at `/health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub colour: Colour,
    /// Whether the binlog is read.
    pub connected: bool,
    /// Why not, or what else does not work.
    pub trouble: Option<String>,
    /// Keys on nodes that were watched to the end.
    pub judged: u64,
    pub unjudged: u64,
    /// By the names of the verdicts.
    pub verdicts: BTreeMap<&'static str, u64>,
    pub watching: u64,
}

impl Report {
    /// All metrics begin with `mcsqueal_auditor_`.
    pub fn register(placement: Placement, registry: &mut Registry) -> Report {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let report = Report {
            placement,
            counts: Arc::default(),
            verdicts: Family::default(),
            judged: Family::default(),
            unjudged: Family::default(),
            changes: Counter::default(),
            skipped: Counter::default(),
            watching: Gauge::default(),
            connected: Gauge::default(),
            canaries: Family::new_with_constructor(histogram),
            canary_quantiles: Family::default(),
        };
        let of = registry.sub_registry_with_prefix("mcsqueal_auditor");
        of.register(
            "verdicts",
            "What was found wrong, or still in flight",
            report.verdicts.clone(),
        );
        of.register(
            "judged",
            "The sample size: changed keys that were watched to the end",
            report.judged.clone(),
        );
        of.register(
            "unjudged",
            "Changed keys of which nothing can be said",
            report.unjudged.clone(),
        );
        of.register("changes", "Changes of sampled keys in the binlog", report.changes.clone());
        of.register(
            "skipped",
            "Changes of sampled keys beyond what can be watched at a time",
            report.skipped.clone(),
        );
        of.register("watching", "Keys that are watched now", report.watching.clone());
        of.register("connected", "1 while the binlog is read", report.connected.clone());
        of.register(
            "canary_staleness_seconds",
            "From the commit of the canary's row until its key is gone from the node",
            report.canaries.clone(),
        );
        of.register(
            "canary_staleness_quantile_seconds",
            "Likewise, of the last 10,000: 0.5, 0.99 and 1",
            report.canary_quantiles.clone(),
        );
        // What has not been found yet is 0, and not unknown.
        for (_, place) in report.placement.iter() {
            report.judged.get_or_create(&node_label(place)).inc_by(0);
            for verdict in Verdict::ALL {
                report.verdicts.get_or_create(&verdict_label(place, verdict)).inc_by(0);
            }
        }
        report
    }

    pub(crate) fn found(&self, node: NodeId, verdict: Verdict) {
        let mut counts = self.lock();
        let of = counts.nodes.entry(node).or_default().verdicts.entry(verdict).or_default();
        *of = of.saturating_add(1);
        if let Some(place) = self.placement.get(node) {
            self.verdicts.get_or_create(&verdict_label(place, verdict)).inc();
        }
    }

    pub(crate) fn judged(&self, node: NodeId) {
        let mut counts = self.lock();
        let of = counts.nodes.entry(node).or_default();
        of.judged = of.judged.saturating_add(1);
        if let Some(place) = self.placement.get(node) {
            self.judged.get_or_create(&node_label(place)).inc();
        }
    }

    pub(crate) fn unjudged(&self, node: NodeId, why: Unjudged) {
        let mut counts = self.lock();
        let of = counts.nodes.entry(node).or_default();
        of.unjudged = of.unjudged.saturating_add(1);
        if let Some(place) = self.placement.get(node) {
            let (cluster, node) = (place.cluster.to_string(), place.address.clone());
            let label = ReasonLabel { cluster, node, reason: why.name() };
            self.unjudged.get_or_create(&label).inc();
        }
    }

    pub(crate) fn changed(&self) {
        let mut counts = self.lock();
        counts.changes = counts.changes.saturating_add(1);
        self.changes.inc();
    }

    /// A change is not watched.
    pub fn skipped(&self) {
        let mut counts = self.lock();
        counts.skipped = counts.skipped.saturating_add(1);
        self.skipped.inc();
    }

    pub(crate) fn watching(&self, keys: usize) {
        self.watching.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// The binlog is read.
    pub fn connected(&self) {
        let mut counts = self.lock();
        (counts.connected, counts.trouble) = (true, None);
        self.connected.set(1);
    }

    /// It is not.
    pub fn disconnected(&self, why: String) {
        let mut counts = self.lock();
        (counts.connected, counts.trouble) = (false, Some(why));
        self.connected.set(0);
    }

    pub(crate) fn canary(&self, node: NodeId, staleness: Duration) {
        let mut counts = self.lock();
        counts.canaries = counts.canaries.saturating_add(1);
        if counts.canary.len() >= CANARY_MAX {
            counts.canary.pop_front();
        }
        counts.canary.push_back(staleness);
        if let Some(place) = self.placement.get(node) {
            self.canaries.get_or_create(&node_label(place)).observe(staleness.as_secs_f64());
        }
    }

    /// To be called before metrics are shown.
    pub fn refresh(&self) {
        let quantiles = self.lock().quantiles();
        for (quantile, value) in ["0.5", "0.99", "1"].into_iter().zip(quantiles.unwrap_or_default())
        {
            let label = QuantileLabel { quantile };
            self.canary_quantiles.get_or_create(&label).set(value.as_secs_f64());
        }
    }

    /// What there is to say now.
    pub fn state(&self) -> State {
        let counts = self.lock();
        let sum = |of: fn(&NodeCounts) -> u64| counts.nodes.values().map(of).sum::<u64>();
        let of_verdict = |verdict| {
            counts.nodes.values().filter_map(|node| node.verdicts.get(&verdict)).sum::<u64>()
        };
        let verdicts = Verdict::ALL.map(|verdict| (verdict, of_verdict(verdict)));
        let judged = sum(|node| node.judged);
        let red = verdicts.iter().any(|(verdict, count)| verdict.is_red() && *count > 0);
        let colour = match (red, judged) {
            (true, _) => Colour::Red,
            (false, 0) => Colour::Blind,
            (false, _) => Colour::Green,
        };
        State {
            colour,
            connected: counts.connected,
            trouble: counts.trouble.clone(),
            judged,
            unjudged: sum(|node| node.unjudged),
            verdicts: verdicts.map(|(verdict, count)| (verdict.name(), count)).into(),
            watching: u64::try_from(self.watching.get()).unwrap_or(0),
        }
    }

    /// A table, with one line of verdict below it.
    pub fn summary(&self) -> String {
        let state = self.state();
        let counts = self.lock();
        let mut table = format!("{:<32} {:>9} {:>9}", "node", "judged", "unjudged");
        for verdict in Verdict::ALL {
            append(&mut table, &format!(" {:>12}", verdict.name().replace('_', " ")));
        }
        for (node, place) in self.placement.iter() {
            let of = counts.nodes.get(&node).cloned().unwrap_or_default();
            let name = format!("{} {}", place.cluster, place.address);
            append(&mut table, &format!("\n{name:<32} {:>9} {:>9}", of.judged, of.unjudged));
            for verdict in Verdict::ALL {
                let count = of.verdicts.get(&verdict).copied().unwrap_or(0);
                append(&mut table, &format!(" {count:>12}"));
            }
        }
        append(
            &mut table,
            &format!(
                "\nchanges of sampled keys: {}, not watched: {}",
                counts.changes, counts.skipped
            ),
        );
        if let Some([median, most, max]) = counts.quantiles() {
            let ms = |of: Duration| of.as_secs_f64() * 1000.0;
            let (median, most, max) = (ms(median), ms(most), ms(max));
            append(
                &mut table,
                &format!(
                    "\ncanary: {} rows, stale for p50 {median:.1} ms, p99 {most:.1} ms, max {max:.1} ms",
                    counts.canaries
                ),
            );
        }
        append(
            &mut table,
            &format!("\nauditor: {}, sample {}\n", state.colour.name(), state.judged),
        );
        table
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// The median, the 99th percentile and the largest.
    fn quantiles(&self) -> Option<[Duration; 3]> {
        let mut sorted: Vec<Duration> = self.canary.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |percent: usize| sorted.get(last.saturating_mul(percent) / 100).copied();
        Some([at(50)?, at(99)?, at(100)?])
    }
}

fn append(text: &mut String, more: &str) {
    text.write_str(more).expect("a string takes everything");
}

fn node_label(place: &Place) -> NodeLabel {
    NodeLabel { cluster: place.cluster.to_string(), node: place.address.clone() }
}

fn verdict_label(place: &Place, verdict: Verdict) -> VerdictLabel {
    let (cluster, node) = (place.cluster.to_string(), place.address.clone());
    VerdictLabel { cluster, node, verdict: verdict.name() }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::auditor::placement_of_the_example;

    #[test]
    fn nothing_judged_is_not_green_and_one_verdict_is_red() {
        let report = Report::register(placement_of_the_example(), &mut Registry::default());
        assert_eq!(report.state().colour, Colour::Blind);
        report.found(NodeId(1), Verdict::InFlight);
        report.judged(NodeId(1));
        report.unjudged(NodeId(0), Unjudged::Unreachable);
        assert_eq!(report.state().colour, Colour::Green);
        for ms in 1..=100 {
            report.canary(NodeId(0), Duration::from_millis(ms));
        }
        report.found(NodeId(1), Verdict::Lost);
        assert_eq!(report.state().colour, Colour::Red);
        expect![[r"
            node                                judged  unjudged    in flight         late         lost   wrong rule  resurrected
            main 127.0.0.1:11211                     0         1            0            0            0            0            0
            main 127.0.0.1:11212                     1         0            1            0            1            0            0
            changes of sampled keys: 0, not watched: 0
            canary: 100 rows, stale for p50 50.0 ms, p99 99.0 ms, max 100.0 ms
            auditor: RED, sample 1
        "]]
        .assert_eq(&report.summary());
    }
}
