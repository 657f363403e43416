//! A herd: many readers want one key, whose row changes. Whoever gets the lease reads the database where the node says, and fills.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use mysql_async::{Conn, Opts, prelude::Queryable};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::cache::{Cache, From, Looked, Nodes};

/// How long a SELECT takes at the least: long enough for everybody to ask in the meantime.
const SELECT: Duration = Duration::from_millis(50);
/// Until everybody is there and reads the old value.
const GATHERING: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(5);
const DEADLINE: Duration = Duration::from_secs(20);
const TTL_S: u32 = 600;

/// What is wanted, and where it is.
#[derive(Clone, Debug)]
pub struct Herd {
    pub nodes: Nodes,
    pub key: String,
    /// Finds the one value that is cached under the key.
    pub select: String,
    /// Where readers read that are not sent elsewhere.
    pub near: Opts,
    pub primary: Opts,
    pub readers: u32,
}

/// How often the database was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    pub near: u64,
    pub primary: u64,
}

#[derive(Debug, Default)]
struct Counts {
    near: AtomicU64,
    primary: AtomicU64,
}

impl Herd {
    /// Everybody reads, until each has `value`, which `change` makes of it.
    pub async fn run(
        &self,
        value: &str,
        change: impl Future<Output = Result<()>>,
    ) -> Result<Reads> {
        let counts: Arc<Counts> = Arc::default();
        let mut tasks = JoinSet::new();
        for _ in 0..self.readers {
            let (herd, counts, value) = (self.clone(), Arc::clone(&counts), value.to_owned());
            tasks.spawn(async move { herd.reader(&value, &counts).await });
        }
        sleep(GATHERING).await;
        change.await?;
        while let Some(ended) = tasks.join_next().await {
            ended.context("a reader fails")??;
        }
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Reads { near: read(&counts.near), primary: read(&counts.primary) })
    }

    async fn reader(&self, value: &str, counts: &Counts) -> Result<()> {
        let mut cache = Cache::new(&self.nodes);
        let late = Instant::now() + DEADLINE;
        while Instant::now() < late {
            match cache.look(&self.key).await {
                Ok(Looked::Value(found)) if found == value => return Ok(()),
                Ok(Looked::Lease { cas, from }) => {
                    let (count, database) = match from {
                        From::Primary => (&counts.primary, &self.primary),
                        From::Anywhere => (&counts.near, &self.near),
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    let mut conn = Conn::new(database.clone()).await.context("connect")?;
                    let read: Option<String> = conn.query_first(&self.select).await?;
                    let read = read.context("the row is there")?;
                    sleep(SELECT).await;
                    let filled = cache.fill(&self.key, cas, TTL_S, &read).await?;
                    ensure!(filled, "nothing has changed since, and the fill was refused");
                }
                _ => {}
            }
            sleep(POLL).await;
        }
        bail!("a reader does not get {value} within {DEADLINE:?}")
    }
}
