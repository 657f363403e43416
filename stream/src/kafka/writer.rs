//! [`KafkaWriter`]: the leader's side. A thread of its own gives records their places, hands them to the producer, and
//! acknowledges batches in order once the brokers have.
//!
//! While the brokers take nothing, everything waits, in order: the producer tries for ever, and the full room is the
//! back-pressure. What a broker refuses for good (a record that is too large, a right that is missing) is sent again in
//! a new term, with everything behind it, until it is taken.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
};

use schemas::{
    cursor::{StreamId, Term},
    record::{self, Checkpoint, EpochStart, Record},
};
use tokio::sync::{Semaphore, oneshot, watch};

use super::{
    Kafka,
    client::{Stop, Trouble, blocking},
    event::Event,
    lead::Lead,
    outbox::Parcel,
    term::Leader,
};
use crate::{Batch, Desk, Metrics, Pending, StreamError, Writer};

/// An open stream, in the process that writes it. Clones share it; the last one closes it.
#[derive(Clone, Debug)]
pub struct KafkaWriter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kafka: Kafka,
    stream_id: StreamId,
    partitions: u16,
    /// The term of the beginning; after a refusal by the brokers it is a later one.
    term: watch::Receiver<Term>,
    checkpoints: Vec<Checkpoint>,
    trouble: watch::Receiver<Trouble>,
    /// In KiB.
    room: Arc<Semaphore>,
    room_kib: u32,
    metrics: Metrics,
    /// Bounded by `room`: each event is a batch, or belongs to one.
    events: mpsc::Sender<Event>,
    closing: Stop,
    /// Guards the handle for the one who joins the thread.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl KafkaWriter {
    /// Waits until we lead, then begins a term.
    pub(super) async fn lead(kafka: &Kafka) -> Result<KafkaWriter, StreamError> {
        let lead = Lead::join(kafka.settings(), kafka.context())?;
        // Standing by, everything is made ready.
        let (prepare, kafka) = (kafka.clone(), kafka.clone());
        let prepared = blocking(move || Prepared::new(&prepare)).await?;
        lead.won().await?;
        blocking(move || KafkaWriter::begin(&kafka, lead, prepared)).await
    }

    fn begin(kafka: &Kafka, lead: Lead, prepared: Prepared) -> Result<KafkaWriter, StreamError> {
        let Prepared { mut leader, events, queue, room, room_kib, closing } = prepared;
        leader.won(lead);
        let checkpoints = leader.begin_term()?;
        let (trouble, term) = (leader.trouble(), leader.term());
        let thread = std::thread::Builder::new()
            .name("stream-writer".to_owned())
            .spawn(move || leader.run(&queue))
            .map_err(|err| StreamError::Append { source: Box::new(err) })?;
        let (stream_id, partitions) = (kafka.stream_id(), kafka.partitions());
        let thread = Mutex::new(Some(thread));
        let shared = Shared {
            kafka: kafka.clone(),
            stream_id,
            partitions,
            term,
            checkpoints,
            trouble,
            room,
            room_kib,
            metrics: kafka.settings().metrics.clone(),
            events,
            closing,
            thread,
        };
        Ok(KafkaWriter { shared: Arc::new(shared) })
    }

    /// Why the brokers take nothing at the moment, if they do not. Appends wait meanwhile.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.shared.trouble.borrow().clone()
    }
}

impl Writer for KafkaWriter {
    fn stream_id(&self) -> StreamId {
        self.shared.stream_id
    }

    fn partitions(&self) -> u16 {
        self.shared.partitions
    }

    fn term(&self) -> Term {
        *self.shared.term.borrow()
    }

    fn checkpoint(&self, source: &str) -> Option<Checkpoint> {
        self.shared.checkpoints.iter().find(|checkpoint| *checkpoint.source == *source).cloned()
    }

    async fn append(&self, batch: Batch) -> Result<Pending, StreamError> {
        let (mut records, mut epochs) = (Vec::with_capacity(batch.records.len()), BTreeMap::new());
        let mut bytes = 0_usize;
        for (partition, record) in &batch.records {
            if let Record::Epoch(start) = record {
                let key: (Arc<str>, u16) = (Arc::clone(&start.source), start.epoch);
                epochs.entry(key).or_insert_with(|| start.clone());
            }
            let mut encoded = Vec::new();
            record::encode(record, &mut encoded);
            bytes = bytes.saturating_add(encoded.len()).saturating_add(RECORD_FRAME_BYTES);
            records.push((*partition, encoded));
        }
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).saturating_add(1);
        // One that is larger than all of the room has it for itself.
        let kib = kib.min(self.shared.room_kib);
        let room = self.shared.room.acquire_many(kib).await.map_err(|_| StreamError::Closed)?;
        room.forget();
        self.shared.metrics.in_flight_kib.inc_by(i64::from(kib));
        let (ack, acked) = oneshot::channel();
        let epochs: Vec<EpochStart> = epochs.into_values().collect();
        let must_save = !epochs.is_empty();
        let checkpoint = batch.checkpoint;
        let parcel = Parcel { records, checkpoint, must_save, kib, ack };
        let event = Event::Append { parcel, epochs };
        self.shared.events.send(event).map_err(|_| StreamError::Closed)?;
        Ok(Pending::new(acked))
    }

    fn desk(&self) -> Option<Desk> {
        Some(Desk::Kafka(self.shared.kafka.clone()))
    }
}

/// All that a leader needs but the leadership.
struct Prepared {
    leader: Leader,
    events: mpsc::Sender<Event>,
    queue: mpsc::Receiver<Event>,
    room: Arc<Semaphore>,
    room_kib: u32,
    closing: Stop,
}

impl Prepared {
    fn new(kafka: &Kafka) -> Result<Prepared, StreamError> {
        let (events, queue) = mpsc::channel();
        let closing = Stop::default();
        let kib = u32::try_from(kafka.settings().in_flight_bytes_max / 1024).unwrap_or(u32::MAX);
        let room_kib = kib.clamp(64, 1 << 24);
        let room = Arc::new(Semaphore::new(usize::try_from(room_kib).unwrap_or(usize::MAX)));
        let leader = Leader::new(kafka, events.clone(), Arc::clone(&room), closing.clone())?;
        Ok(Prepared { leader, events, queue, room, room_kib, closing })
    }
}

/// What a record takes beside its bytes, about.
const RECORD_FRAME_BYTES: usize = 128;

/// Whatever was appended is waited for, for a while, before the leadership is given up.
impl Drop for Shared {
    fn drop(&mut self) {
        self.closing.now();
        drop(self.events.send(Event::Close));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the stream's writing thread panicked");
        }
    }
}
