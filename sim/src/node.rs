//! [`Node`]: a cache node: the real [`Rules`], with a plain map for storage.

use std::{borrow::Cow, collections::BTreeMap};

use cache_node::{
    control::Clocks,
    rules::{
        Accepted, Condition, Entries, Fate, Fill, Kept, Lossy, Mark, OnStale, Refused, Rules,
        Settings, Snapshot, Subject,
    },
    snapshot::format,
};
use protocol::control::{Answer, Batch, EpochNews, Finding, Greeting, Item, Push, Rewind};
use schemas::{
    cure::Cure,
    cursor::{Partition, Place},
    key::Key,
    moment::Moment,
    version::Version,
};

use crate::{
    binlog::key_name,
    database::{KeyId, Value},
    operator::Step,
    region::ToRegion,
    world::{Climate, Event, MS, Weather, World},
};

/// How long ago whoever stores without a lease may have read.
pub(crate) const FILL_AGE_MS_MAX: u64 = 2_000;

/// Connections of the past that a node may still read from.
const DRAINING_MAX: usize = 4;

/// What a lane sends.
#[derive(Clone, Debug)]
pub(crate) enum ToNode {
    Hello,
    Heads(Vec<(Partition, Place)>),
    Begin(Partition, Place),
    Apply(Batch, Moment),
    Push(Push),
    Epoch(EpochNews),
    Clocks(Finding),
}

/// A stored value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub mark: Mark,
    pub value: Value,
    /// When it was stored.
    pub stored: u64,
    /// When it is gone, by itself.
    pub expires: Option<u64>,
}

/// The storage: a plain map.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf(pub BTreeMap<KeyId, Entry>);

/// A snapshot on disk: complete once every key was looked at. The rules' part is the real one, as bytes.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    rules: Option<OnDisk>,
    shelf: Shelf,
    complete: bool,
}

/// What the rules of a node know, as its file has it.
#[derive(Clone, Debug)]
pub struct OnDisk {
    rules: Vec<u8>,
    tombstones: Vec<u8>,
}

impl OnDisk {
    /// Writes it down.
    pub fn write(rules: &Rules, now: Moment) -> OnDisk {
        let kept = rules.snapshot().kept(now);
        let mut disk = OnDisk { rules: Vec::new(), tombstones: Vec::new() };
        format::put_rules(&kept, &mut disk.rules);
        format::put_tombstones(&kept.tombstones, &mut disk.tombstones);
        disk
    }

    /// Reads it in another life.
    pub fn read(&self, settings: Settings) -> Snapshot {
        let rules = format::rules(&self.rules).expect("what was written can be read");
        let tombstones = format::tombstones(&self.tombstones).expect("likewise");
        Snapshot::of(settings, &Kept { tombstones, ..rules })
    }
}

/// Whether a node that has written its snapshot starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    Planned,
    No,
}

/// See the module.
pub(crate) struct Node {
    pub life: u64,
    pub up: bool,
    pub rules: Rules,
    pub shelf: Shelf,
    pub saved: Option<Saved>,
    /// The connection of each invalidator's lane.
    pub lanes: Vec<Option<u64>>,
    /// What each connection has said of the node's clock, and what that comes to.
    pub said: BTreeMap<u64, Finding>,
    pub clocks: Clocks,
    /// Connections that their invalidator has given up, and that may still deliver what was on its way: from when on.
    pub draining: Vec<(u64, u64)>,
    pub settings: Settings,
    pub items_max: usize,
}

impl Node {
    /// What was on its way on a connection that is given up arrives, from then on.
    pub(crate) fn drains(&mut self, connection: u64, from: u64) {
        self.draining.retain(|(of, _)| *of != connection);
        self.draining.truncate(DRAINING_MAX - 1);
        self.draining.insert(0, (connection, from));
    }

    /// A lane's connection has ended. What it has said of the clock goes with it.
    pub(crate) fn lane_ends(&mut self, region: usize) {
        let Some(connection) = self.lanes[region].take() else { return };
        let said = self.said.remove(&connection);
        if let Some(together) = self.clocks.change(said, None).filter(|_| said.is_some()) {
            self.rules.clocks(together);
        }
    }
}

impl Entries for Shelf {
    fn judge(&mut self, key: &Key, judge: &mut dyn FnMut(&mut Mark) -> Fate) {
        let id = key_id(key);
        if let Some(entry) = self.0.get_mut(&id) {
            // Even keys are kept for readers that take stale values, odd ones are dropped.
            if judge(&mut entry.mark) == Fate::Stale && id % 2 == 1 {
                self.0.remove(&id);
            }
        }
    }
}

/// The number in a key's name.
pub(crate) fn key_id(key: &Key) -> KeyId {
    let text = std::str::from_utf8(key.as_bytes()).unwrap_or("");
    text.trim_start_matches('k').parse().expect("a key of the simulated world")
}

pub(crate) fn key(id: KeyId) -> Key {
    match key_name(id) {
        Cow::Borrowed(name) => Key::new(name),
        Cow::Owned(name) => Key::new(name),
    }
    .expect("a short name")
}

fn settings(world: &mut World) -> Settings {
    let pick = |world: &mut World, of: &[usize]| of[world.rng.usize(..of.len())];
    let ms = std::time::Duration::from_millis;
    let tiny = match (world.weather, world.climate) {
        (Weather::Calm, _) => false,
        (_, Climate::Mild) => world.one_in(12),
        (_, Climate::Storm) => world.one_in(2),
    };
    Settings {
        partitions: world.size.partitions,
        fill_age_max: ms(FILL_AGE_MS_MAX),
        lease: ms(1_000),
        staleness_max: ms(1_500),
        clock_skew_max: ms(50),
        on_stale: [OnStale::Ttl, OnStale::Ttl, OnStale::Flag, OnStale::Miss][world.rng.usize(..4)],
        degraded_ttl: ms(2_000),
        marker_ttl_max: ms(2_000),
        tombstones_max: if tiny { pick(world, &[1, 3]) } else { 1_000 },
        leases_max: if tiny { pick(world, &[2, 1_000]) } else { 1_000 },
        markers_max: 64,
        lossy: if world.one_in(3) { Lossy::Flush } else { Lossy::Cut },
        unsourced: Vec::new(),
    }
}

impl World {
    pub(crate) fn create_node(&mut self, node: usize) {
        let settings = settings(self);
        let small = self.climate == Climate::Storm && self.one_in(3);
        let items_max = if small { 3 } else { 1_000 };
        let mut rules = Rules::new(self.moment(), settings.clone());
        rules.no_marks_lost(self.moment());
        self.nodes.push(Node {
            life: 1,
            up: true,
            rules,
            shelf: Shelf::default(),
            saved: None,
            lanes: vec![None; self.size.regions],
            said: BTreeMap::new(),
            clocks: Clocks::default(),
            draining: Vec::new(),
            settings,
            items_max,
        });
        for region in 0..self.size.regions {
            self.after(2 * MS, Event::Connect { region, node });
        }
    }

    /// The process dies; what it had in memory is gone.
    pub(crate) fn stop_node(&mut self, node: usize) {
        self.note(|| format!("node {node} dies"));
        for region in 0..self.size.regions {
            self.disconnect(region, node);
        }
        let state = &mut self.nodes[node];
        state.up = false;
        state.life += 1;
        state.draining.clear();
        state.said.clear();
        state.clocks = Clocks::default();
        state.shelf = Shelf::default();
        if state.saved.as_ref().is_some_and(|saved| !saved.complete) {
            state.saved = None;
        }
        self.check.node_emptied(node);
    }

    /// It starts again, with a snapshot's data or empty.
    pub(crate) fn restart_node(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        let now = self.moment();
        let state = &mut self.nodes[node];
        state.up = true;
        let settings = state.settings.clone();
        let saved = state.saved.take().and_then(|saved| Some((saved.rules?, saved.shelf)));
        let restored = saved.is_some();
        let with = if restored { "its data" } else { "nothing" };
        let state = &mut self.nodes[node];
        (state.rules, state.shelf) = match saved {
            Some((disk, shelf)) => {
                let snapshot = disk.read(settings.clone());
                (Rules::restore(now, settings, snapshot), shelf)
            }
            None => (Rules::new(now, settings), Shelf::default()),
        };
        self.note(|| format!("node {node} starts with {with}"));
        if restored {
            self.check.node_restored(node);
        } else {
            self.check.node_started_empty(node);
        }
        self.recognise_restart(node);
        for region in 0..self.size.regions {
            self.after(5 * MS, Event::Connect { region, node });
        }
        if restored && self.one_in(2) {
            let flaps = self.rng.usize(..self.size.regions);
            self.later(20 * MS, Step::Flap { region: flaps, node });
            for region in (0..self.size.regions).filter(|region| *region != flaps) {
                self.later(15 * MS, Step::SlowDown { region, node });
            }
        }
    }

    /// A connection to a node that has just come back breaks, again and again, while another is slow.
    pub(crate) fn flap(&mut self, region: usize, node: usize) {
        if self.is_chaos() && self.nodes[node].up && self.nodes[node].rules.is_quarantined() {
            self.disconnect(region, node);
            let again = self.delay(20, 60);
            self.later(again, Step::Flap { region, node });
        }
    }

    /// One key of a snapshot that is being written; the rules' part comes first.
    pub(crate) fn snapshot(&mut self, node: usize, life: u64, key: KeyId, then: Upgrade) {
        let (keys, now) = (self.size.keys, self.moment());
        let state = &mut self.nodes[node];
        if state.life != life || !state.up {
            return;
        }
        let early = Cure::SnapshotCursorsFirst.works();
        if key == 0 {
            let rules = early.then(|| OnDisk::write(&state.rules, now));
            state.saved = Some(Saved { rules, shelf: Shelf::default(), complete: false });
            self.check.snapshot_began(node);
        }
        let state = &mut self.nodes[node];
        let Some(saved) = &mut state.saved else { return };
        if let Some(entry) = state.shelf.0.get(&key) {
            let mark = Mark { since: None, ..entry.mark };
            saved.shelf.0.insert(key, Entry { mark, ..*entry });
        }
        if key + 1 < keys {
            let next = self.delay(1, 60);
            self.after(next, Event::Snapshot { node, life, key: key + 1, then });
        } else {
            saved.complete = true;
            if !early {
                saved.rules = Some(OnDisk::write(&state.rules, now));
            }
            self.note(|| format!("node {node} has a snapshot"));
            if then == Upgrade::Planned {
                self.stop_node(node);
                let again = self.delay(10, 100);
                self.later(again, Step::RestartNode { node });
            }
        }
    }

    /// A message of a lane arrives.
    pub(crate) fn at_node(&mut self, region: usize, node: usize, connection: u64, message: ToNode) {
        let state = &self.nodes[node];
        let drains = state.draining.iter().find(|(of, _)| *of == connection).map(|(_, from)| *from);
        if !state.up || (state.lanes[region] != Some(connection) && drains.is_none()) {
            return;
        }
        if let Some(from) = drains.filter(|from| self.now < *from) {
            self.at(from, Event::ToNode { region, node, connection, message });
            return;
        }
        let (now, wall) = (self.moment(), self.node_wall(node));
        let state = &mut self.nodes[node];
        match message {
            ToNode::Hello => {
                let cursor = |at| state.rules.cursor(Partition(at));
                let cursors = (0..self.size.partitions).map(cursor).collect();
                let greeting = Greeting { cursors, age_floor: state.rules.age_floor() };
                self.check.greeted(node, connection, &self.db);
                self.answer_region(region, node, connection, ToRegion::Greeting(greeting));
            }
            ToNode::Heads(heads) => {
                let away = !state.rules.is_fresh(now) || state.rules.is_quarantined();
                state.rules.hello(now, &heads);
                if state.rules.is_quarantined() {
                    self.stats.race("r42");
                    self.note(|| format!("node {node} is quarantined until {heads:?}"));
                }
                if away {
                    self.check.returned(node, connection, &heads);
                }
            }
            ToNode::Begin(partition, at) => {
                state.rules.begin(partition, at);
                self.note(|| format!("node {node} begins partition {partition} at {at}"));
            }
            ToNode::Epoch(news) => {
                state.rules.epoch(&news);
                self.note(|| format!("node {node} hears of epoch {news:?}"));
            }
            ToNode::Push(push) => {
                state.rules.push(now, &push);
            }
            // A connection that ends takes with it what it has said.
            ToNode::Clocks(_) if drains.is_some() => {}
            ToNode::Clocks(finding) => {
                let before = state.said.insert(connection, finding);
                if let Some(together) = state.clocks.change(before, Some(finding)) {
                    state.rules.clocks(together);
                }
                let Finding { agreement, steps } = finding;
                self.note(|| format!("node {node} clocks {agreement:?} after {steps} steps"));
            }
            ToNode::Apply(batch, sent) => {
                let cursor = self.apply(node, &batch);
                let age_floor = self.nodes[node].rules.age_floor();
                let steps = self.nodes[node].rules.clock_steps();
                let answer = Answer { cursor, age_floor, wall, steps };
                let partition = batch.partition;
                self.answer_region(
                    region,
                    node,
                    connection,
                    ToRegion::Answer { partition, answer, sent },
                );
            }
        }
    }

    /// A batch of a lane, or of somebody who replays what was.
    pub(crate) fn apply(&mut self, node: usize, batch: &Batch) -> Result<Place, Rewind> {
        let (now, at, wall) = (self.moment(), self.now, self.node_wall(node));
        let state = &mut self.nodes[node];
        let before = state.rules.cursor(batch.partition);
        let shelf = if batch.items.is_empty() { Shelf::default() } else { state.shelf.clone() };
        let cursor = state.rules.apply(now, wall, batch, &mut state.shelf);
        self.note(|| format!("node {node} applies {}", crate::trace::batch(batch, cursor)));
        self.recognise_batch(node, batch, before, &shelf);
        for item in &batch.items {
            if let Item::Delete { key, version } = item {
                self.check.delete_came(node, key_id(key), *version);
            }
        }
        let state = &self.nodes[node];
        self.check.applied(at, &self.db, node, &state.rules, batch);
        self.check.cursor_moved(at, node, before, state.rules.cursor(batch.partition));
        for (id, entry) in &shelf.0 {
            let good = |entry: &&Entry| entry.mark.condition == Condition::Good;
            if good(&entry) && !state.shelf.0.get(id).is_some_and(|entry| good(&entry)) {
                let deleted = batch.items.iter().filter_map(|item| match item {
                    Item::Delete { key, version } if key_id(key) == *id => Some(*version),
                    _ => None,
                });
                let deleted = deleted.max().unwrap_or_default();
                self.check.judged(at, node, *id, entry.mark.filled, deleted);
            }
        }
        cursor
    }

    /// A value on its way into a node; stored if the rules accept it.
    pub(crate) fn store(
        &mut self,
        node: usize,
        id: KeyId,
        value: Value,
        fill: Fill,
    ) -> Result<Version, Refused> {
        let (now, at) = (self.moment(), self.now);
        let name = key_name(id);
        let state = &mut self.nodes[node];
        let accepted = state.rules.accept(now, &Subject::new(name.as_bytes()), fill);
        match accepted {
            Ok(Accepted { mark, ttl_max }) => {
                self.stats.fills_accepted += 1;
                let expires =
                    ttl_max.map(|ttl| at + u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX));
                state.shelf.0.insert(id, Entry { mark, value, stored: at, expires });
                if state.shelf.0.len() > state.items_max {
                    let keys: Vec<KeyId> =
                        state.shelf.0.keys().copied().filter(|of| *of != id).collect();
                    let gone = keys[self.rng.usize(..keys.len())];
                    self.nodes[node].shelf.0.remove(&gone);
                }
                self.note(|| {
                    format!("node {node} stores {name} = {value:?} of {fill:?} at {}", mark.filled)
                });
                Ok(mark.filled)
            }
            Err(refused) => {
                self.stats.fills_refused += 1;
                self.note(|| {
                    format!("node {node} refuses {name} = {value:?} of {fill:?}: {refused}")
                });
                Err(refused)
            }
        }
    }

    /// The entry of a key, unless its time is over.
    pub(crate) fn entry(&self, node: usize, id: KeyId) -> Option<Entry> {
        let entry = self.nodes[node].shelf.0.get(&id).copied()?;
        entry.expires.is_none_or(|at| self.now < at).then_some(entry)
    }
}
