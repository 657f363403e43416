//! Look-aside with own writes, against a running demo. In one terminal:
//!
//! ```console
//! $ cargo xtask demo --nodes mcsqueal --seconds 60
//! ```
//!
//! It prints the command for another terminal, with its addresses:
//!
//! ```console
//! $ cargo run -p client --features mysql --example own_writes -- DATABASE EPOCHS NODE...
//! ```
//!
//! The example writes a user of its own twenty times, reads him back three times each, and counts where values came from: right
//! after a write from the database, then stored, then cached.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use client::{
    Client, Cluster, Fetched, Isolation, Origin, Read, Reading, Settings, Stored, Token, mysql,
};
use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use schemas::{
    gtid::Dialect,
    key::Key,
    ring::{Hashing, RingNode},
};
use tokio::time::sleep;

const USER: u32 = 900_001;
const WRITES: u32 = 20;
/// From one request of the user to the next: the first comes at once, before the region has the write.
const BETWEEN: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Counts {
    cached: u32,
    stored: u32,
    not_stored: u32,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "this is what it is for")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(database), Some(epochs)) = (arguments.next(), arguments.next()) else {
        bail!("which? own_writes DATABASE EPOCHS NODE..., as the demo prints it");
    };
    let nodes: Vec<RingNode> = arguments.map(|name| RingNode { name, weight: 1 }).collect();
    let settings = Settings {
        epochs: vec![epochs],
        ..Settings::new(vec![Cluster { hashing: Hashing::Ketama, nodes }])
    };
    let client = Client::new(settings)?;
    let mut conn = connect(&database).await?;
    let version: String = conn.query_first("SELECT VERSION()").await?.context("a version")?;
    let dialect = if version.contains("MariaDB") { Dialect::MariaDb } else { Dialect::Mysql };

    let insert = format!("INSERT INTO shop.users VALUES ({USER}, 'own@example.com', 'Name 0', 1)");
    conn.query_drop(insert).await.context("insert a user of our own")?;
    let mut counts = Counts::default();
    for number in 1..=WRITES {
        let token = write(&client, &mut conn, dialect, number).await?;
        // The user's next request brings the token, from a cookie, to whichever process serves him.
        let token: Token = token.to_string().parse()?;
        for _ in 0..3 {
            let name = read(&client, &mut conn, Some(token), &mut counts).await?;
            ensure!(name == format!("Name {number}"), "{name}, after Name {number} was written");
            sleep(BETWEEN).await;
        }
    }
    conn.query_drop(format!("DELETE FROM shop.users WHERE id = {USER}")).await?;
    println!("{WRITES} writes, each read three times: {counts:?}");
    Ok(())
}

async fn connect(address: &str) -> Result<Conn> {
    let (host, port) = address.rsplit_once(':').context("DATABASE is host:port")?;
    let opts = OptsBuilder::default().ip_or_hostname(host).tcp_port(port.parse()?);
    Conn::new(opts.user(Some("root"))).await.context("connect to the database")
}

/// Marks, writes, names the version; returns the user's token.
async fn write(client: &Client, conn: &mut Conn, dialect: Dialect, number: u32) -> Result<Token> {
    let mark = client.mark(&[key()]).await?;
    let change = format!("UPDATE shop.users SET name = 'Name {number}' WHERE id = {USER}");
    conn.query_drop(change).await?;
    let commit = mysql::commit_of(conn, dialect).await?;
    Ok(client.committed(mark, &commit).await.token)
}

/// The user's name: from the cache, or from the database and then for others.
async fn read(
    client: &Client,
    conn: &mut Conn,
    token: Option<Token>,
    counts: &mut Counts,
) -> Result<String> {
    let read = Read::new(Reading::Autocommit(Isolation::RepeatableRead)).with_token(token);
    let key = key();
    let got = client.get(&key, read, |_| async {
        // The demo has one database; with replicas, the argument says which to ask.
        let select = format!("SELECT name FROM shop.users WHERE id = {USER}");
        let name: Option<String> = conn.query_first(select).await?;
        anyhow::Ok(name.map_or_else(Fetched::absent, Fetched::found))
    });
    let got = got.await?;
    match got.from {
        Origin::Cache(_) => counts.cached += 1,
        Origin::Database(_, Stored::Yes) => counts.stored += 1,
        Origin::Database(..) => counts.not_stored += 1,
    }
    let name = got.value.context("the user is there")?;
    Ok(String::from_utf8(name.to_vec())?)
}

/// Not `user:`, whose values the shop writes in a form of its own.
fn key() -> Key {
    Key::new("user-by-email:own@example.com").expect("a short text without spaces")
}
