//! Markers on a stock memcached while the replica that readers fill from stands still: they stand until it has the write, and go
//! then; and what somebody without a marker has filled from the replica meanwhile does not stay.

use client::{Client, Marked, Origin, Stored, Unfit};
use e2e::{
    cache::{Cache, Nodes},
    servers::{Kind, Link, McsquealOptions, Region, options_of},
    things::{RULES, make_things, value_of},
};
use std::time::Duration;

use super::{DEADLINE, client, is_cached, key_of, text, write};
use crate::{
    support::{Lab, enter, until},
    versions::THINGS_MADE,
};

const MARKED: u32 = 41;
const UNMARKED: u32 = 42;
const FILL_AGE_MAX: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_on_memcached_stands_until_the_replica_has_the_write() {
    let test = "a_marker_on_memcached_stands_until_the_replica_has_the_write";
    let Some(lab) = enter(test, &["mysql", "memcached", "mcsqueal"]).await else { return };
    lagging(lab, Kind::Mysql).await;
}

async fn lagging(lab: Lab, kind: Kind) {
    let mut chain = Vec::new();
    for number in 1..=2 {
        let options = options_of(kind, number, Link::Plain);
        chain.push(lab.servers.database(kind, &options).await.expect("a database"));
    }
    chain[1].replicate(&chain[0]).await.expect("replication");
    make_things(&chain[0], THINGS_MADE).await;
    chain[1].caught_up(&chain[0]).await.expect("the replica is there");
    let memcached = lab.servers.memcached().await.expect("memcached");
    let region = Region::shop(&chain[0], vec![memcached.address()], FILL_AGE_MAX).await;
    let region = Region {
        replicas: vec![chain[1].address()],
        rules: RULES.to_owned(),
        cluster: "markers = true".to_owned(),
        ..region.expect("a region")
    };
    let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
    let mut mcsqueal = mcsqueal.expect("mcsqueal");
    let client = client(&[memcached.address()], mcsqueal.http());
    let nodes = Nodes::new(vec![memcached.address()]).expect("a ring");
    let mut cache = Cache::new(&nodes);

    chain[1].stop_applying().await.expect("the replica stands still");
    let mut conn = chain[0].connect().await.expect("a connection");
    let mark = client.mark(&[key_of(MARKED)]).await.expect("one key");
    write(kind, &mut conn, UNMARKED, "v1").await;
    let commit = write(kind, &mut conn, MARKED, "v1").await;
    assert_eq!(client.committed(mark, &commit).await.marked, Marked::All);
    until("both deletes of memcached's usual lane have had their time", DEADLINE, async || {
        mcsqueal.metric("mcsqueal_lane_deletes_total", "pass=\"First\"").await >= 2.0
    })
    .await;
    // Somebody fills from the replica, and knows nothing of markers.
    let mut replica = chain[1].connect().await.expect("a connection");
    let old = value_of(&mut replica, UNMARKED).await;
    assert_eq!(old, "v0");
    tokio::time::sleep(FILL_AGE_MAX * 3).await;
    cache.set(&format!("thing:{UNMARKED}"), 600, &old).await.expect("an answer");
    for _ in 0..3 {
        let got = read(&client, &chain, MARKED).await;
        assert_eq!(text(&got), "v1", "the write is not there");
        let marked = Stored::Unfit(Unfit::Marked);
        assert!(matches!(got.from, Origin::Database(_, stored) if stored == marked), "{got:?}");
    }
    assert_eq!(cache.meta(0, b"mg r_thing:41\r\n").await.expect("an answer").0, "HD");

    chain[1].start_applying().await.expect("the replica goes on");
    until("the marker is gone", DEADLINE, async || {
        cache.meta(0, b"mg r_thing:41\r\n").await.expect("an answer").0 == "EN"
    })
    .await;
    let mut replica = chain[1].connect().await.expect("a connection");
    assert_eq!(value_of(&mut replica, MARKED).await, "v1", "the marker went too early");
    for thing in [MARKED, UNMARKED] {
        until("what is cached is the write", DEADLINE, async || {
            let got = read(&client, &chain, thing).await;
            is_cached(&got) && text(&got) == "v1"
        })
        .await;
    }
    assert!(mcsqueal.metric("mcsqueal_lane_uncovered_total", "").await < 0.5);
    mcsqueal.stop().await.expect("a clean stop");
}

async fn read(client: &Client, chain: &[e2e::servers::Database], thing: u32) -> client::Got {
    super::read_from(chain, client, thing, None).await
}
