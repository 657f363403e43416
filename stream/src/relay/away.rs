//! [`RelayedReader`]: reads from relays, and from Kafka itself while there is none.

use std::{sync::Arc, time::Duration};

use schemas::{
    cursor::{Partition, Place, StreamId},
    record::{EpochStart, UnixMicros},
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{RelayMetrics, RelayReader, Settings};
use crate::{
    Read, ReadLimit, Reader, StreamError,
    kafka::{Kafka, KafkaReader},
};

/// How often it is looked how the relay is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Looks in a row after which Kafka is read, and after which it no longer is.
const AWAY_LOOKS: u32 = 3;
const NEAR_LOOKS: u32 = 150;

/// Clones share everything. Places are those of the log, so it does not matter who is read from.
#[derive(Clone, Debug)]
pub struct RelayedReader {
    relay: RelayReader,
    direct: Option<Direct>,
}

/// The log itself, while it is read.
#[derive(Clone, Debug)]
struct Direct {
    /// What others see of it.
    now: watch::Receiver<Option<KafkaReader>>,
    /// Ours, to be woken by.
    waking: Option<KafkaReader>,
    _guard: Arc<Guard>,
}

#[derive(Debug)]
struct Guard(JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RelayedReader {
    /// Reads from relays alone.
    pub async fn open(settings: Settings) -> Result<RelayedReader, StreamError> {
        Ok(RelayedReader { relay: RelayReader::open(settings).await?, direct: None })
    }

    /// The same log is on `kafka`.
    pub async fn beside(settings: Settings, kafka: Kafka) -> Result<RelayedReader, StreamError> {
        let log = Some((kafka.stream_id(), kafka.partitions()));
        let metrics = settings.metrics.clone();
        let relay = RelayReader::open(Settings { log, ..settings }).await?;
        let (tell, now) = watch::channel(None);
        let guard = tokio::spawn(guard(relay.clone(), kafka, tell, metrics));
        let direct = Direct { now, waking: None, _guard: Arc::new(Guard(guard)) };
        Ok(RelayedReader { relay, direct: Some(direct) })
    }

    /// The log itself, if that is whom to ask.
    fn direct(&self) -> Option<KafkaReader> {
        let direct = self.direct.as_ref().filter(|_| !self.relay.is_near())?;
        direct.now.borrow().clone()
    }
}

/// Opens the log itself when the relay is away, and closes it some time after it is back.
async fn guard(
    relay: RelayReader,
    kafka: Kafka,
    tell: watch::Sender<Option<KafkaReader>>,
    metrics: RelayMetrics,
) {
    loop {
        settled(AWAY_LOOKS, || !relay.is_near()).await;
        match kafka.another_reader().await {
            Ok(reader) => {
                tracing::warn!("no relay pushes: Kafka is read directly");
                tell.send_replace(Some(reader));
                metrics.direct.set(1);
            }
            Err(err) => {
                tracing::debug!(error = %err, "no relay pushes, and Kafka cannot be read");
                sleep(LOOK_INTERVAL).await;
                continue;
            }
        }
        settled(NEAR_LOOKS, || relay.is_near()).await;
        tracing::info!("a relay pushes again");
        tell.send_replace(None);
        metrics.direct.set(0);
    }
}

/// Until it was so whenever it was looked, so many times in a row.
async fn settled(looks: u32, is_so: impl Fn() -> bool) {
    let mut found = 0_u32;
    while found < looks {
        sleep(LOOK_INTERVAL).await;
        found = if is_so() { found.saturating_add(1) } else { 0 };
    }
}

impl Reader for RelayedReader {
    fn stream_id(&self) -> StreamId {
        self.relay.stream_id()
    }

    fn partitions(&self) -> u16 {
        self.relay.partitions()
    }

    async fn read_after(
        &self,
        partition: Partition,
        after: Place,
        limit: ReadLimit,
    ) -> Result<Read, StreamError> {
        let Some(direct) = self.direct() else {
            return self.relay.read_after(partition, after, limit).await;
        };
        let known = self.relay.known(partition, after, limit)?;
        if !known.is_empty() {
            return Ok(Read::Entries(known));
        }
        direct.read_after(partition, after, limit).await
    }

    async fn head(&self, partition: Partition) -> Result<Place, StreamError> {
        match self.direct() {
            None => self.relay.head(partition).await,
            Some(direct) => direct.head(partition).await,
        }
    }

    async fn seek(&self, partition: Partition, at: UnixMicros) -> Result<Place, StreamError> {
        match self.direct() {
            None => self.relay.seek(partition, at).await,
            Some(direct) => direct.seek(partition, at).await,
        }
    }

    async fn epochs(&self) -> Result<Vec<EpochStart>, StreamError> {
        match self.direct() {
            None => self.relay.epochs().await,
            Some(direct) => direct.epochs().await,
        }
    }

    async fn changed(&mut self) {
        let Some(direct) = &mut self.direct else { return self.relay.changed().await };
        if direct.now.has_changed().unwrap_or(false) {
            direct.waking.clone_from(&direct.now.borrow_and_update());
            return; // Whoever it is that is read now may have more.
        }
        let woken = async {
            match &mut direct.waking {
                Some(reader) => reader.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.relay.changed() => {}
            () = woken => {}
            changed = direct.now.changed() => {
                if changed.is_err() {
                    sleep(LOOK_INTERVAL).await; // We are about to end.
                }
                direct.now.mark_changed();
            }
        }
    }
}
