//! [`Placement`]: on which nodes a key should be, one in each cluster.

use std::sync::Arc;

use schemas::{
    config,
    key::Key,
    ring::{Ring, RingError},
};

/// A node, counted through all clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Rings, and who is on them.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    clusters: Vec<(usize, Ring)>,
    nodes: Vec<Place>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub cluster: Arc<str>,
    pub address: String,
    /// Whether it is one of ours, which says versions.
    pub knows_versions: bool,
}

impl Placement {
    /// As clients spread keys.
    pub fn new(clusters: &[config::Cluster]) -> Result<Placement, RingError> {
        let mut placement = Placement::default();
        for cluster in clusters {
            placement.clusters.push((placement.nodes.len(), cluster.ring()?));
            placement.nodes.extend(cluster.nodes.iter().map(|node| Place {
                cluster: Arc::clone(&cluster.name),
                address: node.address.to_string(),
                knows_versions: node.control.is_some(),
            }));
        }
        Ok(placement)
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Place)> {
        self.nodes.iter().enumerate().map(|(at, place)| (NodeId(at), place))
    }

    /// One of them.
    pub fn get(&self, node: NodeId) -> Option<&Place> {
        self.nodes.get(node.0)
    }

    /// Where a key should be.
    pub fn owners(&self, key: &Key) -> impl Iterator<Item = NodeId> {
        let owner = |(first, ring): &(usize, Ring)| NodeId(first.saturating_add(ring.owner(key)));
        self.clusters.iter().map(owner)
    }
}
