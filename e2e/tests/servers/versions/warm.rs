//! A cold node becomes warm beside writers, while the warm nodes' invalidator lags, a warm node dies and the cold one starts again in the
//! middle: nothing stale is left. And from stock memcached, as far as that can be.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use e2e::{
    cache::{Cache, Looked, Nodes},
    http,
    servers::{
        CacheNode, Database, Group, Kind, Link, Mcsqueal, McsquealOptions, Proxy, Region, Way,
        Weather, mcsqueal_binary, options_of,
    },
};
use mysql_async::prelude::Queryable;
use tokio::{
    process::Command,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{DEADLINE, RULES, TTL_S, make_things, value_of};
use crate::support::{Lab, enter_alone, is_long, output, random, until};

const THINGS: u32 = 100;
const FILL_AGE_MAX: Duration = Duration::from_secs(2);
/// How long the invalidator of a warm node lags; the node believes itself to be fresh meanwhile.
const LAG: Duration = Duration::from_secs(3);
const LAG_LONG: Duration = Duration::from_secs(10);
const KEPT_BY_WALK: &str = "mcsqueal_node_warm_kept_by_walk_total";
const KEPT_BY_MISS: &str = "mcsqueal_node_warm_kept_by_miss_total";
const VERSIONS: &str = "fill_age_ms_max = 2000\nstaleness_ms_max = 20000";
/// A node that hears nothing is not fresh any more long before a test ends.
const SOON_STALE: &str = "fill_age_ms_max = 2000\nstaleness_ms_max = 2000";

/// A warm cluster of two, a cold node, and the database that they cache. Fields are dropped in this order.
struct Warming {
    mcsqueal: Mcsqueal,
    cold: CacheNode,
    warm: Vec<CacheNode>,
    /// Between the invalidator and the warm nodes.
    ports: Vec<Proxy>,
    primary: Database,
    region: Region,
    _folder: tempfile::TempDir,
    _lab: Lab,
}

impl Warming {
    async fn start(lab: Lab, versions: &str) -> Warming {
        let options = options_of(Kind::Mysql, 1, Link::Plain);
        let primary = lab.servers.database(Kind::Mysql, &options).await.expect("a database");
        make_things(&primary, THINGS).await;
        let (mut warm, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let node = lab.servers.versioned_node(versions).await.expect("a node");
            ports.push(Proxy::start(node.control().expect("a control port")).expect("a proxy"));
            warm.push(node);
        }
        let addresses: Vec<String> = warm.iter().map(CacheNode::address).collect();
        let region = Region::shop(&primary, addresses, FILL_AGE_MAX).await.expect("a region");
        let region = Region { rules: RULES.to_owned(), ..region };
        // The cold node reaches the warm ones directly, however far their invalidator is.
        let direct = Region {
            controls: warm.iter().filter_map(CacheNode::control).collect(),
            ..region.clone()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let file = direct.write(folder.path()).expect("a region file");
        let section = format!(
            "{versions}\n[warm]\nregion_file = {:?}\nfrom = \"main\"",
            file.display().to_string()
        );
        let cold = lab.servers.versioned_node(&section).await.expect("a cold node");
        let controls = ports.iter().map(|port| Some(port.address()));
        let main = warm.iter().map(CacheNode::address).zip(controls).collect();
        let groups = vec![
            Group { name: "main".to_owned(), nodes: main, ..Group::default() },
            Group {
                name: "new".to_owned(),
                warm_from: Some("main".to_owned()),
                nodes: vec![(cold.address(), cold.control())],
                ..Group::default()
            },
        ];
        let region = Region { groups, ..region };
        let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
        let (mcsqueal, mut cold) = (mcsqueal.expect("mcsqueal"), cold);
        // It starts when there is something to copy.
        cold.kill9().expect("the cold node is away");
        Warming { mcsqueal, cold, warm, ports, primary, region, _folder: folder, _lab: lab }
    }

    fn warm_nodes(&self) -> Nodes {
        Nodes::new(self.warm.iter().map(CacheNode::address).collect()).expect("a ring")
    }

    fn cold_nodes(&self) -> Nodes {
        Nodes::new(vec![self.cold.address()]).expect("a ring")
    }

    /// Waits until one of a node's numbers is high enough.
    async fn until_above(node: &CacheNode, name: &str, least: f64) {
        until(&format!("{name} is above {least}"), DEADLINE, async || {
            sleep(Duration::from_millis(100)).await;
            metric(node, name).await > least
        })
        .await;
    }
}

/// One of a node's numbers.
async fn metric(node: &CacheNode, name: &str) -> f64 {
    let address = node.http().expect("a side port");
    let Ok((_, page)) = http::get(address, "/metrics").await else { return 0.0 };
    let found = http::samples(&page).find(|sample| sample.name == name).map(|it| it.value);
    found.unwrap_or_default()
}

/// Everybody who reads and writes, until told to stop.
struct Shop {
    stop: Arc<AtomicBool>,
    people: JoinSet<()>,
}

impl Shop {
    fn open(warming: &Warming) -> Shop {
        let stop = Arc::new(AtomicBool::new(false));
        let mut people = JoinSet::new();
        for number in 0..2 {
            people.spawn(write(warming.primary.root(), Arc::clone(&stop), number));
            for nodes in [warming.warm_nodes(), warming.cold_nodes()] {
                people.spawn(read(nodes, warming.primary.root(), Arc::clone(&stop), number + 10));
            }
        }
        Shop { stop, people }
    }

    async fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.people.join_all().await;
    }
}

async fn write(database: mysql_async::Opts, stop: Arc<AtomicBool>, number: u64) {
    let mut random = random(number);
    let mut conn = mysql_async::Conn::new(database).await.expect("a connection");
    while !stop.load(Ordering::Relaxed) {
        let (thing, value) = (random.below(THINGS.into()), random.bits());
        let change = format!("UPDATE shop.things SET value = 'v{value}' WHERE id = {thing}");
        conn.query_drop(change).await.expect("a change");
        sleep(Duration::from_millis(random.below(20))).await;
    }
}

/// Reads, and fills with leases. Nodes may be away.
async fn read(nodes: Nodes, database: mysql_async::Opts, stop: Arc<AtomicBool>, number: u64) {
    let mut random = random(number);
    let mut conn = mysql_async::Conn::new(database).await.expect("a connection");
    let mut cache = Cache::new(&nodes);
    while !stop.load(Ordering::Relaxed) {
        let thing = u32::try_from(random.below(THINGS.into())).expect("small");
        let key = format!("thing:{thing}");
        match cache.look(&key).await {
            Ok(Looked::Lease { cas, .. }) => {
                let value = value_of(&mut conn, thing).await;
                drop(cache.fill(&key, cas, TTL_S, &value).await);
            }
            Ok(_) => {}
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
        sleep(Duration::from_millis(random.below(4))).await;
    }
}

/// `mcsqueal warm` with all keys: what it says.
async fn warm_by_hand(mcsqueal: &Mcsqueal, region: &Region, flags: &[&str]) -> String {
    let folder = mcsqueal.directory();
    let keys: Vec<String> = (0..THINGS).map(|thing| format!("thing:{thing}")).collect();
    std::fs::write(folder.join("keys.txt"), keys.join("\n")).expect("a list of keys");
    let mut command = Command::new(mcsqueal_binary().expect("the program"));
    command.args(["warm", "--config", "region.toml", "--keys", "keys.txt"]).args(flags);
    let done = output(command.envs(region.env()).current_dir(folder)).await.expect("it ends");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_node_becomes_warm_and_nothing_stale_is_left() {
    let test = "a_cold_node_becomes_warm_and_nothing_stale_is_left";
    let Some(lab) = enter_alone(test, &["mysql", "mcsqueal"]).await else { return };
    let lag = if is_long() { LAG_LONG } else { LAG };
    let mut warming = Warming::start(lab, VERSIONS).await;
    let shop = Shop::open(&warming);
    for node in &warming.warm {
        Warming::until_above(node, "mcsqueal_node_entries", 10.0).await;
    }
    warming.cold.restart().await.expect("the cold node starts");
    Warming::until_above(&warming.cold, "mcsqueal_node_warm_sources_up", 1.0).await;
    Warming::until_above(&warming.cold, KEPT_BY_WALK, 0.0).await;
    Warming::until_above(&warming.cold, KEPT_BY_MISS, 5.0).await;

    // The deletes of one warm node come late. What it gives is old, and may not be kept.
    warming.ports[0].make(Weather::Stalled(Way::There));
    sleep(lag).await;
    Warming::until_above(&warming.cold, "mcsqueal_node_warm_refused_total", 0.0).await;

    // The other one dies, and the cold one begins anew in the middle of it.
    warming.warm[1].kill9().expect("a warm node dies");
    warming.cold.kill9().expect("the cold node dies");
    warming.cold.restart().await.expect("the cold node is there again, and empty");
    sleep(Duration::from_millis(500)).await;
    warming.warm[1].restart().await.expect("the warm node is there again, and empty");
    warming.ports[0].make(Weather::Calm);
    Warming::until_above(&warming.cold, KEPT_BY_MISS, 5.0).await;
    shop.close().await;

    // Whatever is on its way comes; what differs then is stale.
    let mut conn = warming.primary.connect().await.expect("a connection");
    let mut truth = HashMap::new();
    for thing in 0..THINGS {
        truth.insert(format!("thing:{thing}"), value_of(&mut conn, thing).await);
    }
    let keys: Vec<&str> = truth.keys().map(String::as_str).collect();
    let mut cache = Cache::new(&warming.cold_nodes());
    until("no value differs from the database", DEADLINE, async || {
        sleep(Duration::from_millis(100)).await;
        let cached = cache.get_from(0, &keys).await.unwrap_or_default();
        cached.len() > 20 && cached.iter().all(|(key, value)| truth.get(key) == Some(value))
    })
    .await;
    assert!(warming.cold.log().expect("a log").contains("warming up"));
    // And by hand, the other way round: one of the warm nodes had lost everything.
    let flags = ["--cluster", "main", "--from-peer", "new"];
    let (mcsqueal, region) = (&warming.mcsqueal, &warming.region);
    let said = warm_by_hand(mcsqueal, region, &[&flags[..], &["--dry-run"]].concat()).await;
    assert!(said.contains("dry run"), "{said}");
    let said = warm_by_hand(mcsqueal, region, &flags).await;
    assert!(said.contains("100 of 100 keys"), "{said}");
    warming.mcsqueal.stop().await.expect("a clean stop");
}

/// What a warm node would not serve without a flag, it gives to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_fresh_gives_no_copies() {
    let test = "a_node_that_is_not_fresh_gives_no_copies";
    let Some(lab) = enter_alone(test, &["mysql", "mcsqueal"]).await else { return };
    let mut warming = Warming::start(lab, SOON_STALE).await;
    let shop = Shop::open(&warming);
    for node in &warming.warm {
        Warming::until_above(node, "mcsqueal_node_entries", 10.0).await;
    }
    shop.close().await;
    for port in &warming.ports {
        port.make(Weather::Stalled(Way::There));
    }
    warming.primary.run(&["UPDATE shop.things SET value = 'new'"]).await.expect("a change");
    for node in &warming.warm {
        let late = "a node that hears nothing is not fresh";
        until(late, DEADLINE, async || metric(node, "mcsqueal_node_fresh").await < 0.5).await;
    }
    warming.cold.restart().await.expect("the cold node starts");
    let mut cache = Cache::new(&warming.cold_nodes());
    let keys: Vec<String> = (0..THINGS).map(|thing| format!("thing:{thing}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let end = Instant::now() + LAG;
    while Instant::now() < end {
        let found = cache.get_from(0, &keys).await.expect("an answer");
        assert!(found.is_empty(), "{found:?}");
        sleep(Duration::from_millis(100)).await;
    }
    let kept =
        metric(&warming.cold, KEPT_BY_WALK).await + metric(&warming.cold, KEPT_BY_MISS).await;
    assert!(kept < 0.5, "{kept} copies of a node that is not fresh");
    for port in &warming.ports {
        port.make(Weather::Calm);
    }
    until("what they filled since is copied", DEADLINE, async || {
        let mut warm = Cache::new(&warming.warm_nodes());
        for key in &keys {
            if let Ok(Looked::Lease { cas, .. }) = warm.look(key).await {
                drop(warm.fill(key, cas, TTL_S, "new").await);
            }
        }
        let found = cache.get_from(0, &keys).await.expect("an answer");
        assert!(found.values().all(|value| value == "new"), "{found:?}");
        found.len() > 10
    })
    .await;
    warming.mcsqueal.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_node_becomes_warm_from_stock_memcached() {
    let test = "a_cold_node_becomes_warm_from_stock_memcached";
    let Some(lab) = enter_alone(test, &["mysql", "memcached", "mcsqueal"]).await else { return };
    let options = options_of(Kind::Mysql, 1, Link::Plain);
    let primary = lab.servers.database(Kind::Mysql, &options).await.expect("a database");
    make_things(&primary, THINGS).await;
    let stock = lab.servers.memcached().await.expect("memcached");
    let mut old = Cache::new(&Nodes::new(vec![stock.address()]).expect("a ring"));
    for thing in 0..THINGS {
        old.set(&format!("thing:{thing}"), TTL_S, "v0").await.expect("it is stored");
    }
    let region = Region::shop(&primary, vec![stock.address()], FILL_AGE_MAX).await;
    let region = Region { rules: RULES.to_owned(), ..region.expect("a region") };
    let folder = tempfile::tempdir().expect("a folder");
    let file = region.write(folder.path()).expect("a region file").display().to_string();
    // Long enough that the test is faster, also on a machine that is slow.
    let section =
        format!("fill_age_ms_max = 5000\n[warm]\nregion_file = {file:?}\nfrom = \"main\"");
    let cold = lab.servers.versioned_node(&section).await.expect("a cold node");
    // The old cluster is nobody's any more: whatever it holds, it holds.
    let (nodes, controls) = (vec![cold.address()], cold.control().into_iter().collect());
    let region = Region { nodes, controls, ..region };
    let mut mcsqueal =
        lab.servers.mcsqueal(&region, &McsquealOptions::default()).await.expect("mcsqueal");
    let mut cache = Cache::new(&Nodes::new(vec![cold.address()]).expect("a ring"));
    until("everything was copied", DEADLINE, async || {
        sleep(Duration::from_millis(100)).await;
        let keys: Vec<String> = (0..THINGS).map(|thing| format!("thing:{thing}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        cache.get_from(0, &keys).await.is_ok_and(|found| found.len() == keys.len())
    })
    .await;
    let change = "UPDATE shop.things SET value = 'v1' WHERE id = 7";
    primary.run(&[change]).await.expect("a change");
    // Memcached still has it, and it is asked for at each miss: it is held off.
    until("the change is here", DEADLINE, async || {
        cache.get("thing:7").await.is_ok_and(|value| value.is_none())
    })
    .await;
    assert_eq!(cache.get("thing:7").await.expect("an answer"), None);
    assert_eq!(cache.get("thing:8").await.expect("an answer"), Some("v0".to_owned()));
    assert!(cold.log().expect("a log").contains("memcached knows no versions"));
    // Longer than that memcached must not keep it. The database knows the new value.
    old.delete("thing:7").await.expect("its delete is late");
    let select = "SELECT value FROM shop.things WHERE id = {id}";
    let flags = ["--from-db", "--select", select];
    let said = warm_by_hand(&mcsqueal, &region, &[&flags[..], &["--dry-run"]].concat()).await;
    assert!(said.contains("thing:1: SELECT value FROM shop.things WHERE id = ? [\"1\"]"), "{said}");
    until("the missing one was read", DEADLINE, async || {
        let said = warm_by_hand(&mcsqueal, &region, &flags).await;
        assert!(said.contains("100 of 100 keys"), "{said}");
        cache.get("thing:7").await.is_ok_and(|value| value.as_deref() == Some("v1"))
    })
    .await;
    mcsqueal.stop().await.expect("a clean stop");
}
