//! A crash of the primary that loses a transaction: values that may hold it are misses, and what was filled long before it stays. A failover
//! must not empty a cache.

use std::time::Duration;

use e2e::{
    cache::{Cache, From, Looked, Nodes},
    servers::{Kind, Link, McsquealOptions, Region, options_of},
};
use mysql_async::prelude::Queryable;
use tokio::time::sleep;

use super::{DEADLINE, RULES, Stage, THINGS_MADE, TTL_S, ask, make_things, value_of};
use crate::support::{Lab, enter_alone, until};

/// Filled long before anything is lost.
const OLD: [u32; 5] = [1, 2, 3, 4, 5];
/// Its lost value is filled with a lease, and published by nobody.
const LEASED: u32 = 7;
/// Its lost value is filled by somebody who names the lost version.
const NAMED: u32 = 8;
const FILL_AGE_MAX: Duration = Duration::from_secs(1);
/// Where a database has not answered in time just before, as on a very busy machine, nothing is proven, and everything goes.
const TRIES: u32 = 3;
/// The tailer must miss the primary, and find the one that takes its place.
const TAKE_OVER: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_lossy_promotion_leaves_what_was_there_long_before() {
    let test = "a_lossy_promotion_leaves_what_was_there_long_before";
    for _ in 0..TRIES {
        let Some(lab) = enter_alone(test, &["mysql", "mcsqueal"]).await else { return };
        if promoted(lab).await == Old::Stays {
            return;
        }
    }
    panic!("what was there long before is gone, {TRIES} times");
}

/// What became of the values that were filled long before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Old {
    Stays,
    Gone,
}

/// A promotion after which no lost value is served.
async fn promoted(lab: Lab) -> Old {
    let mut stage = two_servers(lab).await;
    let mut cache = Cache::new(&stage.nodes);
    stage.first_epoch().await;
    until("the node is in that epoch", DEADLINE, async || {
        stage.fill(&mut cache, 0, 98).await;
        let epoch = epoch_of(&mut cache, 98).await;
        ask(&mut cache, "md thing:98\r\n").await;
        epoch.is_some_and(|epoch| epoch > 0)
    })
    .await;
    for thing in OLD {
        assert_eq!(stage.fill(&mut cache, 0, thing).await, "v0");
    }
    time_passes(&stage).await;
    lose(&mut stage, &mut cache).await;
    for thing in OLD.into_iter().chain([LEASED, NAMED]) {
        assert!(cached(&mut cache, thing).await.is_some(), "thing:{thing} is there before");
    }

    stage.chain[1].run(&["STOP REPLICA", "RESET REPLICA ALL"]).await.expect("no replica any more");
    stage.chain[1].run(&["SET GLOBAL read_only = OFF"]).await.expect("the new primary");
    let change = "UPDATE shop.things SET value = 'new' WHERE id = 60";
    stage.chain[1].run(&[change]).await.expect("a change on the new primary");
    stage.mcsqueal.restart().await.expect("mcsqueal is there again");
    until("lost values are misses", TAKE_OVER, async || {
        cached(&mut cache, LEASED).await.is_none() && cached(&mut cache, NAMED).await.is_none()
    })
    .await;
    for thing in OLD {
        if cached(&mut cache, thing).await.as_deref() != Some("v0") {
            return Old::Gone;
        }
    }

    // Until the former primary is fenced, readers may still read it: nothing is stored of the new epoch, and operators see why.
    stage
        .until("the region waits for the former primary", |health| {
            health["databases"][0]["holds"] == "never_answered" && health["ok"] == false
        })
        .await;
    fence(&mut stage).await;
    for thing in [LEASED, NAMED] {
        assert_eq!(stage.fill(&mut cache, 1, thing).await, "v0");
    }
    for thing in OLD {
        assert_eq!(cached(&mut cache, thing).await.as_deref(), Some("v0"), "thing:{thing} is gone");
    }
    stage.mcsqueal.stop().await.expect("a clean stop");
    Old::Stays
}

/// A primary, and a replica that may take its place.
async fn two_servers(lab: Lab) -> Stage {
    let mut chain = Vec::new();
    for number in 1..=2 {
        let options = options_of(Kind::Mysql, number, Link::Plain);
        chain.push(lab.servers.database(Kind::Mysql, &options).await.expect("a database"));
    }
    chain[1].replicate(&chain[0]).await.expect("replication");
    // The node must stay fresh while its invalidator is away.
    let versions =
        format!("fill_age_ms_max = {}\nstaleness_ms_max = 120000", FILL_AGE_MAX.as_millis());
    let node = lab.servers.versioned_node(&versions).await.expect("a node");
    make_things(&chain[0], THINGS_MADE).await;
    let region = Region::shop(&chain[0], vec![node.address()], FILL_AGE_MAX).await;
    let region = Region {
        standbys: vec![chain[1].address()],
        controls: node.control().into_iter().collect(),
        rules: RULES.to_owned(),
        ..region.expect("a region")
    };
    chain[1].caught_up(&chain[0]).await.expect("the replica is there");
    chain[1].run(&["SET GLOBAL super_read_only = ON"]).await.expect("a replica");
    let mcsqueal = lab.servers.mcsqueal(&region, &McsquealOptions::default()).await;
    let nodes = Nodes::new(vec![node.address()]).expect("a ring");
    Stage { mcsqueal: mcsqueal.expect("mcsqueal"), node, chain, nodes, _lab: lab }
}

/// Other things change for some time, so that nobody can still be reading what was before.
async fn time_passes(stage: &Stage) {
    let mut conn = stage.chain[0].connect().await.expect("a connection");
    for turn in 0..30 {
        let change = format!("UPDATE shop.things SET value = 'w{turn}' WHERE id = 50");
        conn.query_drop(change).await.expect("a change");
        sleep(FILL_AGE_MAX / 10).await;
    }
    stage.chain[1].caught_up(&stage.chain[0]).await.expect("the replica is there");
}

/// Two values of a transaction that only the primary has get into the cache; then it dies, and nobody has published them.
async fn lose(stage: &mut Stage, cache: &mut Cache) {
    let mut lease = None;
    until("there is a lease", DEADLINE, async || {
        if let Ok(Looked::Lease { cas, from }) = cache.look(&format!("thing:{LEASED}")).await {
            assert_eq!(from, From::Anywhere);
            lease = Some(cas);
        }
        lease.is_some()
    })
    .await;
    let epoch = epoch_of(cache, OLD[0]).await.expect("it is cached");

    stage.mcsqueal.kill9().expect("nobody reads the binlog");
    stage.chain[1].run(&["STOP REPLICA"]).await.expect("nothing reaches the replica");
    let mut primary = stage.chain[0].connect().await.expect("a connection");
    let change = format!("UPDATE shop.things SET value = 'lost' WHERE id IN ({LEASED}, {NAMED})");
    primary.query_drop(change).await.expect("what is lost");
    let executed: Option<String> =
        primary.query_first("SELECT @@global.gtid_executed").await.expect("an answer");
    let number = executed.and_then(|set| set.rsplit('-').next()?.parse::<u64>().ok());
    let version = epoch << 48 | number.expect("a number");
    let value = value_of(&mut primary, LEASED).await;
    let lease = lease.expect("a lease");
    assert!(cache.fill(&format!("thing:{LEASED}"), lease, TTL_S, &value).await.expect("an answer"));
    assert_eq!(ask(cache, &format!("ms thing:{NAMED} 4 V{version}\r\nlost\r\n")).await.0, "HD");
    drop(primary);
    stage.chain[0].kill9().expect("the primary dies");
}

/// The epoch in which a cached value was read.
async fn epoch_of(cache: &mut Cache, thing: u32) -> Option<u64> {
    let (line, _) = ask(cache, &format!("mg thing:{thing} V\r\n")).await;
    Some(line.strip_prefix("HD V")?.parse::<u64>().ok()? >> 48)
}

async fn cached(cache: &mut Cache, thing: u32) -> Option<String> {
    ask(cache, &format!("mg thing:{thing} v\r\n")).await.1
}

/// The operator takes the former primary out of the region file.
async fn fence(stage: &mut Stage) {
    stage.mcsqueal.stop().await.expect("a clean stop");
    let [first, second] = [0, 1].map(|at| format!("{:?}", stage.chain[at].address()));
    stage.edit_region(&format!("[{first}, {second}]"), &second);
    stage.mcsqueal.restart().await.expect("mcsqueal is there again");
}
