//! [`KafkaReader`]: records by their places.
//!
//! One thread reads the heads of all partitions into [`Window`]s, where everybody finds what is new. Whoever stands
//! further back gets a client of his own, which is kept as long as he goes on where he left off.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer};
use schemas::{
    cursor::{Partition, Place, StreamId},
    record::{EpochStart, UnixMicros},
};
use tokio::sync::watch;

use super::{
    catch_up::CatchUp,
    client::{
        ANSWER_DEADLINE, Context, POLL, Reading, Stop, assign, blocking, poll, position,
        read_error, watermarks,
    },
    ends::{self, no_answer},
    follower::{Follower, reading},
    settings::Settings,
    state::State,
    wire::raw_of,
};
use crate::{
    Metrics, Read, ReadLimit, Reader, StreamError,
    raw::{before, entries},
    window::{Found, Pushed, Window},
};

/// Bytes of records that the windows of all partitions hold.
const WINDOWS_BYTES_MAX: usize = 32 << 20;
/// Readers behind the windows who are remembered.
const CATCH_UPS_MAX: usize = 16;
/// A reader looks anyhow, in case that a wake-up came to nothing.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// Reads one log; clones share everything.
#[derive(Clone, Debug)]
pub struct KafkaReader {
    shared: Arc<Shared>,
    appended: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    context: Context,
    state: Arc<Follower<State>>,
    stream_id: StreamId,
    partitions: u16,
    heads: Arc<Heads>,
    /// Guards readers behind the windows while nobody uses them; held only to push or take.
    catch_ups: Mutex<Vec<CatchUp>>,
    /// Guards the client that looks for places.
    looker: Mutex<Looker>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// What the thread fills.
#[derive(Debug)]
struct Heads {
    /// One for each partition; each lock guards one of them, and is held for copying only.
    heads: Vec<Mutex<Head>>,
    appended: watch::Sender<u64>,
}

/// The newest records of a partition.
#[derive(Debug)]
struct Head {
    window: Window,
    /// The offset that is read next.
    next_offset: i64,
}

struct Looker(Reading);

impl std::fmt::Debug for Looker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Looker")
    }
}

impl KafkaReader {
    /// Begins to read at the heads. Blocks.
    pub(super) fn open(
        settings: &Settings,
        context: &Context,
        state: Arc<Follower<State>>,
        (stream_id, partitions): (StreamId, u16),
    ) -> Result<KafkaReader, StreamError> {
        let begun = state.fresh()?.begun;
        let consumer = reading(settings, context)?;
        let found = ends::ends(&consumer, &settings.topic, partitions, begun)?;
        let offsets = (0..).zip(&found).map(|(partition, end)| (partition, end.next_offset));
        assign(&consumer, &settings.topic, offsets)?;
        let bytes_max = WINDOWS_BYTES_MAX / usize::from(partitions.max(1));
        let head = |end: &ends::End| {
            let window = Window::new(end.place.unwrap_or(Place::START), bytes_max);
            Mutex::new(Head { window, next_offset: end.next_offset })
        };
        let (tell, appended) = watch::channel(0);
        let heads = Arc::new(Heads { heads: found.iter().map(head).collect(), appended: tell });
        let stop = Stop::default();
        let thread = {
            let (heads, stop) = (Arc::clone(&heads), stop.clone());
            let metrics = settings.metrics.clone();
            std::thread::Builder::new()
                .name("stream-reader".to_owned())
                .spawn(move || heads.fill(&consumer, &metrics, &stop))
                .map_err(|err| StreamError::Read { source: Box::new(err) })?
        };
        let looker = settings.looker().create_with_context(context.clone()).map_err(read_error)?;
        let shared = Shared {
            settings: settings.clone(),
            context: context.clone(),
            state,
            stream_id,
            partitions,
            heads,
            catch_ups: Mutex::new(Vec::new()),
            looker: Mutex::new(Looker(looker)),
            stop,
            thread: Some(thread),
        };
        Ok(KafkaReader { shared: Arc::new(shared), appended })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StreamError> + Send + 'static,
    ) -> Result<T, StreamError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared)).await
    }
}

impl Reader for KafkaReader {
    fn stream_id(&self) -> StreamId {
        self.shared.stream_id
    }

    fn partitions(&self) -> u16 {
        self.shared.partitions
    }

    async fn read_after(
        &self,
        partition: Partition,
        after: Place,
        limit: ReadLimit,
    ) -> Result<Read, StreamError> {
        match self.shared.heads.with(partition, |head| head.window.after(after, limit))? {
            Found::Entries(raws) => entries(&raws).map(Read::Entries),
            Found::Before => {
                self.with(move |shared| shared.catch_up(partition, after, limit)).await
            }
            // It may only be that we have not read so far yet.
            Found::Beyond => {
                let head = self.head(partition).await?;
                let lost = after > head;
                Ok(if lost { Read::Gap { resume: head } } else { Read::Entries(Vec::new()) })
            }
        }
    }

    async fn head(&self, partition: Partition) -> Result<Place, StreamError> {
        self.with(move |shared| shared.head(partition)).await
    }

    async fn seek(&self, partition: Partition, at: UnixMicros) -> Result<Place, StreamError> {
        self.with(move |shared| shared.seek(partition, at)).await
    }

    async fn epochs(&self) -> Result<Vec<EpochStart>, StreamError> {
        self.with(|shared| Ok(shared.state.fresh()?.epochs.clone())).await
    }

    async fn changed(&mut self) {
        let changed = tokio::time::timeout(POLL_IDLE, self.appended.changed()).await;
        if matches!(changed, Ok(Err(_))) {
            tokio::time::sleep(POLL_IDLE).await; // The thread is gone; nothing will come.
        }
    }
}

impl Shared {
    /// Waits until everything is in the window that was there when we were asked.
    fn head(&self, partition: Partition) -> Result<Place, StreamError> {
        let (_, end) = {
            let looker = self.looker.lock().unwrap_or_else(PoisonError::into_inner);
            watermarks(&looker.0, &self.settings.topic, partition.0)?
        };
        let mut waited = Duration::ZERO;
        loop {
            let state = |head: &Head| (head.next_offset, head.window.last());
            let (next, last) = self.heads.with(partition, state)?;
            if next >= end {
                return Ok(last);
            }
            if waited >= ANSWER_DEADLINE {
                return Err(no_answer());
            }
            let step = Duration::from_millis(1);
            std::thread::sleep(step);
            waited = waited.saturating_add(step);
        }
    }

    fn seek(&self, partition: Partition, at: UnixMicros) -> Result<Place, StreamError> {
        let topic = &self.settings.topic;
        let place = {
            let looker = self.looker.lock().unwrap_or_else(PoisonError::into_inner);
            let mut times = TopicPartitionList::new();
            let at_ms = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
            let number = i32::from(partition.0);
            times.add_partition_offset(topic, number, Offset::Offset(at_ms)).map_err(read_error)?;
            let found = looker.0.offsets_for_times(times, ANSWER_DEADLINE).map_err(read_error)?;
            match found.find_partition(topic, number).map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => {
                    ends::place_at(&looker.0, topic, partition.0, offset)?
                }
                _ => None,
            }
        };
        // Nothing is as young: everything is before.
        place.map_or_else(|| self.head(partition), |place| Ok(before(place)))
    }

    fn catch_up(
        &self,
        partition: Partition,
        after: Place,
        limit: ReadLimit,
    ) -> Result<Read, StreamError> {
        self.settings.metrics.catch_ups.inc();
        let mut catch_up = if let Some(known) = self.take_catch_up(partition, after) {
            known
        } else {
            let offset = {
                let looker = self.looker.lock().unwrap_or_else(PoisonError::into_inner);
                ends::locate(&looker.0, &self.settings.topic, partition.0, after)?
            };
            let consumer = reading(&self.settings, &self.context)?;
            CatchUp::start(consumer, &self.settings.topic, partition, after, offset)?
        };
        let base = || self.heads.with(partition, |head| head.window.base());
        let read = catch_up.read(limit, base)?;
        let behind = catch_up.place() < base()?;
        let mut catch_ups = self.catch_ups.lock().unwrap_or_else(PoisonError::into_inner);
        if behind {
            if catch_ups.len() >= CATCH_UPS_MAX {
                catch_ups.remove(0);
            }
            catch_ups.push(catch_up);
        }
        Ok(read)
    }

    fn take_catch_up(&self, partition: Partition, after: Place) -> Option<CatchUp> {
        let mut catch_ups = self.catch_ups.lock().unwrap_or_else(PoisonError::into_inner);
        let found = catch_ups
            .iter()
            .position(|catch_up| catch_up.partition() == partition && catch_up.place() == after)?;
        Some(catch_ups.remove(found))
    }
}

impl Heads {
    fn with<T>(
        &self,
        partition: Partition,
        look: impl FnOnce(&Head) -> T,
    ) -> Result<T, StreamError> {
        let head = self.heads.get(usize::from(partition.0)).ok_or_else(|| {
            StreamError::Damaged { what: format!("there is no partition {partition}") }
        })?;
        Ok(look(&head.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn fill(&self, consumer: &Reading, metrics: &Metrics, stop: &Stop) {
        while !stop.is_set() {
            match poll(consumer, POLL) {
                Ok(Some(message)) => {
                    let (partition, offset) = position(&message);
                    let Some(head) = self.heads.get(usize::from(partition)) else { continue };
                    let pushed = {
                        let mut head = head.lock().unwrap_or_else(PoisonError::into_inner);
                        head.next_offset = offset.saturating_add(1);
                        raw_of(&message).map_or(Pushed::Late, |raw| head.window.push(raw))
                    };
                    if pushed == Pushed::Hole {
                        metrics.holes.inc();
                        tracing::error!(partition, offset, "records are missing in the stream");
                    }
                    if pushed != Pushed::Late {
                        self.appended.send_modify(|count| *count = count.wrapping_add(1));
                    }
                }
                Ok(None) => {}
                Err(err) => {
                    tracing::warn!(%err, "the heads of the stream cannot be read; trying again");
                    std::thread::sleep(POLL);
                }
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.now();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the stream's reading thread panicked");
        }
    }
}
