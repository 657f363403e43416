//! Another server takes the place of the one that is read: with everything that it had, and without.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use e2e::servers::{Database, Kind};
use expect_test::expect;
use mysql_async::{Row, prelude::Queryable};
use tailer::Settings;

use super::{
    book::{Book, Written, shown},
    tailing::{PATIENCE, Tailing, database, settings, tables},
};
use crate::support::{enter, until};

/// Two servers, of which the second replicates from the first and takes no writes.
struct Pair {
    first: Database,
    second: Database,
}

/// Takes no writes from anybody any more.
async fn seal(database: &Database) {
    let seal = match database.kind() {
        Kind::Mysql => "SET GLOBAL super_read_only = ON",
        Kind::Mariadb => "SET GLOBAL read_only = ON",
    };
    database.run(&[seal]).await.expect("a seal");
}

async fn unseal(database: &Database) {
    database.run(&["SET GLOBAL read_only = OFF"]).await.expect("writes");
}

async fn stop_replicating(database: &Database) {
    let statements = match database.kind() {
        Kind::Mysql => ["STOP REPLICA", "RESET REPLICA ALL"],
        Kind::Mariadb => ["STOP SLAVE", "RESET SLAVE ALL"],
    };
    database.run(&statements).await.expect("an end of replication");
}

async fn executed(database: &Database) -> String {
    let question = match database.kind() {
        Kind::Mysql => "SELECT @@global.gtid_executed",
        Kind::Mariadb => "SELECT @@global.gtid_current_pos",
    };
    let mut conn = database.connect().await.expect("a connection");
    let row: Row = conn.query_first(question).await.expect("an answer").expect("a row");
    conn.disconnect().await.expect("the end of a session");
    row.get(0).unwrap_or_default()
}

async fn caught_up(replica: &Database, source: &Database) {
    let there = executed(source).await;
    until("the replica has caught up", PATIENCE, async || executed(replica).await == there).await;
}

/// Keys, floors and what epochs prove.
fn told(what: &str, written: &Written) -> String {
    let mut keys = written.keys.clone();
    keys.sort();
    keys.dedup();
    let mut lines = vec![format!("{what}: {}", keys.join(" "))];
    lines.extend(written.epochs.iter().map(|epoch| {
        let proof = if epoch.lossless { "lossless" } else { "lossy" };
        format!("an epoch that is {proof}")
    }));
    lines.extend(written.floors.iter().map(|floor| format!("floor {}", shown(&floor.scope))));
    lines.join("\n") + "\n"
}

/// A switchover, then a crash whose survivor lacks one transaction and has one that nobody else had.
async fn promotions(test: &str, kind: Kind) -> Option<String> {
    let lab = enter(test, &[kind.name()]).await?;
    let first = database(&lab, kind, &["--server-id=11"]).await;
    let second = database(&lab, kind, &["--server-id=12", "--log-slave-updates=ON"]).await;
    let pair = Pair { first, second };
    tables(&pair.first).await;
    pair.second.replicate(&pair.first).await.expect("replication");
    seal(&pair.second).await;
    let standby = pair.second.address().parse().expect("an address");
    let settings = Settings { standbys: vec![standby], ..settings(&pair.first.address(), 4001) };
    let mut tailing = Tailing::launch_with(settings, &Book::default());
    tailing.connected().await;
    let mut all = String::new();
    let insert = |id: u32| format!("INSERT INTO shop.users VALUES ({id}, NULL, '', '')");
    pair.first.run(&[&insert(1)]).await.expect("a change");
    all += &told("before", &tailing.mark(&pair.first).await);
    all += &switchover(&pair, &mut tailing, &insert(2)).await;
    all += &crash(pair, &mut tailing, insert).await;
    Some(all)
}

async fn switchover(pair: &Pair, tailing: &mut Tailing, insert: &str) -> String {
    // What is published last took its time; the replica must know its time all the same.
    let rows = tailing.metric("mcsqueal_tailer_rows_total");
    let slow =
        ["BEGIN", "INSERT INTO shop.users VALUES (6, NULL, '', '')", "DO SLEEP(1.2)", "COMMIT"];
    pair.first.run(&slow).await.expect("a slow change");
    until("the slow change is read", PATIENCE, async || {
        tailing.metric("mcsqueal_tailer_rows_total") > rows
    })
    .await;
    seal(&pair.first).await;
    caught_up(&pair.second, &pair.first).await;
    stop_replicating(&pair.second).await;
    unseal(&pair.second).await;
    pair.second.run(&[insert]).await.expect("a change");
    told("after a switchover", &tailing.mark(&pair.second).await)
}

async fn crash(pair: Pair, tailing: &mut Tailing, insert: impl Fn(u32) -> String) -> String {
    let Pair { first: survivor, second: mut primary } = pair;
    survivor.replicate(&primary).await.expect("replication");
    caught_up(&survivor, &primary).await;
    stop_replicating(&survivor).await;
    primary.run(&[&insert(3)]).await.expect("a change that is lost");
    let lost = told("on the primary alone", &tailing.mark(&primary).await);
    unseal(&survivor).await;
    survivor.run(&[&insert(4)]).await.expect("an errant change");
    seal(&survivor).await;
    primary.kill9().expect("a crash");
    tailing.failed("").await;
    unseal(&survivor).await;
    tailing.connected().await;
    survivor.run(&[&insert(5)]).await.expect("a change");
    lost + &told("after a crash", &tailing.mark(&survivor).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn promotions_mysql() {
    let Some(told) = promotions("promotions_mysql", Kind::Mysql).await else { return };
    expect![[r#"
        before: user:1
        an epoch that is lossless
        after a switchover: user:2 user:6
        an epoch that is lossless
        on the primary alone: user:3
        after a crash: user:4 user:5
        an epoch that is lossy
    "#]]
    .assert_eq(&told);
}

#[tokio::test(flavor = "multi_thread")]
async fn promotions_mariadb() {
    let Some(told) = promotions("promotions_mariadb", Kind::Mariadb).await else { return };
    expect![[r#"
        before: user:1
        an epoch that is lossless
        after a switchover: user:2 user:6
        an epoch that is lossless
        on the primary alone: user:3
        after a crash: user:5
        an epoch that is lossy
        floor *
    "#]]
    .assert_eq(&told);
}
