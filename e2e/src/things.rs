//! The smallest table that is worth caching: things with a number and a value.

use mysql_async::{Conn, prelude::Queryable};

use crate::servers::Database;

/// Which keys are of it.
pub const RULES: &str = "[[rule]]\ntable = \"shop.things\"\nkeys = [\"thing:{id}\"]\n";

/// So many things, each a transaction of its own.
pub async fn make_things(primary: &Database, count: u32) {
    let create = [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.things (id INT PRIMARY KEY, value VARCHAR(100) NOT NULL)",
    ];
    primary.run(&create).await.expect("a table");
    for number in 0..count {
        let insert = format!("INSERT INTO shop.things VALUES ({number}, 'v0')");
        primary.run(&[&insert]).await.expect("a row");
    }
}

/// The value of a thing as a server shows it.
pub async fn value_of(conn: &mut Conn, thing: u32) -> String {
    let asked = format!("SELECT value FROM shop.things WHERE id = {thing}");
    conn.query_first(asked).await.expect("a row can be read").expect("the row is there")
}
