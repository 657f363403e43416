//! [`Clock`]: where a node's time comes from.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use schemas::moment::Moment;
use tokio::time::Instant;

use crate::{node::Node, now::Now};

/// Reads both clocks of the machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    node: Arc<Node>,
    begin: Instant,
}

impl Clock {
    /// A clock whose moments count from now.
    pub fn new(node: Arc<Node>) -> Clock {
        Clock { node, begin: Instant::now() }
    }

    /// What time it is, and a number that is seldom the same twice.
    pub fn read(&self) -> (Now, u64) {
        let elapsed = self.begin.elapsed();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now =
            Now { moment: Moment::after_start(elapsed), unix: self.node.server().shown(unix) };
        (now, u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }
}
