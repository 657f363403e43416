//! [`World`]: everything that two regions need, and the links between them.

use std::time::Duration;

use e2e::{
    lab::{Lab, enter_alone, is_long, until},
    servers::{
        Audit, Auditor, CacheNode, Database, DatabaseOptions, Durability, Far, Group, Kafka, Kind,
        Link, Mcsqueal, McsquealOptions, Proxy, Region, StreamPlace, Weather, free_port,
        options_of,
    },
    shop::{Settings, Shop},
};
use tokio::time::timeout;

/// Each way.
pub(crate) const ONE_WAY: Duration = Duration::from_millis(40);
pub(crate) const FILL_AGE_MAX: Duration = Duration::from_secs(2);
/// A value that has been superseded for longer must not be served unflagged.
pub(crate) const STALENESS_MAX: Duration = Duration::from_secs(2);
/// A few of the slow fills come later than that; nobody waits for them.
const LEASE: Duration = Duration::from_millis(500);
/// Everything is connected within this, also on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Of a scenario, beginning and end included.
const LIMIT: Duration = Duration::from_secs(240);
const TOPIC: &str = "shop";
/// A node is not fresh when it is `STALENESS_MAX` behind, and says so: whatever fails, nothing is late.
const AUDITOR: &str = "sample = 0.2\nin_flight_ms = 1000\nlate_ms = 4000\nlost_ms = 5000";
/// Users in another region keep their connections for three times 80 ms.
const CONNECTIONS_MAX: &str = "--max-connections=700";

/// What a scenario needs beside the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Usual,
    /// Region files name both databases as ones that may take writes.
    Standby,
    /// Nodes in B take markers.
    Markers,
}

/// A region.
pub(crate) struct Place {
    /// The daemon: `run` in A, `invalidator` in B.
    pub(crate) mcsqueal: Mcsqueal,
    pub(crate) clusters: Vec<Cluster>,
    /// What its region file says.
    pub(crate) file: Region,
    pub(crate) database: Database,
    /// What applications in this region call the primary.
    pub(crate) primary: Proxy,
    /// Who judges it; `None` while nobody does.
    auditor: Option<Auditor>,
    /// What those have said who are gone.
    audits: Vec<Audit>,
}

/// Nodes that share their keys.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) ring_version: u64,
    pub(crate) nodes: Vec<CacheNode>,
}

/// What passes between the regions.
pub(crate) struct Links {
    /// To the relay in A: from there the stream is read.
    pub(crate) relay: Proxy,
    /// Where it is read from while there is no relay; and where B's processes share their work.
    pub(crate) kafka: Proxy,
    pub(crate) replication: Proxy,
    /// From B's invalidator to A's database, and the other way round.
    pub(crate) to_a: Proxy,
    pub(crate) to_b: Proxy,
}

/// Dropped in this order.
pub(crate) struct World {
    pub(crate) a: Place,
    pub(crate) b: Place,
    pub(crate) shop: Shop,
    pub(crate) links: Links,
    versions_of_b: String,
    _kafka: Kafka,
    pub(crate) lab: Lab,
}

/// Plays a scenario, in time, if this machine has what it needs.
pub(crate) async fn play(scenario: &str, plan: Plan, scene: impl AsyncFnOnce(World)) {
    let Some(lab) = enter_alone(scenario, &["mysql", "kafka", "mcsqueal"]).await else { return };
    let time = LIMIT * if is_long() { 10 } else { 1 };
    let played = timeout(time, async { scene(World::start(lab, plan).await).await }).await;
    played.unwrap_or_else(|_| panic!("{scenario} took more than {time:?}"));
}

impl World {
    /// Everything is there, and nobody in the shops.
    async fn start(lab: Lab, plan: Plan) -> World {
        let far = free_port().expect("a port");
        let kafka_link = wan(format!("127.0.0.1:{far}"));
        let far = Far { port: far, advertised: kafka_link.address() };
        let (kafka, database_a, database_b) =
            tokio::join!(lab.servers.kafka_with_far(&far), database(&lab, 1), database(&lab, 2));
        let kafka = kafka.expect("Kafka");
        let relay = format!("127.0.0.1:{}", free_port().expect("a port"));
        let links = Links {
            relay: wan(relay.clone()),
            kafka: kafka_link,
            replication: wan(database_a.address()),
            to_a: wan(database_a.address()),
            to_b: wan(database_b.address()),
        };
        database_b.replicate_from(links.replication.port()).await.expect("replication");
        let settings =
            Settings { partitions: 4, probes_per_s: 0, ..Settings::new(FILL_AGE_MAX, 1) };
        // No caches: its branches have them.
        let shop =
            Shop::open(settings, database_a.root(), crate::crowd::ring(&["none:1".to_owned()]));
        let shop = shop.await.expect("a shop");
        database_a.run(&crate::own_writes::TABLE).await.expect("a table");

        let mut versions = versions();
        let clusters_a = [("one", 1), ("two", 1)];
        let mut a = Vec::new();
        for (name, nodes) in clusters_a {
            a.push(Cluster::start(&lab, name, nodes, &versions).await);
        }
        if plan == Plan::Markers {
            versions += "\nmarker_ttl_ms_max = 5000\nmarkers_max = 100000";
        }
        let mut b = Vec::new();
        for (name, nodes) in [("one", 2), ("two", 1)] {
            b.push(Cluster::start(&lab, name, nodes, &versions).await);
        }
        let mut file = Region::shop(&database_a, Vec::new(), FILL_AGE_MAX).await.expect("a region");
        file.rules += crate::own_writes::RULE;
        let stream = |brokers| StreamPlace::Kafka { brokers, topic: TOPIC.to_owned() };
        let mut file_a = Region {
            name: "a".to_owned(),
            stream: stream(kafka.address()),
            relay: format!("listen = \"{relay}\""),
            ..file.clone()
        };
        let mut file_b = Region {
            name: "b".to_owned(),
            stream: stream(links.kafka.address()),
            relay: format!("from = [\"{}\"]", links.relay.address()),
            source: links.to_a.address(),
            replicas: vec![database_b.address()],
            ..file
        };
        if plan == Plan::Standby {
            file_a.standbys = vec![links.to_b.address()];
            (file_b.standbys, file_b.replicas) = (vec![database_b.address()], Vec::new());
        }
        database_b.caught_up(&database_a).await.expect("the replica is there");
        database_b.run(&["SET GLOBAL super_read_only = ON"]).await.expect("a replica");

        let primary_a = Proxy::start(database_a.address()).expect("a proxy");
        let a = Place::start(&lab, "run", file_a, a, database_a, primary_a).await;
        let primary_b = wan(a.database.address());
        let b = Place::start(&lab, "invalidator", file_b, b, database_b, primary_b).await;
        let world = World { a, b, shop, links, versions_of_b: versions, _kafka: kafka, lab };
        world.settled().await;
        world
    }

    /// Waits until both regions say that all is well.
    pub(crate) async fn settled(&self) {
        for place in [&self.a, &self.b] {
            let name = &place.file.name;
            until(&format!("all is well in region {name}"), DEADLINE, async || {
                let health = place.mcsqueal.health().await;
                health.is_some_and(|health| health["ok"] == true)
            })
            .await;
        }
    }

    /// A new node for region B.
    pub(crate) async fn node_of_b(&self) -> CacheNode {
        self.lab.servers.versioned_node(&self.versions_of_b).await.expect("a node")
    }
}

impl Links {
    /// The link is as it always is: far.
    pub(crate) fn heal(link: &Proxy) {
        link.make(Weather::Slow(ONE_WAY));
    }
}

impl Place {
    async fn start(
        lab: &Lab,
        command: &'static str,
        file: Region,
        clusters: Vec<Cluster>,
        database: Database,
        primary: Proxy,
    ) -> Place {
        let file = with_clusters(file, &clusters);
        let options = McsquealOptions { command, ..McsquealOptions::default() };
        let mcsqueal = lab.servers.mcsqueal(&file, &options).await.expect("mcsqueal");
        let (auditor, audits) = (None, Vec::new());
        let mut place = Place { mcsqueal, clusters, file, database, primary, auditor, audits };
        place.audit(lab).await;
        place
    }

    /// The daemon is stopped, and comes back with a region file of the clusters as they are now. Its auditor likewise.
    pub(crate) async fn reload(&mut self, lab: &Lab) {
        self.judged().await;
        self.file = with_clusters(self.file.clone(), &self.clusters);
        self.mcsqueal.restart_with(&self.file).await.expect("mcsqueal is there again");
        self.audit(lab).await;
    }

    async fn audit(&mut self, lab: &Lab) {
        let auditor = lab.servers.auditor(&self.file, AUDITOR, &[]).await;
        self.auditor = Some(auditor.expect("an auditor"));
    }

    /// Nobody judges what comes now: changes are lost that an auditor has seen.
    pub(crate) async fn unaudited(&mut self) {
        self.judged().await;
    }

    /// The auditor goes, if there is one, and has found nothing.
    async fn judged(&mut self) {
        let Some(auditor) = self.auditor.take() else { return };
        let audit = auditor.stop().await.expect("a verdict");
        assert!(
            audit.success,
            "the auditor of {} has found something:\n{}",
            self.file.name, audit.text
        );
        self.audits.push(audit);
    }

    /// How many changed keys its auditors have judged; none of them was late, lost, resurrected or forgotten by the rules.
    pub(crate) async fn sample(&mut self) -> u64 {
        self.judged().await;
        self.audits.iter().map(|audit| audit.sample).sum()
    }
}

impl Cluster {
    pub(crate) async fn start(lab: &Lab, name: &str, count: usize, versions: &str) -> Cluster {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(lab.servers.versioned_node(versions).await.expect("a node"));
        }
        Cluster { name: name.to_owned(), ring_version: 1, nodes }
    }

    /// As clients write them.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(CacheNode::address).collect()
    }

    fn group(&self) -> Group {
        let nodes = self.nodes.iter().map(|node| (node.address(), node.control())).collect();
        Group {
            name: self.name.clone(),
            ring_version: self.ring_version,
            nodes,
            ..Group::default()
        }
    }
}

fn with_clusters(file: Region, clusters: &[Cluster]) -> Region {
    Region { groups: clusters.iter().map(Cluster::group).collect(), ..file }
}

/// A link to another region.
fn wan(target: String) -> Proxy {
    let proxy = Proxy::start(target).expect("a proxy");
    Links::heal(&proxy);
    proxy
}

async fn database(lab: &Lab, number: u16) -> Database {
    let mut options = options_of(Kind::Mysql, number, Link::Plain);
    options.more.push(CONNECTIONS_MAX.to_owned());
    let options = DatabaseOptions { durability: Durability::Memory, ..options };
    lab.servers.database(Kind::Mysql, &options).await.expect("a database")
}

fn versions() -> String {
    format!(
        "fill_age_ms_max = {}\nstaleness_ms_max = {}\nlease_ms = {}",
        FILL_AGE_MAX.as_millis(),
        STALENESS_MAX.as_millis(),
        LEASE.as_millis()
    )
}
