//! A writer: reads what it changes for update, changes it, commits, and in a naive shop deletes the keys.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::Result;
use mysql_async::{Conn, Error, prelude::Queryable};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Invalidation, Shop, queries,
    rows::{Entity, Key, Order, Product, User},
    schema,
};
use crate::{cache::Cache, random::Random};

const RETRY_AFTER: Duration = Duration::from_millis(30);
const TRANSACTION_DEADLINE: Duration = Duration::from_secs(3);
/// One transaction in so many is rolled back.
const ROLLBACKS: u64 = 20;
const STATUSES: [&str; 4] = ["new", "paid", "sent", "returned"];

/// Writes until the shop closes.
pub(super) async fn run(shop: Shop, number: u64) {
    let mut random = Random::new(shop.settings().seed, number);
    let mut cache = Cache::new(&shop.0.nodes);
    let mut conn = None;
    while !shop.stopping() {
        let done = timeout(TRANSACTION_DEADLINE, transaction(&shop, &mut conn, &mut random)).await;
        match done {
            Ok(Ok(Some(changes))) => committed(&shop, &mut cache, changes).await,
            Ok(Ok(None)) => shop.stats().rollbacks.add_one(),
            Ok(Err(_)) | Err(_) => {
                // What became of the transaction is unknown; its locks go with the connection.
                shop.stats().database_errors.add_one();
                conn = None;
                sleep(RETRY_AFTER).await;
            }
        }
        sleep(shop.settings().writer_rest).await;
    }
}

/// What a transaction changed.
#[derive(Default)]
struct Changes {
    /// Of all images, before and after.
    keys: Vec<Key>,
    /// The rows' new versions.
    versions: Vec<(Entity, u64)>,
}

async fn committed(shop: &Shop, cache: &mut Cache, changes: Changes) {
    let acknowledged = Instant::now();
    shop.stats().commits.add_one();
    if shop.settings().invalidation == Invalidation::Naive {
        for key in &changes.keys {
            if cache.delete(&shop.key_text(key)).await.is_err() {
                shop.stats().cache_errors.add_one();
            }
        }
    }
    for (entity, version) in changes.versions {
        shop.0.town.staleness.committed(entity, version, acknowledged);
    }
}

/// One transaction; `None` if it was rolled back.
async fn transaction(
    shop: &Shop,
    conn: &mut Option<Conn>,
    random: &mut Random,
) -> Result<Option<Changes>> {
    if conn.is_none() {
        *conn = Some(shop.connect().await?);
    }
    let conn = conn.as_mut().expect("a connection was made right above");
    let mut work = Work { shop, conn, random, changes: Changes::default() };
    work.conn.query_drop("START TRANSACTION").await?;
    match work.change().await {
        Ok(()) if work.changes.keys.is_empty() || work.random.one_in(ROLLBACKS) => {
            work.conn.query_drop("ROLLBACK").await?;
            Ok(None)
        }
        Ok(()) => {
            work.conn.query_drop("COMMIT").await?;
            Ok(Some(work.changes))
        }
        // A deadlock or a lock wait: ordinary, and the connection is good.
        Err(Error::Server(_)) => {
            work.conn.query_drop("ROLLBACK").await?;
            Ok(None)
        }
        Err(err) => Err(err.into()),
    }
}

struct Work<'a> {
    shop: &'a Shop,
    conn: &'a mut Conn,
    random: &'a mut Random,
    changes: Changes,
}

impl Work<'_> {
    async fn change(&mut self) -> Result<(), Error> {
        match self.random.below(100) {
            0..30 => self.reprice().await,
            30..38 => self.rename_product().await,
            38..58 => self.rename_user().await,
            58..66 => self.move_user().await,
            66..84 => self.purchase().await,
            84..94 => self.advance_order().await,
            94..97 => self.give_order().await,
            _ => self.cancel_order().await,
        }
    }

    fn some_user(&mut self) -> u32 {
        self.shop.0.town.user_ranks.rank(self.random) + 1
    }

    fn some_product(&mut self) -> u32 {
        self.shop.0.town.product_ranks.rank(self.random) + 1
    }

    fn some_order(&mut self) -> u64 {
        let last = self.shop.0.town.order_last.load(Ordering::Relaxed);
        last.saturating_sub(self.random.below(60)).max(1)
    }

    async fn reprice(&mut self) -> Result<(), Error> {
        let id = self.some_product();
        let price = u32::try_from(self.random.below(100_000)).unwrap_or(0);
        self.update_product(id, |row| row.price_cents = price).await
    }

    async fn rename_product(&mut self) -> Result<(), Error> {
        let id = self.some_product();
        let number = self.shop.0.town.skus[id as usize - 1].fetch_add(1, Ordering::Relaxed) + 1;
        self.update_product(id, |row| row.sku = schema::sku(id, number)).await
    }

    async fn rename_user(&mut self) -> Result<(), Error> {
        let id = self.some_user();
        self.update_user(id, |row| row.name = format!("Name {} of {id}", row.ver)).await
    }

    async fn move_user(&mut self) -> Result<(), Error> {
        let id = self.some_user();
        let number = self.shop.0.town.emails[id as usize - 1].fetch_add(1, Ordering::Relaxed) + 1;
        self.update_user(id, |row| row.email = schema::email(id, number)).await
    }

    /// Three tables at once.
    async fn purchase(&mut self) -> Result<(), Error> {
        let (user_id, product_id) = (self.some_user(), self.some_product());
        self.update_user(user_id, |row| row.name = format!("Buyer {} {user_id}", row.ver)).await?;
        self.update_product(product_id, |row| row.stock -= 1).await?;
        let status = STATUSES[0].to_owned();
        let insert = "INSERT INTO orders (user_id, status, created, ver) VALUES (?, ?, NOW(3), 1)";
        self.conn.exec_drop(insert, (user_id, &status)).await?;
        let id = self.conn.last_insert_id().unwrap_or(0);
        self.shop.0.town.order_last.fetch_max(id, Ordering::Relaxed);
        self.note_order(&Order { id, user_id, status, ver: 1 });
        self.changes.versions.push((Entity::Order(id), 1));
        Ok(())
    }

    async fn advance_order(&mut self) -> Result<(), Error> {
        let id = self.some_order();
        let at = usize::try_from(self.random.below(4)).unwrap_or(0);
        self.update_order(id, |row| STATUSES[at].clone_into(&mut row.status)).await
    }

    async fn give_order(&mut self) -> Result<(), Error> {
        let (id, user_id) = (self.some_order(), self.some_user());
        self.update_order(id, |row| row.user_id = user_id).await
    }

    async fn cancel_order(&mut self) -> Result<(), Error> {
        let id = self.some_order();
        let Some(row) = queries::lock_order(self.conn, id).await? else { return Ok(()) };
        self.shop.0.town.staleness.leaves(Entity::Order(id));
        self.conn.exec_drop("DELETE FROM orders WHERE id = ?", (id,)).await?;
        self.note_order(&row);
        self.changes.versions.push((Entity::Order(id), u64::MAX));
        Ok(())
    }

    async fn update_user(&mut self, id: u32, change: impl FnOnce(&mut User)) -> Result<(), Error> {
        let Some(mut row) = queries::lock_user(self.conn, id).await? else { return Ok(()) };
        self.changes.keys.extend(row.keys());
        change(&mut row);
        row.ver += 1;
        self.changes.keys.extend(row.keys());
        let update = "UPDATE users SET email = ?, name = ?, ver = ? WHERE id = ?";
        self.conn.exec_drop(update, (&row.email, &row.name, row.ver, id)).await?;
        self.changes.versions.push((Entity::User(id), row.ver));
        Ok(())
    }

    async fn update_product(
        &mut self,
        id: u32,
        change: impl FnOnce(&mut Product),
    ) -> Result<(), Error> {
        let Some(mut row) = queries::lock_product(self.conn, id).await? else { return Ok(()) };
        self.changes.keys.extend(row.keys());
        change(&mut row);
        row.ver += 1;
        self.changes.keys.extend(row.keys());
        let update =
            "UPDATE products SET sku = ?, price_cents = ?, stock = ?, ver = ? WHERE id = ?";
        self.conn.exec_drop(update, (&row.sku, row.price_cents, row.stock, row.ver, id)).await?;
        self.changes.versions.push((Entity::Product(id), row.ver));
        Ok(())
    }

    async fn update_order(
        &mut self,
        id: u64,
        change: impl FnOnce(&mut Order),
    ) -> Result<(), Error> {
        let Some(mut row) = queries::lock_order(self.conn, id).await? else { return Ok(()) };
        self.note_order(&row);
        change(&mut row);
        row.ver += 1;
        self.note_order(&row);
        let update = "UPDATE orders SET user_id = ?, status = ?, ver = ? WHERE id = ?";
        self.conn.exec_drop(update, (row.user_id, &row.status, row.ver, id)).await?;
        self.changes.versions.push((Entity::Order(id), row.ver));
        Ok(())
    }

    fn note_order(&mut self, row: &Order) {
        self.changes.keys.extend(row.keys());
    }
}
