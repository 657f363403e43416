//! A shop with customers, and everything that keeps its caches honest: what tests break, and look at afterwards.

use std::time::Duration;

use crate::{
    cache::Nodes,
    lab::Lab,
    servers::{
        CacheNode, Database, DatabaseOptions, Kafka, Kind, Mcsqueal, McsquealOptions, Memcached,
        NodeKind, Region, StreamPlace,
    },
    shop::{Fills, Settings, Shop, Traffic},
};

const FILL_AGE_MAX: Duration = Duration::from_secs(2);
/// After kills there may be much to catch up with, on a busy machine.
const DRAIN_DEADLINE: Duration = Duration::from_secs(120);
const NODES: usize = 2;
/// The topic, where the stream is on Kafka.
pub const TOPIC: &str = "shop";

/// Dropped in this order.
pub struct Busy {
    traffic: Option<Traffic>,
    /// What customers did so far.
    pub shop: Shop,
    /// Keeps the caches honest.
    pub mcsqueal: Mcsqueal,
    /// The cache nodes, where they are stock memcached.
    pub memcached: Vec<Memcached>,
    /// Where they are ours.
    pub nodes: Vec<CacheNode>,
    /// The source.
    pub database: Database,
    /// The stream, if it is not embedded.
    pub kafka: Option<Kafka>,
    /// What its region file says.
    pub region: Region,
    /// Where more servers come from.
    pub lab: Lab,
}

impl Busy {
    /// Everything is there, the stream is embedded, and customers have come. Panics if something is not.
    pub async fn start(lab: Lab, kind: Kind) -> Busy {
        Busy::start_with(lab, kind, None, NodeKind::Memcached).await
    }

    /// The same, with the stream on a Kafka.
    pub async fn start_on_kafka(lab: Lab, kind: Kind) -> Busy {
        Busy::start_on_kafka_with(lab, kind, NodeKind::Memcached).await
    }

    /// The same, with caches of this kind.
    pub async fn start_on_kafka_with(lab: Lab, kind: Kind, caches: NodeKind) -> Busy {
        let kafka = lab.servers.kafka().await.expect("kafka");
        Busy::start_with(lab, kind, Some(kafka), caches).await
    }

    /// On a Kafka that somebody has started.
    pub async fn start_on(lab: Lab, kind: Kind, kafka: Kafka) -> Busy {
        Busy::start_with(lab, kind, Some(kafka), NodeKind::Memcached).await
    }

    async fn start_with(lab: Lab, kind: Kind, kafka: Option<Kafka>, caches: NodeKind) -> Busy {
        let database = lab.servers.database(kind, &DatabaseOptions::default()).await;
        let database = database.expect("a database server");
        let (mut memcached, mut nodes): (Vec<Memcached>, Vec<CacheNode>) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            match caches {
                NodeKind::Memcached => memcached.push(lab.servers.memcached().await.expect("one")),
                NodeKind::Mcsqueal => {
                    let age = format!("fill_age_ms_max = {}", FILL_AGE_MAX.as_millis());
                    nodes.push(lab.servers.versioned_node(&age).await.expect("a node"));
                }
            }
        }
        let mut addresses: Vec<String> = memcached.iter().map(Memcached::address).collect();
        addresses.extend(nodes.iter().map(CacheNode::address));
        let mut stream = StreamPlace::Embedded;
        if let Some(kafka) = &kafka {
            stream = StreamPlace::Kafka { brokers: kafka.address(), topic: TOPIC.to_owned() };
        }
        let fills = match caches {
            NodeKind::Memcached => Fills::Plain,
            NodeKind::Mcsqueal => Fills::Leased,
        };
        let settings = Settings {
            probes_per_s: 0,
            fills,
            partitions: stream.partitions(),
            ..Settings::new(FILL_AGE_MAX, 1)
        };
        let ring = Nodes::new(addresses.clone()).expect("a ring");
        let shop = Shop::open(settings, database.root(), ring).await.expect("a shop");
        let region = Region::shop(&database, addresses, FILL_AGE_MAX).await.expect("a region");
        let controls = nodes.iter().filter_map(CacheNode::control).collect();
        let region = Region { controls, stream, ..region };
        let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
        let mcsqueal = mcsqueal.expect("mcsqueal is ready");
        let traffic = Some(Traffic::start(&shop));
        Busy { traffic, shop, mcsqueal, memcached, nodes, database, kafka, region, lab }
    }

    /// One more of the same region, which stands by.
    pub async fn standby(&self) -> Mcsqueal {
        let standby = self.lab.servers.mcsqueal(&self.region, &McsquealOptions::default()).await;
        standby.expect("the standby is ready")
    }

    /// One more that only delivers, under a name of its own.
    pub async fn invalidator(&self, name: &str) -> Mcsqueal {
        let flags = vec!["--instance".to_owned(), name.to_owned()];
        let options =
            McsquealOptions { command: "invalidator", flags, ..McsquealOptions::default() };
        let invalidator = self.lab.servers.mcsqueal(&self.region, &options).await;
        invalidator.expect("the invalidator is ready")
    }

    /// The customers leave.
    pub async fn everybody_leaves(&mut self) {
        let traffic = self.traffic.take().expect("the shop is open");
        traffic.stop().await.expect("everybody leaves the shop");
    }

    /// Everything that was committed is delivered.
    pub async fn drained(&self) {
        self.shop.drain(DRAIN_DEADLINE).await.expect("everything is deleted in the end");
    }

    /// The customers leave; once everything is delivered, no cached value may differ from the database.
    pub async fn nothing_is_stale(mut self) {
        if self.traffic.is_some() {
            self.everybody_leaves().await;
        }
        self.mcsqueal.ready().await.expect("mcsqueal is ready");
        let drained = self.shop.drain(DRAIN_DEADLINE).await;
        self.mcsqueal.alive().expect("mcsqueal runs");
        drained.expect("everything is deleted in the end");
        let comparison = self.shop.compare().await.expect("a comparison");
        assert!(comparison.stale.is_empty(), "stale: {:#?}", comparison.stale);
        let (commits, fills) = (self.shop.stats().commits.get(), self.shop.stats().fills.get());
        assert!(commits > 200 && fills > 500, "hardly any load: {commits} commits, {fills} fills");
        let floors = self.mcsqueal.metric("mcsqueal_lane_floors_total", "").await;
        let gaps = self.mcsqueal.metric("mcsqueal_lane_gaps_total", "").await;
        let cached = comparison.cached;
        assert!(cached > 50, "hardly anything is cached: {cached}, {floors} floors, {gaps} gaps");
        self.mcsqueal.stop().await.expect("mcsqueal stops when asked");
    }
}
