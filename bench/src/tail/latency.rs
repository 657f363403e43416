//! From a commit to its acknowledgement by the embedded stream, at a steady rate.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use e2e::servers::Database;
use hdrhistogram::Histogram;
use mysql_async::prelude::Queryable;
use schemas::{
    cursor::{StreamId, Term},
    record::{Checkpoint, Record, UnixMicros},
    rules::Rules,
};
use stream::{
    Batch, Pending, StreamError, Writer,
    embedded::{Embedded, Options},
};
use tailer::{Metrics, Status};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::wire;

const WRITERS: u32 = 4;
const RATE_PER_S: u32 = 1000;
/// Longest latency that is told apart, in microseconds.
const MICROS_MAX: u64 = 60_000_000;
/// Connections, caches and files are warm by then.
const WARM_UP: Duration = Duration::from_secs(2);

type Latencies = Arc<Mutex<Histogram<u64>>>;

/// Writes at [`RATE_PER_S`] for `seconds`; microseconds from each commit, by the server's clock, to its acknowledgement.
pub(super) async fn measure(
    database: &Database,
    rules: &Arc<Rules>,
    seconds: u32,
) -> Result<Histogram<u64>> {
    let folder = tempfile::tempdir().context("make a folder for the stream")?;
    let embedded = Embedded::open(&folder.path().join("stream.db"), options())?;
    let latencies = Latencies::new(Mutex::new(Histogram::new_with_bounds(1, MICROS_MAX, 3)?));
    let watched = Watched { embedded, latencies: Arc::clone(&latencies) };
    let (shutdown, status) = (CancellationToken::new(), watch::Sender::new(Status::default()));
    let mut told = status.subscribe();
    let settings = wire::settings(database, 4003)?;
    let (_keep, rules) = watch::channel(Arc::clone(rules));
    let tailing =
        tailer::run(settings, rules, watched, Metrics::default(), status, shutdown.clone());
    let tailing = tokio::spawn(tailing);
    let connected = told.wait_for(|status| status.connected);
    timeout(Duration::from_secs(30), connected).await.context("connect")?.context("a tailer")?;
    drop(told);
    write(database, WARM_UP).await?;
    latencies.lock().unwrap_or_else(PoisonError::into_inner).reset();
    write(database, Duration::from_secs(seconds.into())).await?;
    shutdown.cancel();
    tailing.await.context("a tailer")??;
    let latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let expected = u64::from(RATE_PER_S * seconds);
    ensure!(latencies.len() > expected * 8 / 10, "only {} commits of {expected}", latencies.len());
    Ok(latencies)
}

pub(super) fn options() -> Options {
    Options {
        partitions: 16,
        retention_bytes: 1 << 30,
        retention_age: Duration::from_secs(3600),
        now,
    }
}

async fn write(database: &Database, time: Duration) -> Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut conn = database.connect().await?;
        writers.spawn(async move {
            let over = Instant::now() + time;
            let mut beat = interval(Duration::from_secs(1) * WRITERS / RATE_PER_S);
            beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut id = writer;
            while Instant::now() < over {
                beat.tick().await;
                id = id % 1000 + WRITERS;
                let update = format!("UPDATE bench.u SET score = score + 1 WHERE id = {id}");
                conn.query_drop(update).await.context("update a row")?;
            }
            conn.disconnect().await.context("disconnect")
        });
    }
    while let Some(done) = writers.join_next().await {
        done.context("a writer")??;
    }
    Ok(())
}

/// The embedded stream, with a watch on its acknowledgements.
struct Watched {
    embedded: Embedded,
    latencies: Latencies,
}

impl Writer for Watched {
    fn stream_id(&self) -> StreamId {
        self.embedded.stream_id()
    }

    fn partitions(&self) -> u16 {
        Writer::partitions(&self.embedded)
    }

    fn term(&self) -> Term {
        self.embedded.term()
    }

    fn checkpoint(&self, source: &str) -> Option<Checkpoint> {
        self.embedded.checkpoint(source)
    }

    async fn append(&self, batch: Batch) -> Result<Pending, StreamError> {
        let commits = commits(&batch);
        let pending = self.embedded.append(batch).await?;
        let (acked, watched) = oneshot::channel();
        let latencies = Arc::clone(&self.latencies);
        tokio::spawn(async move {
            let outcome = pending.await;
            let now = now().0;
            let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
            for commit in commits {
                latencies.saturating_record(now.saturating_sub(commit));
            }
            drop(acked.send(outcome)); // A tailer that has ended does not want to know.
        });
        Ok(Pending::new(watched))
    }
}

/// When the transactions of a batch were committed; each once, though its keys may be in several partitions.
fn commits(batch: &Batch) -> Vec<u64> {
    let mut all = Vec::new();
    for (_, record) in &batch.records {
        if let Record::Invalidations(some) = record {
            all.extend(some.transactions.iter().filter_map(|one| one.committed_at).map(|at| at.0));
        }
    }
    all
}

fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
