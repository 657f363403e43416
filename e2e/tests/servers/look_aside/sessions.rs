//! A writer's version is that of his own session, not of somebody who committed after him; on servers of both kinds.

use client::{Commit, mysql::commit_of};
use e2e::servers::{Kind, Link, options_of};
use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use schemas::gtid::Dialect;

use super::dialect_of;
use crate::support::enter;

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_of_the_writers_own_session_on_mysql() {
    own_session("a_version_is_of_the_writers_own_session_on_mysql", Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_of_the_writers_own_session_on_mariadb() {
    own_session("a_version_is_of_the_writers_own_session_on_mariadb", Kind::Mariadb).await;
}

async fn own_session(test: &str, kind: Kind) {
    let Some(lab) = enter(test, &[kind.name()]).await else { return };
    let mut options = options_of(kind, 1, Link::Plain);
    options.more.push("--performance-schema=ON".to_owned());
    let database = lab.servers.database(kind, &options).await.expect("a database");
    let tables = ["CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY)"];
    database.run(&tables).await.expect("a table");
    let mut first = database.connect().await.expect("a connection");
    let mut second = database.connect().await.expect("a connection");
    for round in 0..3 {
        let before = number(&commit(&mut second, kind, 10 * round).await);
        insert(&mut first, 10 * round + 1).await;
        let after = number(&commit(&mut second, kind, 10 * round + 2).await);
        // What is read in between has no version.
        first.query_drop("SELECT COUNT(*) FROM shop.t").await.expect("a read");
        let own = commit_of(&mut first, dialect_of(kind)).await.expect("a commit");
        assert_eq!((number(&own), after), (before + 1, before + 2), "{own:?}");
    }
    if kind == Kind::Mysql {
        // Who may not ask gets a bound from above.
        let grants =
            ["CREATE USER app@'%' IDENTIFIED BY 'squeak'", "GRANT INSERT ON shop.* TO app@'%'"];
        database.run(&grants).await.expect("an account");
        let account = OptsBuilder::from_opts(database.root()).user(Some("app"));
        let mut plain = Conn::new(account.pass(Some("squeak"))).await.expect("a connection");
        insert(&mut plain, 100).await;
        let newest = number(&commit(&mut second, kind, 101).await);
        let bound = commit_of(&mut plain, Dialect::Mysql).await.expect("a commit");
        assert_eq!(number(&bound), newest);
        // So does everybody where nothing is remembered any more: what is remembered is too old.
        let forget = "UPDATE performance_schema.setup_consumers SET enabled = 'NO' \
                      WHERE name = 'events_transactions_history'";
        first.query_drop(forget).await.expect("a setting");
        insert(&mut first, 200).await;
        let newest = number(&commit(&mut second, kind, 201).await);
        let bound = commit_of(&mut first, Dialect::Mysql).await.expect("a commit");
        assert_eq!(number(&bound), newest);
    }
}

async fn insert(conn: &mut Conn, id: u32) {
    conn.query_drop(format!("INSERT INTO shop.t VALUES ({id})")).await.expect("a row");
}

async fn commit(conn: &mut Conn, kind: Kind, id: u32) -> Commit {
    insert(conn, id).await;
    commit_of(conn, dialect_of(kind)).await.expect("a commit")
}

/// The last part of both kinds of GTID.
fn number(commit: &Commit) -> u64 {
    let text = commit.gtid().to_string();
    let number = text.rsplit([':', '-']).next().and_then(|number| number.parse().ok());
    number.expect("a number")
}
