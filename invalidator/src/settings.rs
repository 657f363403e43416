//! What an invalidator is told.

use std::time::Duration;

use schemas::ring::{Hashing, Ring, RingError, RingNode};

use crate::{ControlPort, lane::Markers};

/// One cluster: nodes that share keys among themselves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's name, in metrics, logs and the names of stored cursors.
    pub cluster: String,
    /// How clients spread keys over the nodes.
    pub hashing: Hashing,
    /// Never empty.
    pub nodes: Vec<NodeSettings>,
    /// As it was before, while some clients still use it: deletes go to the owners by both.
    pub former: Option<Former>,
    /// Of everything that is said here: lanes go on while it stays the same.
    pub revision: u64,
    /// From the first delete of a key to its second.
    pub fill_age_max: Duration,
    /// What floors and gaps mean.
    pub on_floor: OnFloor,
    /// Whether clients set markers on stock nodes.
    pub markers: Markers,
}

impl Settings {
    /// Which of the nodes owns a key.
    pub fn ring(&self) -> Result<Ring, RingError> {
        ring(self.hashing, &self.nodes)
    }
}

pub(crate) fn ring(hashing: Hashing, nodes: &[NodeSettings]) -> Result<Ring, RingError> {
    Ring::new(hashing, &ring_nodes(nodes))
}

pub(crate) fn ring_nodes(nodes: &[NodeSettings]) -> Vec<RingNode> {
    let node = |node: &NodeSettings| RingNode { name: node.address.clone(), weight: node.weight };
    nodes.iter().map(node).collect()
}

/// A ring of before.
#[derive(Clone, Debug)]
pub struct Former {
    pub hashing: Hashing,
    pub nodes: Vec<NodeSettings>,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// `host:port`, as clients write it.
    pub address: String,
    /// Its share of the keys.
    pub weight: u32,
    /// Where it takes deletes with versions; `None` for a stock memcached.
    pub control: Option<ControlPort>,
}

/// What a lane does when stale keys cannot be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFloor {
    /// Empties the node.
    FlushAll,
    /// Counts and logs it; stale values stay until they expire.
    Alarm,
}

/// How long a stock memcached's lane waits for databases that do not show a change yet, before it deletes again all the same.
pub(crate) const COVER_WAIT_MAX: Duration = Duration::from_secs(600);
/// Keys between their first delete and the answer of their last, per lane.
pub(crate) const WINDOW_KEYS_MAX: usize = 1_000_000;
/// Requests without an answer, per connection.
pub(crate) const UNANSWERED_MAX: usize = 4096;
/// Requests in one write.
pub(crate) const BATCH_MAX: usize = 1024;
/// Records read from the stream at once.
pub(crate) const READ_RECORDS_MAX: usize = 256;
/// Bytes read from the stream at once.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;
/// Bytes read from a node that are no whole answer yet; the answers to our requests are far shorter.
pub(crate) const RECEIVE_BYTES_MAX: usize = 16 << 10;
/// How long a node may take to accept a connection.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// A node that answers nothing for so long, while it should, is given up and connected to again.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// How often moved cursors are stored.
pub(crate) const STORE_INTERVAL: Duration = Duration::from_millis(100);
/// How often a lane that lags looks how much the stream has for it.
pub(crate) const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// Terms that are walked back to count what a lane has not read; what is before them is left out.
pub(crate) const TERMS_WALKED_MAX: usize = 1000;
/// Waits between attempts to connect: doubled from the first to the last, until the node has done something.
pub(crate) const CONNECT_DELAY_MIN: Duration = Duration::from_millis(50);
pub(crate) const CONNECT_DELAY_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(BATCH_MAX <= UNANSWERED_MAX && UNANSWERED_MAX <= WINDOW_KEYS_MAX);
