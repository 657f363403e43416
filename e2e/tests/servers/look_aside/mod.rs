//! The `client` library against real servers: what its readers see, what it stores, and how often it reads the database.

mod fills;
mod own_writes;
mod recipes;
mod sessions;
mod stampede;
mod stock;
mod stock_lag;

use std::time::Duration;

use client::{
    Client, Cluster, Commit, Database, Fetched, Got, Isolation, Origin, Patience, Read, Reading,
    Settings, Token, mysql,
};
use e2e::servers::{Database as Server, Kind};
use mysql_async::{Conn, prelude::Queryable};
use schemas::{
    gtid::Dialect,
    key::Key,
    ring::{Hashing, RingNode},
};

use crate::versions::Stage;

const DEADLINE: Duration = Duration::from_secs(20);
/// One statement that is a transaction by itself, at the servers' default level.
const PLAIN: Reading = Reading::Autocommit(Isolation::RepeatableRead);

/// A client of clusters of one node each, the first of which it reads; with patience for slow machines.
fn client(nodes: &[String], epochs: Option<&str>) -> Client {
    Client::new(settings(nodes, epochs)).expect("settings")
}

fn settings(nodes: &[String], epochs: Option<&str>) -> Settings {
    let cluster = |name: &String| Cluster {
        hashing: Hashing::Ketama,
        nodes: vec![RingNode { name: name.clone(), weight: 1 }],
    };
    let patience = Patience {
        first: Duration::from_millis(5),
        longest: Duration::from_millis(50),
        whole: DEADLINE,
    };
    Settings {
        epochs: epochs.into_iter().map(str::to_owned).collect(),
        request_timeout: Duration::from_secs(10),
        epoch_wait: DEADLINE,
        patience,
        ..Settings::new(nodes.iter().map(cluster).collect())
    }
}

pub(crate) fn client_of(stage: &Stage) -> Client {
    client(&[stage.node.address()], stage.mcsqueal.http())
}

pub(crate) fn key_of(thing: u32) -> Key {
    Key::new(format!("thing:{thing}")).expect("a key")
}

fn dialect_of(kind: Kind) -> Dialect {
    match kind {
        Kind::Mysql => Dialect::Mysql,
        Kind::Mariadb => Dialect::MariaDb,
    }
}

/// Reads a thing as an application does: from the replica, or from the primary where the library says so.
pub(crate) async fn read(stage: &Stage, client: &Client, thing: u32, token: Option<Token>) -> Got {
    read_from(&stage.chain, client, thing, token).await
}

/// The first of the chain is the primary, the last one is read from.
async fn read_from(chain: &[Server], client: &Client, thing: u32, token: Option<Token>) -> Got {
    let read = Read::new(PLAIN).with_token(token);
    let got = client
        .get(&key_of(thing), read, |place| async move {
            let at = match place.database {
                Database::Primary => 0,
                Database::Any => chain.len() - 1,
            };
            let mut conn = chain[at].connect().await?;
            anyhow::Ok(fetch(&mut conn, thing).await)
        })
        .await;
    got.expect("the database answers")
}

async fn fetch(conn: &mut Conn, thing: u32) -> Fetched {
    let asked = format!("SELECT value FROM shop.things WHERE id = {thing}");
    let value: Option<String> = conn.query_first(asked).await.expect("an answer");
    value.map_or_else(Fetched::absent, Fetched::found)
}

pub(crate) fn text(got: &Got) -> String {
    let value = got.value.clone().expect("a value");
    String::from_utf8(value.to_vec()).expect("text")
}

pub(crate) fn is_cached(got: &Got) -> bool {
    matches!(got.from, Origin::Cache(_))
}

/// Writes a thing, and says which transaction that was.
pub(crate) async fn write(kind: Kind, conn: &mut Conn, thing: u32, value: &str) -> Commit {
    let change = format!("UPDATE shop.things SET value = '{value}' WHERE id = {thing}");
    conn.query_drop(change).await.expect("a write");
    mysql::commit_of(conn, dialect_of(kind)).await.expect("a commit")
}
