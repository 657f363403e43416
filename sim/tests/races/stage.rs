//! [`Stage`]: a database, a log, one invalidator and some cache nodes, and nothing happens by itself.
//! A test says who does what, in order, and every part is the product's own core.
//!
//! It begins after one transaction that everybody has: the region stands at 1.1, every node is fresh,
//! and the tailer is at the end of the primary's binlog.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use cache_node::rules::{
    Accepted, Ask, Entries, Fate, Fill, Leased, Lossy, Mark, OnStale, Reader, Refused, Rules,
    Served, Settings, Snapshot, Subject, Token,
};
use invalidator::{
    node_lane::{Action, Event, NodeLane},
    poller::{InstanceId, Poller, Role},
};
use protocol::control::{Answer, Batch, Greeting};
use schemas::{
    cursor::{Partition, Place, partition_of},
    epochs::EpochTable,
    gtid::Dialect,
    key::Key,
    moment::Moment,
    record::{Record, UnixMicros},
    version::Version,
};
use sim::{
    binlog,
    broker::Broker,
    database::{KeyId, Topology, TxnId, Value, Writes},
};
use stream::Read;

use crate::{race::Ending, tail::Tail};

/// The first primary.
pub(crate) const PRIMARY: usize = 0;
/// A replica that readers use.
pub(crate) const REPLICA: usize = 1;
/// Another one, where there are three servers.
pub(crate) const OTHER: usize = 2;
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
    pub(crate) rules: &'static str,
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
        Plan { servers: 2, nodes: 1, settings, shelf: Keeps::Good, rules: binlog::RULES }
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
    /// What it was sent last.
    last: Option<Batch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Whole,
    /// What the node says is lost.
    LosesAnswers,
    /// What the lane sends is lost, and so is what the node says.
    LosesBatches,
    Cut,
}

/// The storage: a plain map.
#[derive(Clone, Debug)]
pub(crate) struct Shelf(pub(crate) BTreeMap<KeyId, (Mark, Value)>, Keeps);

impl Entries for Shelf {
    fn judge(&mut self, key: &Key, judge: &mut dyn FnMut(&mut Mark) -> Fate) {
        let id = key_id(key);
        if let Some((mark, _)) = self.0.get_mut(&id)
            && judge(mark) == Fate::Stale
            && self.1 == Keeps::Good
        {
            self.0.remove(&id);
        }
    }
}

pub(crate) fn key(id: KeyId) -> Key {
    Key::new(binlog::key_name(id)).unwrap()
}

fn key_id(key: &Key) -> KeyId {
    std::str::from_utf8(key.as_bytes()).unwrap().trim_start_matches('k').parse().unwrap()
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
        let tail = Tail::start(&mut log, partitions, plan.rules);
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

    fn wall(&self, ahead: i64) -> UnixMicros {
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

// === The database ===

impl Stage {
    /// A transaction is in the primary's binlog; its readers do not see it yet.
    pub(crate) fn flush(&mut self, key: KeyId) -> TxnId {
        self.db.flush(self.db.primary, Writes::Rows(vec![key]))
    }

    /// Readers of the server see it.
    pub(crate) fn visible(&mut self, server: usize, txn: TxnId) {
        if !self.db.instances[server].log.contains(&txn) {
            self.db.instances[server].log.push(txn);
        }
        assert!(self.db.commit(self.now, server, txn), "an older write of the key is not visible");
    }

    /// Readers of the primary see a change of the key; replicas lag.
    pub(crate) fn commit(&mut self, key: KeyId) -> TxnId {
        let txn = self.flush(key);
        self.visible(self.db.primary, txn);
        txn
    }

    /// The server receives and applies everything that the one it follows has.
    pub(crate) fn replicate(&mut self, server: usize) {
        if let Some(from) = self.db.instances[server].follows {
            for txn in self.db.instances[from].log.clone() {
                self.visible(server, txn);
            }
        }
        for txn in self.db.instances[server].log.clone() {
            self.visible(server, txn);
        }
    }

    /// What a reader finds.
    pub(crate) fn read(&self, server: usize, key: KeyId) -> Value {
        self.db.read(server, key)
    }

    /// The server becomes the primary. Readers may still take the old one for it, until it is fenced.
    pub(crate) fn promote(&mut self, server: usize) {
        self.replicate_own(server);
        self.db.promote(self.now, server);
        for other in 0..self.plan.servers {
            let follows = self.db.instances[other].follows;
            if follows.is_some() && !self.db.diverged(other) {
                self.db.instances[other].follows = Some(server);
            }
        }
        self.poller.add(self.moment(), instance(server), Role::Primary);
    }

    fn replicate_own(&mut self, server: usize) {
        for txn in self.db.instances[server].log.clone() {
            self.visible(server, txn);
        }
    }

    /// No reader reads from the server any more.
    pub(crate) fn fence(&mut self, server: usize) {
        self.db.instances[server].follows = None;
        self.poller.remove(instance(server));
    }

    /// The server is polled, and readers may read from it.
    pub(crate) fn joins(&mut self, server: usize) {
        self.poller.add(self.moment(), instance(server), Role::Replica);
    }

    /// The version of a transaction, as a client names it.
    pub(crate) fn version(&mut self, txn: TxnId) -> Version {
        self.learn_epochs();
        self.epochs.version_of(&self.db.txn(txn).gtid()).expect("its epoch is known")
    }

    /// Where a server stands, as a client names its snapshot.
    pub(crate) fn snapshot_version(&mut self, server: usize) -> Version {
        self.learn_epochs();
        let has = self.db.executed(server);
        self.epochs.standing(has, self.db.executed(self.db.primary)).position
    }

    fn learn_epochs(&mut self) {
        for start in &self.log.epochs {
            self.epochs.learn(start.clone());
        }
    }
}

// === Tailer and log ===

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
        let next = Tail::start(&mut self.log, self.plan.settings.partitions, self.plan.rules);
        std::mem::replace(&mut self.tail, next)
    }

    /// The tailer connects to the primary.
    pub(crate) fn repoint(&mut self) {
        self.tail.disconnect();
    }
}

// === The invalidator ===

impl Stage {
    /// The lane begins anew.
    pub(crate) fn connect(&mut self, node: usize) {
        self.nodes[node].wire = Wire::Whole;
        self.lane(node, Event::Connected);
    }

    /// The connection is gone.
    pub(crate) fn cut(&mut self, node: usize) {
        self.nodes[node].wire = Wire::Cut;
        self.lane(node, Event::Disconnected);
    }

    /// The lane reads the log, and the node applies it, to the head.
    pub(crate) fn deliver(&mut self, node: usize) {
        self.learn();
        for partition in 0..self.plan.settings.partitions {
            self.lane(node, Event::Changed(Partition(partition)));
        }
    }

    /// The same for one partition.
    pub(crate) fn deliver_partition(&mut self, node: usize, partition: Partition) {
        self.learn();
        self.lane(node, Event::Changed(partition));
    }

    /// The invalidator reads which epochs there are; nodes hear of new ones.
    pub(crate) fn learn(&mut self) {
        for start in self.log.epochs.clone() {
            if let Some(news) = self.poller.learn(start) {
                for node in 0..self.nodes.len() {
                    self.lane(node, Event::Epoch(news));
                }
            }
        }
    }

    /// All instances are asked, and every node hears what came of it.
    pub(crate) fn poll(&mut self) {
        let servers: Vec<usize> = (0..self.plan.servers).collect();
        self.poll_only(&servers);
    }

    /// Only these answer.
    pub(crate) fn poll_only(&mut self, servers: &[usize]) {
        self.poll_began();
        self.poll_answers(servers);
    }

    /// A round of questions begins.
    pub(crate) fn poll_began(&mut self) {
        for node in 0..self.nodes.len() {
            self.lane(node, Event::PollBegan);
        }
    }

    /// It is over.
    pub(crate) fn poll_answers(&mut self, servers: &[usize]) {
        let began = self.moment();
        self.pass(1);
        for &server in servers {
            let executed = self.db.asked(server);
            self.poller.answered(self.moment(), instance(server), executed);
        }
        let poll = self.poller.poll(began, self.moment());
        for node in 0..self.nodes.len() {
            self.lane(node, Event::Polled(poll));
        }
    }

    /// One event of a lane, and everything that follows from it.
    pub(crate) fn lane(&mut self, node: usize, event: Event) {
        let now = self.moment();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.nodes[node].lane.step(now, event) {
                events.extend(self.act(node, action));
            }
        }
    }

    fn act(&mut self, node: usize, action: Action) -> Vec<Event> {
        let (now, here) = (self.moment(), self.wall(0));
        let there = self.wall(self.nodes[node].clock_ahead);
        match action {
            Action::SampleHeads(partitions) => {
                let ends = self.log.ends();
                let heads = partitions.iter().map(|at| (*at, ends[usize::from(at.0)])).collect();
                return vec![Event::Heads(heads)];
            }
            Action::Read { partition, after } => {
                return vec![match self.log.read_after(partition, after, 8) {
                    Read::Gap { resume } => Event::Gap { partition, after, resume },
                    Read::Entries(entries) => {
                        for entry in &entries {
                            if let Record::Progress(progress) = &entry.record {
                                self.poller.source_executed(&progress.executed);
                            }
                        }
                        Event::Entries { partition, after, entries }
                    }
                }];
            }
            _ => {}
        }
        let Node { rules, shelf, wire, last, .. } = &mut self.nodes[node];
        if *wire == Wire::Cut || *wire == Wire::LosesBatches {
            return Vec::new();
        }
        match action {
            Action::Hello => {
                let partitions = (0..self.plan.settings.partitions).map(Partition);
                let cursors = partitions.map(|at| rules.cursor(at)).collect();
                let age_floor = rules.age_floor();
                let news = self.poller.all_news().into_iter().map(Event::Epoch);
                return news.chain([Event::Greeted(Greeting { cursors, age_floor })]).collect();
            }
            Action::NameHeads(heads) => rules.hello(now, &heads),
            Action::Begin { partition, at } => rules.begin(partition, at),
            Action::Push(push) => rules.push(now, &push),
            Action::Epoch(news) => rules.epoch(&news),
            Action::Clocks(agreement) => rules.clocks(agreement),
            Action::Apply(batch) => {
                let cursor = rules.apply(now, there, &batch, shelf);
                *last = Some(batch.clone());
                let answer = Answer { cursor, age_floor: rules.age_floor(), wall: there };
                let partition = batch.partition;
                if *wire == Wire::Whole {
                    return vec![Event::Answered { partition, answer, sent: now, wall: here }];
                }
            }
            Action::SampleHeads(_) | Action::Read { .. } => {}
        }
        Vec::new()
    }

    /// The batch that a node got last, to send it again.
    pub(crate) fn batch(&self, node: usize) -> Batch {
        self.nodes[node].last.clone().expect("something was delivered")
    }

    /// A batch reaches the node from somewhere else: late, again, or from a lane that was replaced.
    pub(crate) fn apply(&mut self, node: usize, batch: &Batch) -> Option<Place> {
        let (now, wall) = (self.moment(), self.wall(self.nodes[node].clock_ahead));
        let Node { rules, shelf, .. } = &mut self.nodes[node];
        rules.apply(now, wall, batch, shelf).ok()
    }
}

// === Cache nodes and their clients ===

impl Stage {
    /// A reader asks for the right to fill, and gets it; he can read anywhere in the region.
    pub(crate) fn lease(&mut self, node: usize, id: KeyId) -> Token {
        match self.ask_lease(node, id, Reader::Anywhere) {
            Leased::Fill(token) => token,
            other => panic!("no lease, but {other:?}"),
        }
    }

    /// A reader asks for the right to fill.
    pub(crate) fn ask_lease(&mut self, node: usize, id: KeyId, reader: Reader) -> Leased {
        self.tokens += 1;
        let (now, token, name) = (self.moment(), Token(self.tokens), key(id));
        self.nodes[node].rules.lease(now, &Subject::new(name.as_bytes()), reader, token)
    }

    /// A value arrives at a node, which stores it if the rules say so. Returns its fill version, if they do.
    pub(crate) fn fill(
        &mut self,
        node: usize,
        id: KeyId,
        value: Value,
        fill: Fill,
    ) -> Option<Version> {
        self.offer(node, id, value, fill).ok()
    }

    fn offer(
        &mut self,
        node: usize,
        id: KeyId,
        value: Value,
        fill: Fill,
    ) -> Result<Version, Refused> {
        let (now, name) = (self.moment(), key(id));
        let Node { rules, shelf, .. } = &mut self.nodes[node];
        let Accepted { mark, .. } = rules.accept(now, &Subject::new(name.as_bytes()), fill)?;
        shelf.0.insert(id, (mark, value));
        Ok(mark.filled)
    }

    /// A reader misses, reads the server and fills, without a break.
    pub(crate) fn cache(&mut self, node: usize, id: KeyId, server: usize) {
        let token = self.lease(node, id);
        let value = self.read(server, id);
        self.fill(node, id, value, Fill::Lease(token)).expect("a fresh lease");
    }

    /// What a reader gets, with and without asking for more.
    pub(crate) fn served(&self, node: usize, id: KeyId, ask: Ask) -> Served {
        let (now, name) = (self.moment(), key(id));
        let Node { rules, shelf, .. } = &self.nodes[node];
        let Some((mark, _)) = shelf.0.get(&id) else { return Served::Miss };
        rules.serve(now, &Subject::new(name.as_bytes()), mark, ask)
    }

    /// The value that a reader gets who takes no old ones.
    pub(crate) fn get(&self, node: usize, id: KeyId) -> Option<Value> {
        let hit = matches!(self.served(node, id, Ask::default()), Served::Hit | Served::Degraded);
        self.nodes[node].shelf.0.get(&id).filter(|_| hit).map(|(_, value)| *value)
    }

    /// A peer is asked for its entry: the value, and the version that a copy has.
    pub(crate) fn copy(&self, peer: usize, id: KeyId) -> Option<(Value, Version)> {
        let (now, name) = (self.moment(), key(id));
        let Node { rules, shelf, .. } = &self.nodes[peer];
        let (mark, value) = shelf.0.get(&id)?;
        Some((*value, rules.copy_version(now, &Subject::new(name.as_bytes()), mark)?))
    }

    /// The process is gone and starts again with nothing; its lane connects.
    pub(crate) fn restart_empty(&mut self, node: usize) {
        self.cut(node);
        self.nodes[node].rules = Rules::new(self.moment(), self.plan.settings.clone());
        self.nodes[node].shelf.0.clear();
        self.connect(node);
    }

    /// What a node saves first, and what it saves then.
    pub(crate) fn save(&self, node: usize) -> (Snapshot, Shelf) {
        (self.nodes[node].rules.snapshot(), self.nodes[node].shelf.clone())
    }

    /// The process starts again with what it saved; no lane has come yet.
    pub(crate) fn restore(&mut self, node: usize, (rules, shelf): (Snapshot, Shelf)) {
        self.cut(node);
        self.nodes[node].rules = Rules::restore(self.moment(), self.plan.settings.clone(), rules);
        self.nodes[node].shelf = shelf;
    }

    /// The first key from `from` on that is in the partition.
    pub(crate) fn key_in(&self, partition: Partition, from: KeyId) -> KeyId {
        let within =
            |id: &KeyId| partition_of(&key(*id), self.plan.settings.partitions) == partition;
        (from..KEYS).find(within).expect("many keys")
    }

    /// The cursor of a node in the first partition.
    pub(crate) fn cursor(&self, node: usize) -> Option<Place> {
        self.nodes[node].rules.cursor(Partition(0))
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
