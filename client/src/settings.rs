//! What a client is told: where the nodes are, and how long everything may take.

use std::time::Duration;

use schemas::{
    config::{self, Region},
    defaults,
    ring::{Hashing, RingNode},
};

use crate::cycle::{Patience, Terms};

/// Settings of a client; every time is bounded, every queue too.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The clusters of this region: all of them, because a mark must stand in each.
    pub clusters: Vec<Cluster>,
    /// The cluster that is read: an index into `clusters`.
    pub home: usize,
    /// Where `/epochs` is answered (`host:port` of `[http]` of the daemons), in any order. Without one, commits cannot be
    /// named, and writers read the primary until their marks have ended.
    pub epochs: Vec<String>,
    /// Longest request to a node, connecting included.
    pub request_timeout: Duration,
    /// A node that could not be reached is left alone for so long: its requests fail at once.
    pub retry_after: Duration,
    /// Connections to each node; requests are pipelined on each.
    pub connections_per_node: usize,
    /// How long a value lives, unless its reader says otherwise.
    pub ttl: Duration,
    /// How long it is remembered that the database has none; zero: not at all.
    pub negative_ttl: Duration,
    /// A value with less time left is renewed by one of its readers; zero: when it has expired. Whole seconds.
    pub renew_before: Duration,
    /// How long a lease of a stock memcached lasts. A node of ours has a time of its own.
    pub lease: Duration,
    /// How long a marker of a stock memcached lasts: longer than a write, and than replicas usually lag.
    pub marker_ttl: Duration,
    /// How long to wait for another reader of the same key.
    pub patience: Patience,
    /// How long to wait for a commit's epoch to be announced.
    pub epoch_wait: Duration,
}

/// Nodes that share a key space.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How keys are spread: the same as in the region file.
    pub hashing: Hashing,
    /// The nodes, called as in the region file: their names are hashed.
    pub nodes: Vec<RingNode>,
}

/// A region file that has no such cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the region has no cluster {0:?}")]
pub struct NoCluster(pub String);

impl Settings {
    /// Defaults, for these clusters; the first one is read.
    pub fn new(clusters: Vec<Cluster>) -> Settings {
        Settings {
            clusters,
            home: 0,
            epochs: Vec::new(),
            request_timeout: Duration::from_millis(500),
            retry_after: Duration::from_millis(100),
            connections_per_node: 1,
            ttl: Duration::from_secs(3600),
            negative_ttl: Duration::from_secs(30),
            renew_before: Duration::ZERO,
            lease: defaults::LEASE,
            marker_ttl: Duration::from_secs(30),
            patience: Patience {
                first: Duration::from_millis(5),
                longest: Duration::from_millis(100),
                whole: Duration::from_secs(3),
            },
            epoch_wait: Duration::from_secs(1),
        }
    }

    /// The clusters of a region file; the one called `home` is read.
    pub fn of_region(region: &Region, home: &str) -> Result<Settings, NoCluster> {
        let at = region.clusters.iter().position(|cluster| &*cluster.name == home);
        let home = at.ok_or_else(|| NoCluster(home.to_owned()))?;
        let clusters = region.clusters.iter().map(|cluster| Cluster {
            hashing: cluster.hashing,
            nodes: cluster.nodes.iter().map(config::Node::in_ring).collect(),
        });
        let epochs = region.http.iter().map(ToString::to_string).collect();
        Ok(Settings { home, epochs, ..Settings::new(clusters.collect()) })
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms {
            lease_s: seconds(self.lease).max(1),
            renew_s: seconds(self.renew_before),
            patience: self.patience,
        }
    }
}

/// Whole seconds, rounded up: memcached counts in them, and takes more than thirty days for a date.
pub(crate) fn seconds(time: Duration) -> u32 {
    const RELATIVE_S_MAX: u64 = 30 * 24 * 3600;
    let up = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    u32::try_from(up.min(RELATIVE_S_MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_a_region_makes_settings() {
        let text = include_str!("../../region-configs/shop.toml");
        let region = Region::parse("shop.toml", text).unwrap();
        let first = region.clusters[0].name.to_string();
        let settings = Settings::of_region(&region, &first).unwrap();
        assert_eq!(settings.clusters.len(), region.clusters.len());
        assert_eq!(settings.clusters[0].nodes.len(), region.clusters[0].nodes.len());
        assert_eq!(Settings::of_region(&region, "none").unwrap_err(), NoCluster("none".to_owned()));
    }

    #[test]
    fn seconds_are_whole() {
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_secs(5)), 5);
        assert_eq!(seconds(Duration::MAX), 2_592_000);
    }
}
