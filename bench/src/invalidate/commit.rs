//! From a commit's acknowledgement until the node does not serve its key any more, while others write at a steady rate.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::cache::{Cache, Looked};
use hdrhistogram::Histogram;
use mysql_async::{Conn, prelude::Queryable};
use tokio::{
    task::{JoinSet, yield_now},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::region::{Backend, THINGS, Whole};

const WRITERS: u32 = 8;
const RATE_PER_S: u32 = 1000;
/// They change a thing each, and look for it.
const PROBES: u32 = 4;
/// Longest that is told apart, in microseconds.
const MICROS_MAX: u64 = 60_000_000;
const WARM_UP: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(2);
const TTL_S: u32 = 600;

/// Microseconds.
pub(super) async fn delays(backend: Backend, seconds: u32) -> Result<Histogram<u64>> {
    let whole = Whole::start(backend, 0).await?;
    let delays = Arc::new(Mutex::new(Histogram::new_with_bounds(1, MICROS_MAX, 3)?));
    let begin = Instant::now() + WARM_UP;
    let over = begin + Duration::from_secs(seconds.into());
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        tasks.spawn(write(whole.databases[0].connect().await?, writer, over));
    }
    for thing in 0..PROBES {
        let (conn, cache) = (whole.databases[0].connect().await?, Cache::new(&whole.nodes));
        let (mut probe, delays) = (Probe { conn, cache, thing }, Arc::clone(&delays));
        tasks.spawn(async move {
            while Instant::now() < over {
                let delay = timeout(DEADLINE, probe.measure()).await.context("a key stays")??;
                if Instant::now() > begin {
                    let micros = u64::try_from(delay.as_micros())?;
                    delays.lock().unwrap_or_else(PoisonError::into_inner).record(micros)?;
                }
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a task")??;
    }
    let delays = delays.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(delays.len() > u64::from(seconds) * 10, "only {} commits measured", delays.len());
    Ok(delays)
}

async fn write(mut conn: Conn, writer: u32, over: Instant) -> Result<()> {
    let mut beat = interval(Duration::from_secs(1) * WRITERS / RATE_PER_S);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut at = writer;
    while Instant::now() < over {
        beat.tick().await;
        at = (at + WRITERS) % (THINGS - PROBES);
        let id = PROBES + at;
        conn.query_drop(format!("UPDATE bench.things SET value = UUID() WHERE id = {id}")).await?;
    }
    conn.disconnect().await.context("disconnect")
}

struct Probe {
    conn: Conn,
    cache: Cache,
    thing: u32,
}

impl Probe {
    async fn measure(&mut self) -> Result<Duration> {
        let (thing, key) = (self.thing, format!("thing:{}", self.thing));
        loop {
            match self.cache.look(&key).await? {
                Looked::Value(_) => break,
                Looked::Lease { cas, .. } => {
                    self.cache.fill(&key, cas, TTL_S, "cached").await?;
                }
                _ => sleep(POLL).await,
            }
        }
        let update = format!("UPDATE bench.things SET value = UUID() WHERE id = {thing}");
        self.conn.query_drop(update).await?;
        let acknowledged = Instant::now();
        let request = format!("mg {key}\r\n");
        while self.cache.meta(0, request.as_bytes()).await?.0 != "EN" {
            yield_now().await;
        }
        Ok(acknowledged.elapsed())
    }
}
