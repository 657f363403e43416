//! Everybody who is in the shop: readers, writers, and the prober.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::{Context, Result};
use tokio::{task::JoinSet, time::timeout};

use super::{Shop, prober, reader, writer};

/// Whoever takes longer than this to leave hangs.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// The tasks of an open shop. Dropping it ends them in the middle of what they do.
#[derive(Debug)]
pub struct Traffic {
    shop: Shop,
    tasks: JoinSet<()>,
}

impl Traffic {
    /// Lets everybody in.
    pub fn start(shop: &Shop) -> Traffic {
        shop.0.stopping.store(false, Ordering::Relaxed);
        let mut tasks = JoinSet::new();
        let settings = shop.settings();
        for number in 0..settings.readers {
            tasks.spawn(reader::run(shop.clone(), u64::from(number)));
        }
        for number in 0..settings.writers {
            tasks.spawn(writer::run(shop.clone(), (1 << 32) + u64::from(number)));
        }
        if settings.probes_per_s > 0 {
            tasks.spawn(prober::run(shop.clone()));
        }
        Traffic { shop: shop.clone(), tasks }
    }

    /// Closes the shop: everybody finishes what they are at, slow fills included.
    pub async fn stop(mut self) -> Result<()> {
        self.shop.0.stopping.store(true, Ordering::Relaxed);
        let left = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.context("a task of the shop failed")?;
            }
            anyhow::Ok(())
        };
        timeout(STOP_DEADLINE, left).await.context("somebody does not leave the shop")?
    }
}
