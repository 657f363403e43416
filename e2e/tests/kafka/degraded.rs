//! Kafka itself is gone, and all nodes begin empty: the database keeps its shield, and everything recovers by itself when Kafka is back.

use std::time::Duration;

use e2e::{
    cache::{Cache, Looked, Nodes},
    lab::{enter_alone, is_long, tenth_unless_long, until},
    servers::{
        CacheNode, Database, DatabaseOptions, Kind, Mcsqueal, McsquealOptions, Region, StreamPlace,
    },
    shield::Shield,
    things::{RULES, make_things},
};

const READERS: u32 = 1000;
const KEYS: u32 = 40;
const NODES: usize = 2;
/// Times of entries are whole seconds, and rounded towards older: of four, three are certain.
const DEGRADED_TTL: Duration = Duration::from_secs(3);
const LENGTH: Duration = Duration::from_secs(5);
const LENGTH_LONG: Duration = Duration::from_secs(20);
const FILL_AGE_MAX: Duration = Duration::from_secs(1);
const GUARD: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_the_database_is_shielded() {
    let test = "without_kafka_the_database_is_shielded";
    let Some(lab) = enter_alone(test, &["mysql", "mcsqueal", "kafka"]).await else { return };
    let database = lab.servers.database(Kind::Mysql, &DatabaseOptions::default()).await;
    let database = database.expect("a database");
    make_things(&database, KEYS).await;
    let mut kafka = lab.servers.kafka().await.expect("kafka");
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let versions = "degraded_ttl_ms = 4000\nstaleness_ms_max = 1000\nfill_age_ms_max = 1000";
        nodes.push(lab.servers.versioned_node(versions).await.expect("a node"));
    }
    let addresses: Vec<String> = nodes.iter().map(CacheNode::address).collect();
    let region = Region::shop(&database, addresses.clone(), FILL_AGE_MAX).await;
    let region = Region {
        controls: nodes.iter().filter_map(CacheNode::control).collect(),
        rules: RULES.to_owned(),
        stream: StreamPlace::Kafka { brokers: kafka.address(), topic: "shop".to_owned() },
        ..region.expect("a region")
    };
    let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
    let mut mcsqueal = mcsqueal.expect("mcsqueal");
    let ring = Nodes::new(addresses).expect("a ring");
    changes_arrive(&database, &ring, "v1").await;

    kafka.kill9().expect("Kafka is gone");
    for node in &mut nodes {
        node.kill9().expect("a node dies");
        node.restart().await.expect("it is there again, and empty");
    }
    let shield = Shield {
        nodes: ring.clone(),
        database: database.root(),
        keys: KEYS,
        readers: tenth_unless_long(READERS),
        length: if is_long() { LENGTH_LONG } else { LENGTH },
    };
    let (reads, most) = (shield.reads().await.expect("readers"), shield.most(DEGRADED_TTL));
    let worst = reads.values().copied().max().unwrap_or_default();
    assert!(worst <= most, "{worst} reads of one key, at most {most}: {reads:?}");
    assert_eq!(reads.len(), usize::try_from(KEYS).expect("few"), "every key was read");
    mcsqueal.alive().expect("mcsqueal waits for Kafka");

    kafka.restart().await.expect("Kafka is back");
    changes_arrive(&database, &ring, "v2").await;
    finish(&mut mcsqueal).await;
}

async fn finish(mcsqueal: &mut Mcsqueal) {
    mcsqueal.alive().expect("the same process as in the beginning");
    mcsqueal.stop().await.expect("a clean stop");
}

/// Until each thing is `value` in the database, and in the cache, and both nodes are sure of it.
async fn changes_arrive(database: &Database, ring: &Nodes, value: &str) {
    let change = format!("UPDATE shop.things SET value = '{value}'");
    database.run(&[&change]).await.expect("a change");
    let mut cache = Cache::new(ring);
    for thing in 0..KEYS {
        let key = format!("thing:{thing}");
        until("the node is up to date", GUARD, async || match cache.look(&key).await {
            Ok(Looked::Value(found)) => found == value,
            Ok(Looked::Lease { cas, .. }) => {
                // The answer is looked at the next time.
                drop(cache.fill(&key, cas, 600, value).await);
                false
            }
            _ => false,
        })
        .await;
    }
}
