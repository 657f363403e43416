//! The queries that fill keys.

use mysql_async::{Conn, Error, prelude::Queryable};

use super::rows::{Found, Key, ORDERS_MAX, Order, Product, User};

type UserRow = (u32, String, String, u64);
type ProductRow = (u32, String, u32, i32, u64);
type OrderRow = (u64, u32, String, u64);

/// What the database has for `key`.
pub(super) async fn find(conn: &mut Conn, key: &Key) -> Result<Found, Error> {
    match key {
        Key::User(id) => {
            let query = "SELECT id, email, name, ver FROM users WHERE id = ?";
            Ok(Found::User(conn.exec_first(query, (id,)).await?.map(user)))
        }
        Key::UserByEmail(email) => {
            let query = "SELECT id, email, name, ver FROM users WHERE email = ?";
            Ok(Found::User(conn.exec_first(query, (email,)).await?.map(user)))
        }
        Key::Product(id) => {
            let query = "SELECT id, sku, price_cents, stock, ver FROM products WHERE id = ?";
            Ok(Found::Product(conn.exec_first(query, (id,)).await?.map(product)))
        }
        Key::ProductBySku(sku) => {
            let query = "SELECT id, sku, price_cents, stock, ver FROM products WHERE sku = ?";
            Ok(Found::Product(conn.exec_first(query, (sku,)).await?.map(product)))
        }
        Key::Order(id) => {
            let query = "SELECT id, user_id, status, ver FROM orders WHERE id = ?";
            Ok(Found::Order(conn.exec_first(query, (id,)).await?.map(order)))
        }
        Key::OrdersOf(user_id) => {
            let query = format!(
                "SELECT id, user_id, status, ver FROM orders WHERE user_id = ? \
                 ORDER BY id DESC LIMIT {ORDERS_MAX}"
            );
            Ok(Found::Orders(conn.exec_map(query, (user_id,), order).await?))
        }
    }
}

/// Every user.
pub(super) async fn users(conn: &mut Conn) -> Result<Vec<User>, Error> {
    conn.query_map("SELECT id, email, name, ver FROM users", user).await
}

/// Every product.
pub(super) async fn products(conn: &mut Conn) -> Result<Vec<Product>, Error> {
    conn.query_map("SELECT id, sku, price_cents, stock, ver FROM products", product).await
}

/// Every order, the newest first.
pub(super) async fn orders(conn: &mut Conn) -> Result<Vec<Order>, Error> {
    conn.query_map("SELECT id, user_id, status, ver FROM orders ORDER BY id DESC", order).await
}

/// Locks and reads a user.
pub(super) async fn lock_user(conn: &mut Conn, id: u32) -> Result<Option<User>, Error> {
    let query = "SELECT id, email, name, ver FROM users WHERE id = ? FOR UPDATE";
    Ok(conn.exec_first(query, (id,)).await?.map(user))
}

/// Locks and reads a product.
pub(super) async fn lock_product(conn: &mut Conn, id: u32) -> Result<Option<Product>, Error> {
    let query = "SELECT id, sku, price_cents, stock, ver FROM products WHERE id = ? FOR UPDATE";
    Ok(conn.exec_first(query, (id,)).await?.map(product))
}

/// Locks and reads an order.
pub(super) async fn lock_order(conn: &mut Conn, id: u64) -> Result<Option<Order>, Error> {
    let query = "SELECT id, user_id, status, ver FROM orders WHERE id = ? FOR UPDATE";
    Ok(conn.exec_first(query, (id,)).await?.map(order))
}

fn user((id, email, name, ver): UserRow) -> User {
    User { id, email, name, ver }
}

fn product((id, sku, price_cents, stock, ver): ProductRow) -> Product {
    Product { id, sku, price_cents, stock, ver }
}

fn order((id, user_id, status, ver): OrderRow) -> Order {
    Order { id, user_id, status, ver }
}
