//! The shop's rows, the cache keys that are made of them, and what is cached under each key.
//!
//! A cached value is text: its key, then the rows' own columns and versions. So a value that was planted
//! under the wrong key, or is of an old version, can be told from a right one. That nothing was found is
//! cached too, as most shops do: an insert makes such a value stale. The list of a user's orders shows no
//! versions, because its rule is only about the columns that it shows.

use std::fmt;

/// Most orders in a cached list.
pub(super) const ORDERS_MAX: usize = 20;

/// A row of `users`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    /// Primary key.
    pub id: u32,
    /// Unique; letters of both cases.
    pub email: String,
    /// Shown to people.
    pub name: String,
    /// Counts the row's changes.
    pub ver: u64,
}

/// A row of `products`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Product {
    /// Primary key.
    pub id: u32,
    /// Unique.
    pub sku: String,
    /// What it costs.
    pub price_cents: u32,
    /// How many there are.
    pub stock: i32,
    /// Counts the row's changes.
    pub ver: u64,
}

/// A row of `orders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Primary key.
    pub id: u64,
    /// Whose it is.
    pub user_id: u32,
    /// How far it is.
    pub status: String,
    /// Counts the row's changes.
    pub ver: u64,
}

/// A cache key, as the rules in `region-configs/shop.rules.toml` have them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    /// `user:{id}`.
    User(u32),
    /// `user-by-email:{email|lower}`.
    UserByEmail(String),
    /// `product:{id}`.
    Product(u32),
    /// `product-by-sku:{sku}`.
    ProductBySku(String),
    /// `order:{id}`.
    Order(u64),
    /// `orders-of:{user_id}`.
    OrdersOf(u32),
}

/// What a key's query found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A user, or that there is none.
    User(Option<User>),
    /// A product, or that there is none.
    Product(Option<Product>),
    /// An order, or that there is none.
    Order(Option<Order>),
    /// The newest orders of a user, newest first.
    Orders(Vec<Order>),
}

/// A row, of whatever table, whose versions are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Entity {
    /// A user by id.
    User(u32),
    /// A product by id.
    Product(u32),
    /// An order by id.
    Order(u64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::User(id) => write!(f, "user:{id}"),
            Key::UserByEmail(email) => write!(f, "user-by-email:{}", email.to_lowercase()),
            Key::Product(id) => write!(f, "product:{id}"),
            Key::ProductBySku(sku) => write!(f, "product-by-sku:{sku}"),
            Key::Order(id) => write!(f, "order:{id}"),
            Key::OrdersOf(user_id) => write!(f, "orders-of:{user_id}"),
        }
    }
}

impl User {
    /// The keys whose values hold this row.
    pub(super) fn keys(&self) -> [Key; 2] {
        [Key::User(self.id), Key::UserByEmail(self.email.clone())]
    }
}

impl Product {
    /// The keys whose values hold this row.
    pub(super) fn keys(&self) -> [Key; 2] {
        [Key::Product(self.id), Key::ProductBySku(self.sku.clone())]
    }
}

impl Order {
    /// The keys whose values hold this row.
    pub(super) fn keys(&self) -> [Key; 2] {
        [Key::Order(self.id), Key::OrdersOf(self.user_id)]
    }
}

impl Found {
    /// What is cached under `key`, which is the key's text.
    pub(super) fn value(&self, key: &str) -> String {
        let text = match self {
            Found::User(Some(row)) => {
                format!("user {} v{} {} {}", row.id, row.ver, row.email, row.name)
            }
            Found::Product(Some(row)) => format!(
                "product {} v{} {} {} {}",
                row.id, row.ver, row.sku, row.price_cents, row.stock
            ),
            Found::Order(Some(row)) => {
                format!("order {} v{} {} {}", row.id, row.ver, row.user_id, row.status)
            }
            Found::User(None) | Found::Product(None) | Found::Order(None) => "none".to_owned(),
            Found::Orders(rows) => {
                let row = |row: &Order| format!("{}:{}", row.id, row.status);
                let rows: Vec<String> = rows.iter().map(row).collect();
                format!("orders {}", rows.join(" "))
            }
        };
        format!("{key} = {text}")
    }
}

/// Which row, in which version, a cached value shows; `None` for lists and for what says that there is
/// no such row, except under an order's own key, where that is version 0.
pub(super) fn shown(key: &Key, value: &str) -> Option<(Entity, u64)> {
    let (_, text) = value.split_once(" = ")?;
    let mut words = text.split(' ');
    match (words.next()?, key) {
        ("none", Key::Order(id)) => return Some((Entity::Order(*id), 0)),
        ("user" | "product" | "order", _) => {}
        _ => return None,
    }
    let (id, ver) = (words.next()?, words.next()?.strip_prefix('v')?.parse().ok()?);
    let entity = match text.split(' ').next()? {
        "user" => Entity::User(id.parse().ok()?),
        "product" => Entity::Product(id.parse().ok()?),
        _ => Entity::Order(id.parse().ok()?),
    };
    Some((entity, ver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_name_key_row_and_version() {
        let user = User { id: 7, email: "Ann@x".into(), name: "Ann".into(), ver: 3 };
        let [by_id, by_email] = user.keys();
        assert_eq!(by_email.to_string(), "user-by-email:ann@x");
        let value = Found::User(Some(user)).value(&by_id.to_string());
        assert_eq!(value, "user:7 = user 7 v3 Ann@x Ann");
        assert_eq!(shown(&by_id, &value), Some((Entity::User(7), 3)));

        let order = Order { id: 9, user_id: 7, status: "new".into(), ver: 2 };
        assert_eq!(Found::Orders(vec![order]).value("orders-of:7"), "orders-of:7 = orders 9:new");
        assert_eq!(shown(&Key::OrdersOf(7), "orders-of:7 = orders 9:new"), None);
        let absent = Found::Order(None).value("order:9");
        assert_eq!(shown(&Key::Order(9), &absent), Some((Entity::Order(9), 0)));
    }
}
