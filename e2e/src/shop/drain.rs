//! Waits until every lane has done everything, seen from outside alone.
//!
//! For each node and each partition of the stream, because none says anything of another: plant the key of a canary that
//! the node owns and whose changes come through the partition, change the canary's row (which is then
//! the last change of all), and wait until the key is gone: the lane has made every first delete. Plant
//! it once more and wait until it is gone again, which is the second delete; a lane that was so far
//! behind that one delete served as both makes none, so this wait ends after a time too.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use schemas::{cursor::partition_of, key::Key};
use tokio::time::{Instant, sleep};

use super::{CANARIES, CANARY_FIRST, Fills, Shop, prober, rows};
use crate::cache::Cache;

const TTL_S: u32 = 600;
const POLL: Duration = Duration::from_millis(5);
/// Second deletes may be this late.
const SLACK: Duration = Duration::from_secs(1);

impl Shop {
    /// Returns when nothing that was committed before the call is left to delete. Fails after `deadline`.
    pub async fn drain(&self, deadline: Duration) -> Result<()> {
        let late = Instant::now() + deadline;
        let canaries = self.canaries()?;
        let mut cache = Cache::new(&self.0.nodes);
        let mut conn = self.connect().await?;
        for &id in &canaries {
            let key = self.canary_key(id);
            self.plant(&mut cache, &key, TTL_S, "canary").await.context("plant a canary")?;
        }
        let changed = Instant::now();
        for &id in &canaries {
            prober::change(&mut conn, id).await.context("change a canary")?;
        }
        conn.disconnect().await.context("disconnect")?;
        for &id in &canaries {
            let key = self.canary_key(id);
            if !self.gone_by(&mut cache, id, late).await? {
                let node = self.0.nodes.owner(&key)?;
                let address = self.0.nodes.addresses().get(node).map_or("", String::as_str);
                bail!("not drained within {deadline:?}: {address} still has {key}");
            }
            if self.settings().fills == Fills::Plain {
                let planted = cache.set(&key, TTL_S, "canary again").await;
                planted.context("plant a canary")?;
            }
        }
        if self.settings().fills == Fills::Leased {
            return Ok(()); // Nothing is deleted twice.
        }
        let late = Instant::now() + 2 * self.settings().fill_age_max + SLACK;
        for &id in &canaries {
            while self.gone_by(&mut cache, id, late).await?
                && changed.elapsed() < self.settings().fill_age_max
            {
                // That was the delete in between.
                let key = self.canary_key(id);
                self.plant(&mut cache, &key, TTL_S, "canary again").await?;
            }
            cache.delete(&self.canary_key(id)).await.context("take a canary away")?;
        }
        Ok(())
    }

    async fn gone_by(&self, cache: &mut Cache, id: u32, late: Instant) -> Result<bool> {
        let key = self.canary_key(id);
        loop {
            let looked = cache.get(&key).await;
            if matches!(looked, Ok(None)) {
                return Ok(true);
            }
            if Instant::now() >= late {
                looked.context("look for a canary")?;
                return Ok(false);
            }
            sleep(POLL).await;
        }
    }

    fn canary_key(&self, id: u32) -> String {
        self.key_text(&rows::Key::Product(id))
    }

    /// One for each node and partition. From the end, where the prober comes last.
    fn canaries(&self) -> Result<Vec<u32>> {
        let partitions = self.settings().partitions;
        let wanted = self.0.nodes.addresses().len() * usize::from(partitions);
        let mut found = BTreeMap::new();
        for id in (CANARY_FIRST..CANARY_FIRST + CANARIES).rev() {
            let text = self.canary_key(id);
            let key = Key::new(text.clone()).context("the key of a canary")?;
            let way = (self.0.nodes.owner(&text)?, partition_of(&key, partitions));
            found.entry(way).or_insert(id);
        }
        ensure!(found.len() == wanted, "{} canaries for {wanted} ways", found.len());
        Ok(found.into_values().collect())
    }
}
