//! Stage directions for the tailer and the log.

use sim::database::TxnId;

use super::Stage;
use crate::{
    events::{self, Body},
    tail::Tail,
};

impl Stage {
    /// The tailer reads the binlog to its end, and publishes.
    pub(crate) fn publish(&mut self) {
        let wall = self.wall(0);
        self.tail.publish(&self.db, &mut self.log, wall);
    }

    /// The tailer asks its server how far it is, and says so.
    pub(crate) fn progress(&mut self) {
        let wall = self.wall(0);
        self.tail.observe(&self.db, &mut self.log, wall, wall);
    }

    /// Another tailer takes the leadership, at the last checkpoint. Returns the one that had it.
    pub(crate) fn take_over(&mut self) -> Tail {
        let (plan, partitions) = (&self.plan, self.plan.settings.partitions);
        let next = Tail::start(&mut self.log, partitions, plan.limits, &plan.rules);
        std::mem::replace(&mut self.tail, next)
    }

    /// The tailer connects to the primary.
    pub(crate) fn repoint(&mut self) {
        self.tail.disconnect();
    }

    /// The tailer reads this in place of what the database would have written.
    pub(crate) fn publish_as(&mut self, txn: TxnId, body: &Body) {
        let wall = self.wall(0);
        let events = events::transaction(&self.db, txn, body);
        self.tail.take(&mut self.log, wall, &events);
    }
}
