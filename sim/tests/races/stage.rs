//! [`Stage`]: a database, a log, one invalidator and some cache nodes, and nothing happens by itself.
//! A test says who does what, in order, and every part is the product's own core.
//!
//! It begins after one transaction that everybody has: the region stands at 1.1, every node is fresh,
//! and the tailer is at the end of the primary's binlog.

mod database;
mod node;
mod region;
mod tail;

use std::{collections::BTreeMap, time::Duration};

use cache_node::rules::{
    Ask, Condition, Entries, Fate, Fill, Leased, Lossy, Mark, OnStale, Reader, Rules, Served,
    Settings,
};
use invalidator::{
    node_lane::NodeLane,
    poller::{InstanceId, Poller, Role},
    rings::Share,
};
use protocol::control::Batch;
use schemas::{
    cursor::Partition, epochs::EpochTable, gtid::Dialect, key::Key, moment::Moment,
    record::UnixMicros, version::Version,
};
use sim::{
    binlog,
    broker::Broker,
    database::{KeyId, Topology, Value},
};
use tailer::Limits;

use crate::{
    race::Ending,
    tail::{LIMITS, Tail},
};

/// The first primary.
pub(crate) const PRIMARY: usize = 0;
/// A replica that readers use.
pub(crate) const REPLICA: usize = 1;
/// Another one, where there are three servers.
pub(crate) const OTHER: usize = 2;
/// And one more.
pub(crate) const LAST: usize = 3;
/// Two keys.
pub(crate) const A: KeyId = 1;
pub(crate) const B: KeyId = 2;

/// Milliseconds after which a fill is too old.
pub(crate) const FILL_AGE: u64 = 10_000;
const KEYS: usize = 200;
const WALL: u64 = 1_800_000_000_000_000;
const SKEW_MAX: Duration = Duration::from_millis(100);

/// What is on the stage.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) servers: usize,
    pub(crate) nodes: usize,
    pub(crate) settings: Settings,
    /// Whether a node keeps what a delete has found, for readers that take old values.
    pub(crate) shelf: Keeps,
    pub(crate) rules: String,
    pub(crate) limits: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    Good,
    Stale,
}

impl Default for Plan {
    fn default() -> Plan {
        let seconds = Duration::from_secs;
        let settings = Settings {
            partitions: 1,
            fill_age_max: Duration::from_millis(FILL_AGE),
            lease: seconds(10),
            staleness_max: seconds(5),
            clock_skew_max: SKEW_MAX,
            on_stale: OnStale::Flag,
            degraded_ttl: seconds(10),
            marker_ttl_max: seconds(30),
            tombstones_max: 100,
            leases_max: 100,
            markers_max: 100,
            lossy: Lossy::Cut,
            unsourced: Vec::new(),
        };
        Plan {
            servers: 2,
            nodes: 1,
            settings,
            shelf: Keeps::Good,
            rules: binlog::RULES.to_owned(),
            limits: LIMITS,
        }
    }
}

/// See the module.
pub(crate) struct Stage {
    pub(crate) db: Topology,
    pub(crate) log: Broker,
    pub(crate) tail: Tail,
    pub(crate) poller: Poller,
    pub(crate) nodes: Vec<Node>,
    pub(crate) epochs: EpochTable,
    plan: Plan,
    now: u64,
    tokens: u64,
}

/// A cache node, its invalidator's lane, and the wire between them.
pub(crate) struct Node {
    pub(crate) rules: Rules,
    pub(crate) shelf: Shelf,
    pub(crate) lane: NodeLane,
    /// How far its clock is ahead, in milliseconds.
    pub(crate) clock_ahead: i64,
    pub(crate) wire: Wire,
    /// A key that is another node's, which gets its deletes.
    others: Option<KeyId>,
    /// The keys of which it gets deletes: all, if no ring says otherwise.
    pub(crate) share: Option<Share>,
    /// What it was sent last.
    last: Option<Batch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Whole,
    /// What the node says is lost.
    LosesAnswers,
    /// Batches are lost on their way; everything else arrives.
    LosesBatches,
    /// Those of one partition are.
    LosesBatchesOf(Partition),
    Cut,
}

/// The storage: a plain map.
#[derive(Clone, Debug)]
pub(crate) struct Shelf(pub(crate) BTreeMap<KeyId, (Mark, Value)>, Keeps);

impl Shelf {
    /// An entry that came while nothing was known of any write.
    pub(crate) fn put_unasked(&mut self, id: KeyId, value: Value) {
        let mark = Mark { filled: Version::MAX, condition: Condition::Good, since: None };
        self.0.insert(id, (mark, value));
    }
}

impl Entries for Shelf {
    fn judge(&mut self, key: &Key, judge: &mut dyn FnMut(&mut Mark) -> Fate) {
        let Some(id) = key_id(key) else { return };
        if let Some((mark, _)) = self.0.get_mut(&id)
            && judge(mark) == Fate::Stale
            && self.1 == Keeps::Good
        {
            self.0.remove(&id);
        }
    }
}

pub(crate) fn key(id: KeyId) -> Key {
    Key::new(binlog::key_name(id).into_owned()).unwrap()
}

/// The key's number; applications may have others, which nobody reads here.
fn key_id(key: &Key) -> Option<KeyId> {
    std::str::from_utf8(key.as_bytes()).ok()?.strip_prefix('k')?.parse().ok()
}

pub(crate) fn instance(server: usize) -> InstanceId {
    InstanceId(u16::try_from(server).unwrap())
}

// === The beginning ===

impl Stage {
    /// A primary, a replica, a node.
    pub(crate) fn new() -> Stage {
        Stage::with(|_| {})
    }

    /// The same, changed.
    pub(crate) fn with(change: impl FnOnce(&mut Plan)) -> Stage {
        let mut plan = Plan::default();
        change(&mut plan);
        let partitions = plan.settings.partitions;
        let db = Topology::new(plan.servers, KEYS);
        let mut log = Broker::new(partitions);
        let tail = Tail::start(&mut log, partitions, plan.limits, &plan.rules);
        let mut stage = Stage {
            db,
            log,
            tail,
            poller: Poller::new(Dialect::Mysql, None),
            nodes: Vec::new(),
            epochs: EpochTable::default(),
            plan,
            now: 3_600_000,
            tokens: 0,
        };
        for server in 0..stage.plan.servers {
            let role = if server == PRIMARY { Role::Primary } else { Role::Replica };
            stage.poller.add(stage.moment(), instance(server), role);
        }
        for node in 0..stage.plan.nodes {
            let (now, plan) = (stage.moment(), &stage.plan);
            let mut rules = Rules::new(now, plan.settings.clone());
            rules.no_marks_lost(now);
            stage.nodes.push(Node {
                rules,
                shelf: Shelf(BTreeMap::new(), plan.shelf),
                lane: NodeLane::new((0..partitions).map(Partition).collect(), SKEW_MAX),
                clock_ahead: 0,
                wire: Wire::Whole,
                others: None,
                share: None,
                last: None,
            });
            stage.connect(node);
        }
        stage.commit(0);
        stage.settle();
        stage
    }

    /// Every process's monotonic clock.
    pub(crate) fn moment(&self) -> Moment {
        Moment::after_start(Duration::from_millis(self.now))
    }

    pub(crate) fn wall(&self, ahead: i64) -> UnixMicros {
        UnixMicros(WALL + (self.now * 1000).saturating_add_signed(ahead * 1000))
    }

    /// Time passes, and nothing else happens.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now += ms;
    }

    /// Everybody catches up: replicas, the tailer, nodes and positions.
    pub(crate) fn settle(&mut self) {
        for server in 0..self.plan.servers {
            self.replicate(server);
        }
        self.publish();
        self.progress();
        for node in 0..self.nodes.len() {
            self.deliver(node);
        }
        self.poll();
    }

    /// So much time passes that what was read before is too old; everybody is up to date all the time.
    pub(crate) fn pass_fill_age(&mut self) {
        self.settle();
        for _ in 0..=FILL_AGE / 1000 {
            self.pass(1000);
            self.settle();
        }
    }
}

// === The ending ===

impl Stage {
    /// A reader gets what the database has now, or nothing.
    pub(crate) fn honest(&self, node: usize, id: KeyId) -> Ending {
        match (self.get(node, id), self.db.settled(id)) {
            (Some(got), is) if got != is => {
                Err(format!("node {node} serves k{id} = {got:?}, the database has {is:?}"))
            }
            _ => Ok(()),
        }
    }

    /// When everybody has caught up, a reader gets what the database has, or nothing.
    pub(crate) fn ends_honest(&mut self, node: usize, id: KeyId) -> Ending {
        self.settle();
        self.honest(node, id)
    }

    /// A reader can fill the key, and then gets it.
    pub(crate) fn ends_useful(&mut self, node: usize, id: KeyId) -> Ending {
        self.settle();
        let Leased::Fill(token) = self.ask_lease(node, id, Reader::Anywhere) else {
            return Err(format!("node {node} does not lease k{id}"));
        };
        let value = self.read(self.db.primary, id);
        if let Err(refused) = self.offer(node, id, value, Fill::Lease(token)) {
            return Err(format!("node {node} refuses k{id}: {refused}"));
        }
        match self.served(node, id, Ask::default()) {
            Served::Hit => Ok(()),
            other => Err(format!("node {node} does not serve k{id}: {other:?}")),
        }
    }
}
