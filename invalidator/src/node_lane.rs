//! [`NodeLane`]: the pure core of the connection to one cache node of ours. No clock, no socket.
//!
//! The cursor lives in the node, beside the data that it protects, so a lane has nothing to save. It
//! asks the node where it is, names where the stream ends, and sends what lies between and what comes
//! after, one batch per partition on its way at a time. What the node refuses is read again from where
//! the node stands.

use std::{collections::BTreeMap, time::Duration};

use protocol::control::{
    Agreement, Answer, Batch, EpochNews, Finding, Greeting, Item, Push, Rewind,
};
use schemas::{
    cure::Cure,
    cursor::{Partition, Place},
    moment::Moment,
    record::{Invalidation, Record, UnixMicros},
    version::Version,
};
use stream::{
    Entry,
    follow::{Step, follow},
};

use crate::poller::Poll;

/// What happens to a lane.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection is there.
    Connected,
    /// The connection is gone; answers that were on their way are lost.
    Disconnected,
    /// The node answered `Hello`.
    Greeted(Greeting),
    /// Where the lane's partitions ended after the node had answered.
    Heads(Vec<(Partition, Place)>),
    /// What the stream has after `after`; empty at the head.
    Entries { partition: Partition, after: Place, entries: Vec<Entry> },
    /// The stream does not reach back to `after` any more: it goes on after `resume`.
    Gap { partition: Partition, after: Place, resume: Place },
    /// There may be more to read.
    Changed(Partition),
    /// The node answered the partition's batch, which was sent at `sent` by this process's clock; `wall` is its own
    /// wall clock at the time of the answer.
    Answered { partition: Partition, answer: Answer, sent: Moment, wall: UnixMicros },
    /// A round of questions to the region's instances begins.
    PollBegan,
    /// It is over.
    Polled(Poll),
    /// The epochs after [`NodeLane::told`] that are known, oldest first: to be said after `Greeted`, and before anything of a new
    /// one.
    Epochs(Vec<EpochNews>),
}

/// What the shell is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the node who it is.
    Hello,
    /// Find out where these partitions end, now.
    SampleHeads(Vec<Partition>),
    /// Tell the node where they end.
    NameHeads(Vec<(Partition, Place)>),
    /// Tell the node that what is before will not come.
    Begin { partition: Partition, at: Place },
    /// Read the partition.
    Read { partition: Partition, after: Place },
    /// Send to the node.
    Apply(Batch),
    /// Send to the node.
    Push(Push),
    /// Send to the node.
    Epoch(EpochNews),
    /// Send to the node.
    Clocks(Finding),
}

/// How far a partition's records were sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    up_to: Place,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The shell was told to read.
    Reading,
    /// A batch is on its way.
    Waiting,
    /// Nothing more was there.
    AtHead,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct NodeLane {
    partitions: Vec<Partition>,
    clock_skew_max: Duration,
    connected: bool,
    /// See [`NodeLane::told`].
    told: u16,
    cursors: Vec<Option<Place>>,
    /// Empty until the heads are known.
    sent: BTreeMap<Partition, Sent>,
    /// What the node said last, on this connection.
    age_floor: Option<Version>,
    /// The same when the round of questions began.
    echo: Option<Version>,
    /// Likewise.
    finding: Option<Finding>,
}

impl NodeLane {
    /// A lane for these partitions; not connected.
    pub fn new(partitions: Vec<Partition>, clock_skew_max: Duration) -> NodeLane {
        NodeLane {
            partitions,
            clock_skew_max,
            connected: false,
            told: 0,
            cursors: Vec::new(),
            sent: BTreeMap::new(),
            age_floor: None,
            echo: None,
            finding: None,
        }
    }

    /// Takes one event; `now` is this process's monotonic clock.
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Action> {
        match event {
            Event::Connected => {
                self.reset();
                self.connected = true;
                vec![Action::Hello]
            }
            Event::Disconnected => {
                self.reset();
                Vec::new()
            }
            Event::Greeted(greeting) => {
                self.age_floor = Some(greeting.age_floor);
                self.cursors = greeting.cursors;
                vec![Action::SampleHeads(self.partitions.clone())]
            }
            Event::Heads(heads) => self.begin(heads),
            Event::Entries { partition, after, entries } => self.read(partition, after, entries),
            Event::Gap { partition, after, resume } => self.gap(partition, after, resume),
            Event::Changed(partition) => self.read_on(partition, State::AtHead),
            Event::Answered { partition, answer, sent, wall } => {
                let mut actions = Vec::from_iter(self.clocks(now, &answer, sent, wall));
                self.age_floor = Some(answer.age_floor);
                actions.extend(self.answered(partition, answer.cursor));
                actions
            }
            Event::PollBegan => {
                self.echo = self.age_floor;
                Vec::new()
            }
            Event::Polled(poll) => self.push(&poll).into_iter().collect(),
            Event::Epochs(epochs) => self.tell(epochs),
        }
    }

    /// Whether every partition was sent up to its end.
    pub fn is_at_head(&self) -> bool {
        self.sent.len() == self.partitions.len()
            && self.sent.values().all(|sent| sent.state == State::AtHead)
    }

    /// The newest epoch that the node was told of on this connection; 0 if it was told of none.
    pub fn told(&self) -> u16 {
        self.told
    }

    /// Whether some partition was sent up to its end: then there may be more to read.
    pub fn has_idle(&self) -> bool {
        self.sent.values().any(|sent| sent.state == State::AtHead)
    }

    fn reset(&mut self) {
        *self = NodeLane::new(std::mem::take(&mut self.partitions), self.clock_skew_max);
    }

    /// Each connection hears of every epoch once, oldest first; before the node has answered, of none.
    fn tell(&mut self, epochs: Vec<EpochNews>) -> Vec<Action> {
        let mut actions = Vec::new();
        for news in epochs {
            if self.age_floor.is_some() && news.epoch > self.told {
                self.told = news.epoch;
                actions.push(Action::Epoch(news));
            }
        }
        actions
    }

    fn begin(&mut self, heads: Vec<(Partition, Place)>) -> Vec<Action> {
        let (mut begins, mut reads) = (Vec::new(), Vec::new());
        for &(partition, head) in &heads {
            let cursor = self.cursors.get(usize::from(partition.0)).copied().flatten();
            let after = match cursor {
                Some(cursor) if Cure::LaneResumesAtNodeCursor.works() => cursor,
                Some(_) => head,
                None => {
                    begins.push(Action::Begin { partition, at: head });
                    head
                }
            };
            self.sent.insert(partition, Sent { up_to: after, state: State::Reading });
            reads.push(Action::Read { partition, after });
        }
        let heads = if Cure::LaneNamesHeads.works() {
            heads
        } else {
            heads.into_iter().map(|(partition, _)| (partition, Place::START)).collect()
        };
        let mut actions = vec![Action::NameHeads(heads)];
        actions.append(&mut begins);
        actions.append(&mut reads);
        actions
    }

    fn read(&mut self, partition: Partition, after: Place, entries: Vec<Entry>) -> Vec<Action> {
        let Some(sent) = self.sent.get_mut(&partition) else { return Vec::new() };
        if sent.up_to != after || sent.state != State::Reading {
            return Vec::new(); // Asked before the lane went back.
        }
        let (mut to, mut items, mut hole) = (after, Vec::new(), None);
        for entry in entries {
            match follow(to, &entry) {
                Step::Next => {
                    to = entry.place;
                    items_of(entry.record, &mut items);
                }
                Step::Late => {} // Its writer was replaced; the successor says it again.
                Step::Hole => {
                    let sequence = entry.place.sequence.saturating_sub(1);
                    hole = Some(Place { sequence, ..entry.place });
                    break;
                }
            }
        }
        match hole {
            // What is before a hole is sent first; then it is read again.
            _ if to > after => {
                *sent = Sent { up_to: to, state: State::Waiting };
                vec![Action::Apply(Batch { partition, from: after, to, items })]
            }
            Some(resume) => self.gap(partition, after, resume),
            None => {
                sent.state = State::AtHead;
                Vec::new()
            }
        }
    }

    fn gap(&mut self, partition: Partition, after: Place, resume: Place) -> Vec<Action> {
        let Some(sent) = self.sent.get_mut(&partition).filter(|sent| sent.up_to == after) else {
            return Vec::new();
        };
        *sent = Sent { up_to: resume, state: State::Reading };
        let begin = Action::Begin { partition, at: resume };
        let read = Action::Read { partition, after: resume };
        if Cure::LaneReportsGap.works() { vec![begin, read] } else { vec![read] }
    }

    fn answered(&mut self, partition: Partition, cursor: Result<Place, Rewind>) -> Vec<Action> {
        if let Err(Rewind { cursor }) = cursor
            && Cure::LaneRewinds.works()
        {
            let Some(cursor) = cursor else { return vec![Action::Hello] };
            if let Some(sent) = self.sent.get_mut(&partition) {
                sent.up_to = cursor;
            }
        }
        self.read_on(partition, State::Waiting)
    }

    fn read_on(&mut self, partition: Partition, from: State) -> Vec<Action> {
        let Some(sent) = self.sent.get_mut(&partition).filter(|sent| sent.state == from) else {
            return Vec::new();
        };
        sent.state = State::Reading;
        vec![Action::Read { partition, after: sent.up_to }]
    }

    fn push(&self, poll: &Poll) -> Option<Action> {
        let Poll { region, primary, highest, epoch } = *poll;
        let echo = self.echo.filter(|_| self.connected)?;
        Some(Action::Push(Push { region, primary, highest, echo, epoch }))
    }

    /// The node read its clock between the batch's sending and now.
    fn clocks(
        &mut self,
        now: Moment,
        answer: &Answer,
        sent: Moment,
        wall: UnixMicros,
    ) -> Option<Action> {
        let apart = Duration::from_micros(wall.0.abs_diff(answer.wall.0));
        let far = apart > self.clock_skew_max.saturating_add(now.since(sent));
        let agreement =
            if far && Cure::LaneMeasuresSkew.works() { Agreement::Apart } else { Agreement::Close };
        let finding = Finding { agreement, steps: answer.steps };
        if self.finding == Some(finding) {
            return None;
        }
        self.finding = Some(finding);
        Some(Action::Clocks(finding))
    }
}

/// What a node hears of a record. Epochs go their own way, before the batch.
fn items_of(record: Record, items: &mut Vec<Item>) {
    match record {
        Record::Invalidations(invalidations) => {
            for transaction in invalidations.transactions {
                let version = transaction.version;
                let delete = |it: Invalidation| Item::Delete { key: it.key, version };
                items.extend(transaction.keys.into_iter().map(delete));
                if transaction.last || !Cure::AppliedWithLastPart.works() {
                    items.push(Item::Applied { version });
                }
            }
        }
        Record::Progress(progress) => {
            items.push(Item::Progress { version: progress.version, at: progress.at });
        }
        Record::Floor(floor) => {
            items.push(Item::Floor { scope: floor.scope, version: floor.version });
        }
        Record::TermStart(_) | Record::Epoch(_) => {}
    }
}

#[cfg(test)]
mod model;
