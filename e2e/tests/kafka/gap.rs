//! What a stock memcached never heard of, because the log no longer reaches back so far, while a replica stands still: the node is emptied
//! at once, and again when the replica has what was lost. So what somebody has filled from that replica meanwhile does not stay.

use std::time::Duration;

use e2e::{
    busy::TOPIC,
    cache::{Cache, Nodes},
    lab::{enter, needs_on_kafka, until},
    servers::{Kind, Link, McsquealOptions, Region, StreamPlace, options_of},
    things::{RULES, make_things, value_of},
};
use schemas::key::Key;
use stream::Reader;
use tokio::time::sleep;

use crate::{
    conformance::forget,
    covered::{Said, read},
    readers::reader,
};

const THING: u32 = 0;
const KEY: &str = "thing:0";
const FILL_AGE_MAX: Duration = Duration::from_millis(300);
const GUARD: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gap_has_lost_is_waited_for() {
    let needs = needs_on_kafka(Kind::Mysql);
    let Some(lab) = enter("what_a_gap_has_lost_is_waited_for", &needs).await else { return };
    let kafka = lab.servers.kafka().await.expect("kafka");
    let mut chain = Vec::new();
    for number in 1..=2 {
        let options = options_of(Kind::Mysql, number, Link::Plain);
        chain.push(lab.servers.database(Kind::Mysql, &options).await.expect("a database"));
    }
    let [primary, replica] = &chain[..] else { unreachable!("two databases") };
    replica.replicate(primary).await.expect("replication");
    make_things(primary, 1).await;
    replica.caught_up(primary).await.expect("the replica has it");
    let memcached = lab.servers.memcached().await.expect("memcached");
    let nodes = vec![memcached.address()];
    let mut cache = Cache::new(&Nodes::new(nodes.clone()).expect("a ring"));
    let region = Region::shop(primary, nodes, FILL_AGE_MAX).await.expect("a region");
    let stream = StreamPlace::Kafka { brokers: kafka.address(), topic: TOPIC.to_owned() };
    let replicas = vec![replica.address()];
    let region = Region { replicas, stream, rules: RULES.to_owned(), ..region };
    let started = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
    let mut mcsqueal = started.expect("mcsqueal is ready");

    replica.stop_applying().await.expect("the replica stands still");
    memcached.freeze().expect("freeze the node");
    primary.run(&["UPDATE shop.things SET value = 'v1'"]).await.expect("a write");
    let log = reader(&kafka.address()).await;
    until("the write is in the log", GUARD, async || has_key(&read(&log).await)).await;
    // And noted in a checkpoint.
    sleep(Duration::from_secs(1)).await;
    mcsqueal.kill9().expect("kill mcsqueal");
    for partition in 0..log.partitions() {
        forget(&kafka.address(), TOPIC, partition, 0).await;
    }
    memcached.thaw().expect("thaw the node");
    mcsqueal.restart().await.expect("mcsqueal is ready again");
    let emptied = async |pass: &str| {
        let labels = format!("pass=\"{pass}\"");
        mcsqueal.metric("mcsqueal_lane_deletes_total", &labels).await
    };
    until("the node is emptied", GUARD, async || {
        emptied("First").await >= f64::from(log.partitions())
    })
    .await;
    assert!(!has_key(&read(&log).await), "the write was not lost");
    sleep(FILL_AGE_MAX * 5).await;
    assert!(emptied("Second").await < 0.5, "the replica was not waited for");

    let mut behind = replica.connect().await.expect("a connection");
    let old = value_of(&mut behind, THING).await;
    assert_eq!(old, "v0");
    cache.set(KEY, 600, &old).await.expect("an answer");
    replica.start_applying().await.expect("the replica goes on");
    until("what was filled from it is gone", GUARD, async || {
        cache.get(KEY).await.expect("an answer").is_none()
    })
    .await;
    assert_eq!(value_of(&mut behind, THING).await, "v1", "the node was emptied too early");
    assert!(mcsqueal.metric("mcsqueal_lane_uncovered_total", "").await < 0.5);
    mcsqueal.stop().await.expect("a clean stop");
}

fn has_key(said: &Said) -> bool {
    said.keys.contains(&Key::new(KEY).expect("a key"))
}
