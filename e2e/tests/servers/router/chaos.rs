//! Nodes that die, stand still and come back while clients read and write: no value is served that was deleted before, and the
//! database hardly notices.
//!
//! Ten minutes of it with `--long`; seven seconds by default, which is less than a tenth, because this stage has no more time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use e2e::servers::Memcached;
use tokio::time::{Instant, sleep};

use super::{NEEDS, file};
use crate::{
    node::wire::Wire,
    support::{enter, is_long},
};

const KEYS: usize = 200;
const READERS: usize = 8;
const WRITERS: usize = 2;
/// How long nothing goes wrong: until caches are full, and then to see how much is asked of the database.
const WARM: Duration = Duration::from_millis(500);
const CALM: Duration = Duration::from_millis(1500);
/// In which what is asked of the database is counted, and how often it is looked.
const WINDOW: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);

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
    writes: AtomicU64,
    stale: AtomicU64,
    stop: AtomicBool,
}

impl World {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn look(&self) -> Look {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Look {
            at: Instant::now(),
            database_reads: count(&self.database_reads),
            writes: count(&self.writes),
        }
    }
}

/// What was asked of the database so far.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    database_reads: u64,
    writes: u64,
}

impl Look {
    /// Reads and writes in a second since an earlier one.
    fn rates(&self, since: &Look) -> (f64, f64) {
        let seconds = self.at.duration_since(since.at).as_secs_f64();
        let per_second = |count: u64| f64::from(u32::try_from(count).expect("few")) / seconds;
        (
            per_second(self.database_reads - since.database_reads),
            per_second(self.writes - since.writes),
        )
    }
}

/// Counts in windows, until everybody stops. How many times what is usual was asked of the database in the worst one. Where a window saw
/// more writes than the usual, it may have more reads for that: this machine has other things to do, too.
async fn worst_window(world: Arc<World>, (usual, writes): (f64, f64)) -> f64 {
    let (mut looks, mut worst) = (Vec::from([world.look()]), 0_f64);
    while world.goes_on() {
        sleep(LOOK).await;
        let now = world.look();
        let Some(from) = looks.iter().rposition(|look| now.at - look.at >= WINDOW) else {
            looks.push(now);
            continue;
        };
        let (reads, written) = now.rates(&looks[from]);
        worst = worst.max(reads / (usual * (written / writes).max(1.0)));
        looks.drain(..from);
        looks.push(now);
    }
    worst
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
        world.writes.fetch_add(1, Ordering::Relaxed);
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
    sleep(WARM).await;
    let before = world.look();
    sleep(CALM).await;
    let usual = world.look().rates(&before);
    let watching = tokio::spawn(worst_window(Arc::clone(&world), usual));
    let rounds = if is_long() { 280 } else { 2 };
    for round in 0..rounds {
        trouble(&mut nodes, round).await;
    }
    world.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client ends");
    }
    let worst = watching.await.expect("the windows are counted");
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let (reads, errors) = (count(&world.reads), count(&world.errors));
    println!("{reads} reads, {errors} errors, {} of the database", count(&world.database_reads));
    println!(
        "usually {:.0} reads of the database in a second, {worst:.2} times that at most",
        usual.0
    );
    assert_eq!(count(&world.stale), 0, "of {reads} reads");
    assert!(reads > 500, "{reads} reads");
    assert!(worst <= 2.0, "the database was asked {worst:.2} times as much as usual");
    // With a gutter, even the time until a node counts as dead has no errors: the request goes on to it.
    assert!(errors * 1000 <= reads, "{errors} of {reads} reads failed");
}
