//! [`NodeDelivery`]: one task for each cache node of ours: its control connection, the clock, the stream and the region's position,
//! around the pure [`NodeLane`].
//!
//! There is nothing to save here: the cursor lives in the node. Whatever goes wrong, the connection is given up, and the next one
//! begins with the question where the node is.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use protocol::control::{Finding, Push, wire::ToLane, wire::ToNode};
use schemas::{
    cursor::{Partition, Place},
    defaults,
    record::{Record, UnixMicros},
};
use stream::{Entry, Portions, Read, ReadLimit, Reader, StreamError};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::ConnectionError,
    control::{ControlConnection, ControlPort, OUTPUT_BYTES_MAX, out_of_step},
    intake::{Places, Share, measure, partitions},
    node_lane::{Action, Event, NodeLane},
    positions::{Positions, Rounds},
    report::{Report, wall_clock},
    settings::{
        ANSWER_DEADLINE, CONNECT_DELAY_MAX, CONNECT_DELAY_MIN, MEASURE_INTERVAL, READ_BYTES_MAX,
        READ_RECORDS_MAX,
    },
    trouble::Trouble,
};

/// One lane and its surroundings.
pub(crate) struct NodeDelivery<R> {
    pub(crate) port: ControlPort,
    pub(crate) reader: R,
    pub(crate) portions: Portions,
    pub(crate) share: Share,
    pub(crate) positions: Positions,
    pub(crate) rounds: watch::Receiver<Rounds>,
    pub(crate) report: Report,
    pub(crate) clock_skew_max: Duration,
    /// Where the node's cursors were, as far as it has said.
    pub(crate) cursors: Places,
}

/// One connection.
struct Visit {
    connection: ControlConnection,
    lane: NodeLane,
    /// Batches on their way.
    sent: BTreeMap<Partition, Sent>,
    /// What was read and belongs to the batch that comes next.
    read: BTreeMap<Partition, Vec<Waiting>>,
    rounds: Rounds,
    pushed: Option<(Push, Instant)>,
    useful: bool,
}

struct Sent {
    at: Instant,
    waiting: Vec<Waiting>,
}

/// Keys of one transaction that the node has not answered yet.
struct Waiting {
    since: UnixMicros,
    keys: u64,
}

impl<R: Reader> NodeDelivery<R> {
    /// Runs until `shutdown`; an error is a stream that cannot be used any more. If it is to `retire` then, its node gets no deletes any
    /// more, and is told so.
    pub(crate) async fn run(
        mut self,
        shutdown: CancellationToken,
        retire: CancellationToken,
    ) -> Result<(), StreamError> {
        self.deliver(&shutdown).await?;
        if retire.is_cancelled() {
            self.part().await;
        }
        Ok(())
    }

    /// Whoever still asks the node gets nothing. Without this, it would notice by itself that its stream is gone, a little later.
    async fn part(&self) {
        let (stream, partitions) = (self.reader.stream_id(), self.reader.partitions());
        let parting = async {
            let mut connection = ControlConnection::open(&self.port).await?;
            connection.hello(stream, partitions, self.port.ring_version);
            connection.say(&ToNode::Quarantine);
            // It answers the first, and ends the connection because of the second.
            loop {
                connection.turn().await?;
                while connection.hear()?.is_some() {}
            }
        };
        let parted: Result<Result<(), ConnectionError>, _> =
            timeout(ANSWER_DEADLINE, parting).await;
        let node = &self.port.address;
        if let Ok(Err(ConnectionError::Closed | ConnectionError::Refused(_))) = parted {
            tracing::info!(node, "out of the region: it serves nothing any more");
        } else {
            tracing::warn!(node, "out of the region, and not told so: it goes by on_stale");
        }
    }

    async fn deliver(&mut self, shutdown: &CancellationToken) -> Result<(), StreamError> {
        let mut delay = CONNECT_DELAY_MIN;
        loop {
            if self.portions.take().is_empty() {
                // Nothing to deliver; nor does the stream say anything of the databases to us.
                self.report.idle();
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = self.portions.changed() => continue,
                }
            }
            let mut useful = false;
            let visited = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                visited = self.visit(&mut useful) => visited,
            };
            match visited {
                Ok(()) => continue,
                Err(trouble) => trouble.note(&self.report)?,
            }
            if useful {
                delay = CONNECT_DELAY_MIN;
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                stayed = self.stay_away(delay) => stayed?,
            }
            delay = (delay * 2).min(CONNECT_DELAY_MAX);
        }
    }

    /// Waits, and meanwhile looks how much the lane has to catch up with.
    async fn stay_away(&self, delay: Duration) -> Result<(), StreamError> {
        let end = Instant::now() + delay;
        loop {
            match measure(&self.reader, &self.portions.now(), &self.cursors).await {
                Ok(unread) => self.report.waiting(unread.records, unread.since),
                Err(err) => Trouble::Stream(err).note(&self.report)?,
            }
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            sleep(MEASURE_INTERVAL.min(end - now)).await;
        }
    }

    /// One connection. `Ok` is that other partitions are ours: the node is asked anew where it is.
    async fn visit(&mut self, useful: &mut bool) -> Result<(), Trouble> {
        let ours = self.portions.take();
        let connection = ControlConnection::open(&self.port).await?;
        let ours: Vec<Partition> =
            partitions(&self.reader).filter(|partition| ours.has(*partition)).collect();
        let mut visit = Visit {
            connection,
            lane: NodeLane::new(ours, self.clock_skew_max),
            sent: BTreeMap::new(),
            read: BTreeMap::new(),
            rounds: *self.rounds.borrow_and_update(),
            pushed: None,
            useful: false,
        };
        self.report.connected();
        let served = self.serve(&mut visit).await;
        *useful = visit.useful;
        served
    }

    async fn serve(&mut self, visit: &mut Visit) -> Result<(), Trouble> {
        let mut heard_at = Instant::now();
        let mut greeted = false;
        self.step(visit, Event::Connected).await?;
        loop {
            let owes = !greeted || !visit.sent.is_empty() || visit.connection.waiting() > 0;
            if !owes {
                heard_at = Instant::now();
            }
            let deadline = heard_at + ANSWER_DEADLINE;
            let backlog = visit.waiting();
            self.report.waiting(backlog.0, backlog.1);
            // What the lane does itself, such as reading a stream that is far away, is not the node's time.
            let working_since = tokio::select! {
                turned = visit.connection.turn() => {
                    turned?;
                    heard_at = Instant::now();
                    greeted |= self.hear(visit).await?;
                    heard_at
                }
                () = self.reader.changed(), if greeted && visit.lane.has_idle() => {
                    let now = Instant::now();
                    for partition in partitions(&self.reader) {
                        self.step(visit, Event::Changed(partition)).await?;
                    }
                    now
                }
                () = self.portions.changed() => return Ok(()),
                changed = self.rounds.changed(), if greeted => {
                    if changed.is_err() {
                        return Ok(()); // The task that polls has ended, with everything else.
                    }
                    let now = Instant::now();
                    self.look_at_rounds(visit).await?;
                    now
                }
                () = sleep_until(deadline), if owes => {
                    return Err(ConnectionError::Deadline(ANSWER_DEADLINE).into());
                }
            };
            heard_at += working_since.elapsed();
            if visit.connection.waiting() > OUTPUT_BYTES_MAX {
                return Err(ConnectionError::Deadline(ANSWER_DEADLINE).into());
            }
        }
    }

    /// Takes what the node has said. Returns whether it has greeted.
    async fn hear(&mut self, visit: &mut Visit) -> Result<bool, Trouble> {
        // What polls began before this was read must be known to the lane first.
        self.look_at_rounds(visit).await?;
        let mut greeted = false;
        while let Some(message) = visit.connection.hear()? {
            match message {
                ToLane::Greeting(introduction) => {
                    greeted = true;
                    // Before its heads are named, and before any record.
                    visit.connection.say(&ToNode::Rings(self.share.said.clone()));
                    self.step(visit, Event::Greeted(introduction.greeting)).await?;
                }
                ToLane::Answer { partition, answer } => {
                    let Some(sent) = visit.sent.remove(&partition) else {
                        return Err(out_of_step(&ToLane::Answer { partition, answer }).into());
                    };
                    if let Ok(cursor) = answer.cursor {
                        self.cursors.insert(partition, cursor);
                        self.applied(visit, &sent);
                    }
                    let (sent, wall) = (self.moment(sent.at), wall_clock());
                    let event = Event::Answered { partition, answer, sent, wall };
                    self.step(visit, event).await?;
                }
                ToLane::Statistic { .. } | ToLane::End => {}
                ToLane::Challenge(_) | ToLane::Refused(_) | ToLane::Copy(_) | ToLane::Copied(_) => {
                    return Err(out_of_step(&message).into());
                }
            }
        }
        Ok(greeted)
    }

    fn applied(&self, visit: &mut Visit, sent: &Sent) {
        visit.useful = true;
        self.report.recovered();
        for waiting in &sent.waiting {
            self.report.deleted(waiting.since, waiting.keys);
        }
    }

    /// The polls that have begun, or are over, since the lane looked last.
    async fn look_at_rounds(&mut self, visit: &mut Visit) -> Result<(), Trouble> {
        let rounds = *self.rounds.borrow_and_update();
        if rounds == visit.rounds {
            return Ok(());
        }
        let before = std::mem::replace(&mut visit.rounds, rounds);
        // A round that is over began before one that has just begun. Where its beginning was missed, the lane says what the node
        // had said before an earlier one: that is older, and as true.
        if let Some((_, poll)) = rounds.polled.filter(|_| rounds.polled != before.polled) {
            self.step(visit, Event::Polled(poll)).await?;
        }
        if rounds.began != before.began {
            self.step(visit, Event::PollBegan).await?;
        }
        Ok(())
    }

    /// Gives the lane an event, and does what it says; that may bring the next event. The lane hears of an epoch before anything
    /// of it.
    async fn step(&mut self, visit: &mut Visit, event: Event) -> Result<(), Trouble> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.positions.now();
            let epochs = self.positions.news_after(visit.lane.told());
            let mut actions = visit.lane.step(now, Event::Epochs(epochs));
            actions.append(&mut visit.lane.step(now, event));
            for action in actions {
                if let Some(next) = self.act(visit, action).await? {
                    events.push_back(next);
                }
            }
        }
        Ok(())
    }

    async fn act(&mut self, visit: &mut Visit, action: Action) -> Result<Option<Event>, Trouble> {
        let connection = &mut visit.connection;
        match action {
            Action::Hello => {
                visit.sent.clear();
                let (stream, partitions) = (self.reader.stream_id(), self.reader.partitions());
                connection.hello(stream, partitions, self.port.ring_version);
            }
            Action::SampleHeads(partitions) => {
                let mut heads = Vec::with_capacity(partitions.len());
                for partition in partitions {
                    heads.push((partition, self.reader.head(partition).await?));
                }
                return Ok(Some(Event::Heads(heads)));
            }
            Action::NameHeads(heads) => connection.say(&ToNode::Heads(heads)),
            Action::Begin { partition, at } => connection.say(&ToNode::Begin { partition, at }),
            Action::Read { partition, after } => {
                return self.read(visit, partition, after).await.map(Some);
            }
            Action::Apply(batch) => {
                let partition = batch.partition;
                connection.say(&ToNode::Apply(batch));
                let waiting = visit.read.remove(&partition).unwrap_or_default();
                visit.sent.insert(partition, Sent { at: Instant::now(), waiting });
            }
            Action::Push(push) => visit.push(push),
            Action::Epoch(news) => connection.say(&ToNode::Epoch(news)),
            Action::Clocks(finding) => {
                let Finding { agreement, steps } = finding;
                tracing::info!(node = self.port.address, ?agreement, steps, "clocks");
                connection.say(&ToNode::Clocks(finding));
            }
        }
        Ok(None)
    }

    async fn read(
        &mut self,
        visit: &mut Visit,
        partition: Partition,
        after: Place,
    ) -> Result<Event, Trouble> {
        let limit = ReadLimit { records_max: READ_RECORDS_MAX, bytes_max: READ_BYTES_MAX };
        let mut entries = match self.reader.read_after(partition, after, limit).await? {
            Read::Entries(entries) => entries,
            Read::Gap { resume } => {
                self.report.gap(&format!("partition {partition}, from {after} to {resume}"));
                return Ok(Event::Gap { partition, after, resume });
            }
        };
        let mut waiting = Vec::new();
        for Entry { record, .. } in &mut entries {
            match record {
                Record::Invalidations(invalidations) => {
                    self.share.retain(invalidations);
                    let all = invalidations.transactions.iter();
                    waiting.extend(all.filter(|it| !it.keys.is_empty()).map(|it| Waiting {
                        since: it.committed_at.unwrap_or(it.received_at),
                        keys: u64::try_from(it.keys.len()).unwrap_or(u64::MAX),
                    }));
                }
                Record::Progress(progress) => self.positions.progressed(progress),
                Record::Epoch(start) => self.positions.announced(start, &self.reader).await?,
                Record::Floor(floor) => self.report.floor(&floor.reason),
                Record::TermStart(_) => {}
            }
        }
        visit.read.insert(partition, waiting);
        Ok(Event::Entries { partition, after, entries })
    }

    fn moment(&self, at: Instant) -> schemas::moment::Moment {
        self.positions.now().earlier(at.elapsed())
    }
}

impl Visit {
    /// News at once; what the node knows already, now and then.
    fn push(&mut self, push: Push) {
        let old = self.pushed.as_ref().is_none_or(|(before, at)| {
            let Push { region, primary, highest, epoch, .. } = *before;
            let same = (region, primary, highest, epoch)
                == (push.region, push.primary, push.highest, push.epoch);
            !same || at.elapsed() >= defaults::PUSH_INTERVAL
        });
        if old {
            self.connection.say(&ToNode::Push(push));
            self.pushed = Some((push, Instant::now()));
        }
    }

    /// Transactions that the node has not answered, and since when the oldest waits.
    fn waiting(&self) -> (u64, Option<UnixMicros>) {
        let all = || self.sent.values().flat_map(|sent| &sent.waiting);
        let count = u64::try_from(all().count()).unwrap_or(u64::MAX);
        (count, all().map(|waiting| waiting.since).min())
    }
}
