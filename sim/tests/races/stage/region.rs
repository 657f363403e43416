//! Stage directions for the invalidator: its lanes, its poller, and the wires to the nodes.

use std::collections::VecDeque;

use invalidator::node_lane::{Action, Event, NodeLane};
use protocol::control::{Answer, Batch, Greeting, Item};
use schemas::{
    cursor::{Partition, Place},
    record::Record,
};
use stream::Read;

use super::{Node, SKEW_MAX, Stage, Wire, instance, key};

/// A lane that is not done by then goes round in circles, and is left there.
const STEPS_MAX: usize = 1000;

impl Stage {
    /// The lane begins anew.
    pub(crate) fn connect(&mut self, node: usize) {
        self.nodes[node].wire = Wire::Whole;
        self.lane(node, Event::Connected);
    }

    /// The lane begins anew, on the wire that is there.
    pub(crate) fn reconnect(&mut self, node: usize) {
        self.lane(node, Event::Connected);
    }

    /// A lane for one partition alone begins.
    pub(crate) fn connect_partition(&mut self, node: usize, partition: Partition) {
        self.nodes[node].lane = NodeLane::new(vec![partition], SKEW_MAX);
        self.connect(node);
    }

    /// A lane of somebody else names where a partition ends.
    pub(crate) fn names_head(&mut self, node: usize, partition: Partition, head: Place) {
        let now = self.moment();
        self.nodes[node].rules.hello(now, &[(partition, head)]);
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
            self.poller.learn(self.moment(), start);
        }
        for node in 0..self.nodes.len() {
            self.lane(node, Event::Epochs(self.poller.all_news()));
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
            self.poller.answered(self.moment(), instance(server), &executed);
        }
        let now = self.moment();
        let poll = self.poller.poll(began, now);
        for node in 0..self.nodes.len() {
            self.lane(node, Event::Polled(poll));
        }
    }

    /// One event of a lane, and everything that follows from it.
    pub(crate) fn lane(&mut self, node: usize, event: Event) {
        let now = self.moment();
        let mut events = VecDeque::from([event]);
        for _ in 0..STEPS_MAX {
            let Some(event) = events.pop_front() else { return };
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
                    Read::Entries(mut entries) => {
                        let others = self.nodes[node].others.map(key);
                        for entry in &mut entries {
                            if let Record::Invalidations(all) = &mut entry.record {
                                for transaction in &mut all.transactions {
                                    transaction.keys.retain(|it| Some(&it.key) != others.as_ref());
                                }
                            }
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
        let Node { rules, shelf, wire, last, share, .. } = &mut self.nodes[node];
        let lost = match (*wire, &action) {
            (Wire::LosesBatches, Action::Apply(_)) => true,
            (Wire::LosesBatchesOf(partition), Action::Apply(batch)) => batch.partition == partition,
            _ => false,
        };
        if *wire == Wire::Cut || lost {
            return Vec::new();
        }
        match action {
            Action::Hello => {
                let partitions = (0..self.plan.settings.partitions).map(Partition);
                let cursors = partitions.map(|at| rules.cursor(at)).collect();
                let age_floor = rules.age_floor();
                let greeted = Event::Greeted(Greeting { cursors, age_floor });
                return vec![greeted, Event::Epochs(self.poller.all_news())];
            }
            Action::NameHeads(heads) => rules.hello(now, &heads),
            Action::Begin { partition, at } => rules.begin(partition, at),
            Action::Push(push) => rules.push(now, &push),
            Action::Epoch(news) => rules.epoch(&news),
            Action::Clocks(finding) => rules.clocks(finding),
            Action::Apply(mut batch) => {
                if let Some(share) = share {
                    batch.items.retain(|item| match item {
                        Item::Delete { key, .. } => share.owns(key),
                        _ => true,
                    });
                }
                let cursor = rules.apply(now, there, &batch, shelf);
                *last = Some(batch.clone());
                let steps = rules.clock_steps();
                let answer = Answer { cursor, age_floor: rules.age_floor(), wall: there, steps };
                let partition = batch.partition;
                if *wire != Wire::LosesAnswers {
                    return vec![Event::Answered { partition, answer, sent: now, wall: here }];
                }
            }
            Action::SampleHeads(_) | Action::Read { .. } => {}
        }
        Vec::new()
    }

    /// Another invalidator takes over from one that is gone, and knows nothing; it connects to the node.
    pub(crate) fn replace_invalidator(&mut self, node: usize) {
        let partitions = (0..self.plan.settings.partitions).map(Partition).collect();
        self.nodes[node].lane = NodeLane::new(partitions, SKEW_MAX);
        self.connect(node);
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
