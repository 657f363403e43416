//! A node takes nothing from an invalidator with an older ring than one that it has heard of: that one may leave out keys that are the node's now.

use e2e::{
    cache::{Cache, Looked},
    servers::{Kind, Link, options_of},
};

use super::{DEADLINE, Stage, ask};
use crate::support::{enter, until};

const THING: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidator_with_an_old_ring_is_refused() {
    let test = "an_invalidator_with_an_old_ring_is_refused";
    let Some(lab) = enter(test, &["mariadb", "mcsqueal"]).await else { return };
    let options = options_of(Kind::Mariadb, 1, Link::Plain);
    let database = lab.servers.database(Kind::Mariadb, &options).await.expect("a database");
    let node = lab.servers.versioned_node("fill_age_ms_max = 1000").await.expect("a node");
    let mut stage = Stage::around(lab, node, vec![database], &[], "ring_version = 2").await;
    let mut cache = Cache::new(&stage.nodes);
    serves(&stage, &mut cache).await;

    with_ring(&mut stage, 2, 1).await;
    stage
        .until("the node refuses it", |health| {
            let error = health["lanes"][0]["last_error"].as_str().unwrap_or_default();
            error.contains("ring version 1 is old: 2 is known") && health["ok"] == false
        })
        .await;

    with_ring(&mut stage, 1, 3).await;
    stage.until("the node takes it", |health| health["ok"] == true).await;
    let change = format!("UPDATE shop.things SET value = 'v1' WHERE id = {THING}");
    stage.chain[0].run(&[&change]).await.expect("a change");
    until("the delete has come", DEADLINE, async || {
        ask(&mut cache, &format!("mg thing:{THING} v\r\n")).await.0 == "EN"
    })
    .await;
    assert_eq!(stage.fill(&mut cache, 0, THING).await, "v1");
    stage.mcsqueal.stop().await.expect("a clean stop");
}

async fn serves(stage: &Stage, cache: &mut Cache) {
    until("the node serves what it was given", DEADLINE, async || {
        stage.fill(cache, 0, THING).await;
        let looked = cache.look(&format!("thing:{THING}")).await;
        looked.ok() == Some(Looked::Value("v0".to_owned()))
    })
    .await;
}

/// mcsqueal stops, and comes back with another ring.
async fn with_ring(stage: &mut Stage, before: u64, after: u64) {
    stage.mcsqueal.stop().await.expect("a clean stop");
    stage.edit_region(&format!("ring_version = {before}"), &format!("ring_version = {after}"));
    stage.mcsqueal.restart().await.expect("mcsqueal is there again");
}
