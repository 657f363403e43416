//! A node restarts with what it had while rows change: from its file, in the hands of a newer process, after a crash, and with a file
//! that is damaged. What changed is never served again; what did not change is there at once.

use std::time::Duration;

use e2e::{
    cache::Cache,
    servers::{Kind, Link, options_of},
};

use super::{DEADLINE, Stage, ask};
use crate::support::{enter, until};

const THINGS: u32 = 20;
const NODE: &str = "fill_age_ms_max = 1000\n[snapshot]\nfile = \"node.snapshot\"\nnode = \"n1\"\nhandover = \"take\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_restarts_warm_and_serves_nothing_stale() {
    let test = "a_node_restarts_warm_and_serves_nothing_stale";
    let Some(lab) = enter(test, &["mariadb", "mcsqueal"]).await else { return };
    let options = options_of(Kind::Mariadb, 1, Link::Plain);
    let database = lab.servers.database(Kind::Mariadb, &options).await.expect("a database");
    let node = lab.servers.versioned_node(NODE).await.expect("a node");
    let mut stage = Stage::around(lab, node, vec![database], &[], "").await;
    let mut cache = Cache::new(&stage.nodes);
    // What is stored before every partition has said where it is goes again.
    until("the node is up to date", DEADLINE, async || {
        stage.fill(&mut cache, 0, 0).await;
        let (line, _) = ask(&mut cache, "mg thing:0 v V\r\n").await;
        line.starts_with("VA") && !line.ends_with(" D")
    })
    .await;
    for thing in 0..THINGS {
        stage.fill(&mut cache, 0, thing).await;
    }
    comes_back_with(&stage, 0, "v0").await;

    stage.node.terminate().expect("SIGTERM");
    assert!(stage.node.ended().await.expect("it ends"), "it did not end well");
    let file = stage.node.directory().join("node.snapshot");
    assert!(file.exists(), "nothing was kept");
    change(&stage, 1).await;
    stage.node.restart().await.expect("it is there again");
    comes_back_with(&stage, 2, "v0").await;
    serves_no(&stage, 1, "v0").await;
    assert!(!file.exists() && file.with_extension("snapshot.used").exists());

    change(&stage, 2).await;
    let idle = stage.stays_connected().await;
    stage.node.upgrade().await.expect("a newer process takes over");
    comes_back_with(&stage, 3, "v0").await;
    serves_no(&stage, 1, "v0").await;
    serves_no(&stage, 2, "v0").await;
    drop(idle);
    change(&stage, 3).await;
    until("deletes reach the newer process", DEADLINE, async || gone(&stage, 3).await).await;

    // What it knows now is older than what it saved.
    stage.node.kill9().expect("it dies");
    change(&stage, 4).await;
    stage.node.restart().await.expect("it is there again");
    comes_back_with(&stage, 5, "v0").await;
    for thing in 1..5 {
        serves_no(&stage, thing, "v0").await;
    }

    stage.node.kill9().expect("it dies");
    let used = file.with_extension("snapshot.used");
    let mut bytes = std::fs::read(&used).expect("it is still there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&used, &bytes).expect("it can be damaged");
    stage.node.restart().await.expect("it is there again");
    let log = stage.node.log().expect("a log");
    assert!(log.contains("the snapshot is refused") && log.contains("checksum"), "{log}");
    assert!(gone(&stage, 6).await, "it starts with what is damaged");
    stage.mcsqueal.stop().await.expect("a clean stop");
}

impl Stage {
    /// A client that has nothing to say.
    async fn stays_connected(&self) -> tokio::net::TcpStream {
        tokio::net::TcpStream::connect(self.node.address()).await.expect("a connection")
    }
}

async fn change(stage: &Stage, thing: u32) {
    let change = format!("UPDATE shop.things SET value = 'v1' WHERE id = {thing}");
    stage.chain[0].run(&[&change]).await.expect("a change");
}

/// Without filling anything.
async fn got(stage: &Stage, thing: u32) -> Option<String> {
    let mut cache = Cache::new(&stage.nodes);
    let asked = cache.meta(0, format!("mg thing:{thing} v\r\n").as_bytes()).await;
    asked.ok().and_then(|(_, value)| value)
}

async fn gone(stage: &Stage, thing: u32) -> bool {
    let mut cache = Cache::new(&stage.nodes);
    ask(&mut cache, &format!("mg thing:{thing} v\r\n")).await.0 == "EN"
}

async fn comes_back_with(stage: &Stage, thing: u32, value: &str) {
    until("the node serves what it kept", DEADLINE, async || {
        let there = got(stage, thing).await.as_deref() == Some(value);
        if !there {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        there
    })
    .await;
}

async fn serves_no(stage: &Stage, thing: u32, value: &str) {
    assert_ne!(got(stage, thing).await.as_deref(), Some(value), "thing:{thing} is stale");
}
