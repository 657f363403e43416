//! What a node has missed while it was away.

use std::time::Duration;

use anyhow::Result;
use e2e::servers::{CacheNode, Memcached, RunningRouter};
use tokio::time::sleep;

use super::{NEEDS, file};
use crate::{
    node::wire::Wire,
    support::{enter, until},
};

/// Four of either kind.
enum Four {
    Stock(Vec<Memcached>),
    Ours(Vec<CacheNode>),
}

impl Four {
    fn addresses(&self) -> Vec<String> {
        match self {
            Four::Stock(nodes) => nodes.iter().map(Memcached::address).collect(),
            Four::Ours(nodes) => nodes.iter().map(CacheNode::address).collect(),
        }
    }

    fn freeze(&self, at: usize) -> Result<()> {
        match self {
            Four::Stock(nodes) => nodes[at].freeze(),
            Four::Ours(nodes) => nodes[at].freeze(),
        }
    }

    fn thaw(&self, at: usize) -> Result<()> {
        match self {
            Four::Stock(nodes) => nodes[at].thaw(),
            Four::Ours(nodes) => nodes[at].thaw(),
        }
    }
}

pub(super) async fn say(wire: &mut Wire, asked: &str) -> String {
    String::from_utf8(wire.ask_with_noop(asked.as_bytes()).await.expect("an answer")).expect("text")
}

async fn owed(router: &RunningRouter) -> String {
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    say(&mut wire, "stats servers\r\n").await
}

/// The seven steps after which others serve the first value again.
async fn seven_steps(nodes: &Four, router: &mut RunningRouter) {
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    assert_eq!(say(&mut wire, "set mykey 0 600 6\r\nhello1\r\n").await, "STORED\r\n");
    let mut home = None;
    for (at, address) in nodes.addresses().iter().enumerate() {
        let mut node = Wire::connect(address).await.expect("connect");
        if say(&mut node, "get mykey\r\n").await.contains("hello1") {
            home = Some(at);
        }
    }
    let home = home.expect("one has it");
    nodes.freeze(home).expect("it stops");
    let said = say(&mut wire, "delete mykey\r\n").await;
    assert_eq!(said, "SERVER_ERROR delete kept for a node that is away, not done yet\r\n");
    assert_eq!(say(&mut wire, "set mykey 0 600 6\r\nhello2\r\n").await, "STORED\r\n");
    assert!(say(&mut wire, "get mykey\r\n").await.contains("hello2"));
    // What was kept outlives the router.
    router.crash_and_restart().await.expect("another router");
    nodes.thaw(home).expect("it goes on");
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    loop {
        let said = say(&mut wire, "get mykey\r\n").await;
        assert!(!said.contains("hello1"), "the old value is served");
        let states = owed(router).await;
        if states.matches("owed:0").count() == states.matches("owed:").count() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..20 {
        assert!(!say(&mut wire, "get mykey\r\n").await.contains("hello1"));
    }
    let mut node = Wire::connect(&nodes.addresses()[home]).await.expect("connect");
    assert!(!say(&mut node, "get mykey\r\n").await.contains("hello1"), "it was told");
}

#[tokio::test]
async fn a_node_that_returns_does_not_serve_the_old_value() {
    let name = "a_node_that_returns_does_not_serve_the_old_value";
    let Some(lab) = enter(name, &NEEDS).await else { return };
    let gutter = lab.servers.memcached().await.expect("a gutter");
    let mut ours = Vec::new();
    for _ in 0..4 {
        ours.push(lab.servers.cache_node(&[]).await.expect("a node"));
    }
    let stock = lab.servers.memcached_nodes(4).await.expect("nodes");
    for nodes in [Four::Stock(stock), Four::Ours(ours)] {
        let file = file(&nodes.addresses(), Some(&gutter.address()));
        let mut router = lab.servers.router(&file).await.expect("a router");
        seven_steps(&nodes, &mut router).await;
    }
}

/// Whoever stops does not know what became of it, and leaves a note to the next one, who finds nobody at the log.
#[tokio::test]
async fn what_is_under_way_at_the_end_is_kept() {
    let name = "what_is_under_way_at_the_end_is_kept";
    let Some(lab) = enter(name, &NEEDS).await else { return };
    let node = lab.servers.memcached().await.expect("a node");
    let text = file(&[node.address()], None).replace("timeout_ms = 300", "timeout_ms = 5000");
    let mut router = lab.servers.router(&format!("drain_ms = 100\n{text}")).await.expect("one");
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    assert_eq!(say(&mut wire, "set a 0 0 1\r\nx\r\n").await, "STORED\r\n");
    node.freeze().expect("it stops");
    wire.send(b"delete a\r\n").await.expect("it is sent");
    sleep(Duration::from_millis(300)).await;
    router.upgrade().await.expect("a newer process");
    until("the newer one has read what is owed", Duration::from_secs(10), async || {
        owed(&router).await.contains("owed:1")
    })
    .await;
    node.thaw().expect("it goes on");
    until("the node is told", Duration::from_secs(10), async || {
        sleep(Duration::from_millis(20)).await;
        owed(&router).await.contains("owed:0")
    })
    .await;
}

/// Only the keys of a dead node are in the gutter; without one, they are errors, and nobody waits for long.
#[tokio::test]
async fn a_dead_node_is_not_waited_for() {
    let Some(lab) = enter("a_dead_node_is_not_waited_for", &NEEDS).await else { return };
    let mut nodes = lab.servers.memcached_nodes(2).await.expect("nodes");
    let addresses: Vec<String> = nodes.iter().map(Memcached::address).collect();
    let router = lab.servers.router(&file(&addresses, None)).await.expect("a router");
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    nodes[0].kill9().expect("it ends");
    let (mut stored, mut refused) = (0, 0);
    for key in 0..200 {
        let said = say(&mut wire, &format!("set k{key} 0 0 1\r\nx\r\n")).await;
        match said.as_str() {
            "STORED\r\n" => stored += 1,
            error if error.starts_with("SERVER_ERROR ") => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(stored > 20 && refused > 20, "{stored} stored, {refused} refused");
    nodes[0].restart().await.expect("it starts");
    let mut left = 400;
    while say(&mut wire, "stats servers\r\n").await.matches(" up ").count() < 2
        || owed(&router).await.matches("owed:0").count() < 2
    {
        left -= 1;
        assert!(left > 0, "{}", owed(&router).await);
        sleep(Duration::from_millis(50)).await;
    }
    for key in 0..200 {
        assert_eq!(say(&mut wire, &format!("set k{key} 0 0 1\r\nx\r\n")).await, "STORED\r\n");
    }
}

/// Nodes that are too slow must not bring their load upon others: what goes on after a timeout has a budget.
#[tokio::test]
async fn the_gutter_is_asked_after_a_timeout_as_long_as_the_budget_lasts() {
    let name = "the_gutter_is_asked_after_a_timeout_as_long_as_the_budget_lasts";
    let Some(lab) = enter(name, &NEEDS).await else { return };
    let node = lab.servers.memcached().await.expect("a node");
    let gutter = lab.servers.memcached().await.expect("a gutter");
    let text = file(&[node.address()], Some(&gutter.address()))
        .replace("threads = 2", "threads = 1")
        .replace("until_tko = 2", "until_tko = 100")
        .replace("start = ", "retries = { share = 0.0, burst = 2 }\nstart = ");
    let router = lab.servers.router(&text).await.expect("a router");
    let mut wire = Wire::connect(&router.address()).await.expect("connect");
    node.freeze().expect("it stops");
    for answer in ["END\r\n", "END\r\n", "SERVER_ERROR timeout\r\n"] {
        assert_eq!(say(&mut wire, "get a\r\n").await, answer);
    }
    let (_, page) = e2e::http::get(router.http(), "/metrics").await.expect("its metrics");
    assert!(page.contains("mcsqueal_router_retries_total 2"), "{page}");
    assert!(page.contains("mcsqueal_router_retries_refused_total 1"), "{page}");
    node.thaw().expect("it goes on");
}
