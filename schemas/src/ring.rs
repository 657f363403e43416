//! The ring: which node a key lives on, bit-compatible with the clients in the field. (Skeleton.)

use crate::key::Key;

/// How keys are spread over nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hashing {
    /// libmemcached's weighted ketama (MD5, 40 x 4 points per node), as pylibmc and php-memcached
    /// use it with `ketama`/`libketama_compatible`.
    Ketama,
    /// pymemcache's `HashClient` default: rendezvous hashing over murmur3 (32 bits).
    Rendezvous,
}

/// A node's name and weight; the name is what clients hash (`host:port`, or `host` on port 11211
/// for ketama).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingNode {
    /// `host:port`.
    pub name: String,
    /// Share of the keys, relative to the others; 1 by default.
    pub weight: u32,
}

/// Spreads keys over nodes.
#[derive(Clone, Debug)]
pub struct Ring {}

impl Ring {
    /// A ring over `nodes`, which must not be empty.
    pub fn new(_hashing: Hashing, _nodes: &[RingNode]) -> Ring {
        todo!()
    }
    /// Index of the node that owns `key`.
    pub fn owner(&self, _key: &Key) -> usize {
        todo!()
    }
}
