//! A look-aside reader: `get`; on a miss SELECT and `set`.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::Result;
use mysql_async::Conn;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Shop, queries,
    rows::{self, Key},
    schema,
};
use crate::{cache::Cache, random::Random};

/// Longer than any run: a stale value that is planted stays.
const TTL_S: u32 = 3600;
/// One fill in so many sleeps.
const SLOW_FILLS: u64 = 100;
/// How long it sleeps at most.
const SLOW_MS_MAX: u64 = 1000;
/// Slow fills at one time in each reader.
const SLOW_AT_ONCE_MAX: usize = 32;
const RETRY_AFTER: Duration = Duration::from_millis(30);
const QUERY_DEADLINE: Duration = Duration::from_secs(2);

/// Reads until the shop closes, and waits for its own slow fills.
pub(super) async fn run(shop: Shop, number: u64) {
    let mut random = Random::new(shop.settings().seed, number);
    let mut cache = Cache::new(&shop.0.nodes);
    let mut conn = None;
    let mut slow = tokio::task::JoinSet::new();
    while !shop.stopping() {
        let key = choose(&shop, &mut random);
        if read(&shop, &mut cache, &mut conn, &mut random, key, &mut slow).await.is_err() {
            shop.stats().database_errors.add_one();
            conn = None;
            sleep(RETRY_AFTER).await;
        }
        while slow.len() >= SLOW_AT_ONCE_MAX || slow.try_join_next().is_some() {
            if slow.len() >= SLOW_AT_ONCE_MAX {
                slow.join_next().await;
            }
        }
        sleep(shop.settings().reader_rest).await;
    }
    while slow.join_next().await.is_some() {}
}

/// What a customer looks at: often what others look at too; now and then what is gone or not yet there.
fn choose(shop: &Shop, random: &mut Random) -> Key {
    let shared = &shop.0;
    match random.below(100) {
        0..25 => Key::User(shared.user_ranks.rank(random) + 1),
        25..40 => {
            let index = shared.user_ranks.rank(random);
            let last = shared.emails[index as usize].load(Ordering::Relaxed);
            let number = near(last, random);
            Key::UserByEmail(schema::email(index + 1, number).to_lowercase())
        }
        40..65 => Key::Product(shared.product_ranks.rank(random) + 1),
        65..80 => {
            let index = shared.product_ranks.rank(random);
            let last = shared.skus[index as usize].load(Ordering::Relaxed);
            Key::ProductBySku(schema::sku(index + 1, near(last, random)))
        }
        80..90 => {
            let last = shared.order_last.load(Ordering::Relaxed);
            Key::Order((last + 2).saturating_sub(random.below(50)).max(1))
        }
        _ => Key::OrdersOf(shared.user_ranks.rank(random) + 1),
    }
}

/// Mostly the newest; sometimes the one before, or the one to come.
fn near(last: u32, random: &mut Random) -> u32 {
    match random.below(10) {
        0 => last + 1,
        1 => last.saturating_sub(1),
        _ => last,
    }
}

/// Fails only if the database does; without the cache the shop is slow, not closed.
async fn read(
    shop: &Shop,
    cache: &mut Cache,
    conn: &mut Option<Conn>,
    random: &mut Random,
    key: Key,
    slow: &mut tokio::task::JoinSet<()>,
) -> Result<()> {
    let stats = shop.stats();
    let text = shop.key_text(&key);
    let began = Instant::now();
    stats.reads.add_one();
    match cache.get(&text).await {
        Ok(Some(value)) => {
            stats.hits.add_one();
            if let Some((entity, version)) = rows::shown(&key, &value)
                && let Some(age) = shop.0.staleness.age(entity, version, began)
            {
                stats.superseded.record(age);
            }
            return Ok(());
        }
        Ok(None) => {}
        Err(_) => stats.cache_errors.add_one(),
    }
    let selected = Instant::now();
    let found = timeout(QUERY_DEADLINE, select(shop, conn, &key)).await??;
    let fill = Fill { value: found.value(&text), text, key, selected };
    if random.one_in(SLOW_FILLS) {
        stats.slow_fills.add_one();
        let rest = Duration::from_millis(random.below(SLOW_MS_MAX));
        let shop = shop.clone();
        slow.spawn(async move {
            sleep(rest).await;
            // A connection of its own: this one's owner goes on reading.
            fill.put(&shop, &mut Cache::new(&shop.0.nodes)).await;
        });
    } else {
        fill.put(shop, cache).await;
    }
    Ok(())
}

async fn select(shop: &Shop, conn: &mut Option<Conn>, key: &Key) -> Result<rows::Found> {
    if conn.is_none() {
        *conn = Some(shop.connect().await?);
    }
    let conn = conn.as_mut().expect("a connection was made right above");
    Ok(queries::find(conn, key).await?)
}

/// A value on its way into the cache.
struct Fill {
    key: Key,
    text: String,
    value: String,
    selected: Instant,
}

impl Fill {
    async fn put(self, shop: &Shop, cache: &mut Cache) {
        let stats = shop.stats();
        // What `set` itself may take counts too.
        if self.selected.elapsed() + crate::cache::DEADLINE >= shop.settings().fill_age_max {
            stats.late_fills.add_one();
            return;
        }
        shop.remember_filled(&self.key);
        match cache.set(&self.text, TTL_S, &self.value).await {
            Ok(()) => stats.fills.add_one(),
            Err(_) => stats.cache_errors.add_one(),
        }
    }
}
