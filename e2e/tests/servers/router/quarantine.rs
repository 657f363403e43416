//! A node of ours that comes back with what it had, and does not know yet what happened meanwhile: the gutter answers for it until it does.

use std::time::Duration;

use e2e::{
    cache::Cache,
    servers::{Kind, Link, RunningRouter, options_of},
};
use tokio::time::{Instant, sleep};

use super::{file, missed::say};
use crate::{
    node::wire::Wire,
    support::{enter, until},
    versions::Stage,
};

const DEADLINE: Duration = Duration::from_secs(20);
const NODE: &str = "fill_age_ms_max = 1000\n[snapshot]\nfile = \"node.snapshot\"\nnode = \"n1\"";
/// How long the node is watched while it may not be asked: a dozen probes.
const WATCHED: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_in_quarantine_is_not_asked() {
    let test = "a_node_in_quarantine_is_not_asked";
    let Some(lab) = enter(test, &["mariadb", "mcsqueal", "memcached"]).await else { return };
    let options = options_of(Kind::Mariadb, 1, Link::Plain);
    let database = lab.servers.database(Kind::Mariadb, &options).await.expect("a database");
    let node = lab.servers.versioned_node(NODE).await.expect("a node");
    let gutter = lab.servers.memcached().await.expect("a gutter");
    let pool = "[routes.pool.main]\n";
    let text = file(&[node.address()], Some(&gutter.address()))
        .replace(pool, &format!("{pool}kind = \"mcsqueal\"\n"));
    let router = lab.servers.router(&text).await.expect("a router");
    let mut stage = Stage::around(lab, node, vec![database], &[], "").await;

    let mut cache = Cache::new(&stage.nodes);
    until("the node is up to date", DEADLINE, async || {
        stage.fill(&mut cache, 0, 1).await;
        let said = stats(&stage).await;
        said.contains("STAT quarantined 0\r\n") && said.contains("STAT stream_age_ms ")
    })
    .await;
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    assert_eq!(say(&mut wire, "get thing:1\r\n").await, "VALUE thing:1 0 2\r\nv0\r\nEND\r\n");

    // The region is gone first, so that nobody tells the node what it has missed.
    stage.mcsqueal.kill9().expect("it dies");
    stage.node.terminate().expect("SIGTERM");
    assert!(stage.node.ended().await.expect("it ends"), "it did not end well");
    until("the gutter answers", DEADLINE, async || {
        say(&mut wire, "set thing:1 0 60 3\r\nnew\r\n").await == "STORED\r\n"
    })
    .await;
    stage.node.restart().await.expect("it is there again");
    assert!(stats(&stage).await.contains("STAT quarantined 1\r\n"), "it does not say so");
    let end = Instant::now() + WATCHED;
    while Instant::now() < end {
        let said = say(&mut wire, "get thing:1\r\n").await;
        assert_eq!(said, "VALUE thing:1 0 3\r\nnew\r\nEND\r\n", "it is asked");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(stats(&stage).await.contains("STAT cmd_get 0\r\n"), "it was asked");
    assert!(is_down(&router).await);

    stage.mcsqueal.restart().await.expect("the region is there again");
    until("the node is asked again", DEADLINE, async || {
        sleep(Duration::from_millis(20)).await;
        say(&mut wire, "get thing:1\r\n").await == "VALUE thing:1 0 2\r\nv0\r\nEND\r\n"
    })
    .await;
    assert!(stats(&stage).await.contains("STAT quarantined 0\r\n"), "it has caught up");
    stage.mcsqueal.stop().await.expect("a clean stop");
}

/// What the node says of itself.
async fn stats(stage: &Stage) -> String {
    let mut wire = Wire::connect(&stage.node.address()).await.expect("connect");
    say(&mut wire, "stats\r\n").await
}

async fn is_down(router: &RunningRouter) -> bool {
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    say(&mut wire, "stats suspect_servers\r\n").await.contains("status:tko")
}
