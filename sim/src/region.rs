//! [`Region`]: an invalidator process: the real [`Poller`] and [`NodeLane`]s, and the shell between
//! them, the log, the instances and the nodes.

use std::collections::BTreeSet;

use invalidator::{
    node_lane::{Action, Event as LaneEvent, NodeLane},
    poller::{InstanceId, Poller, Role},
};
use protocol::control::{Answer, Greeting};
use schemas::{cursor::Partition, gtid::Dialect, moment::Moment, record::Record};
use stream::Read;

use crate::{
    node::ToNode,
    world::{Answers, Event, MS, World},
};

/// How long a poll waits for answers.
const POLL: u64 = 8 * MS;
const SKEW_MAX: std::time::Duration = std::time::Duration::from_millis(50);

/// What a node, or the log, answers.
#[derive(Clone, Debug)]
pub(crate) enum ToRegion {
    Greeting(Greeting),
    Answer { partition: Partition, answer: Answer, sent: Moment },
    Heads(Vec<(Partition, schemas::cursor::Place)>),
    Read { partition: Partition, after: schemas::cursor::Place, read: Read },
}

/// See the module.
pub(crate) struct Region {
    pub life: u64,
    pub up: bool,
    pub poller: Poller,
    pub lanes: Vec<NodeLane>,
    /// The connection to each node.
    pub connections: Vec<Option<u64>>,
    /// When the last message of each connection arrives, in both directions: they keep their order.
    arrivals: Vec<(u64, u64)>,
    /// Until when what it sends to each node takes long.
    slow_until: Vec<u64>,
    pub partitions: Vec<Partition>,
    /// Instances that it cannot reach now.
    pub unreachable: BTreeSet<usize>,
    /// Nodes that it cannot reach now.
    pub cut: BTreeSet<usize>,
    /// What its last poll found.
    pub polled: Option<invalidator::poller::Poll>,
    /// Where the log ended when its lanes were told that there may be more.
    ends: Vec<schemas::cursor::Place>,
}

impl World {
    pub(crate) fn create_region(&mut self, region: usize) {
        let owned =
            (0..self.size.partitions).filter(|at| usize::from(*at) % self.size.regions == region);
        let partitions: Vec<Partition> = owned.map(Partition).collect();
        self.regions.push(Region {
            life: 0,
            up: false,
            poller: Poller::new(Dialect::Mysql, None),
            lanes: Vec::new(),
            connections: vec![None; self.size.nodes],
            arrivals: vec![(0, 0); self.size.nodes],
            slow_until: vec![0; self.size.nodes],
            partitions,
            unreachable: BTreeSet::new(),
            cut: BTreeSet::new(),
            polled: None,
            ends: Vec::new(),
        });
        self.start_region(region);
    }

    pub(crate) fn start_region(&mut self, region: usize) {
        if self.regions[region].up {
            return;
        }
        let now = self.moment();
        let mut poller = Poller::new(Dialect::Mysql, None);
        for start in &self.broker.epochs {
            poller.learn(now, start.clone());
        }
        for server in self.operator.polled(&self.db) {
            poller.add(now, instance(server), role(self, server));
        }
        let nodes = self.size.nodes;
        let state = &mut self.regions[region];
        (state.up, state.poller, state.polled) = (true, poller, None);
        state.ends.clear();
        state.life += 1;
        let life = state.life;
        state.lanes = vec![NodeLane::new(state.partitions.clone(), SKEW_MAX); nodes];
        self.note(|| format!("invalidator {region} starts"));
        for node in 0..nodes {
            self.after(3 * MS, Event::Connect { region, node });
        }
        self.after(4 * MS, Event::PollBegin { region, life });
        self.after(6 * MS, Event::Wake { region, life });
    }

    pub(crate) fn stop_region(&mut self, region: usize) {
        self.note(|| format!("invalidator {region} dies"));
        for node in 0..self.size.nodes {
            self.disconnect(region, node);
        }
        self.regions[region].up = false;
        self.regions[region].life += 1;
    }

    /// It owns these partitions from now on: its lanes begin anew.
    pub(crate) fn assign(&mut self, region: usize, partitions: Vec<Partition>) {
        self.note(|| format!("invalidator {region} owns {partitions:?}"));
        for node in 0..self.size.nodes {
            self.disconnect(region, node);
        }
        let state = &mut self.regions[region];
        state.lanes = vec![NodeLane::new(partitions.clone(), SKEW_MAX); state.lanes.len()];
        state.partitions = partitions;
        for node in 0..self.size.nodes {
            self.after(3 * MS, Event::Connect { region, node });
        }
    }

    pub(crate) fn connect(&mut self, region: usize, node: usize) {
        let (state, peer) = (&self.regions[region], &self.nodes[node]);
        if state.connections[node].is_some() || !state.up || !peer.up {
            return;
        }
        if state.cut.contains(&node) {
            let again = self.delay(10, 60);
            self.after(again, Event::Connect { region, node });
            return;
        }
        let connection = self.rng.u64(1..);
        self.nodes[node].lanes[region] = Some(connection);
        self.regions[region].connections[node] = Some(connection);
        self.regions[region].arrivals[node] = (self.now, self.now);
        self.step_lane(region, node, LaneEvent::Connected);
    }

    /// What is sent to the node takes long to arrive, for a while.
    pub(crate) fn slow_down(&mut self, region: usize, node: usize) {
        self.regions[region].slow_until[node] = self.now + self.rng.u64(100..1_000) * MS;
    }

    pub(crate) fn disconnect(&mut self, region: usize, node: usize) {
        let Some(connection) = self.regions[region].connections[node].take() else { return };
        self.nodes[node].lane_ends(region);
        if self.one_in(2) {
            // Now and then the network holds what was on its way for a while.
            let from = if self.often(4) {
                let longest = if self.one_in(3) { 1_500 } else { 300 };
                self.now + self.rng.u64(10..longest) * MS
            } else {
                self.now
            };
            self.nodes[node].drains(connection, from);
        }
        self.step_lane(region, node, LaneEvent::Disconnected);
        let again = self.delay(10, 60);
        self.after(again, Event::Connect { region, node });
    }

    pub(crate) fn step_lane(&mut self, region: usize, node: usize, event: LaneEvent) {
        let now = self.moment();
        let Some(connection) =
            self.regions[region].connections[node]
                .or(matches!(event, LaneEvent::Disconnected).then_some(0))
        else {
            return;
        };
        let actions = self.regions[region].lanes[node].step(now, event);
        for action in actions {
            let message = match action {
                Action::SampleHeads(partitions) => {
                    self.ask_log(region, node, connection, |world| {
                        let ends = world.broker.ends();
                        let heads = partitions.iter().map(|at| (*at, ends[usize::from(at.0)]));
                        ToRegion::Heads(heads.collect())
                    });
                    continue;
                }
                Action::Read { partition, after } => {
                    self.ask_log(region, node, connection, |world| {
                        let read = world.broker.read_after(partition, after, 8);
                        ToRegion::Read { partition, after, read }
                    });
                    continue;
                }
                Action::Hello => ToNode::Hello,
                Action::NameHeads(heads) => ToNode::Heads(heads),
                Action::Begin { partition, at } => ToNode::Begin(partition, at),
                Action::Apply(batch) => ToNode::Apply(batch, now),
                Action::Push(push) => ToNode::Push(push),
                Action::Epoch(news) => ToNode::Epoch(news),
                Action::Clocks(finding) => ToNode::Clocks(finding),
            };
            let is_slow = self.now < self.regions[region].slow_until[node];
            let takes = if is_slow { self.delay(20, 60) } else { self.delay(1, 4) };
            let earliest = self.now + takes;
            let last = &mut self.regions[region].arrivals[node].0;
            *last = earliest.max(*last + 1);
            let at = *last;
            self.at(at, Event::ToNode { region, node, connection, message });
        }
    }

    /// The log is asked now, and the answer comes in its own time. A log that is down does not answer.
    fn ask_log(
        &mut self,
        region: usize,
        node: usize,
        connection: u64,
        ask: impl FnOnce(&World) -> ToRegion,
    ) {
        if !self.broker.up {
            // The shell asks again; a lane that begins anew is the same to the node.
            self.after(30 * MS, Event::Connect { region, node });
            self.regions[region].connections[node] = None;
            self.nodes[node].lane_ends(region);
            self.regions[region].lanes[node].step(Moment::START, LaneEvent::Disconnected);
            return;
        }
        let message = ask(self);
        let later = self.delay(1, 5);
        self.after(later, Event::ToRegion { region, node, connection, message });
    }

    pub(crate) fn answer_region(
        &mut self,
        region: usize,
        node: usize,
        connection: u64,
        message: ToRegion,
    ) {
        let earliest = self.now + self.delay(1, 4);
        let last = &mut self.regions[region].arrivals[node].1;
        *last = earliest.max(*last + 1);
        let at = *last;
        self.at(at, Event::ToRegion { region, node, connection, message });
    }

    pub(crate) fn at_region(
        &mut self,
        region: usize,
        node: usize,
        connection: u64,
        message: ToRegion,
    ) {
        if self.regions[region].connections[node] != Some(connection) || !self.regions[region].up {
            return;
        }
        match message {
            ToRegion::Greeting(greeting) => {
                self.step_lane(region, node, LaneEvent::Greeted(greeting));
                let epochs = self.regions[region].poller.all_news();
                self.step_lane(region, node, LaneEvent::Epochs(epochs));
            }
            ToRegion::Heads(heads) => self.step_lane(region, node, LaneEvent::Heads(heads)),
            ToRegion::Answer { partition, answer, sent } => {
                let wall = self.region_wall(region);
                self.step_lane(region, node, LaneEvent::Answered { partition, answer, sent, wall });
            }
            ToRegion::Read { partition, after, read: Read::Gap { resume } } => {
                self.stats.race("r34");
                self.step_lane(region, node, LaneEvent::Gap { partition, after, resume });
            }
            ToRegion::Read { partition, after, read: Read::Entries(entries) } => {
                for entry in &entries {
                    self.learn(region, &entry.record);
                }
                self.step_lane(region, node, LaneEvent::Entries { partition, after, entries });
            }
        }
    }

    /// What a record says to the poller. Of epochs their table is what counts: a writer that was replaced may have announced
    /// what is none.
    fn learn(&mut self, region: usize, record: &Record) {
        match record {
            Record::Progress(progress) => {
                self.regions[region].poller.source_executed(&progress.executed);
            }
            Record::Epoch(_) => self.learn_epochs(region),
            _ => {}
        }
    }

    /// Reads the table of epochs. Every lane's node hears of a new one before anything of it.
    fn learn_epochs(&mut self, region: usize) {
        let now = self.moment();
        let poller = &mut self.regions[region].poller;
        let mut news = false;
        for start in &self.broker.epochs {
            news |= poller.learn(now, start.clone()).is_some();
        }
        if news {
            let epochs = poller.all_news();
            for node in 0..self.size.nodes {
                self.step_lane(region, node, LaneEvent::Epochs(epochs.clone()));
            }
        }
    }

    /// There may be more in the log.
    pub(crate) fn wake(&mut self, region: usize, life: u64) {
        if self.regions[region].life != life {
            return;
        }
        let pause = if self.is_chaos() { self.delay(8, 25) } else { self.delay(20, 60) };
        self.after(pause, Event::Wake { region, life });
        if !self.broker.up {
            return;
        }
        // Lanes that skip records do not see every announcement.
        self.learn_epochs(region);
        // A consumer is woken by what is new; now and then by nothing.
        let ends = self.broker.ends();
        let idle = self.regions[region].ends == ends && !self.one_in(8);
        if idle {
            return;
        }
        self.regions[region].ends = ends;
        for node in 0..self.size.nodes {
            for partition in self.regions[region].partitions.clone() {
                self.step_lane(region, node, LaneEvent::Changed(partition));
            }
        }
    }

    pub(crate) fn poll_begin(&mut self, region: usize, life: u64) {
        if self.regions[region].life != life {
            return;
        }
        for node in 0..self.size.nodes {
            self.step_lane(region, node, LaneEvent::PollBegan);
        }
        let began = self.moment();
        let mut answers = Answers::new();
        for server in self.operator.polled(&self.db) {
            let reachable = !self.regions[region].unreachable.contains(&server)
                && self.operator.isolated != Some(server);
            if reachable && self.db.instances[server].up {
                let answer = (server, self.db.asked(server));
                let arrives = self.delay(1, 6);
                if arrives <= POLL {
                    answers.push(answer);
                } else {
                    let late =
                        Event::PollAnswer { region, life, asked: began, answers: vec![answer] };
                    self.after(arrives, late);
                }
            }
        }
        self.after(POLL, Event::PollEnd { region, life, began, answers });
    }

    pub(crate) fn poll_answer(
        &mut self,
        region: usize,
        life: u64,
        asked: Moment,
        answers: Answers,
    ) {
        for (server, executed) in answers {
            if self.regions[region].life == life && self.db.instances[server].up {
                self.regions[region].poller.answered(asked, instance(server), &executed);
            }
        }
    }

    pub(crate) fn poll_end(&mut self, region: usize, life: u64, began: Moment, answers: Answers) {
        self.poll_answer(region, life, began, answers);
        if self.regions[region].life != life {
            return;
        }
        let now = self.moment();
        let poll = self.regions[region].poller.poll(began, now);
        self.regions[region].polled = Some(poll);
        for node in 0..self.size.nodes {
            self.step_lane(region, node, LaneEvent::Polled(poll));
        }
        let pause = if self.is_chaos() { self.delay(5, 10) } else { self.delay(30, 50) };
        self.after(pause, Event::PollBegin { region, life });
    }
}

pub(crate) fn instance(server: usize) -> InstanceId {
    InstanceId(u16::try_from(server).unwrap_or(u16::MAX))
}

/// Readers may take a former primary for the primary until it is fenced.
pub(crate) fn role(world: &World, server: usize) -> Role {
    if server == world.db.primary || world.operator.former.contains(&server) {
        Role::Primary
    } else {
        Role::Replica
    }
}
