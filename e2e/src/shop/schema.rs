//! The shop's tables, and the rows that it opens with.

use std::fmt::Write;

use anyhow::{Context, Result};
use mysql_async::{Conn, prelude::Queryable};

use super::{CANARIES, CANARY_FIRST};

/// Rows per INSERT.
const BATCH: u32 = 500;

/// How many rows the shop opens with. Orders come while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Users, with ids from 1.
    pub users: u32,
    /// Products, with ids from 1.
    pub products: u32,
}

/// Makes `schema` anew, with all tables and first rows.
pub(super) async fn create(conn: &mut Conn, schema: &str, sizes: Sizes) -> Result<()> {
    let tables = [
        format!("DROP DATABASE IF EXISTS {schema}"),
        format!("CREATE DATABASE {schema} CHARACTER SET utf8mb4"),
        format!(
            "CREATE TABLE {schema}.users (id INT UNSIGNED PRIMARY KEY, email VARCHAR(120) NOT NULL UNIQUE, \
             name VARCHAR(80) NOT NULL, ver BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB"
        ),
        format!(
            "CREATE TABLE {schema}.products (id INT UNSIGNED PRIMARY KEY, sku VARCHAR(60) NOT NULL UNIQUE, \
             price_cents INT UNSIGNED NOT NULL, stock INT NOT NULL, ver BIGINT UNSIGNED NOT NULL) \
             ENGINE=InnoDB"
        ),
        format!(
            "CREATE TABLE {schema}.orders (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, \
             user_id INT UNSIGNED NOT NULL, status VARCHAR(20) NOT NULL, created DATETIME(3) NOT NULL, \
             ver BIGINT UNSIGNED NOT NULL, KEY (user_id, id)) ENGINE=InnoDB"
        ),
    ];
    for statement in tables {
        conn.query_drop(&statement).await.with_context(|| format!("run {statement}"))?;
    }
    let user = |id| format!("({id}, '{}', 'Name 1 of {id}', 1)", email(id, 0));
    insert(conn, &format!("{schema}.users (id, email, name, ver)"), 1, sizes.users, user).await?;
    let product = |id| format!("({id}, '{}', {}, 1000, 1)", sku(id, 0), 100 + id);
    let columns = format!("{schema}.products (id, sku, price_cents, stock, ver)");
    insert(conn, &columns, 1, sizes.products, product).await?;
    insert(conn, &columns, CANARY_FIRST, CANARIES, product).await
}

/// The `number`th e-mail address of user `id`: letters of both cases, because keys have only small ones.
pub(super) fn email(id: u32, number: u32) -> String {
    format!("User{id}.{number}@Example.com")
}

/// The `number`th stock-keeping unit of product `id`.
pub(super) fn sku(id: u32, number: u32) -> String {
    format!("SKU-{id}-{number}")
}

async fn insert(
    conn: &mut Conn,
    into: &str,
    first: u32,
    count: u32,
    row: impl Fn(u32) -> String,
) -> Result<()> {
    let mut from = 0;
    while from < count {
        let to = count.min(from + BATCH);
        let mut statement = format!("INSERT INTO {into} VALUES ");
        for offset in from..to {
            let comma = if offset == from { "" } else { ", " };
            write!(statement, "{comma}{}", row(first + offset))
                .expect("writing to text cannot fail");
        }
        conn.query_drop(statement).await.with_context(|| format!("fill {into}"))?;
        from = to;
    }
    Ok(())
}
