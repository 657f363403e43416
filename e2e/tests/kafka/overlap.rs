//! Two invalidators at the same cache nodes of ours, one of which is killed and frozen again and again. Whatever comes twice, late, or from
//! one that was replaced does no harm: nothing is stale, and nobody waits for the one that is away.

use std::time::Duration;

use e2e::{
    cache::Nodes,
    lab::{enter_alone, random, tenth_unless_long},
    servers::{
        CacheNode, DatabaseOptions, Durability, Kind, Mcsqueal, McsquealOptions, Region,
        StreamPlace,
    },
    shop::{Fills, Settings, Shop, Traffic},
};
use tokio::time::sleep;

const FILL_AGE_MAX: Duration = Duration::from_secs(2);
const STALENESS_MAX: Duration = Duration::from_secs(5);
const ROUNDS: u32 = 40;
const CALM: Duration = Duration::from_millis(700);
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn two_invalidators_at_the_same_nodes() {
    let test = "two_invalidators_at_the_same_nodes";
    let needs = ["mysql", "mcsqueal", "kafka"];
    let Some(lab) = enter_alone(test, &needs).await else { return };
    let options = DatabaseOptions { durability: Durability::Memory, ..DatabaseOptions::default() };
    let database = lab.servers.database(Kind::Mysql, &options).await.expect("a database");
    let kafka = lab.servers.kafka().await.expect("Kafka");
    let mut nodes: Vec<CacheNode> = Vec::new();
    for _ in 0..2 {
        let versions = format!("fill_age_ms_max = {}", FILL_AGE_MAX.as_millis());
        nodes.push(lab.servers.versioned_node(&versions).await.expect("a node"));
    }
    let addresses: Vec<String> = nodes.iter().map(CacheNode::address).collect();
    let ring = Nodes::new(addresses.clone()).expect("a ring");
    let stream = StreamPlace::Kafka { brokers: kafka.address(), topic: "overlap".to_owned() };
    let settings = Settings {
        fills: Fills::Leased,
        partitions: stream.partitions(),
        ..Settings::new(FILL_AGE_MAX, 7)
    };
    let shop = Shop::open(settings, database.root(), ring).await.expect("a shop");
    let region = Region::shop(&database, addresses, FILL_AGE_MAX).await.expect("a region");
    let region = Region {
        controls: nodes.iter().filter_map(CacheNode::control).collect(),
        stream,
        ..region
    };
    let mut both: Vec<Mcsqueal> = Vec::new();
    for _ in 0..2 {
        let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
        both.push(mcsqueal.expect("mcsqueal"));
    }
    let traffic = Traffic::start(&shop);
    let mut random = random(4);
    for round in 0..tenth_unless_long(ROUNDS) {
        sleep(CALM).await;
        let pause = Duration::from_millis(300 + random.below(1500));
        let one = &mut both[usize::try_from(round / 2 % 2).expect("small")];
        if round % 2 == 0 {
            one.freeze().expect("freeze it");
            sleep(pause).await;
            one.thaw().expect("thaw it");
        } else {
            one.kill9().expect("kill it");
            sleep(pause).await;
            one.restart().await.expect("it is there again");
        }
    }
    sleep(CALM).await;
    traffic.stop().await.expect("everybody leaves");
    shop.drain(DRAIN_DEADLINE).await.expect("everything is deleted");
    let comparison = shop.compare().await.expect("the shop is compared");
    assert_eq!(comparison.stale, [], "of {} cached values", comparison.cached);
    let stats = shop.stats();
    assert_eq!(stats.superseded.longer_than(STALENESS_MAX), 0, "late reads");
    let (reads, hits) = (stats.reads.get(), stats.hits.get());
    assert!(hits > reads / 4 && comparison.cached > 100, "{hits} hits of {reads} reads are few");
    for mcsqueal in &mut both {
        mcsqueal.stop().await.expect("a clean stop");
    }
}
