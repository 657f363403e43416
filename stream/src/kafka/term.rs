//! [`Leader`]: one leadership, from its claim to its end.
//!
//! A term begins in this order, each step durable before the next:
//! 1. It is claimed. From here on nothing counts that an older writer notes.
//! 2. The state up to the claim is read: what it says is all that there is to know.
//! 3. The checkpoints are written down as this term's, unchanged.
//! 4. Each partition gets the term's first record; then the newest epochs once more, because a writer may have died
//!    between the table and the partitions; then, if the log is shorter than a checkpoint says, a floor.
//! 5. The checkpoints are written down once more, with where the partitions end now: what was lost has been said.
//! 6. That it has begun is noted.

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    time::Duration,
};

use rdkafka::{
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, ThreadedProducer},
};
use schemas::{
    cursor::{Partition, Place, Term},
    record::{self, Checkpoint, EpochStart, Floor, Record, Scope},
    version::Version,
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{
    Kafka,
    client::{Context, POLL, Stop, Trouble, With, append_error},
    ends,
    event::{Delivery, Event, Told},
    follower::reading,
    lead::Lead,
    outbox::{Done, Outbox, Parcel},
    requests::Requests,
    scribe::Scribe,
    state::{Note, Saved, State},
    wire,
};
use crate::{
    Metrics, StreamError,
    term::{Sequencer, lost_tail},
};

/// How often a checkpoint is written down, at most; a crash loses as much, which is then published again.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(100);
/// After this without an acknowledgement, it is said that the brokers take nothing.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Between attempts to send again what was refused.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(500);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(8);
/// How long an end waits for what is on its way.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// How often a claim that came second is made again.
const CLAIMS_MAX: u32 = 16;

/// See the module.
pub(super) struct Leader {
    kafka: Kafka,
    /// Held as long as we lead: whoever leaves the group is replaced.
    lead: Option<Lead>,
    context: Context,
    events: mpsc::Sender<Event>,
    room: Arc<Semaphore>,
    scribe: Scribe,
    producer: Option<ThreadedProducer<Delivery>>,
    /// Counts producers, so that what an older one says late is told apart.
    life: u32,
    term: watch::Sender<Term>,
    /// The term that we have claimed last; 0 before the first.
    claimed: Term,
    trouble: watch::Sender<Trouble>,
    sequencer: Sequencer,
    /// Where the partitions ended when the term began.
    before: Vec<Place>,
    outbox: Outbox,
    /// Sources that have a checkpoint in the state.
    saved: BTreeSet<Arc<str>>,
    /// The newest that stands behind what was acknowledged, not written down yet.
    due: Option<Saved>,
    saved_at: Instant,
    acked_at: Instant,
    requests: Requests,
    closing: Stop,
}

impl Leader {
    pub(super) fn new(
        kafka: &Kafka,
        events: mpsc::Sender<Event>,
        room: Arc<Semaphore>,
        closing: Stop,
    ) -> Result<Leader, StreamError> {
        let (settings, context) = (kafka.settings(), kafka.context().clone());
        let scribe = Scribe::new(settings, &context, settings.state_topic())?;
        let mut leader = Leader {
            kafka: kafka.clone(),
            lead: None,
            context,
            events,
            room,
            scribe,
            producer: None,
            life: 0,
            term: watch::channel(Term(0)).0,
            claimed: Term(0),
            trouble: watch::channel(None).0,
            sequencer: Sequencer::begin(Term(0), &[]).0,
            before: Vec::new(),
            outbox: Outbox::default(),
            saved: BTreeSet::new(),
            due: None,
            saved_at: Instant::now(),
            acked_at: Instant::now(),
            requests: Requests::default(),
            closing,
        };
        leader.producer = Some(leader.new_producer()?);
        Ok(leader)
    }

    /// A producer; before it can send anything, it needs a moment to get its id.
    fn new_producer(&mut self) -> Result<ThreadedProducer<Delivery>, StreamError> {
        self.life = self.life.wrapping_add(1);
        let (context, events) = (self.context.clone(), self.events.clone());
        let delivery = With { context, told: Told { life: self.life, events } };
        let config = self.kafka.settings().producer();
        config.create_with_context(delivery).map_err(append_error)
    }

    /// The group has chosen us.
    pub(super) fn won(&mut self, lead: Lead) {
        self.lead = Some(lead);
    }

    pub(super) fn trouble(&self) -> watch::Receiver<Trouble> {
        self.trouble.subscribe()
    }

    pub(super) fn term(&self) -> watch::Receiver<Term> {
        self.term.subscribe()
    }

    /// Begins a term; returns the checkpoints to resume from. See the module for the order.
    pub(super) fn begin_term(&mut self) -> Result<Vec<Checkpoint>, StreamError> {
        let (term, state) = self.claim()?;
        self.save(term, &state, None)?;
        self.saved = state.checkpoints.keys().cloned().collect();
        let settings = self.kafka.settings();
        let reading = reading(settings, &self.context)?;
        let partitions = self.kafka.partitions();
        let found = ends::ends(&reading, &settings.topic, partitions, state.begun)?;
        drop(reading.unassign());
        let checkpointed = newest_ends(&state);
        let ends = |(at, end): (usize, &ends::End)| match end.place {
            Some(place) => place,
            // Retention took everything; the checkpoint knows where it ended.
            None if end.next_offset > 0 => checkpointed.get(at).copied().unwrap_or(Place::START),
            None => Place::START,
        };
        let ends: Vec<Place> = found.iter().enumerate().map(ends).collect();
        let (sequencer, starts) = Sequencer::begin(term, &ends);
        (self.sequencer, self.before) = (sequencer, ends);
        if self.producer.is_none() {
            self.producer = Some(self.new_producer()?);
        }
        let number = u64::MAX;
        for (partition, record) in starts.into_iter().chain(self.first_records(&state)) {
            let mut encoded = Vec::new();
            record::encode(&record, &mut encoded);
            self.send(number, partition, &encoded)?;
        }
        self.flush()?;
        self.save(term, &state, Some(self.sequencer.ends(&self.before)))?;
        self.note(&Note::begun(term))?;
        for (source, old) in &state.replaced {
            self.note(&Note::removed_checkpoint(source, *old))?;
        }
        self.requests.begin(&state.resume());
        self.term.send_replace(term);
        self.metrics().terms.inc();
        tracing::info!(%term, topic = self.kafka.settings().topic, "leading the stream");
        Ok(state.resume())
    }

    /// Writes the checkpoints of `state` down as this term's, with other ends if there are any to say.
    fn save(
        &mut self,
        term: Term,
        state: &State,
        ends: Option<Vec<Place>>,
    ) -> Result<(), StreamError> {
        for saved in state.checkpoints.values() {
            let ends = ends.as_ref().unwrap_or(&saved.ends).clone();
            let checkpoint = saved.checkpoint.clone();
            self.note(&Note::checkpoint(&Saved { term, checkpoint, ends }))?;
        }
        Ok(())
    }

    /// Claims the next term; returns the state up to the claim.
    fn claim(&mut self) -> Result<(Term, Arc<State>), StreamError> {
        for _ in 0..CLAIMS_MAX {
            let newest = self.kafka.state().fresh()?.term.number;
            let term = Term(newest.checked_add(1).ok_or_else(|| StreamError::Damaged {
                what: "the stream has used up all terms".to_owned(),
            })?);
            let holder = format!("{} {:016x}", std::process::id(), super::random());
            self.claimed = term; // Before it can be read: our own claim is nobody else's.
            let offset = self.note(&Note::claim(term, &holder))?;
            let state = self.kafka.state().with_offset(offset)?;
            if state.term.number == term.0 && *state.term.holder == *holder {
                return Ok((term, state));
            }
            if state.term.number > term.0 {
                return Err(StreamError::Deposed { term: Term(state.term.number) });
            }
        }
        Err(StreamError::Append { source: "others claim every term first".into() })
    }

    /// What follows the first record of the term on each partition.
    fn first_records(&self, state: &State) -> Vec<(Partition, Record)> {
        let mut records: Vec<Record> =
            state.newest_epochs().into_iter().map(Record::Epoch).collect();
        let resumed = state.resume();
        for (saved, resumed) in state.checkpoints.values().zip(resumed) {
            if lost_tail(&saved.ends, &self.before) {
                self.metrics().lost_tails.inc();
                tracing::error!(
                    source = &*resumed.source,
                    "the log lost records that were acknowledged, raising a floor over all keys"
                );
                records.push(lost_floor(Arc::clone(&resumed.source), resumed.version));
            }
        }
        let everywhere = (0..self.kafka.partitions()).map(Partition);
        everywhere
            .flat_map(|partition| records.iter().map(move |record| (partition, record.clone())))
            .collect()
    }

    /// Serves events until the end.
    pub(super) fn run(mut self, events: &mpsc::Receiver<Event>) {
        let mut close_at = None;
        loop {
            match events.recv_timeout(POLL) {
                Ok(event) => self.handle(event),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => self.closing.now(),
            }
            self.tick();
            if self.closing.is_set() {
                let late = *close_at.get_or_insert_with(|| Instant::now() + CLOSE_DEADLINE);
                if self.outbox.is_empty() || Instant::now() >= late {
                    break;
                }
            }
        }
        let late = Instant::now() + CLOSE_DEADLINE;
        if let Some(due) = self.due.take()
            && self.deposed().is_none()
            && let Err(err) = self.scribe.write(&Note::checkpoint(&due), || Instant::now() < late)
        {
            tracing::warn!(%err, "the last checkpoint was not written; what it covers is published again");
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.kafka.settings().metrics
    }

    fn handle(&mut self, event: Event) {
        let handled = match event {
            Event::Append { parcel, epochs } => self.append(parcel, &epochs),
            Event::Delivered { life, .. } if life != self.life => Ok(()),
            Event::Delivered { number, outcome: Ok(()), .. } => {
                self.outbox.delivered(number);
                self.acknowledge()
            }
            Event::Delivered { outcome: Err(err), .. } => Err(append_error(err)),
            Event::Close => {
                self.closing.now();
                Ok(())
            }
        };
        if let Err(err) = handled {
            self.again(err);
        }
    }

    fn append(&mut self, parcel: Parcel, epochs: &[EpochStart]) -> Result<(), StreamError> {
        if self.outbox.is_empty() {
            self.acked_at = Instant::now();
        }
        if let Some(checkpoint) = &parcel.checkpoint {
            self.requests.learn(checkpoint);
        }
        let number = self.outbox.push(parcel);
        for start in epochs {
            self.announce(start)?;
        }
        self.post(number)
    }

    /// Enters an epoch into the table, before anybody can read a record behind its announcement.
    fn announce(&mut self, start: &EpochStart) -> Result<(), StreamError> {
        let offset = self.note(&Note::epoch(start, self.sequencer.term()))?;
        let state = self.kafka.state().with_offset(offset)?;
        match self.deposed_by(&state) {
            Some(err) => Err(err),
            None => Ok(()),
        }
    }

    /// Hands a batch to the producer.
    fn post(&mut self, number: u64) -> Result<(), StreamError> {
        // Taken out while they are sent, and put back for the case that they must be sent again.
        let Some(records) = self.outbox.records_mut(number).map(std::mem::take) else {
            return Ok(());
        };
        let mut posted = Ok(());
        for (partition, encoded) in &records {
            posted = self.send(number, *partition, encoded);
            if posted.is_err() {
                break;
            }
        }
        if let Some(place) = self.outbox.records_mut(number) {
            *place = records;
        }
        posted?;
        if self.outbox.has_checkpoint(number) {
            self.outbox.sent(number, self.sequencer.ends(&self.before));
        }
        self.acknowledge()
    }

    fn send(
        &mut self,
        number: u64,
        partition: Partition,
        encoded: &[u8],
    ) -> Result<(), StreamError> {
        let place = self.sequencer.place(partition).ok_or_else(|| StreamError::Damaged {
            what: format!("there is no partition {partition}"),
        })?;
        let at = (self.kafka.settings().now)();
        let producer = self.producer.as_ref().ok_or(StreamError::Closed)?;
        let mut message = BaseRecord::<(), [u8], Box<u64>>::with_opaque_to(
            &self.kafka.settings().topic,
            Box::new(number),
        )
        .partition(i32::from(partition.0))
        .payload(encoded)
        .headers(wire::headers(place))
        .timestamp(i64::try_from(at.0 / 1000).unwrap_or(i64::MAX));
        loop {
            match producer.send(message) {
                Ok(()) => {
                    self.metrics().records.inc();
                    self.metrics().bytes.inc_by(u64::try_from(encoded.len()).unwrap_or(0));
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                    // Many small records: the room is counted in bytes.
                    message = unsent;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((err, _)) => return Err(append_error(err)),
            }
        }
    }

    /// Waits until the producer has nothing on its way.
    fn flush(&self) -> Result<(), StreamError> {
        use rdkafka::producer::Producer as _;
        let producer = self.producer.as_ref().ok_or(StreamError::Closed)?;
        loop {
            match producer.flush(POLL) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) if self.may_go_on() => {
                }
                Err(err) => return Err(append_error(err)),
            }
        }
    }

    /// Acknowledges what is done.
    fn acknowledge(&mut self) -> Result<(), StreamError> {
        while let Some(Done { parcel, ends }) = self.outbox.pop_done() {
            self.acked_at = Instant::now();
            if self.trouble.send_replace(None).is_some() {
                tracing::info!("the stream can be written again");
            }
            if let Some(checkpoint) = parcel.checkpoint {
                let first = !self.saved.contains(&checkpoint.source);
                let term = self.sequencer.term();
                let saved = Saved { term, checkpoint, ends };
                if first || parcel.must_save {
                    self.note(&Note::checkpoint(&saved))?;
                    self.saved.insert(Arc::clone(&saved.checkpoint.source));
                    (self.due, self.saved_at) = (None, Instant::now());
                } else {
                    self.due = Some(saved);
                }
            }
            self.make_room(parcel.kib);
            drop(parcel.ack.send(Ok(()))); // Nobody may be waiting any more.
        }
        Ok(())
    }

    fn tick(&mut self) {
        if let Some(err) = self.deposed() {
            return self.refuse(&err);
        }
        let now = Instant::now();
        if !self.outbox.is_empty() && now >= self.acked_at + SILENCE_MAX {
            let said = self.context.said.borrow().clone();
            self.complain(said.unwrap_or_else(|| "the brokers do not answer".into()));
        }
        if !self.closing.is_set()
            && let Err(err) = self.serve_requests()
        {
            return self.again(err);
        }
        if self.due.is_some() && now >= self.saved_at + CHECKPOINT_INTERVAL {
            match self.scribe.is_busy() {
                Ok(true) => {}
                Ok(false) => {
                    self.saved_at = now;
                    if let Some(due) = self.due.take()
                        && let Err(err) = self.scribe.start(&Note::checkpoint(&due))
                    {
                        tracing::warn!(%err, "a checkpoint was not written; the next one will be");
                    }
                }
                Err(err) => {
                    tracing::warn!(%err, "a checkpoint was not written; the next one will be");
                }
            }
        }
    }

    /// Appends what a tool asks for, one request after the other, and takes it away once it is durable.
    fn serve_requests(&mut self) -> Result<(), StreamError> {
        if let Some(id) = self.requests.done() {
            self.note(&Note::request_done(&id))?;
        }
        let partitions = self.kafka.partitions();
        let next = self.requests.next(&self.kafka.state().known().requests, partitions);
        next.map_or(Ok(()), |parcel| self.append(parcel, &[]))
    }

    /// The brokers refused something: everything that waits is sent again, in a new term, until they take it.
    fn again(&mut self, err: StreamError) {
        let mut delay = RETRY_DELAY_MIN;
        let mut err = err;
        loop {
            if matches!(err, StreamError::Deposed { .. } | StreamError::Damaged { .. }) {
                return self.refuse(&err);
            }
            if let Some(deposed) = self.deposed() {
                return self.refuse(&deposed);
            }
            self.metrics().refusals.inc();
            self.complain(chain(&err).into());
            self.producer = None; // Gives up what it has on its way.
            std::thread::sleep(delay);
            delay = delay.saturating_mul(2).min(RETRY_DELAY_MAX);
            if let Some(deposed) = self.deposed() {
                return self.refuse(&deposed);
            }
            if self.closing.is_set() {
                return self.refuse(&StreamError::Closed);
            }
            self.outbox.unsend();
            let begun = self.begin_term();
            let sent = begun.and_then(|_| {
                let numbers = self.outbox.numbers();
                numbers.into_iter().try_for_each(|number| self.post(number))
            });
            match sent {
                Ok(()) => return,
                Err(next) => err = next,
            }
        }
    }

    /// Nothing that waits will ever be written by us.
    fn refuse(&mut self, err: &StreamError) {
        self.due = None;
        self.producer = None;
        self.lead = None;
        let refusals: Vec<Parcel> = self.outbox.drain().collect();
        for parcel in refusals {
            self.make_room(parcel.kib);
            drop(parcel.ack.send(Err(match err {
                StreamError::Deposed { term } => StreamError::Deposed { term: *term },
                StreamError::Damaged { what } => StreamError::Damaged { what: what.clone() },
                _ => StreamError::Closed,
            })));
        }
    }

    fn make_room(&self, kib: u32) {
        self.room.add_permits(usize::try_from(kib).unwrap_or(0));
        self.metrics().in_flight_kib.dec_by(i64::from(kib));
    }

    fn complain(&self, what: Arc<str>) {
        if self.trouble.send_replace(Some(Arc::clone(&what))).is_none() {
            tracing::error!(%what, "the stream cannot be written; trying again until it can");
        }
    }

    fn note(&mut self, note: &Note) -> Result<i64, StreamError> {
        let (kafka, closing, ours) = (&self.kafka, &self.closing, self.claimed);
        let go_on = || !closing.is_set() && !is_deposed(ours, &kafka.state().known());
        match self.scribe.write(note, go_on) {
            Err(StreamError::Closed) => Err(self.deposed().unwrap_or(StreamError::Closed)),
            written => written,
        }
    }

    fn may_go_on(&self) -> bool {
        !self.closing.is_set() && self.deposed().is_none()
    }

    /// Whether another one leads.
    fn deposed(&self) -> Option<StreamError> {
        self.deposed_by(&self.kafka.state().known())
    }

    fn deposed_by(&self, state: &State) -> Option<StreamError> {
        is_deposed(self.claimed, state)
            .then_some(StreamError::Deposed { term: Term(state.term.number) })
    }
}

/// Whether a later term than `ours` was claimed; 0 is before every term.
fn is_deposed(ours: Term, state: &State) -> bool {
    ours.0 > 0 && state.term.number > ours.0
}

/// Where each partition ended behind the checkpoint that knows most.
fn newest_ends(state: &State) -> Vec<Place> {
    let mut newest: Vec<Place> = Vec::new();
    for saved in state.checkpoints.values() {
        newest.resize(newest.len().max(saved.ends.len()), Place::START);
        for (newest, end) in newest.iter_mut().zip(&saved.ends) {
            *newest = (*newest).max(*end);
        }
    }
    newest
}

fn lost_floor(source: Arc<str>, version: Version) -> Record {
    Record::Floor(Floor {
        source,
        scope: Scope::All,
        version,
        reason: Arc::from("the log lost records that were acknowledged"),
    })
}

/// An error and its causes, in one line.
fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    for cause in std::iter::successors(err.source(), |err| err.source()) {
        let level = cause.to_string();
        // librdkafka's errors repeat their causes.
        if !text.contains(&level) {
            text.push_str(": ");
            text.push_str(&level);
        }
    }
    text
}
