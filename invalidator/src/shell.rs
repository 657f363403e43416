//! The lanes' tasks: sockets, the clock, the stream.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use schemas::{
    cursor::{Cursor, Partition, Place},
    record::{Record, UnixMicros},
    ring::{Ring, RingError, RingNode},
};
use stream::{CursorStore, Read, ReadLimit, Reader, StreamError};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Metrics,
    connection::{Connection, ConnectionError},
    lane::{Answered, Lane, Limits, Pass, Work},
    metrics::{LaneLabel, PassLabel, PassValue},
    settings::{
        ANSWER_DEADLINE, BATCH_MAX, CONNECT_DELAY_MAX, CONNECT_DELAY_MIN, OnFloor, READ_BYTES_MAX,
        READ_RECORDS_MAX, STORE_INTERVAL, Settings, UNANSWERED_MAX, WINDOW_KEYS_MAX,
    },
};

/// What one lane says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// The cluster's name.
    pub cluster: String,
    /// The node's address.
    pub node: String,
    /// Whether the node is connected.
    pub connected: bool,
    /// Why not, or why not the last time.
    pub last_error: Option<String>,
    /// Records taken from the stream and not passed yet.
    pub backlog_records: usize,
}

/// The running lanes of one or more clusters.
pub struct Invalidator {
    lanes: JoinSet<Result<(), StreamError>>,
    status: Vec<watch::Receiver<LaneStatus>>,
}

impl Invalidator {
    /// Starts a lane for each node of each cluster. They run until `shutdown`; nodes that are down are tried for ever.
    pub fn start<R, S>(
        clusters: &[Settings],
        reader: &R,
        cursors: &S,
        metrics: &Metrics,
        shutdown: &CancellationToken,
    ) -> Result<Invalidator, RingError>
    where
        R: Reader + Clone,
        S: CursorStore + Clone,
    {
        let (mut lanes, mut status) = (JoinSet::new(), Vec::new());
        for cluster in clusters {
            let ring = |node: &crate::NodeSettings| RingNode {
                name: node.address.clone(),
                weight: node.weight,
            };
            let nodes: Vec<RingNode> = cluster.nodes.iter().map(ring).collect();
            let ring = Arc::new(Ring::new(cluster.hashing, &nodes)?);
            for (at, node) in cluster.nodes.iter().enumerate() {
                let names = LaneStatus {
                    cluster: cluster.cluster.clone(),
                    node: node.address.clone(),
                    ..LaneStatus::default()
                };
                let (tell, told) = watch::channel(names);
                status.push(told);
                let shell = Shell {
                    address: node.address.clone(),
                    consumer: format!("{}/{}", cluster.cluster, node.address),
                    label: LaneLabel {
                        cluster: cluster.cluster.clone(),
                        node: node.address.clone(),
                    },
                    ring: Arc::clone(&ring),
                    at,
                    on_floor: cluster.on_floor,
                    fill_age_max: cluster.fill_age_max,
                    reader: reader.clone(),
                    cursors: cursors.clone(),
                    metrics: metrics.clone(),
                    status: tell,
                };
                lanes.spawn(shell.run(shutdown.clone()));
            }
        }
        Ok(Invalidator { lanes, status })
    }

    /// The lanes' states, in the order of the settings.
    pub fn status(&self) -> Vec<watch::Receiver<LaneStatus>> {
        self.status.clone()
    }

    /// Returns when every lane has ended: after `shutdown`, or because the stream is damaged.
    pub async fn ended(mut self) -> Result<(), StreamError> {
        while let Some(ended) = self.lanes.join_next().await {
            ended.unwrap_or(Err(StreamError::Closed))?;
        }
        Ok(())
    }
}

/// One lane's surroundings.
struct Shell<R, S> {
    address: String,
    consumer: String,
    label: LaneLabel,
    ring: Arc<Ring>,
    /// Our node's number in the ring.
    at: usize,
    on_floor: OnFloor,
    fill_age_max: Duration,
    reader: R,
    cursors: S,
    metrics: Metrics,
    status: watch::Sender<LaneStatus>,
}

/// How far the stream was read; the cursors follow as answers come.
type Places = BTreeMap<Partition, Place>;

impl<R: Reader, S: CursorStore> Shell<R, S> {
    async fn run(mut self, shutdown: CancellationToken) -> Result<(), StreamError> {
        let mut places = self.stored().await?;
        let limits = Limits {
            fill_age_max: self.fill_age_max,
            keys_max: WINDOW_KEYS_MAX,
            unanswered_max: UNANSWERED_MAX,
        };
        let mut lane = Lane::new(limits, places.clone());
        let mut delay = CONNECT_DELAY_MIN;
        while !shutdown.is_cancelled() {
            let connection = tokio::select! {
                () = shutdown.cancelled() => break,
                connection = Connection::open(&self.address) => connection,
            };
            let ended = match connection {
                Ok(connection) => {
                    delay = CONNECT_DELAY_MIN;
                    self.metrics.connects.get_or_create(&self.label).inc();
                    self.tell(&lane, None);
                    tracing::info!(node = self.address, "connected");
                    lane.connected();
                    let ended = self.serve(&mut lane, &mut places, connection, &shutdown).await?;
                    lane.disconnected();
                    ended
                }
                Err(err) => Some(err),
            };
            self.store(&lane).await?;
            let Some(err) = ended else { break };
            let text = chain(&err);
            let news = self.status.borrow().last_error.as_deref() != Some(&text);
            if news {
                tracing::warn!(
                    node = self.address,
                    error = text,
                    "the node is not reachable; its deletes wait"
                );
            }
            self.tell(&lane, Some(text));
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep(delay) => delay = (delay * 2).min(CONNECT_DELAY_MAX),
            }
        }
        self.store(&lane).await
    }

    /// `None`: the shutdown ended it.
    async fn serve(
        &mut self,
        lane: &mut Lane,
        places: &mut Places,
        mut connection: Connection,
        shutdown: &CancellationToken,
    ) -> Result<Option<ConnectionError>, StreamError> {
        let mut store_at = Instant::now() + STORE_INTERVAL;
        let mut answered_at = Instant::now();
        let mut stored = lane.cursors().clone();
        let mut look = true;
        loop {
            if look && lane.wants_records() {
                look = self.read(lane, places).await?;
            }
            let more = look && lane.wants_records();
            let now = Instant::now();
            connection.queue_all(&lane.send(now, BATCH_MAX));
            self.tell(lane, None);
            if lane.is_waiting() && now >= answered_at + ANSWER_DEADLINE {
                return Ok(Some(ConnectionError::Deadline));
            }
            if !lane.is_waiting() {
                answered_at = now;
            }
            if now >= store_at {
                store_at = now + STORE_INTERVAL;
                if stored != *lane.cursors() {
                    self.store(lane).await?;
                    stored.clone_from(lane.cursors());
                }
            }
            let wake =
                [Some(store_at), lane.due().filter(|due| *due > now)].into_iter().flatten().min();
            let wake = if more { now } else { wake.unwrap_or(store_at) };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(self.finish(lane, &mut connection).await),
                turned = connection.turn() => {
                    if let Err(err) = turned {
                        return Ok(Some(err));
                    }
                    loop {
                        match connection.answer() {
                            Ok(None) => break,
                            Ok(Some(())) => {
                                answered_at = Instant::now();
                                if let Some(answered) = lane.answered() {
                                    self.observe(answered);
                                }
                            }
                            Err(err) => return Ok(Some(err)),
                        }
                    }
                }
                () = self.reader.changed(), if !look => look = true,
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Takes what the stream has, partition by partition, while the window has room. True if there may be more.
    async fn read(&mut self, lane: &mut Lane, places: &mut Places) -> Result<bool, StreamError> {
        let limit = ReadLimit { records_max: READ_RECORDS_MAX, bytes_max: READ_BYTES_MAX };
        let mut more = false;
        for partition in (0..self.reader.partitions()).map(Partition) {
            if !lane.wants_records() {
                return Ok(true);
            }
            let place = places.entry(partition).or_insert(Place::START);
            match self.reader.read_after(partition, *place, limit).await? {
                Read::Entries(entries) => {
                    more |= entries.len() >= limit.records_max;
                    for entry in entries {
                        *place = entry.place;
                        let (work, since) = self.work(entry.record, entry.appended_at);
                        lane.take(partition, entry.place, work, since);
                    }
                }
                Read::Gap { resume } => {
                    // A lane that never read this stream has missed nothing that it ever knew of.
                    self.metrics.gaps.get_or_create(&self.label).inc();
                    tracing::error!(node = self.address, %partition, from = %place, to = %resume, "the stream no longer reaches back to the node's cursor");
                    *place = resume;
                    lane.take(partition, resume, self.unlisted(), wall_clock());
                    more = true;
                }
            }
        }
        Ok(more)
    }

    fn work(&self, record: Record, appended_at: UnixMicros) -> (Work, UnixMicros) {
        match record {
            Record::Invalidations(invalidations) => {
                let mut since = None;
                let mut keys = Vec::new();
                for transaction in invalidations.transactions {
                    since
                        .get_or_insert(transaction.committed_at.unwrap_or(transaction.received_at));
                    let owned = transaction.keys.into_iter().map(|invalidation| invalidation.key);
                    keys.extend(owned.filter(|key| self.ring.owner(key) == self.at));
                }
                // One record's keys are deleted together, so each once.
                keys.sort_unstable();
                keys.dedup();
                (Work::Delete(keys), since.unwrap_or(appended_at))
            }
            Record::Floor(floor) => {
                self.metrics.floors.get_or_create(&self.label).inc();
                tracing::warn!(node = self.address, reason = &*floor.reason, on_floor = ?self.on_floor, "stale keys cannot be listed");
                (self.unlisted(), appended_at)
            }
            Record::TermStart(_) | Record::Progress(_) | Record::Epoch(_) => {
                (Work::Delete(Vec::new()), appended_at)
            }
        }
    }

    fn unlisted(&self) -> Work {
        match self.on_floor {
            OnFloor::FlushAll => Work::Flush,
            OnFloor::Alarm => Work::Delete(Vec::new()),
        }
    }

    /// First deletes that can still be made at once are made; second ones are made after the next start.
    async fn finish(
        &self,
        lane: &mut Lane,
        connection: &mut Connection,
    ) -> Option<ConnectionError> {
        let drain = async {
            while lane.oldest_waiting().is_some() {
                connection.queue_all(&lane.send(Instant::now(), BATCH_MAX));
                connection.turn().await?;
                while connection.answer()?.is_some() {
                    lane.answered();
                }
            }
            Ok::<(), ConnectionError>(())
        };
        match timeout(ANSWER_DEADLINE, drain).await {
            Ok(Ok(())) | Err(_) => None,
            Ok(Err(err)) => Some(err),
        }
    }

    fn observe(&self, answered: Answered) {
        let pass = match answered.pass {
            Pass::First => PassValue::First,
            Pass::Second => PassValue::Second,
        };
        let LaneLabel { cluster, node } = self.label.clone();
        self.metrics.deletes.get_or_create(&PassLabel { cluster, node, pass }).inc();
        if answered.pass == Pass::First {
            let age = Duration::from_micros(wall_clock().0.saturating_sub(answered.since.0));
            self.metrics.commit_to_delete.get_or_create(&self.label).observe(age.as_secs_f64());
        }
    }

    /// Cursors of another stream (a file that was made anew) mean nothing here.
    async fn stored(&self) -> Result<Places, StreamError> {
        let stream = self.reader.stream_id();
        let cursors = self.cursors.load(&self.consumer).await?;
        let ours = cursors.into_iter().filter(|cursor| cursor.stream == stream);
        Ok(ours.map(|cursor| (cursor.partition, cursor.place)).collect())
    }

    async fn store(&self, lane: &Lane) -> Result<(), StreamError> {
        let stream = self.reader.stream_id();
        let cursor =
            |(&partition, &place): (&Partition, &Place)| Cursor { stream, partition, place };
        let cursors: Vec<Cursor> = lane.cursors().iter().map(cursor).collect();
        if cursors.is_empty() {
            return Ok(());
        }
        self.cursors.store(&self.consumer, cursors).await
    }

    fn tell(&self, lane: &Lane, error: Option<String>) {
        let backlog = lane.backlog();
        let age_ms =
            lane.oldest_waiting().map_or(0, |since| wall_clock().0.saturating_sub(since.0) / 1000);
        self.metrics
            .backlog_records
            .get_or_create(&self.label)
            .set(i64::try_from(backlog).unwrap_or(i64::MAX));
        self.metrics
            .backlog_ms
            .get_or_create(&self.label)
            .set(i64::try_from(age_ms).unwrap_or(i64::MAX));
        self.status.send_if_modified(|status| {
            let connected = error.is_none();
            let changed = status.connected != connected
                || status.backlog_records != backlog
                || error != status.last_error;
            status.connected = connected;
            status.backlog_records = backlog;
            status.last_error = error;
            changed
        });
    }
}

/// For ages against the source's commit times only; never for order.
fn wall_clock() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// An error and its causes, in one line.
fn chain(err: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(err), |err| err.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
