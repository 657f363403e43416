//! A shop whose readers fill from two lagging replicas, and two processes that share tailing and delivery between them, while
//! everything is stopped, frozen, killed and cut off in turn. With nodes of ours and leases, no cached value differs from the
//! database in the end, and no value was served unflagged that had been superseded for too long. With stock memcached and writers
//! that delete each key once, the same shop shows what this test can see. And before anything fails, both have the same hit rate:
//! safety is not bought with misses.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use e2e::{
    cache::Nodes,
    http,
    lab::{Lab, enter_alone, is_long, random},
    servers::{
        CacheNode, Database, DatabaseOptions, Durability, Kafka, Kind, Link, Mcsqueal,
        McsquealOptions, Memcached, Proxy, Region, StreamPlace, options_of,
    },
    shop::{Fills, Settings, Shop, Traffic},
};
use tokio::time::{Instant, sleep};

use super::strikes::{self, STRIKES};

const NODES: usize = 4;
/// One of them tails, both deliver.
const INVALIDATORS: usize = 2;
const FILL_AGE_MAX: Duration = Duration::from_secs(2);
const STALENESS_MAX: Duration = Duration::from_secs(1);
/// One fill in a hundred sleeps for up to a second: so long nobody waits for it.
const LEASE: Duration = Duration::from_millis(50);
/// Values that were read and compared with what the database has acknowledged; a hundredth if it must not take long.
const CHECKS: u64 = 1_000_000;
/// Some fifty reads for each commit.
const WRITER_REST: Duration = Duration::from_millis(60);
/// Until the caches are full, and for as long as the hit rate is measured.
const WARM: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(5);
const MEASURED_LONG: Duration = Duration::from_secs(30);
/// What the caches answer may differ by so much; a short run says less.
const HIT_RATE_MARGIN: f64 = 0.03;
const HIT_RATE_MARGIN_LONG: f64 = 0.01;
/// Between two faults.
const CALM: Duration = Duration::from_millis(700);
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
/// What takes longer is said.
const ANSWER_SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stale_while_everything_fails_in_turn() {
    let test = "nothing_stale_while_everything_fails_in_turn";
    let needs = ["mysql", "memcached", "kafka", "mcsqueal"];
    let Some(lab) = enter_alone(test, &needs).await else { return };
    let mut storm = Storm::gather(lab).await;
    let naive = storm.naive().await;
    naive.say("stock memcached, one delete by the writer");
    assert!(naive.stale > 0 && naive.late > 0, "this test sees nothing: {naive:?}");
    let ours = storm.versions().await;
    ours.say("nodes of ours, leases");
    assert_eq!((ours.stale, ours.late), (0, 0), "{ours:?}");
    assert!(ours.checks > ours.reads / 4 && ours.fills > 1000, "it did not cache: {ours:?}");
    let margin = if is_long() { HIT_RATE_MARGIN_LONG } else { HIT_RATE_MARGIN };
    let answered = ours.hit_rate + ours.flagged_rate;
    assert!(answered > naive.hit_rate - margin, "{answered} of {}", naive.hit_rate);
    for invalidator in &mut storm.invalidators {
        invalidator.stop().await.expect("a clean stop");
    }
}

/// What came of a shop.
#[derive(Debug)]
struct Outcome {
    reads: u64,
    /// Values that were compared when they were read, and those that were compared in the end.
    checks: u64,
    fills: u64,
    /// Before anything failed: the share of reads that got a value, and of those that got one that was called old.
    hit_rate: f64,
    flagged_rate: f64,
    /// Values that differ from the database in the end.
    stale: usize,
    /// Reads of what had been superseded for too long.
    late: u64,
    /// The oldest of these reads, and of those that were not late.
    oldest_ms: f64,
}

impl Outcome {
    /// Past the capture of the test's output: a line of a table.
    fn say(&self, what: &str) {
        let Outcome { checks, stale, late, oldest_ms, hit_rate, flagged_rate, .. } = self;
        let line = format!(
            "| {what} | {checks} | {stale} | {late} | {oldest_ms:.0} ms | {:.1} % | {:.1} % |",
            hit_rate * 100.0,
            flagged_rate * 100.0
        );
        writeln!(io::stderr(), "{line}").expect("standard error can be written");
    }
}

/// Everything that can fail. Fields are dropped in this order.
pub(super) struct Storm {
    pub(super) invalidators: Vec<Mcsqueal>,
    pub(super) kafka: Kafka,
    pub(super) nodes: Vec<CacheNode>,
    /// In front of the nodes' control ports.
    pub(super) ports: Vec<Proxy>,
    /// In front of the replicas, where mcsqueal asks them how far they are.
    pub(super) polls: Vec<Proxy>,
    pub(super) replicas: Vec<Database>,
    stock: Vec<Memcached>,
    primary: Database,
    /// As every shop of it is, but for who reads and writes how.
    shop: Settings,
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
        let mut polls = Vec::new();
        for replica in &replicas {
            replica.replicate(&primary).await.expect("replication");
            polls.push(Proxy::start(replica.address()).expect("a proxy"));
        }
        let (mut nodes, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            let versions = format!(
                "fill_age_ms_max = {}\nstaleness_ms_max = {}\nlease_ms = {}",
                FILL_AGE_MAX.as_millis(),
                STALENESS_MAX.as_millis(),
                LEASE.as_millis()
            );
            let node = lab.servers.versioned_node(&versions).await.expect("a node");
            let port = node.control().expect("a control port");
            ports.push(Proxy::start(port).expect("a proxy"));
            nodes.push(node);
        }
        let stock = lab.servers.memcached_nodes(NODES).await.expect("stock nodes");
        let addresses: Vec<String> = nodes.iter().map(CacheNode::address).collect();
        let region = Region::shop(&primary, addresses, FILL_AGE_MAX).await.expect("a region");
        let kafka = lab.servers.kafka().await.expect("Kafka");
        let region = Region {
            replicas: polls.iter().map(Proxy::address).collect(),
            controls: ports.iter().map(Proxy::address).collect(),
            stream: StreamPlace::Kafka { brokers: kafka.address(), topic: "storm".to_owned() },
            ..region
        };
        let shop =
            Settings { partitions: region.stream.partitions(), ..Settings::new(FILL_AGE_MAX, 7) };
        // The rules name the tables.
        drop(Shop::open(shop.clone(), primary.root(), ring(&nodes)).await.expect("a shop"));
        let mut invalidators = Vec::new();
        for _ in 0..INVALIDATORS {
            let started = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
            invalidators.push(started.expect("mcsqueal"));
        }
        Storm {
            invalidators,
            kafka,
            nodes,
            ports,
            polls,
            replicas,
            stock,
            primary,
            shop,
            _lab: lab,
        }
    }

    /// Writers delete for themselves. Only replicas fail: that is enough.
    async fn naive(&mut self) -> Outcome {
        let ring = Nodes::new(self.stock.iter().map(Memcached::address).collect());
        let settings = self.settings().naive();
        let shop = Shop::open(settings, self.primary.root(), ring.expect("a ring")).await;
        self.spend(&shop.expect("a shop"), &strikes::OF_REPLICAS).await
    }

    async fn versions(&mut self) -> Outcome {
        let settings = Settings { fills: Fills::Leased, ..self.settings() };
        let shop = Shop::open(settings, self.primary.root(), ring(&self.nodes)).await;
        let every: Vec<u32> = (0..STRIKES).collect();
        self.spend(&shop.expect("a shop"), &every).await
    }

    fn settings(&self) -> Settings {
        let replicas = self.replicas.iter().map(Database::root).collect();
        Settings { replicas, writer_rest: WRITER_REST, ..self.shop.clone() }
    }

    /// Lets the shop run, calmly first, and then with all of these strikes in turn until enough was checked.
    async fn spend(&mut self, shop: &Shop, strikes: &[u32]) -> Outcome {
        let (stats, long) = (shop.stats(), is_long());
        for replica in &self.replicas {
            replica.caught_up(&self.primary).await.expect("the tables are on every replica");
        }
        let traffic = Traffic::start(shop);
        // The replicas that another shop had stopped are back, and the nodes must hear of it.
        self.until_answered(shop).await;
        sleep(WARM).await;
        let counted = || [stats.reads.get(), stats.hits.get(), stats.flagged.get()];
        let before = counted();
        sleep(if long { MEASURED_LONG } else { MEASURED }).await;
        let after = counted();
        let [reads, hits, flagged] = [0, 1, 2].map(|at| count(after[at] - before[at]));
        let checks = if long { CHECKS } else { CHECKS / 100 };
        let mut random = random(3);
        for (round, kind) in strikes.iter().cycle().enumerate() {
            if round >= strikes.len() && stats.hits.get() >= checks {
                break;
            }
            sleep(CALM).await;
            let pause = Duration::from_millis(300 + random.below(1500));
            let at = usize::try_from(random.below(4)).expect("small");
            self.strike(*kind, at, pause).await;
        }
        sleep(CALM).await;
        traffic.stop().await.expect("everybody leaves");
        if shop.settings().fills == Fills::Leased {
            shop.drain(DRAIN_DEADLINE).await.expect("everything is deleted");
        }
        let comparison = shop.compare().await.expect("the shop is compared");
        Outcome {
            reads: stats.reads.get(),
            checks: stats.hits.get() + u64::try_from(comparison.cached).expect("few"),
            fills: stats.fills.get(),
            hit_rate: hits / reads,
            flagged_rate: flagged / reads,
            stale: comparison.stale.len(),
            late: stats.superseded.longer_than(STALENESS_MAX),
            oldest_ms: stats.superseded.quantiles().max_ms,
        }
    }
}

impl Storm {
    /// Waits until some cache has a value for somebody; and where that takes long, says what nodes and databases are waiting for.
    async fn until_answered(&self, shop: &Shop) {
        let begin = Instant::now();
        while shop.stats().hits.get() == 0 {
            let late = begin.elapsed() >= DRAIN_DEADLINE;
            if late || begin.elapsed() >= ANSWER_SOON {
                let said = self.versions_of_nodes().await;
                let databases = self.invalidators[0].health().await;
                writeln!(io::stderr(), "no cache answers: {databases:?}\n{said}")
                    .expect("standard error can be written");
            }
            assert!(!late, "no cache has answered for {DRAIN_DEADLINE:?}");
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// By which versions the nodes go.
    async fn versions_of_nodes(&self) -> String {
        let mut all = String::new();
        for node in &self.nodes {
            let address = node.http().expect("it has a side port");
            let Ok((_, page)) = http::get(address, "/metrics").await else { continue };
            let of = |line: &&str| {
                ["version_", "fresh ", "quarantined "]
                    .iter()
                    .any(|name| line.starts_with(&format!("mcsqueal_node_{name}")))
            };
            all += &page.lines().filter(of).collect::<Vec<_>>().join("\n");
            all += "\n";
        }
        all
    }
}

fn count(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn ring(nodes: &[CacheNode]) -> Nodes {
    Nodes::new(nodes.iter().map(CacheNode::address).collect()).expect("a ring")
}
