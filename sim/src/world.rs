//! [`World`]: the cores of the product, and around them everything that they run on. One seed is one
//! history: who does what when, and what breaks.
//!
//! ```text
//! writers ─▶ database ─▶ tailer ─▶ broker ─▶ invalidators ─▶ nodes ◀─ readers
//!              instances ◀── polls ──┘                        ▲ marks, copies
//! ```
//!
//! Every step is an event in one queue; time jumps from one to the next. Nothing else moves: no thread,
//! no clock, no hash order that leaks into the history.

use std::{collections::BTreeMap, sync::Arc};

use fastrand::Rng;
use schemas::{gtid::GtidSet, moment::Moment, record::UnixMicros, version::Version};

use crate::{
    agenda::Agenda,
    broker::Broker,
    check::{Check, Violation},
    client::{Op, Writing},
    database::{KeyId, Topology, TxnId},
    node::{FILL_AGE_MS_MAX, Node, ToNode, Upgrade},
    operator::Operator,
    region::{Region, ToRegion},
    source::Source,
    stats::Stats,
};

/// One millisecond; times are in microseconds.
pub(crate) const MS: u64 = 1_000;
/// Where wall clocks start.
const WALL: u64 = 1_800_000_000_000_000;

/// How large the world is, and how long it lives.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Cache nodes; each is a cluster of its own, and holds all keys.
    pub nodes: usize,
    /// Invalidators, which share the partitions.
    pub regions: usize,
    /// Partitions of the stream.
    pub partitions: u16,
    /// Database servers; the first one begins as the primary.
    pub servers: usize,
    /// Keys.
    pub keys: KeyId,
    /// Concurrent readers.
    pub readers: usize,
    /// Concurrent writers.
    pub writers: usize,
    /// How long faults happen and writers write, in microseconds.
    pub chaos: u64,
    /// How long everything then has to settle.
    pub settle: u64,
}

impl Default for Size {
    fn default() -> Size {
        Size {
            nodes: 3,
            regions: 2,
            partitions: 2,
            servers: 3,
            keys: 6,
            readers: 5,
            writers: 2,
            chaos: 16_000 * MS,
            settle: 12_000 * MS,
        }
    }
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Calm,
    /// Everything.
    Faults,
    /// Everything, at once.
    Storm,
    /// A storm among our own processes, and in the log between them.
    StormOfOurs,
    /// A storm in the database, its clocks, and on the way to it.
    StormOfDatabase,
}

impl Weather {
    /// Whether everything of its kind goes wrong at once.
    pub fn is_storm(self) -> bool {
        !matches!(self, Weather::Calm | Weather::Faults)
    }
}

/// How much goes wrong in a history with faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Climate {
    /// About as much in a minute as elsewhere in a month.
    Mild,
    /// Everything at once, on tiny tables, under many writes: no cache can do much there but be right.
    Storm,
}

/// One history in so many is a storm.
const STORM_ONE_IN: u8 = 10;

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Visible { server: usize, txn: TxnId },
    Replicate { server: usize },
    Tail { source: usize, life: u64 },
    Observe { source: usize, life: u64 },
    Observed { source: usize, life: u64, server: usize, at: UnixMicros },
    Append { source: usize, life: u64 },
    PollBegin { region: usize, life: u64 },
    PollAnswer { region: usize, life: u64, asked: Moment, answers: Answers },
    PollEnd { region: usize, life: u64, began: Moment, answers: Answers },
    Wake { region: usize, life: u64 },
    Connect { region: usize, node: usize },
    ToNode { region: usize, node: usize, connection: u64, message: ToNode },
    ToRegion { region: usize, node: usize, connection: u64, message: ToRegion },
    Reader { reader: usize },
    Writer { writer: usize },
    Committed { writing: Writing },
    Open { op: Op },
    Fill { op: Op },
    Snapshot { node: usize, life: u64, key: KeyId, then: Upgrade },
    Fault,
    Operator { step: crate::operator::Step },
}

/// What servers said that they have executed.
pub(crate) type Answers = Vec<(usize, Arc<GtidSet>)>;

/// One line of a history.
pub(crate) type Line = (u64, String);

/// See the module.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) size: Size,
    pub(crate) weather: Weather,
    pub(crate) climate: Climate,
    agenda: Agenda,
    pub(crate) db: Topology,
    pub(crate) broker: Broker,
    pub(crate) sources: Vec<Source>,
    pub(crate) regions: Vec<Region>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) operator: Operator,
    pub(crate) check: Check,
    /// How new what the holder of a key's lease reads is at least: by node and key.
    pub(crate) leased: BTreeMap<(usize, KeyId), Version>,
    pub(crate) stats: Stats,
    /// Faults that are still to come; fewer when a failing history is shortened.
    pub(crate) chaos_until: u64,
    pub(crate) trace: Option<Vec<Line>>,
    /// Differences of wall clocks, in microseconds: nodes, then invalidators, then tailers.
    pub(crate) skews: Vec<i64>,
    pub(crate) rules: Arc<schemas::rules::Rules>,
}

impl World {
    /// The world of a seed.
    pub(crate) fn new(
        seed: u64,
        size: Size,
        weather: Weather,
        rules: &Arc<schemas::rules::Rules>,
    ) -> World {
        let mut rng = Rng::with_seed(seed ^ 0x6d63_7371_7565_616c);
        let chance = weather != Weather::Calm && rng.u8(..STORM_ONE_IN) == 0;
        let storm = chance || weather.is_storm();
        let climate = if storm { Climate::Storm } else { Climate::Mild };
        let clocks = size.nodes + size.regions + 2;
        let skews = (0..clocks).map(|_| rng.i64(-20_000..=20_000)).collect();
        // Writers who ask seldom which epochs there are.
        let heard_after = if rng.u8(..12) == 0 { 6_000 * MS } else { 150 * MS };
        let mut world = World {
            now: 0,
            size,
            weather,
            climate,
            agenda: Agenda::default(),
            db: Topology::new(size.servers, size.keys),
            broker: Broker::new(size.partitions),
            sources: vec![Source::default(), Source::default()],
            regions: Vec::new(),
            nodes: Vec::new(),
            operator: Operator::default(),
            check: Check::new(&size, heard_after),
            leased: BTreeMap::new(),
            stats: Stats::default(),
            chaos_until: size.chaos,
            trace: None,
            skews,
            rules: Arc::clone(rules),
            rng,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.size.nodes {
            self.create_node(node);
        }
        for region in 0..self.size.regions {
            self.create_region(region);
        }
        self.start_source(0);
        for server in 0..self.size.servers {
            self.after(MS, Event::Replicate { server });
        }
        for reader in 0..self.size.readers {
            let first = self.rng.u64(..20 * MS);
            self.after(first, Event::Reader { reader });
        }
        for writer in 0..self.size.writers {
            let first = self.rng.u64(50 * MS..200 * MS);
            self.after(first, Event::Writer { writer });
        }
        if self.weather != Weather::Calm {
            self.after(300 * MS, Event::Fault);
        }
    }

    /// Runs until everything has settled, or something is wrong.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        let mut calmed = false;
        while let Some(at) = self.agenda.next_at() {
            if !calmed && at > self.chaos_until {
                calmed = true;
                self.calm_down();
                continue;
            }
            if at > self.settles_at() {
                break;
            }
            let Some(event) = self.agenda.pop() else { break };
            self.now = at;
            self.stats.steps += 1;
            self.dispatch(event);
            if let Some(violation) = self.check.violation.take() {
                return Err(violation);
            }
        }
        self.settled()
    }

    /// Plain sets count as read from a server that joined for as long as `fill_age_max` after.
    fn settles_at(&self) -> u64 {
        let joined = self.operator.joined_at + (FILL_AGE_MS_MAX + 500) * MS;
        joined.max(self.chaos_until + self.size.settle)
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Visible { server, txn } => self.visible(server, txn),
            Event::Replicate { server } => self.replicate(server),
            Event::Tail { source, life } => self.tail(source, life),
            Event::Observe { source, life } => self.observe(source, life),
            Event::Observed { source, life, server, at } => self.observed(source, life, server, at),
            Event::Append { source, life } => self.append(source, life),
            Event::PollBegin { region, life } => self.poll_begin(region, life),
            Event::PollAnswer { region, life, asked, answers } => {
                self.poll_answer(region, life, asked, answers);
            }
            Event::PollEnd { region, life, began, answers } => {
                self.poll_end(region, life, began, answers);
            }
            Event::Wake { region, life } => self.wake(region, life),
            Event::Connect { region, node } => self.connect(region, node),
            Event::ToNode { region, node, connection, message } => {
                self.at_node(region, node, connection, message);
            }
            Event::ToRegion { region, node, connection, message } => {
                self.at_region(region, node, connection, message);
            }
            Event::Reader { reader } => self.reader(reader),
            Event::Writer { writer } => self.writer(writer),
            Event::Committed { writing } => self.committed(writing),
            Event::Open { op } => self.open(op),
            Event::Fill { op } => self.fill(op),
            Event::Snapshot { node, life, key, then } => self.snapshot(node, life, key, then),
            Event::Fault => self.fault(),
            Event::Operator { step } => self.operate(step),
        }
    }

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.agenda.push(at, event);
    }

    /// Between `low` and `high` milliseconds; now and then ten times as long.
    pub(crate) fn delay(&mut self, low: u64, high: u64) -> u64 {
        let usual = self.rng.u64(low * MS..=high * MS);
        let of = if self.climate == Climate::Storm { 30 } else { 200 };
        let slow = self.weather != Weather::Calm && self.is_chaos() && self.rng.u8(..of) == 0;
        if slow { usual * 10 } else { usual }
    }

    pub(crate) fn is_chaos(&self) -> bool {
        self.now <= self.chaos_until
    }

    pub(crate) fn one_in(&mut self, of: u32) -> bool {
        self.rng.u32(..of) == 0
    }

    /// One in `of` in a storm, else one in four times as many.
    pub(crate) fn often(&mut self, of: u32) -> bool {
        let of = if self.climate == Climate::Storm { of } else { of * 4 };
        self.one_in(of)
    }

    /// A reading of any process's monotonic clock; cores compare only their own.
    pub(crate) fn moment(&self) -> Moment {
        // Far from the start, so that "long ago" can be said.
        Moment::after_start(std::time::Duration::from_micros(self.now + 3_600_000 * MS))
    }

    fn wall(&self, clock: usize) -> UnixMicros {
        UnixMicros((WALL + self.now).saturating_add_signed(self.skews[clock]))
    }

    pub(crate) fn node_wall(&self, node: usize) -> UnixMicros {
        self.wall(node)
    }

    pub(crate) fn region_wall(&self, region: usize) -> UnixMicros {
        self.wall(self.size.nodes + region)
    }

    pub(crate) fn source_wall(&self, source: usize) -> UnixMicros {
        self.wall(self.size.nodes + self.size.regions + source)
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push((self.now, line()));
        }
    }
}

// === The database ===

impl World {
    pub(crate) fn visible(&mut self, server: usize, txn: TxnId) {
        if !self.db.instances[server].up {
            return; // Recovery commits it.
        }
        if !self.db.commit(self.now, server, txn) {
            self.after(2 * MS, Event::Visible { server, txn });
        }
    }

    /// A replica asks its source for what it does not have.
    fn replicate(&mut self, server: usize) {
        let more = self.receive(server);
        let lags = self.operator.lagging == Some(server);
        let pause = match more {
            _ if lags => self.delay(100, 900),
            true => MS / 2,
            false if self.is_chaos() => self.delay(2, 12),
            false => self.delay(20, 80),
        };
        self.after(pause, Event::Replicate { server });
    }

    /// Receives one transaction, if there is one.
    fn receive(&mut self, server: usize) -> bool {
        let Some(from) = self.db.instances[server].follows else { return false };
        let reachable = self.db.instances[server].up && self.db.instances[from].up;
        let cut_off = self.operator.cut_off == Some(server) || self.operator.isolated == Some(from);
        if !reachable || cut_off {
            return false;
        }
        let (ours, theirs) = (&self.db.instances[server].log, &self.db.instances[from].log);
        if (ours.len(), ours.last()) == (theirs.len(), theirs.last()) {
            return false;
        }
        let same = ours.iter().zip(theirs).take_while(|(our, their)| our == their).count();
        let missing = theirs[same..].iter().find(|id| !ours[same..].contains(id)).copied();
        let Some(txn) = missing else { return false };
        self.db.instances[server].log.push(txn);
        let apply = match self.operator.stuck {
            Some(stuck) if stuck == server => self.rng.u64(300..1_500) * MS,
            _ if self.operator.parallel => self.delay(1, 150),
            _ => self.delay(1, 8),
        };
        self.after(apply, Event::Visible { server, txn });
        true
    }
}
