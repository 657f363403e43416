//! `kill -9` at random moments under load. After the drain no cached value may differ from the database.

use std::time::Duration;

use e2e::{
    cache::Nodes,
    random::Random,
    servers::{
        Database, DatabaseOptions, Kind, Mcsqueal, McsquealOptions, Memcached, Region, shop_rules,
    },
    shop::{Settings, Shop, Traffic},
};
use tokio::time::sleep;

use crate::support::{Lab, enter, needs_of, random, tenth_unless_long};

const FILL_AGE_MAX: Duration = Duration::from_secs(2);
/// After kills there may be much to catch up with, on a busy machine.
const DRAIN_DEADLINE: Duration = Duration::from_secs(120);
const NODES: usize = 2;
/// Kills of mcsqueal in a long run, and of each of the others.
const KILLS_MCSQUEAL: u32 = 200;
const KILLS_OTHERS: u32 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn kill9_mcsqueal_under_load_mysql() {
    kill_mcsqueal("kill9_mcsqueal_under_load_mysql", Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill9_mcsqueal_under_load_mariadb() {
    kill_mcsqueal("kill9_mcsqueal_under_load_mariadb", Kind::Mariadb).await;
}

/// Each dialect gets half of the kills.
async fn kill_mcsqueal(test: &str, kind: Kind) {
    let Some(lab) = enter(test, &needs_of(kind)).await else { return };
    let mut random = random(1);
    let mut set = Set::start(lab, kind).await;
    for _ in 0..tenth_unless_long(KILLS_MCSQUEAL) / 2 {
        rest(&mut random, 900).await;
        set.mcsqueal.kill9().expect("kill mcsqueal");
        rest(&mut random, 100).await;
        set.mcsqueal.start().expect("start mcsqueal");
        // Sometimes it is killed before it is ready.
        if !random.one_in(4) {
            set.mcsqueal.ready().await.expect("mcsqueal is ready again");
        }
    }
    set.nothing_is_stale().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill9_memcached() {
    let Some(lab) = enter("kill9_memcached", &needs_of(Kind::Mariadb)).await else { return };
    let mut random = random(2);
    let mut set = Set::start(lab, Kind::Mariadb).await;
    for _ in 0..tenth_unless_long(KILLS_OTHERS) {
        rest(&mut random, 1500).await;
        let victim = usize::try_from(random.below(NODES as u64)).expect("a small number");
        set.memcached[victim].kill9().expect("kill memcached");
        rest(&mut random, 1000).await;
        set.memcached[victim].restart().await.expect("memcached is there again");
    }
    set.nothing_is_stale().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill9_database_mysql() {
    kill_database("kill9_database_mysql", Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill9_database_mariadb() {
    kill_database("kill9_database_mariadb", Kind::Mariadb).await;
}

async fn kill_database(test: &str, kind: Kind) {
    let Some(lab) = enter(test, &needs_of(kind)).await else { return };
    let mut random = random(3);
    let mut set = Set::start(lab, kind).await;
    for _ in 0..tenth_unless_long(KILLS_OTHERS) {
        rest(&mut random, 1500).await;
        set.database.kill9().expect("kill the database server");
        rest(&mut random, 500).await;
        set.database.restart().await.expect("the database server is there again");
    }
    set.nothing_is_stale().await;
}

/// A busy shop with everything that it needs. Dropped in this order.
struct Set {
    traffic: Option<Traffic>,
    shop: Shop,
    mcsqueal: Mcsqueal,
    memcached: Vec<Memcached>,
    database: Database,
    _lab: Lab,
}

impl Set {
    async fn start(lab: Lab, kind: Kind) -> Set {
        let database = lab.servers.database(kind, &DatabaseOptions::default()).await;
        let database = database.expect("a database server");
        let mut memcached = Vec::new();
        for _ in 0..NODES {
            memcached.push(lab.servers.memcached().await.expect("a memcached"));
        }
        let addresses: Vec<String> = memcached.iter().map(Memcached::address).collect();
        let nodes = Nodes::new(addresses.clone()).expect("a ring");
        let settings = Settings { probes_per_s: 0, ..Settings::new(FILL_AGE_MAX, 1) };
        let shop = Shop::open(settings, database.root(), nodes).await.expect("a shop");
        let region = Region {
            source: database.address(),
            account: database.create_account().await.expect("an account"),
            nodes: addresses,
            fill_age_max: FILL_AGE_MAX,
            rules: shop_rules().expect("the shop's rules"),
        };
        let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
        let mcsqueal = mcsqueal.expect("mcsqueal is ready");
        let traffic = Some(Traffic::start(&shop));
        Set { traffic, shop, mcsqueal, memcached, database, _lab: lab }
    }

    async fn nothing_is_stale(mut self) {
        let traffic = self.traffic.take().expect("the shop is open");
        traffic.stop().await.expect("everybody leaves the shop");
        self.mcsqueal.ready().await.expect("mcsqueal is ready");
        let drained = self.shop.drain(DRAIN_DEADLINE).await;
        self.mcsqueal.alive().expect("mcsqueal runs");
        drained.expect("everything is deleted in the end");
        let comparison = self.shop.compare().await.expect("a comparison");
        assert!(comparison.stale.is_empty(), "stale: {:#?}", comparison.stale);
        let (commits, fills) = (self.shop.stats().commits.get(), self.shop.stats().fills.get());
        assert!(commits > 200 && fills > 500, "hardly any load: {commits} commits, {fills} fills");
        assert!(comparison.cached > 50, "hardly anything is cached: {}", comparison.cached);
        self.mcsqueal.stop().await.expect("mcsqueal stops when asked");
    }
}

async fn rest(random: &mut Random, ms_max: u64) {
    sleep(Duration::from_millis(random.below(ms_max))).await;
}
