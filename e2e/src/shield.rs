//! A crowd of readers who go to the database for what the cache does not have: how often each key is read there, while nobody tells
//! the cache what has changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use mysql_async::{Conn, Opts, prelude::Queryable};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::cache::{Cache, Looked, Nodes};

/// Between two looks of a reader.
const REST: Duration = Duration::from_millis(10);
const TTL_S: u32 = 600;

/// Who reads what.
#[derive(Clone, Debug)]
pub struct Shield {
    pub nodes: Nodes,
    pub database: Opts,
    /// Things with the numbers from 0, of `shop.things`.
    pub keys: u32,
    pub readers: u32,
    /// For so long.
    pub length: Duration,
}

impl Shield {
    /// How often the database was read for each key.
    pub async fn reads(&self) -> Result<HashMap<u32, u64>> {
        let reads: Arc<Mutex<HashMap<u32, u64>>> = Arc::default();
        let mut tasks = JoinSet::new();
        for reader in 0..self.readers {
            let (shield, reads) = (self.clone(), Arc::clone(&reads));
            tasks.spawn(async move { shield.reader(reader, &reads).await });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("a reader fails")??;
        }
        let reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(reads.clone())
    }

    /// The most reads of one key that a node allows which serves a value for at least `ttl`, and leases it to one reader at a time.
    pub fn most(&self, ttl: Duration) -> u64 {
        let lives = self.length.as_millis().div_ceil(ttl.as_millis().max(1));
        u64::try_from(lives).unwrap_or(u64::MAX).saturating_add(1)
    }

    async fn reader(&self, first: u32, reads: &Mutex<HashMap<u32, u64>>) -> Result<()> {
        let mut cache = Cache::new(&self.nodes);
        let (mut thing, end) = (first, Instant::now() + self.length);
        while Instant::now() < end {
            thing = (thing + 1) % self.keys;
            let key = format!("thing:{thing}");
            let lease = match cache.look(&key).await {
                Ok(Looked::Lease { cas, .. }) => Some(cas),
                Ok(Looked::Miss { .. }) => None,
                // On a busy machine an answer may be late.
                Ok(Looked::Value(_) | Looked::Old(_) | Looked::Wait) | Err(_) => {
                    sleep(REST).await;
                    continue;
                }
            };
            *reads.lock().unwrap_or_else(PoisonError::into_inner).entry(thing).or_default() += 1;
            let mut conn = Conn::new(self.database.clone()).await.context("connect")?;
            let select = format!("SELECT value FROM shop.things WHERE id = {thing}");
            let value: Option<String> = conn.query_first(select).await.context("read")?;
            conn.disconnect().await.context("disconnect")?;
            if let Some(cas) = lease {
                cache.fill(&key, cas, TTL_S, &value.context("the row is there")?).await?;
            }
        }
        Ok(())
    }
}
