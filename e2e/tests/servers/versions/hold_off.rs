//! Two primaries that replicate from each other, and an application that writes to both: there is no common order of what they
//! commit, and versions cannot be compared. In hold-off mode nothing stale stays cached all the same, while no server is
//! further behind than the hold-off; and when one is, that is seen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use e2e::{
    cache::{Cache, Looked, Nodes},
    http,
    servers::{Database, Kind, Link, McsquealOptions, Region, options_of},
};
use mysql_async::prelude::Queryable;
use tokio::{task::JoinSet, time::sleep};

use super::{DEADLINE, RULES, Stage, THINGS_MADE, TTL_S, ask, make_things, value_of};
use crate::support::{Lab, enter, random, until};

const HOLD_OFF: Duration = Duration::from_secs(1);
const TRAFFIC: Duration = Duration::from_secs(6);
const THINGS: u32 = 40;
const READERS: u64 = 8;
/// Behind everything else in the stream.
const LAST: u32 = 90;

#[tokio::test(flavor = "multi_thread")]
async fn two_primaries_in_hold_off_mode() {
    let test = "two_primaries_in_hold_off_mode";
    let Some(lab) = enter(test, &["mysql", "mcsqueal"]).await else { return };
    let stage = ring(lab).await;
    let metrics = http::get(stage.mcsqueal.http().expect("an address"), "/metrics").await;
    let (_, metrics) = metrics.expect("metrics");
    assert!(metrics.contains("mcsqueal_tailer_hold_off 1"), "{metrics}");
    let hits = traffic(&stage).await;
    assert!(hits > 1000, "it did not cache: {hits} hits");

    let mut cache = Cache::new(&stage.nodes);
    is_through(&stage, &mut cache).await;
    let (mut cached, mut conn) = (0, stage.chain[0].connect().await.expect("a connection"));
    for thing in 0..THINGS {
        if let (_, Some(value)) = ask(&mut cache, &format!("mg thing:{thing} v\r\n")).await {
            cached += 1;
            assert_eq!(value, value_of(&mut conn, thing).await, "thing:{thing}");
        }
    }
    assert!(cached > 0, "nothing is cached in the end");

    // The other way round: what lags by more than the hold-off fills the cache with what is old. So this test can see it.
    stage.chain[1].stop_applying().await.expect("replication stops");
    stage.chain[0]
        .run(&["UPDATE shop.things SET value = 'new' WHERE id = 1"])
        .await
        .expect("a write");
    sleep(HOLD_OFF * 2).await;
    assert_ne!(stage.fill(&mut cache, 1, 1).await, "new", "the second primary lags");
    stage.chain[1].start_applying().await.expect("replication goes on");
    stage.chain[1].caught_up(&stage.chain[0]).await.expect("it catches up");
    assert_ne!(stage.fill(&mut cache, 1, 1).await, "new", "hold-off is no proof");
}

/// Both primaries, each of which replicates from the other, with a node of ours.
async fn ring(lab: Lab) -> Stage {
    let mut chain: Vec<Database> = Vec::new();
    for number in 1..=2 {
        let options = options_of(Kind::Mysql, number, Link::Plain);
        chain.push(lab.servers.database(Kind::Mysql, &options).await.expect("a database"));
    }
    make_things(&chain[0], THINGS_MADE).await;
    chain[1].replicate(&chain[0]).await.expect("replication");
    chain[1].caught_up(&chain[0]).await.expect("the second is there");
    chain[0].replicate(&chain[1]).await.expect("replication back");
    let node = lab.servers.versioned_node("fill_age_ms_max = 500").await.expect("a node");
    let region = Region::shop(&chain[0], vec![node.address()], Duration::from_millis(500)).await;
    let region = Region {
        controls: node.control().into_iter().collect(),
        rules: RULES.to_owned(),
        hold_off: Some(HOLD_OFF),
        ..region.expect("a region")
    };
    let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
    let nodes = Nodes::new(vec![node.address()]).expect("a ring");
    Stage { mcsqueal: mcsqueal.expect("mcsqueal"), node, chain, nodes, _lab: lab }
}

/// A writer at each primary, with things of its own, and readers who fill from both. Returns how often a value was found.
async fn traffic(stage: &Stage) -> u64 {
    let (stop, hits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for (at, server) in stage.chain.iter().enumerate() {
        let mut conn = server.connect().await.expect("a connection");
        let (stop, mut random) = (Arc::clone(&stop), random(51));
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let thing =
                    random.below(u64::from(THINGS) / 2) * 2 + u64::try_from(at).expect("small");
                let change = format!(
                    "UPDATE shop.things SET value = '{:x}' WHERE id = {thing}",
                    random.bits()
                );
                conn.query_drop(change).await.expect("a write");
                sleep(Duration::from_millis(random.below(400))).await;
            }
        });
    }
    for reader in 0..READERS {
        let server = &stage.chain[usize::from(reader % 2 == 0)];
        let mut conn = server.connect().await.expect("a connection");
        let (stop, hits, nodes) = (Arc::clone(&stop), Arc::clone(&hits), stage.nodes.clone());
        let mut random = random(60 + reader);
        tasks.spawn(async move {
            let mut cache = Cache::new(&nodes);
            while !stop.load(Ordering::Relaxed) {
                let thing = u32::try_from(random.below(u64::from(THINGS))).expect("small");
                let key = format!("thing:{thing}");
                match cache.look(&key).await.expect("the node answers") {
                    Looked::Value(_) => drop(hits.fetch_add(1, Ordering::Relaxed)),
                    Looked::Lease { cas, .. } => {
                        let value = value_of(&mut conn, thing).await;
                        // Refused is what may happen to any fill.
                        cache.fill(&key, cas, TTL_S, &value).await.expect("the node answers");
                    }
                    _ => {}
                }
                sleep(Duration::from_millis(2)).await;
            }
        });
    }
    sleep(TRAFFIC).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("nobody fails");
    }
    hits.load(Ordering::Relaxed)
}

/// Waits until the node has every delete of what either primary has committed.
async fn is_through(stage: &Stage, cache: &mut Cache) {
    stage.chain[0].caught_up(&stage.chain[1]).await.expect("the first has all");
    let first = stage.fill(cache, 0, LAST).await;
    let change = format!("UPDATE shop.things SET value = 'last' WHERE id = {LAST}");
    stage.chain[0].run(&[&change]).await.expect("a write");
    until("the last delete has come", DEADLINE, async || {
        ask(cache, &format!("mg thing:{LAST} v\r\n")).await.1.as_ref() != Some(&first)
    })
    .await;
}
