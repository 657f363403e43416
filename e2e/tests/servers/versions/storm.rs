//! A shop whose readers fill from two lagging replicas, through leases, while everything is stopped, frozen and killed in turn. In the
//! end no cached value differs from the database, and no value was served unflagged that had been superseded for too long.

use std::time::Duration;

use e2e::{
    cache::Nodes,
    servers::{
        CacheNode, Database, DatabaseOptions, Durability, Kind, Link, Mcsqueal, McsquealOptions,
        Region, options_of,
    },
    shop::{Fills, Settings, Shop, Traffic},
};
use tokio::time::sleep;

use crate::support::{Lab, enter_alone, random, tenth_unless_long};

const NODES: usize = 4;
const ROUNDS: u32 = 60;
const FILL_AGE_MAX: Duration = Duration::from_secs(2);
/// As the nodes are configured, by default.
const STALENESS_MAX: Duration = Duration::from_secs(5);
/// Between two faults.
const CALM: Duration = Duration::from_millis(700);
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stale_while_everything_fails_in_turn() {
    let test = "nothing_stale_while_everything_fails_in_turn";
    let Some(lab) = enter_alone(test, &["mysql", "mcsqueal"]).await else { return };
    let mut storm = Storm::gather(lab).await;
    let traffic = Traffic::start(&storm.shop);
    let mut random = random(3);
    for round in 0..tenth_unless_long(ROUNDS) {
        sleep(CALM).await;
        let pause = Duration::from_millis(300 + random.below(1200));
        let at = usize::try_from(random.below(4)).expect("small");
        storm.strike(round, at, pause).await;
    }
    sleep(CALM).await;
    traffic.stop().await.expect("everybody leaves");
    storm.shop.drain(DRAIN_DEADLINE).await.expect("everything is deleted");
    let comparison = storm.shop.compare().await.expect("the shop is compared");
    assert_eq!(comparison.stale, [], "of {} cached values", comparison.cached);
    let stats = storm.shop.stats();
    assert_eq!(stats.superseded.longer_than(STALENESS_MAX), 0, "late reads");
    let (reads, hits, fills) = (stats.reads.get(), stats.hits.get(), stats.fills.get());
    assert!(hits > reads / 4, "{hits} hits of {reads} reads are few");
    assert!(comparison.cached > 100 && fills > 1000, "{} values, {fills} fills", comparison.cached);
    storm.mcsqueal.stop().await.expect("a clean stop");
}

/// Everything that can fail, and the shop on it. Fields are dropped in this order.
struct Storm {
    mcsqueal: Mcsqueal,
    shop: Shop,
    nodes: Vec<CacheNode>,
    replicas: Vec<Database>,
    _primary: Database,
    _lab: Lab,
}

impl Storm {
    async fn gather(lab: Lab) -> Storm {
        let mut chain = Vec::new();
        for number in 1..=3 {
            let options = options_of(Kind::Mysql, number, Link::Plain);
            let options = DatabaseOptions { durability: Durability::Memory, ..options };
            chain.push(lab.servers.database(Kind::Mysql, &options).await.expect("a database"));
        }
        let replicas = chain.split_off(1);
        let primary = chain.pop().expect("the first server");
        for replica in &replicas {
            replica.replicate(&primary).await.expect("replication");
        }
        let mut nodes: Vec<CacheNode> = Vec::new();
        for _ in 0..NODES {
            let age = format!("fill_age_ms_max = {}", FILL_AGE_MAX.as_millis());
            nodes.push(lab.servers.versioned_node(&age).await.expect("a node"));
        }
        let settings = Settings {
            fills: Fills::Leased,
            replicas: replicas.iter().map(Database::root).collect(),
            ..Settings::new(FILL_AGE_MAX, 7)
        };
        let addresses: Vec<String> = nodes.iter().map(CacheNode::address).collect();
        let ring = Nodes::new(addresses.clone()).expect("a ring");
        let shop = Shop::open(settings, primary.root(), ring).await.expect("a shop");
        let region = Region::shop(&primary, addresses, FILL_AGE_MAX).await.expect("a region");
        let region = Region {
            replicas: replicas.iter().map(Database::address).collect(),
            controls: nodes.iter().filter_map(CacheNode::control).collect(),
            ..region
        };
        let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
        let mcsqueal = mcsqueal.expect("mcsqueal");
        Storm { mcsqueal, shop, nodes, replicas, _primary: primary, _lab: lab }
    }

    /// Something is away for so long.
    async fn strike(&mut self, round: u32, at: usize, pause: Duration) {
        let (node, replica) = (&mut self.nodes[at], &self.replicas[at % 2]);
        match round % 6 {
            0 => {
                replica.stop_applying().await.expect("a replica stands still");
                sleep(pause).await;
                replica.start_applying().await.expect("it goes on");
            }
            1 => {
                node.freeze().expect("freeze a node");
                sleep(pause).await;
                node.thaw().expect("thaw it");
            }
            2 => {
                self.mcsqueal.kill9().expect("kill the invalidator");
                sleep(pause).await;
                self.mcsqueal.restart().await.expect("it is there again");
            }
            3 => {
                node.kill9().expect("kill a node");
                sleep(pause).await;
                node.restart().await.expect("it is there again, empty");
            }
            4 => {
                replica.freeze().expect("freeze a replica");
                sleep(pause).await;
                replica.thaw().expect("thaw it");
            }
            _ => {
                for replica in &self.replicas {
                    replica.stop_applying().await.expect("all replicas stand still");
                }
                sleep(pause).await;
                for replica in &self.replicas {
                    replica.start_applying().await.expect("they go on");
                }
            }
        }
    }
}
