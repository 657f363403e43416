//! The last word: every value that any node holds, against what the database says now.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use super::{
    Put, Shop, queries,
    rows::{Found, Key, ORDERS_MAX, Order, Product, User, shown},
};
use crate::cache::Cache;

/// Keys per `get`.
const BATCH: usize = 64;
/// How long a node may take to say what it has.
const READ_DEADLINE: Duration = Duration::from_secs(20);
const READ_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Keys that were ever put into a cache; each was asked for at every node.
    pub keys: usize,
    /// Values that nodes had.
    pub cached: usize,
    /// Those that differ from the database.
    pub stale: Vec<Stale>,
}

/// A cached value that differs from the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stale {
    /// Under which key.
    pub key: String,
    /// On which node.
    pub node: String,
    /// What is cached.
    pub cached: String,
    /// What a fill would cache now.
    pub database: String,
    /// For the one who looks for the reason.
    pub history: History,
}

/// How a stale value came about, as far as the shop knows; all times before the comparison.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct History {
    /// When COMMIT of what came after it was acknowledged.
    pub superseded: Option<Duration>,
    /// When the SELECT began of whoever put something there last.
    pub selected: Duration,
    /// When the node had answered him, or was waited for no longer.
    pub put: Option<Duration>,
}

/// Whose values count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holders {
    Everybody,
    Owners,
}

/// The whole database, in memory.
struct Tables {
    users: HashMap<u32, User>,
    user_ids: HashMap<String, u32>,
    products: HashMap<u32, Product>,
    product_ids: HashMap<String, u32>,
    orders: HashMap<u64, Order>,
    /// By user, the newest first.
    orders_of: HashMap<u32, Vec<Order>>,
}

impl Shop {
    /// Compares every cached value with the database. Nobody may be reading or writing.
    pub async fn compare(&self) -> Result<Comparison> {
        self.compare_at(Holders::Everybody).await
    }

    /// The same, where nodes may still have what was theirs in an earlier ring, and nobody asks them for.
    pub async fn compare_owners(&self) -> Result<Comparison> {
        self.compare_at(Holders::Owners).await
    }

    async fn compare_at(&self, holders: Holders) -> Result<Comparison> {
        let tables = self.load().await.context("read the whole shop")?;
        let keys = self.filled();
        let mut comparison = Comparison { keys: keys.len(), ..Comparison::default() };
        let mut cache = Cache::new(&self.0.nodes);
        let addresses = self.0.nodes.addresses();
        let now = Instant::now();
        for batch in keys.chunks(BATCH) {
            let texts: Vec<String> = batch.iter().map(|(key, _)| self.key_text(key)).collect();
            let asked: Vec<&str> = texts.iter().map(String::as_str).collect();
            for (node, address) in addresses.iter().enumerate() {
                let mut cached =
                    read_node(&mut cache, node, &asked).await.context("read a node")?;
                if holders == Holders::Owners {
                    cached
                        .retain(|key, _| self.0.nodes.owner(key).is_ok_and(|owner| owner == node));
                }
                comparison.cached += cached.len();
                for ((key, put), text) in batch.iter().zip(&texts) {
                    let Some(cached) = cached.remove(text) else { continue };
                    let database = tables.find(key).value(text);
                    if cached != database {
                        let history = self.history(now, key, &cached, *put);
                        let (key, node) = (text.clone(), address.clone());
                        comparison.stale.push(Stale { key, node, cached, database, history });
                    }
                }
            }
        }
        comparison.stale.sort();
        Ok(comparison)
    }

    fn history(&self, now: Instant, key: &Key, cached: &str, put: Put) -> History {
        let shown = shown(key, cached);
        let superseded = |(entity, version)| self.0.town.staleness.age(entity, version, now);
        History {
            superseded: shown.and_then(superseded),
            selected: now.duration_since(put.selected),
            put: put.ended.map(|ended| now.duration_since(ended)),
        }
    }

    async fn load(&self) -> Result<Tables> {
        let mut conn = self.connect().await?;
        let users = queries::users(&mut conn).await?;
        let products = queries::products(&mut conn).await?;
        let orders = queries::orders(&mut conn).await?;
        conn.disconnect().await?;
        let mut orders_of: HashMap<u32, Vec<Order>> = HashMap::new();
        for order in &orders {
            let list = orders_of.entry(order.user_id).or_default();
            if list.len() < ORDERS_MAX {
                list.push(order.clone());
            }
        }
        Ok(Tables {
            user_ids: users.iter().map(|row| (row.email.to_lowercase(), row.id)).collect(),
            users: users.into_iter().map(|row| (row.id, row)).collect(),
            product_ids: products.iter().map(|row| (row.sku.clone(), row.id)).collect(),
            products: products.into_iter().map(|row| (row.id, row)).collect(),
            orders: orders.into_iter().map(|row| (row.id, row)).collect(),
            orders_of,
        })
    }
}

/// A node that is slow is asked again: what it has is wanted, and not how soon.
async fn read_node(
    cache: &mut Cache,
    node: usize,
    keys: &[&str],
) -> Result<HashMap<String, String>> {
    let late = Instant::now() + READ_DEADLINE;
    loop {
        match cache.get_from(node, keys).await {
            Err(_) if Instant::now() < late => sleep(READ_AGAIN_AFTER).await,
            read => return read,
        }
    }
}

impl Tables {
    /// What [`queries::find`] would.
    fn find(&self, key: &Key) -> Found {
        match key {
            Key::User(id) => Found::User(self.users.get(id).cloned()),
            Key::UserByEmail(email) => {
                let id = self.user_ids.get(&email.to_lowercase());
                Found::User(id.and_then(|id| self.users.get(id)).cloned())
            }
            Key::Product(id) => Found::Product(self.products.get(id).cloned()),
            Key::ProductBySku(sku) => {
                let id = self.product_ids.get(sku);
                Found::Product(id.and_then(|id| self.products.get(id)).cloned())
            }
            Key::Order(id) => Found::Order(self.orders.get(id).cloned()),
            Key::OrdersOf(id) => Found::Orders(self.orders_of.get(id).cloned().unwrap_or_default()),
        }
    }
}
