//! `/metrics`, for Prometheus: read from the node when somebody asks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use schemas::version::Version;

use super::Side;
use crate::{
    copies::Copies, counters::Counters, node::Node, rules::Subject, server::Clock, usage::Prefix,
};

/// Hot keys that are told.
const HOT_KEYS: usize = 20;

/// Adds the node's metrics to a registry.
pub(super) fn register(registry: &mut Registry, node: Arc<Node>, clock: Clock) {
    registry.register_collector(Box::new(NodeMetrics { node, clock }));
}

pub(super) async fn show(State(side): State<Side>) -> impl IntoResponse {
    let mut text = String::new();
    if encode(&mut text, &side.registry).is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, String::new()).into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text).into_response()
}

/// The name of a number that a version has, its help, and how to get it.
type VersionPart = (&'static str, &'static str, fn(Version) -> u64);

#[derive(Debug)]
struct NodeMetrics {
    node: Arc<Node>,
    clock: Clock,
}

impl Collector for NodeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let node = &*self.node;
        for (name, value) in Counters::sum(node.all_counters().iter()) {
            let help = "As in memcached's stats";
            count(&mut encoder, &format!("mcsqueal_node_{name}"), help, value)?;
        }
        let totals = node.totals();
        let losses = totals.losses;
        count(&mut encoder, "mcsqueal_node_evictions", "Entries that made room", losses.evicted)?;
        count(&mut encoder, "mcsqueal_node_expired", "Entries found expired", losses.expired)?;
        level(&mut encoder, "mcsqueal_node_entries", "Entries held", wide(totals.entries))?;
        level(&mut encoder, "mcsqueal_node_bytes", "Bytes of all entries", wide(totals.bytes))?;
        let limit = wide(node.memory_bytes_max());
        level(&mut encoder, "mcsqueal_node_bytes_max", "Most bytes of all entries", limit)?;
        let connections = node.server().connections();
        level(&mut encoder, "mcsqueal_node_connections", "Open connections", connections)?;
        self.versions(&mut encoder)?;
        self.copies(&mut encoder)?;
        self.prefixes(&mut encoder)?;
        self.hot_keys(&mut encoder)
    }
}

impl NodeMetrics {
    /// What a node with a source knows of it.
    fn versions(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (now, _) = self.clock.read();
        // Copied, because nobody may wait for a scrape.
        let Some(rules) = self.node.rules_shared() else { return Ok(()) };
        let (fresh, quarantined) = (rules.is_fresh(now.moment), rules.is_quarantined());
        let (tombstones, marks) = (wide(rules.tombstones()), wide(rules.marks()));
        let versions = [
            ("position", rules.position()),
            ("primary_position", rules.primary_position()),
            ("applied", rules.applied_everywhere().unwrap_or_default()),
            ("age_floor", rules.age_floor()),
            ("fill_floor", rules.fill_floor()),
            ("serve_floor", rules.serve_floor(&Subject::new(b""))),
        ];
        drop(rules);
        let help = "1 while every partition of the stream is recent here";
        level(encoder, "mcsqueal_node_fresh", help, u64::from(fresh))?;
        let help = "1 while nothing is served, until the node has caught up";
        level(encoder, "mcsqueal_node_quarantined", help, u64::from(quarantined))?;
        level(encoder, "mcsqueal_node_tombstones", "Deletes that are remembered", tombstones)?;
        level(encoder, "mcsqueal_node_marks", "Markers that are kept", marks)?;
        let parts: [VersionPart; 2] = [
            ("epoch", "Epoch of a version that the node goes by", |of| of.epoch().into()),
            ("sequence", "Its transaction in that epoch", Version::sequence),
        ];
        for (part, help, value) in parts {
            let name = format!("mcsqueal_node_version_{part}");
            let kind = ConstGauge::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(&name, help, None, kind)?;
            for (of, version) in versions {
                let labels = [("of", of)];
                ConstGauge::new(value(version)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// What was copied to other nodes and from others.
    fn copies(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        type Part = (&'static str, &'static str, fn(&Copies) -> &AtomicU64);
        let copies = self.node.copies();
        let counts: [Part; 5] = [
            ("copies_given", "Entries that other nodes were given", |it| &it.given),
            ("copies_given_micros", "Processor time for them, in microseconds", |it| {
                &it.spent_micros
            }),
            ("warm_kept_by_miss", "Entries copied because somebody read them", |it| {
                &it.kept_by_miss
            }),
            ("warm_kept_by_walk", "Entries copied in the background", |it| &it.kept_by_walk),
            ("warm_refused", "Copies that may be stale, and were not kept", |it| &it.refused),
        ];
        for (name, help, of) in counts {
            let value = of(copies).load(Ordering::Relaxed);
            count(encoder, &format!("mcsqueal_node_{name}"), help, value)?;
        }
        let help = "Warming up: 0 not at all, 1 waiting, 2 warming, 3 ended";
        level(encoder, "mcsqueal_node_warm_state", help, copies.state().number().into())?;
        let levels: [Part; 4] = [
            ("warm_looked", "Entries of the warm cluster that were looked at", |it| &it.looked),
            ("warm_entries", "Entries that the warm cluster has", |it| &it.entries),
            ("warm_sources_up", "Nodes of the warm cluster that give copies", |it| &it.sources_up),
            ("warm_seconds_left", "Until all were looked at; 0 if nobody can tell", |it| {
                &it.seconds_left
            }),
        ];
        for (name, help, of) in levels {
            let value = of(copies).load(Ordering::Relaxed);
            level(encoder, &format!("mcsqueal_node_{name}"), help, value)?;
        }
        Ok(())
    }

    fn prefixes(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        type Part = (&'static str, fn(&Prefix) -> u64);
        let parts: [Part; 4] = [
            ("gets", |counts| counts.gets),
            ("hits", |counts| counts.hits),
            ("sets", |counts| counts.sets),
            ("deletes", |counts| counts.deletes),
        ];
        let all = self.node.usage().prefixes();
        let help = "By key prefix, while stats detail is on";
        for (name, pick) in parts {
            let name = format!("mcsqueal_node_prefix_{name}");
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(&name, help, None, kind)?;
            for (prefix, counts) in &all {
                let labels = [("prefix", String::from_utf8_lossy(prefix).into_owned())];
                ConstCounter::new(pick(counts)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn hot_keys(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let hot = self.node.usage().hot_keys(HOT_KEYS);
        let help = "Share of all accesses that the hottest keys have, in parts of a million";
        let mut family = encoder.encode_descriptor(
            "mcsqueal_node_hot_key_share_ppm",
            help,
            None,
            ConstGauge::new(0_u64).metric_type(),
        )?;
        for (key, share) in hot {
            let labels = [("key", String::from_utf8_lossy(&key).into_owned())];
            ConstGauge::new(share).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn count(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), std::fmt::Error> {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

fn level(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
