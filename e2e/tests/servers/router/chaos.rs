//! Nodes that die, stand still and come back while clients read and write: no value is served that was deleted before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use e2e::servers::Memcached;
use tokio::time::sleep;

use super::{NEEDS, file};
use crate::{
    node::wire::Wire,
    support::{enter, is_long},
};

const KEYS: usize = 200;
const READERS: usize = 8;
const WRITERS: usize = 2;

/// The database, and what everybody was told.
#[derive(Default)]
struct World {
    /// What the database says.
    rows: Vec<AtomicU64>,
    /// What a read that begins now must find at least: its delete was answered.
    confirmed: Vec<AtomicU64>,
    reads: AtomicU64,
    errors: AtomicU64,
    database_reads: AtomicU64,
    stale: AtomicU64,
    stop: AtomicBool,
}

impl World {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

async fn text(wire: &mut Wire, asked: String) -> String {
    String::from_utf8(wire.ask(asked.as_bytes()).await.expect("an answer")).expect("text")
}

/// Reads with leases, and fills what it misses.
async fn reader(world: Arc<World>, address: String, seed: usize) {
    let mut wire = Wire::connect(&address).await.expect("connect");
    let mut at = seed;
    while world.goes_on() {
        at = (at * 31 + 17) % KEYS;
        let least = world.confirmed[at].load(Ordering::SeqCst);
        let said = text(&mut wire, format!("mg key{at} v c N10\r\n")).await;
        world.reads.fetch_add(1, Ordering::Relaxed);
        let (head, data) = said.split_once("\r\n").unwrap_or((&said, ""));
        let mut words = head.split(' ');
        if words.next() != Some("VA") {
            world.errors.fetch_add(u64::from(head.starts_with("SERVER_ERROR")), Ordering::Relaxed);
            continue;
        }
        if words.next() != Some("0") {
            let found: u64 = data.trim_end().parse().expect("a number");
            world.stale.fetch_add(u64::from(found < least), Ordering::Relaxed);
            continue;
        }
        let words: Vec<&str> = words.collect();
        let token = words.iter().find_map(|word| word.strip_prefix('c'));
        if let (true, Some(token)) = (words.contains(&"W"), token) {
            world.database_reads.fetch_add(1, Ordering::Relaxed);
            let row = world.rows[at].load(Ordering::SeqCst).to_string();
            text(&mut wire, format!("ms key{at} {} C{token} T300\r\n{row}\r\n", row.len())).await;
        }
    }
}

/// Changes a row, and deletes its key until somebody answers for it.
async fn writer(world: Arc<World>, address: String, first: usize) {
    let mut wire = Wire::connect(&address).await.expect("connect");
    let mut at = first;
    while world.goes_on() {
        at = (at + WRITERS) % KEYS;
        let row = world.rows[at].fetch_add(1, Ordering::SeqCst) + 1;
        loop {
            let said = text(&mut wire, format!("delete key{at}\r\n")).await;
            let kept = said.starts_with("SERVER_ERROR delete kept");
            if kept || said == "DELETED\r\n" || said == "NOT_FOUND\r\n" {
                break;
            }
        }
        world.confirmed[at].store(row, Ordering::SeqCst);
        sleep(Duration::from_millis(5)).await;
    }
}

/// One after the other: a node that is killed and comes back empty, and one that stands still and comes back with what it had.
async fn trouble(nodes: &mut [Memcached], round: usize) {
    let count = nodes.len();
    let pause = Duration::from_millis(700);
    nodes[round % count].kill9().expect("it ends");
    sleep(pause).await;
    nodes[round % count].restart().await.expect("it starts");
    let other = (round + 1) % count;
    nodes[other].freeze().expect("it stops");
    sleep(pause).await;
    nodes[other].thaw().expect("it goes on");
    sleep(pause).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_serves_nothing_stale() {
    let Some(lab) = enter("chaos_serves_nothing_stale", &NEEDS).await else { return };
    let mut nodes = lab.servers.memcached_nodes(4).await.expect("nodes");
    let gutter = lab.servers.memcached_nodes(2).await.expect("gutters");
    let addresses: Vec<String> = nodes.iter().map(Memcached::address).collect();
    let both = format!("{}\", \"{}", gutter[0].address(), gutter[1].address());
    let file = file(&addresses, Some("GUTTERS")).replace("GUTTERS", &both);
    let router = lab.servers.router(&file).await.expect("a router");
    let mut world = World::default();
    world.rows.resize_with(KEYS, AtomicU64::default);
    world.confirmed.resize_with(KEYS, AtomicU64::default);
    let world = Arc::new(world);
    let mut clients = Vec::new();
    for number in 0..READERS {
        clients.push(tokio::spawn(reader(Arc::clone(&world), router.address(), number)));
    }
    for number in 0..WRITERS {
        clients.push(tokio::spawn(writer(Arc::clone(&world), router.address(), number)));
    }
    let rounds = if is_long() { 280 } else { 2 };
    for round in 0..rounds {
        trouble(&mut nodes, round).await;
    }
    world.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client ends");
    }
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let (reads, errors) = (count(&world.reads), count(&world.errors));
    println!("{reads} reads, {errors} errors, {} of the database", count(&world.database_reads));
    assert_eq!(count(&world.stale), 0, "of {reads} reads");
    assert!(reads > 500, "{reads} reads");
    // With a gutter, even the time until a node counts as dead has no errors: the request goes on to it.
    assert!(errors * 1000 <= reads, "{errors} of {reads} reads failed");
}
