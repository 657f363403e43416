//! Measures commit-to-delete as a client sees it.
//!
//! A probe puts a canary's key into the cache, changes the canary's row, and asks for the key until it
//! is gone. The clock starts just before COMMIT is sent, so the figure holds the commit's own time
//! (fsync of redo log and binlog included): the time during which a reader may see the old value
//! although the writer has already decided. It ends when the answer "not there" has come, so it holds
//! one round trip to memcached too.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use mysql_async::{Conn, prelude::Queryable};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{CANARIES, CANARY_FIRST, Fills, Shop, rows::Key};
use crate::cache::{Cache, Looked};

const TTL_S: u32 = 60;
/// When a probe gives up.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_micros(200);

/// Probes until the shop closes.
pub(super) async fn run(shop: Shop) {
    let mut cache = Cache::new(&shop.0.nodes);
    let mut conn = None;
    let period = Duration::from_secs(1) / shop.settings().probes_per_s.max(1);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = 0;
    while !shop.stopping() {
        ticks.tick().await;
        turn = (turn + 1) % CANARIES;
        match timeout(LOST_AFTER * 2, probe(&shop, &mut conn, &mut cache, CANARY_FIRST + turn))
            .await
        {
            Ok(Ok(Some(took))) => shop.stats().commit_to_delete.record(took),
            Ok(Ok(None)) => shop.stats().canaries_lost.add_one(),
            Ok(Err(_)) | Err(_) => {
                // A part that was killed on purpose, perhaps; others count that.
                conn = None;
                sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// `None` if the key is still there after [`LOST_AFTER`].
async fn probe(
    shop: &Shop,
    conn: &mut Option<Conn>,
    cache: &mut Cache,
    id: u32,
) -> Result<Option<Duration>> {
    if conn.is_none() {
        *conn = Some(shop.connect().await?);
    }
    let conn = conn.as_mut().context("a connection was made right above")?;
    let key = shop.key_text(&Key::Product(id));
    shop.plant(cache, &key, TTL_S, "canary").await?;
    let began = change(conn, id).await?;
    while cache.get(&key).await?.is_some() {
        if began.elapsed() > LOST_AFTER {
            return Ok(None);
        }
        sleep(POLL).await;
    }
    Ok(Some(began.elapsed()))
}

impl Shop {
    /// Puts a key into the cache that nobody else is about.
    pub(super) async fn plant(
        &self,
        cache: &mut Cache,
        key: &str,
        ttl_s: u32,
        value: &str,
    ) -> Result<()> {
        if self.settings().fills == Fills::Plain {
            return cache.set(key, ttl_s, value).await;
        }
        let late = Instant::now() + LOST_AFTER;
        while Instant::now() < late {
            if let Looked::Lease { cas, .. } = cache.look(key).await?
                && cache.fill(key, cas, ttl_s, value).await?
            {
                return Ok(());
            }
            cache.delete(key).await?;
            sleep(POLL).await;
        }
        bail!("the cache takes no {key}")
    }
}

/// Changes a canary's row; returns when COMMIT was about to be sent.
pub(super) async fn change(conn: &mut Conn, id: u32) -> Result<Instant> {
    conn.query_drop("START TRANSACTION").await?;
    conn.exec_drop("UPDATE products SET stock = stock + 1, ver = ver + 1 WHERE id = ?", (id,))
        .await?;
    let began = Instant::now();
    conn.query_drop("COMMIT").await?;
    Ok(began)
}
