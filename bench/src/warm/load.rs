//! [`Load`]: readers who fill with leases, and writers, around some node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use e2e::{
    cache::{Cache, Looked, Nodes},
    random::{Random, Zipf},
};
use mysql_async::{Conn, Opts, prelude::Queryable};
use tokio::{task::JoinSet, time::sleep};

pub(super) const READERS: u64 = 8;
const TTL_S: u32 = 3600;
/// Between two reads of a reader, and two writes of the writer.
const READER_REST: Duration = Duration::from_millis(1);
const WRITER_REST: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    tasks: JoinSet<Result<()>>,
}

/// What was done so far.
#[derive(Debug, Default)]
struct Counts {
    reads: AtomicU64,
    database_reads: AtomicU64,
}

impl Load {
    /// Readers of things that some of which are read far more often than others.
    pub(super) fn readers(nodes: &Nodes, database: &Opts, zipf: &Arc<Zipf>) -> Load {
        let mut load = Load::empty();
        for number in 0..READERS {
            let (stop, counts) = (Arc::clone(&load.stop), Arc::clone(&load.counts));
            let (nodes, database, zipf) = (nodes.clone(), database.clone(), Arc::clone(zipf));
            load.tasks.spawn(async move {
                let mut random = Random::new(1, number);
                let (mut cache, mut conn) = (Cache::new(&nodes), connect(database).await?);
                while !stop.load(Ordering::Relaxed) {
                    read(&mut cache, &mut conn, zipf.rank(&mut random), &counts).await?;
                    sleep(READER_REST).await;
                }
                Ok(())
            });
        }
        load
    }

    /// Somebody who changes things, the popular ones more often.
    pub(super) fn writer(database: &Opts, zipf: &Arc<Zipf>) -> Load {
        let mut load = Load::empty();
        let (stop, counts) = (Arc::clone(&load.stop), Arc::clone(&load.counts));
        let (database, zipf) = (database.clone(), Arc::clone(zipf));
        load.tasks.spawn(async move {
            let mut random = Random::new(1, 1000);
            let mut conn = connect(database).await?;
            while !stop.load(Ordering::Relaxed) {
                let (thing, value) = (zipf.rank(&mut random), random.bits());
                let change =
                    format!("UPDATE bench.things SET value = 'v{value}' WHERE id = {thing}");
                conn.query_drop(change).await.context("write")?;
                counts.reads.fetch_add(1, Ordering::Relaxed);
                sleep(WRITER_REST).await;
            }
            Ok(())
        });
        load
    }

    fn empty() -> Load {
        Load { stop: Arc::default(), counts: Arc::default(), tasks: JoinSet::new() }
    }

    /// Reads of the cache, and of the database.
    pub(super) fn counts(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.counts.reads), of(&self.counts.database_reads))
    }

    pub(super) async fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("somebody fails")??;
        }
        Ok(())
    }
}

async fn connect(database: Opts) -> Result<Conn> {
    Conn::new(database).await.context("connect to the database")
}

async fn read(cache: &mut Cache, conn: &mut Conn, thing: u32, counts: &Counts) -> Result<()> {
    let key = format!("thing:{thing}");
    counts.reads.fetch_add(1, Ordering::Relaxed);
    let lease = match cache.look(&key).await {
        Ok(Looked::Lease { cas, .. }) => Some(cas),
        Ok(Looked::Miss { .. }) => None,
        // Somebody else fetches it, or the node is slow: nothing is read.
        Ok(Looked::Wait | Looked::Old(_) | Looked::Value(_)) | Err(_) => return Ok(()),
    };
    counts.database_reads.fetch_add(1, Ordering::Relaxed);
    let asked = format!("SELECT value FROM bench.things WHERE id = {thing}");
    let value: String = conn.query_first(asked).await?.context("the row is there")?;
    if let Some(cas) = lease {
        drop(cache.fill(&key, cas, TTL_S, &value).await);
    }
    Ok(())
}
