//! What may be stored: not what a transaction has written itself, nor what nobody has committed; that there is none, and what
//! is soon over, may.

use std::time::Duration;

use anyhow::Ok;
use client::{
    Client, Fetched, Got, Isolation, Origin, Read, Reading, Snapshot, Stored, Unfit, Writes,
};
use e2e::servers::{Kind, Link};
use mysql_async::{Conn, prelude::Queryable};
use tokio::sync::oneshot;

use super::{DEADLINE, PLAIN, client_of, fetch, is_cached, key_of, read, settings, text};
use crate::{
    support::{enter, until},
    versions::Stage,
};

const THING: u32 = 31;
/// There is no such row.
const NONE: u32 = 4000;

/// Reads a thing on a connection, which is in such a session.
async fn read_on(client: &Client, conn: &mut Conn, thing: u32, reading: Reading) -> Got {
    let got = client
        .get(&key_of(thing), Read::new(reading), |_| async { Ok(fetch(conn, thing).await) })
        .await;
    got.expect("the database answers")
}

fn stored(got: &Got) -> Option<Stored> {
    match got.from {
        Origin::Database(_, stored) => Some(stored),
        Origin::Cache(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_may_not_fill_does_not() {
    let test = "a_session_that_may_not_fill_does_not";
    let Some(lab) = enter(test, &["mysql", "mcsqueal"]).await else { return };
    let mut stage = Stage::start(lab, Kind::Mysql, &[Link::Plain], &[], "").await;
    let client = client_of(&stage);
    let mut conn = stage.chain[0].connect().await.expect("a connection");
    let update = format!("UPDATE shop.things SET value = 'mine' WHERE id = {THING}");

    // Inside the transaction that wrote: it sees its own change, and nobody else will.
    conn.query_drop("BEGIN").await.expect("BEGIN");
    conn.query_drop(&update).await.expect("a write");
    let wrote = Reading::Transaction {
        isolation: Isolation::RepeatableRead,
        writes: Writes::Some,
        snapshot: Snapshot::Opened,
    };
    let got = read_on(&client, &mut conn, THING, wrote).await;
    assert_eq!((text(&got), stored(&got)), ("mine".to_owned(), Some(Stored::Unfit(Unfit::Wrote))));

    // At READ UNCOMMITTED, somebody else sees it too.
    let mut dirty = stage.chain[0].connect().await.expect("a connection");
    let level = "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED";
    dirty.query_drop(level).await.expect("a level");
    let isolation = client::mysql::isolation_of(&mut dirty, schemas::gtid::Dialect::Mysql).await;
    let reading = Reading::Autocommit(isolation.expect("a level"));
    let got = read_on(&client, &mut dirty, THING, reading).await;
    let uncommitted = Some(Stored::Unfit(Unfit::Uncommitted));
    assert_eq!((text(&got), stored(&got)), ("mine".to_owned(), uncommitted));

    // Who finds out while he reads gives his lease back, and the next reader need not wait.
    let got = client
        .get(&key_of(THING), Read::new(PLAIN), |_| async {
            Ok(fetch(&mut conn, THING).await.read_in(wrote))
        })
        .await;
    let got = got.expect("the database answers");
    assert_eq!((text(&got), stored(&got)), ("mine".to_owned(), Some(Stored::Unfit(Unfit::Wrote))));

    conn.query_drop("ROLLBACK").await.expect("ROLLBACK");
    until("others fill the key with what is committed", DEADLINE, async || {
        let got = read(&stage, &client, THING, None).await;
        assert_eq!(text(&got), "v0", "a change that was rolled back is cached");
        is_cached(&got)
    })
    .await;
    stage.mcsqueal.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn that_there_is_none_is_cached_until_there_is_one() {
    let test = "that_there_is_none_is_cached_until_there_is_one";
    let Some(lab) = enter(test, &["mysql", "mcsqueal"]).await else { return };
    let mut stage = Stage::start(lab, Kind::Mysql, &[Link::Plain], &[], "").await;
    let client = client_of(&stage);
    until("it is cached that there is none", DEADLINE, async || {
        let got = read(&stage, &client, NONE, None).await;
        assert_eq!(got.value, None);
        is_cached(&got)
    })
    .await;
    let insert = format!("INSERT INTO shop.things VALUES ({NONE}, 'new')");
    stage.chain[0].run(&[&insert]).await.expect("a row");
    until("there is one", DEADLINE, async || {
        let got = read(&stage, &client, NONE, None).await;
        got.value.is_some() && is_cached(&got)
    })
    .await;
    stage.mcsqueal.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_reader_renews_what_is_soon_over() {
    let test = "one_reader_renews_what_is_soon_over";
    let Some(lab) = enter(test, &["mysql", "mcsqueal"]).await else { return };
    let mut stage = Stage::start(lab, Kind::Mysql, &[Link::Plain], &[], "lease_ms = 60000").await;
    let mut settings = settings(&[stage.node.address()], None);
    // Whatever is stored has less time left than this.
    settings.ttl = Duration::from_secs(300);
    let usual = Client::new(settings.clone()).expect("settings");
    settings.renew_before = Duration::from_secs(600);
    let early = Client::new(settings).expect("settings");
    until("the value is cached", DEADLINE, async || {
        is_cached(&read(&stage, &usual, THING, None).await)
    })
    .await;

    let (go_on, told) = oneshot::channel::<()>();
    let (began, begun) = oneshot::channel::<()>();
    let renews = tokio::spawn({
        let early = early.clone();
        async move {
            let got = early
                .get(&key_of(THING), Read::new(PLAIN), |_| async {
                    began.send(()).expect("somebody waits");
                    told.await.expect("somebody says so");
                    Ok(Fetched::found("renewed"))
                })
                .await;
            got.expect("nothing fails")
        }
    });
    begun.await.expect("one reader renews it");
    let others = read(&stage, &early, THING, None).await;
    assert!(is_cached(&others) && text(&others) == "v0", "others have the value: {others:?}");
    go_on.send(()).expect("he waits");
    let renewed = renews.await.expect("no panic");
    assert_eq!(stored(&renewed), Some(Stored::Yes), "{renewed:?}");
    let after = read(&stage, &usual, THING, None).await;
    assert!(is_cached(&after) && text(&after) == "renewed", "{after:?}");
    stage.mcsqueal.stop().await.expect("a clean stop");
}
