//! Several invalidators of one region share the partitions. They are killed, frozen and started again under load; in the end
//! no cached value differs from the database.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    busy::Busy,
    lab::{enter, needs_on_kafka, tenth_unless_long, until},
    servers::{Kind, Mcsqueal, NodeKind},
};
use tokio::time::sleep;

const GUARD: Duration = Duration::from_secs(60);
/// In a long run.
const ROUNDS: u32 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn invalidators_share_stock_nodes() {
    share("invalidators_share_stock_nodes", NodeKind::Memcached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidators_share_our_nodes() {
    share("invalidators_share_our_nodes", NodeKind::Mcsqueal).await;
}

async fn share(test: &str, caches: NodeKind) {
    let needs = needs_on_kafka(Kind::Mysql);
    let Some(lab) = enter(test, &needs).await else { return };
    let mut busy = Busy::start_on_kafka_with(lab, Kind::Mysql, caches).await;
    let all: BTreeSet<u64> = (0..busy.region.stream.partitions()).map(u64::from).collect();
    let (mut one, mut two) = (busy.invalidator("one").await, busy.invalidator("two").await);
    for _ in 0..tenth_unless_long(ROUNDS) {
        until("three share", GUARD, async || is_shared(&[&busy.mcsqueal, &one, &two], &all).await)
            .await;
        sleep(Duration::from_secs(1)).await;
        one.kill9().expect("kill one");
        until("two take over", GUARD, async || is_shared(&[&busy.mcsqueal, &two], &all).await)
            .await;
        one.restart().await.expect("it is ready again");
        until("three share again", GUARD, async || {
            is_shared(&[&busy.mcsqueal, &one, &two], &all).await
        })
        .await;
        two.freeze().expect("freeze the other");
        until("two take over", GUARD, async || is_shared(&[&busy.mcsqueal, &one], &all).await)
            .await;
        sleep(Duration::from_secs(1)).await;
        two.thaw().expect("it goes on, and does not know");
    }
    until("three share", GUARD, async || is_shared(&[&busy.mcsqueal, &one, &two], &all).await)
        .await;
    two.stop().await.expect("a clean stop");
    let deletes = one.metric("mcsqueal_lane_deletes_total", "").await;
    assert!(deletes > 0.0, "it has delivered nothing");
    busy.everybody_leaves().await;
    busy.nothing_is_stale().await;
    one.stop().await.expect("a clean stop");
}

/// Whether each of them has some partitions, and together they have all, each once.
async fn is_shared(those: &[&Mcsqueal], all: &BTreeSet<u64>) -> bool {
    let mut found = Vec::new();
    for one in those {
        let Some(health) = one.health().await else { return false };
        let ours = health["stream"]["partitions"].as_array().cloned().unwrap_or_default();
        if ours.is_empty() {
            return false;
        }
        found.extend(ours.iter().filter_map(serde_json::Value::as_u64));
    }
    found.len() == all.len() && found.into_iter().collect::<BTreeSet<_>>() == *all
}
