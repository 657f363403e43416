//! When everything has settled: nothing is stale, and nothing is refused for ever.

use cache_node::rules::{Ask, Fill, Leased, Reader, Served, Subject, Token};
use schemas::cursor::Partition;

use crate::{binlog::key_name, check::Violation, database::KeyId, world::World};

impl World {
    /// No cached value differs from the database, every cursor is at the head, and every key can be filled and served.
    pub(crate) fn settled(&mut self) -> Result<(), Violation> {
        let at = self.now;
        let wrong = |what: String| Err(Violation { at, what });
        let ends = self.broker.ends();
        for node in 0..self.size.nodes {
            for (partition, end) in (0..).map(Partition).zip(&ends) {
                let cursor = self.nodes[node].rules.cursor(partition);
                let behind = cursor.is_none_or(|cursor| {
                    cursor.term < end.term || cursor.sequence + 40 < end.sequence
                });
                if behind {
                    return wrong(format!(
                        "node {node} stands at {cursor:?} of partition {partition}, which ends at {end}"
                    ));
                }
            }
            let now = self.moment();
            let rules = &self.nodes[node].rules;
            if !rules.is_fresh(now) || rules.is_quarantined() {
                return wrong(format!(
                    "node {node} is not fresh ({}), or quarantined ({})",
                    rules.is_fresh(now),
                    rules.is_quarantined()
                ));
            }
            for id in 0..self.size.keys {
                self.settled_key(node, id)?;
            }
        }
        Ok(())
    }

    fn settled_key(&mut self, node: usize, id: KeyId) -> Result<(), Violation> {
        let at = self.now;
        let wrong = |what: String| Err(Violation { at, what });
        let (now, name, value) = (self.moment(), key_name(id), self.db.settled(id));
        let subject = Subject::new(name.as_bytes());
        if let Some(entry) = self.entry(node, id) {
            let served = self.nodes[node].rules.serve(now, &subject, &entry.mark, Ask::default());
            if served != Served::Miss && entry.value != value {
                return wrong(format!(
                    "stale: node {node} serves {name} = {:?}, the database has {value:?}",
                    entry.value
                ));
            }
        }
        if self.nodes[node].rules.hints_primary(now, &subject) {
            let polls: Vec<String> =
                self.regions.iter().map(|region| format!("{:?}", region.polled)).collect();
            let servers: Vec<String> = self
                .db
                .instances
                .iter()
                .map(|of| format!("{}{}{} {}", of.up, of.readable, of.writable, of.visible.len()))
                .collect();
            let position = self.nodes[node].rules.position();
            return wrong(format!(
                "node {node} still sends readers of {name} to the primary: {position}, {polls:?} {servers:?} primary {}",
                self.db.primary
            ));
        }
        let later = now.later(std::time::Duration::from_secs(2));
        let leased = self.nodes[node].rules.lease(later, &subject, Reader::Anywhere, Token(7));
        let Leased::Fill(token) = leased else {
            return wrong(format!("node {node} does not lease {name}: {leased:?}"));
        };
        for fill in [Fill::Lease(token), Fill::Plain] {
            if let Err(refused) = self.store(node, id, value, fill) {
                return wrong(format!("node {node} refuses {name} for ever ({fill:?}): {refused}"));
            }
            let entry = self.entry(node, id);
            let rules = &self.nodes[node].rules;
            let served = entry.map(|entry| rules.serve(now, &subject, &entry.mark, Ask::default()));
            if served != Some(Served::Hit) {
                return wrong(format!(
                    "node {node} does not serve {name} after a {fill:?}: {served:?}"
                ));
            }
        }
        Ok(())
    }
}
