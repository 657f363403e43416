//! Stampedes: many readers, one database read; and a holder of a lease who dies, politely or not.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use client::{Client, Fetched, Got, Origin, Read, Stored};
use e2e::{
    cache::{Cache, Looked},
    servers::{Kind, Link},
};
use tokio::{task::JoinSet, time::sleep};

use super::{DEADLINE, PLAIN, client_of, key_of};
use crate::{
    support::{enter, until},
    versions::Stage,
};

const READERS: usize = 200;
/// How long a database read takes: everybody asks in the meantime.
const SELECT: Duration = Duration::from_millis(200);

async fn count(client: &Client, thing: u32, reads: &AtomicU64) -> Got {
    let got = client
        .get(&key_of(thing), Read::new(PLAIN), |_| async {
            reads.fetch_add(1, Ordering::Relaxed);
            sleep(SELECT).await;
            Ok::<_, Infallible>(Fetched::found("v0"))
        })
        .await;
    let Ok(got) = got;
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_readers_read_the_database_once() {
    let test = "two_hundred_readers_read_the_database_once";
    let Some(lab) = enter(test, &["mysql", "mcsqueal"]).await else { return };
    let mut stage = Stage::start(lab, Kind::Mysql, &[Link::Plain], &[], "lease_ms = 60000").await;
    can_fill(&stage).await;
    // Two processes, so to speak.
    let clients = [client_of(&stage), client_of(&stage)];
    let reads = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        let (client, reads) = (clients[number % 2].clone(), Arc::clone(&reads));
        readers.spawn(async move { count(&client, 41, &reads).await });
    }
    while let Some(got) = readers.join_next().await {
        assert_eq!(got.expect("no panic").value.as_deref(), Some(&b"v0"[..]));
    }
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    stage.mcsqueal.stop().await.expect("a clean stop");
}

/// Waits until the node takes fills.
async fn can_fill(stage: &Stage) {
    let (client, reads) = (client_of(stage), AtomicU64::new(0));
    until("the node takes a value", DEADLINE, async || {
        let got = count(&client, 40, &reads).await;
        matches!(got.from, Origin::Cache(_) | Origin::Database(_, Stored::Yes))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_dies_leaves_his_place_to_another() {
    let test = "a_reader_who_dies_leaves_his_place_to_another";
    let Some(lab) = enter(test, &["mysql", "mcsqueal"]).await else { return };
    let mut stage = Stage::start(lab, Kind::Mysql, &[Link::Plain], &[], "lease_ms = 1000").await;
    can_fill(&stage).await;
    let (client, reads) = (client_of(&stage), AtomicU64::new(0));

    // Without a word: the lease ends, and one of those who wait has the next one.
    let mut dies = Cache::new(&stage.nodes);
    let looked = dies.look("thing:42").await.expect("the node answers");
    assert!(matches!(looked, Looked::Lease { .. }), "{looked:?}");
    drop(dies);
    let got = count(&client, 42, &reads).await;
    assert!(matches!(got.from, Origin::Database(_, Stored::Yes)), "{got:?}");

    // Cancelled: the lease is given back.
    let started = Arc::new(tokio::sync::Notify::new());
    let cancelled = tokio::spawn({
        let (client, started) = (client.clone(), Arc::clone(&started));
        async move {
            let got = client
                .get(&key_of(43), Read::new(PLAIN), |_| async {
                    started.notify_one();
                    std::future::pending::<Result<Fetched, Infallible>>().await
                })
                .await;
            drop(got);
        }
    });
    started.notified().await;
    cancelled.abort();
    assert!(cancelled.await.is_err_and(|err| err.is_cancelled()));
    let got = count(&client, 43, &reads).await;
    assert!(matches!(got.from, Origin::Database(_, Stored::Yes)), "{got:?}");
    stage.mcsqueal.stop().await.expect("a clean stop");
}
