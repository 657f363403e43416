//! A node that is frozen or dead delays no other node, and gets everything that it missed.

use std::time::Duration;

use e2e::{
    cache::{Cache, Nodes},
    http,
    servers::{Database, DatabaseOptions, Kind, Mcsqueal, McsquealOptions, Memcached, Region},
    shop::{Settings, Shop},
};
use mysql_async::{Conn, prelude::Queryable};
use tokio::time::{Instant, sleep};

use crate::support::{Lab, enter_alone, needs_of, until};

const FILL_AGE_MAX: Duration = Duration::from_secs(2);
const AWAY: Duration = Duration::from_secs(10);
/// Between two deletes that are measured.
const PERIOD: Duration = Duration::from_millis(20);
/// On a healthy node a delete takes a few milliseconds; half the time that a lane could lose by waiting
/// for the dead one would be far above this.
const P99_MAX: Duration = Duration::from_millis(250);
/// When the node is back, its lane has to notice that first.
const RETURN_DEADLINE: Duration = Duration::from_secs(30);
const TTL_S: u32 = 600;
/// Keys on the node that goes away.
const MISSED: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn frozen_node_delays_nobody_and_gets_what_it_missed() {
    let test = "frozen_node_delays_nobody_and_gets_what_it_missed";
    let Some(lab) = enter_alone(test, &needs_of(Kind::Mariadb)).await else { return };
    let mut pair = Pair::start(lab).await;
    let missed = pair.ids_on(1).into_iter().take(MISSED).collect::<Vec<_>>();
    pair.plant(&missed).await;
    pair.memcached[1].freeze().expect("freeze a node");
    pair.change(&missed).await;
    pair.others_are_fast().await;
    pair.backlog_is_shown().await;
    pair.memcached[1].thaw().expect("thaw the node");
    pair.all_gone(&missed).await;
    pair.backlog_is_gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_node_delays_nobody_and_is_served_again() {
    let test = "killed_node_delays_nobody_and_is_served_again";
    let Some(lab) = enter_alone(test, &needs_of(Kind::Mariadb)).await else { return };
    let mut pair = Pair::start(lab).await;
    let missed = pair.ids_on(1).into_iter().take(MISSED).collect::<Vec<_>>();
    pair.memcached[1].kill9().expect("kill a node");
    pair.change(&missed).await;
    pair.others_are_fast().await;
    pair.backlog_is_shown().await;
    pair.memcached[1].restart().await.expect("the node is there again");
    // It is empty, and has nothing to catch up with but the last changes.
    pair.plant(&missed).await;
    pair.change(&missed).await;
    pair.all_gone(&missed).await;
    pair.backlog_is_gone().await;
}

struct Pair {
    mcsqueal: Mcsqueal,
    cache: Cache,
    nodes: Nodes,
    conn: Conn,
    memcached: Vec<Memcached>,
    _database: Database,
    _lab: Lab,
}

/// What `/health` says of a lane.
#[derive(Debug)]
struct Backlog {
    records: u64,
    seconds: f64,
}

fn key(id: u32) -> String {
    format!("product:{id}")
}

impl Pair {
    async fn start(lab: Lab) -> Pair {
        let database = lab.servers.database(Kind::Mariadb, &DatabaseOptions::default()).await;
        let database = database.expect("a database server");
        let memcached = lab.servers.memcached_nodes(2).await.expect("memcached nodes");
        let addresses: Vec<String> = memcached.iter().map(Memcached::address).collect();
        let nodes = Nodes::new(addresses.clone()).expect("a ring");
        // For its tables alone; nobody enters this shop.
        let settings = Settings::new(FILL_AGE_MAX, 1);
        Shop::open(settings, database.root(), nodes.clone()).await.expect("a shop");
        let region = Region::shop(&database, addresses, FILL_AGE_MAX).await.expect("a region");
        let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
        let mcsqueal = mcsqueal.expect("mcsqueal is ready");
        let conn = database.connect().await.expect("a connection");
        let cache = Cache::new(&nodes);
        Pair { mcsqueal, cache, nodes, conn, memcached, _database: database, _lab: lab }
    }

    /// Products whose keys are on node `number`.
    fn ids_on(&self, number: usize) -> Vec<u32> {
        let owner = |id: u32| self.nodes.owner(&key(id)).expect("a key");
        (1..=1000).filter(|&id| owner(id) == number).collect()
    }

    async fn plant(&mut self, ids: &[u32]) {
        for &id in ids {
            self.cache.set(&key(id), TTL_S, "planted").await.expect("plant a key");
        }
    }

    async fn change(&mut self, ids: &[u32]) {
        for &id in ids {
            let update = "UPDATE shop.products SET stock = stock - 1, ver = ver + 1 WHERE id = ?";
            self.conn.exec_drop(update, (id,)).await.expect("change a row");
        }
    }

    /// Changes rows of the other node while one is away, each row once.
    async fn others_are_fast(&mut self) {
        let mut took = Vec::new();
        let over = Instant::now() + AWAY;
        let ids = self.ids_on(0);
        // Enough of them that no second delete of one falls into the time of its next.
        for &id in ids.iter().cycle() {
            if Instant::now() >= over {
                break;
            }
            self.plant(&[id]).await;
            let began = Instant::now();
            self.change(&[id]).await;
            self.gone(id).await;
            took.push(began.elapsed());
            sleep(PERIOD).await;
        }
        took.sort();
        let p99 = took[took.len() * 99 / 100];
        assert!(took.len() > 100, "only {} deletes in {AWAY:?}", took.len());
        assert!(p99 < P99_MAX, "p99 of {} deletes on the other node: {p99:?}", took.len());
        self.mcsqueal.alive().expect("mcsqueal runs");
    }

    /// `/health` says how far the node behind is behind; the other is not.
    async fn backlog_is_shown(&self) {
        let (status, [near, away]) = self.health().await;
        assert_eq!(status, 503, "a node is away");
        // Changes of one node's keys are records that every lane has to pass.
        assert!(away.records >= MISSED as u64, "{} records behind", away.records);
        let seconds = AWAY.as_secs_f64();
        assert!((seconds..2.0 * seconds).contains(&away.seconds), "{} s behind", away.seconds);
        assert!(near.seconds < P99_MAX.as_secs_f64(), "{} s behind", near.seconds);
    }

    async fn backlog_is_gone(&self) {
        until("no node is behind", RETURN_DEADLINE, async || {
            let (status, lanes) = self.health().await;
            status == 200 && lanes.iter().all(|lane| lane.records == 0 && lane.seconds == 0.0)
        })
        .await;
    }

    async fn health(&self) -> (u16, [Backlog; 2]) {
        let address = self.mcsqueal.http().expect("it listens");
        let (status, body) = http::get(address, "/health").await.expect("an answer");
        let health: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let lane = |at: usize| Backlog {
            records: health["lanes"][at]["backlog_records"].as_u64().expect("a count"),
            seconds: health["lanes"][at]["backlog_seconds"].as_f64().expect("seconds"),
        };
        (status, [lane(0), lane(1)])
    }

    async fn gone(&mut self, id: u32) {
        let what = format!("{} is deleted", key(id));
        let cache = &mut self.cache;
        let gone = async || cache.get(&key(id)).await.expect("ask for a key").is_none();
        until(&what, RETURN_DEADLINE, gone).await;
    }

    async fn all_gone(&mut self, ids: &[u32]) {
        for &id in ids {
            self.gone(id).await;
        }
    }
}
