//! A look-aside reader: `get`; on a miss SELECT and `set`. With leases: `mg`; whoever gets the lease SELECTs where the node says, and
//! stores with the lease; whoever does not waits for him a little, and then SELECTs for himself.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::Result;
use mysql_async::Conn;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Fills, Put, Shop, queries,
    rows::{self, Key},
    schema,
};
use crate::{
    cache::{Cache, From, Looked},
    random::Random,
};

/// Longer than any run: a stale value that is planted stays.
const TTL_S: u32 = 3600;
/// One fill in so many sleeps.
const SLOW_FILLS: u64 = 100;
/// How long it sleeps at most.
const SLOW_MS_MAX: u64 = 1000;
/// Slow fills at one time in each reader.
const SLOW_AT_ONCE_MAX: usize = 32;
/// How often a reader looks again while somebody else holds the lease, and how long it rests in between.
const WAITS: u32 = 20;
const WAIT: Duration = Duration::from_millis(5);
const RETRY_AFTER: Duration = Duration::from_millis(30);
const QUERY_DEADLINE: Duration = Duration::from_secs(2);
/// A node that failed is tried again by then.
const TAKE_BACK_AFTER: Duration = Duration::from_millis(100);

/// Reads until the shop closes, and waits for its own slow fills.
pub(super) async fn run(shop: Shop, number: u64) {
    let mut random = Random::new(shop.settings().seed, number);
    let mut cache = Cache::new(&shop.0.nodes);
    let mut conn = Conns::default();
    let replicas = shop.settings().replicas.len();
    if replicas > 0 {
        conn.replica = usize::try_from(number).ok().and_then(|it| it.checked_rem(replicas));
    }
    let mut slow = tokio::task::JoinSet::new();
    while !shop.stopping() {
        let key = choose(&shop, &mut random);
        if read(&shop, &mut cache, &mut conn, &mut random, key, &mut slow).await.is_err() {
            shop.stats().database_errors.add_one();
            conn = Conns { replica: conn.replica, ..Conns::default() };
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
    let town = &shop.0.town;
    match random.below(100) {
        0..25 => Key::User(town.user_ranks.rank(random) + 1),
        25..40 => {
            let index = town.user_ranks.rank(random);
            let last = town.emails[index as usize].load(Ordering::Relaxed);
            let number = near(last, random);
            Key::UserByEmail(schema::email(index + 1, number).to_lowercase())
        }
        40..65 => Key::Product(town.product_ranks.rank(random) + 1),
        65..80 => {
            let index = town.product_ranks.rank(random);
            let last = town.skus[index as usize].load(Ordering::Relaxed);
            Key::ProductBySku(schema::sku(index + 1, near(last, random)))
        }
        80..90 => {
            let last = town.order_last.load(Ordering::Relaxed);
            Key::Order((last + 2).saturating_sub(random.below(50)).max(1))
        }
        _ => Key::OrdersOf(town.user_ranks.rank(random) + 1),
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
    conn: &mut Conns,
    random: &mut Random,
    key: Key,
    slow: &mut tokio::task::JoinSet<()>,
) -> Result<()> {
    let stats = shop.stats();
    let text = shop.key_text(&key);
    let began = Instant::now();
    stats.reads.add_one();
    let looked = match shop.settings().fills {
        Fills::Plain => cache
            .get(&text)
            .await
            .map(|found| found.map_or(Looked::Miss { from: From::Anywhere }, Looked::Value)),
        Fills::Leased => look(cache, &text).await,
    };
    let (mut lease, mut from) = (None, From::Anywhere);
    match looked {
        Ok(Looked::Value(value)) => {
            stats.hits.add_one();
            if let Some((entity, version)) = rows::shown(&key, &value)
                && let Some(age) = shop.0.town.staleness.age(entity, version, began)
            {
                stats.superseded.record(age);
            }
            return Ok(());
        }
        // Flagged: whoever takes it knows that it is old.
        Ok(Looked::Old(_)) => {
            stats.flagged.add_one();
            return Ok(());
        }
        Ok(Looked::Lease { cas, from: where_from }) => (lease, from) = (Some(cas), where_from),
        Ok(Looked::Miss { from: where_from }) => from = where_from,
        Ok(Looked::Wait) => {}
        Err(_) => stats.cache_errors.add_one(),
    }
    let selected = Instant::now();
    let found = timeout(QUERY_DEADLINE, select(shop, conn, from, &key)).await??;
    stats.database_reads.add_one();
    if lease.is_none() && shop.settings().fills == Fills::Leased {
        return Ok(());
    }
    let fill = Fill { value: found.value(&text), text, key, selected, lease };
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

/// Asks; and where somebody else is at it, again for a little while.
async fn look(cache: &mut Cache, key: &str) -> Result<Looked> {
    for _ in 0..WAITS {
        match cache.look(key).await? {
            Looked::Wait => sleep(WAIT).await,
            looked => return Ok(looked),
        }
    }
    Ok(Looked::Wait)
}

/// A reader's connections.
#[derive(Default)]
struct Conns {
    /// The number of the replica that this reader reads; `None`: the primary.
    replica: Option<usize>,
    near: Option<Conn>,
    primary: Option<Conn>,
}

async fn select(shop: &Shop, conns: &mut Conns, from: From, key: &Key) -> Result<rows::Found> {
    let replica = conns.replica.and_then(|at| shop.settings().replicas.get(at));
    let (slot, database) = match (from, replica) {
        (From::Anywhere, Some(replica)) => (&mut conns.near, replica),
        (From::Primary, _) | (From::Anywhere, None) => (&mut conns.primary, &shop.0.database),
    };
    let conn = match slot {
        Some(conn) => conn,
        None => slot.insert(shop.connect_to(database).await?),
    };
    Ok(queries::find(conn, key).await?)
}

/// A value on its way into the cache.
struct Fill {
    key: Key,
    text: String,
    value: String,
    selected: Instant,
    lease: Option<u64>,
}

impl Fill {
    async fn put(self, shop: &Shop, cache: &mut Cache) {
        let stats = shop.stats();
        if let Some(cas) = self.lease {
            self.note(shop, None);
            match cache.fill(&self.text, cas, TTL_S, &self.value).await {
                Ok(true) => stats.fills.add_one(),
                Ok(false) => stats.fills_refused.add_one(),
                Err(_) => stats.cache_errors.add_one(),
            }
            self.note(shop, Some(Instant::now()));
            return;
        }
        // What `set` itself may take counts too.
        if self.selected.elapsed() + crate::cache::DEADLINE >= shop.settings().fill_age_max {
            stats.late_fills.add_one();
            return;
        }
        self.note(shop, None);
        match cache.set(&self.text, TTL_S, &self.value).await {
            Ok(()) => stats.fills.add_one(),
            Err(_) => stats.cache_errors.add_one(),
        }
        self.note(shop, Some(Instant::now()));
        // On a machine that stands still for seconds: whoever sees that he was too late takes it back.
        if self.selected.elapsed() >= shop.settings().fill_age_max {
            stats.late_fills.add_one();
            sleep(TAKE_BACK_AFTER).await;
            if cache.delete(&self.text).await.is_err() {
                stats.cache_errors.add_one();
            }
        }
    }

    fn note(&self, shop: &Shop, ended: Option<Instant>) {
        shop.remember_filled(&self.key, Put { selected: self.selected, ended });
    }
}
