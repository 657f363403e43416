//! Herds: when a key that everybody wants is deleted, one reader reads the database, also while the replicas are far behind; and when
//! that one dies, another one takes his place.

use std::time::Duration;

use e2e::{
    cache::{Cache, Looked},
    herd::{Herd, Reads},
    servers::{Kind, Link},
};
use tokio::time::{Instant, sleep};

use super::{DEADLINE, Stage, TTL_S};
use crate::support::{enter_alone, is_long, tenth_unless_long, until};

const THING: u32 = 3;
const READERS: u32 = 1000;
/// How far behind the replica is, in a long run.
const LAG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn one_database_read_for_each_key_and_invalidation() {
    let test = "one_database_read_for_each_key_and_invalidation";
    let Some(lab) = enter_alone(test, &["mysql", "mcsqueal"]).await else { return };
    let links = [Link::Plain, Link::Plain];
    let mut stage =
        Stage::start(lab, Kind::Mysql, &links, &[1], "lease_ms = 2000\nfill_age_ms_max = 2000")
            .await;
    let mut cache = Cache::new(&stage.nodes);
    stage.fill(&mut cache, 1, THING).await;

    let reads = herd(&stage, "v1").await;
    // From the replica, or from the primary if the replica did not have it at once.
    assert_eq!(reads.near + reads.primary, 1, "the replicas are at hand: {reads:?}");

    stage.chain[1].stop_applying().await.expect("the replica stands still");
    let began = Instant::now();
    if is_long() {
        // So far behind that a lag is told from a moment's: something is written all the time.
        for number in 0..LAG.as_secs() {
            let change = format!("UPDATE shop.things SET value = 'w{number}' WHERE id = 4");
            stage.chain[0].run(&[&change]).await.expect("a change");
            sleep(Duration::from_secs(1)).await;
        }
        assert!(began.elapsed() >= LAG, "{:?}", began.elapsed());
    }
    let reads = herd(&stage, "v2").await;
    assert_eq!(reads, Reads { near: 0, primary: 1 }, "the replica is behind");
    assert_eq!(stage.shown(1, THING).await, "v1", "the replica is behind");
    stage.chain[1].start_applying().await.expect("the replica goes on");
    stage.mcsqueal.stop().await.expect("a clean stop");
}

/// All readers want the thing, which becomes `value`.
async fn herd(stage: &Stage, value: &str) -> Reads {
    let herd = Herd {
        nodes: stage.nodes.clone(),
        key: format!("thing:{THING}"),
        select: format!("SELECT value FROM shop.things WHERE id = {THING}"),
        near: stage.chain[1].root(),
        primary: stage.chain[0].root(),
        readers: tenth_unless_long(READERS),
    };
    let change = format!("UPDATE shop.things SET value = '{value}' WHERE id = {THING}");
    let reads = herd.run(value, stage.chain[0].run(&[&change])).await;
    reads.expect("everybody gets the value")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_given_again_when_its_holder_dies() {
    let test = "a_lease_is_given_again_when_its_holder_dies";
    let Some(lab) = enter_alone(test, &["mysql", "mcsqueal"]).await else { return };
    let mut stage = Stage::start(lab, Kind::Mysql, &[Link::Plain], &[], "lease_ms = 1000").await;
    let (mut dies, mut other) = (Cache::new(&stage.nodes), Cache::new(&stage.nodes));
    let mut first = None;
    until("there is a lease", DEADLINE, async || {
        if let Ok(Looked::Lease { cas, .. }) = dies.look("thing:5").await {
            first = Some((cas, Instant::now()));
        }
        first.is_some()
    })
    .await;
    let (first, since) = first.expect("a lease");
    drop(dies);
    assert_eq!(other.look("thing:5").await.expect("the node answers"), Looked::Wait);
    let mut second = None;
    until("there is another lease", DEADLINE, async || {
        if let Ok(Looked::Lease { cas, .. }) = other.look("thing:5").await {
            second = Some(cas);
        }
        second.is_some()
    })
    .await;
    assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
    let second = second.expect("a lease");
    assert!(!other.fill("thing:5", first, TTL_S, "late").await.expect("an answer"));
    assert!(other.fill("thing:5", second, TTL_S, "v0").await.expect("an answer"));
    assert_eq!(other.look("thing:5").await.expect("an answer"), Looked::Value("v0".to_owned()));
    stage.mcsqueal.stop().await.expect("a clean stop");
}
