//! Many clients, idle ones, and one who does not read.

use std::time::Duration;

use e2e::servers::Memcached;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::{NEEDS, missed::say, patient};
use crate::{node::wire::Wire, support::enter};

const CLIENTS: usize = 500;
/// Values that one client asks for and does not read: far more than the router may hold for him.
const VALUES: usize = 400;
const VALUE_BYTES: usize = 500_000;
const MEMORY_KILOBYTES_MAX: u64 = 100_000;
/// Nothing more comes after this.
const QUIET: Duration = Duration::from_millis(300);

/// Two threads, and each has one connection to each node.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_clients_are_few_connections() {
    let name = "five_hundred_clients_are_few_connections";
    let Some(lab) = enter(name, &NEEDS).await else { return };
    let nodes = lab.servers.memcached_nodes(2).await.expect("nodes");
    let addresses: Vec<String> = nodes.iter().map(Memcached::address).collect();
    let text = format!("idle_seconds_max = 1\n{}", patient(&addresses));
    let router = lab.servers.router(&text).await.expect("a router");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Wire::connect(&router.address()).await.expect("connect"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let set = format!("set k{number} 0 0 1\r\nx\r\nget k{number}\r\n");
        let said = say(client, &set).await;
        assert_eq!(said, format!("STORED\r\nVALUE k{number} 0 1\r\nx\r\nEND\r\n"));
    }
    for address in &addresses {
        let mut node = Wire::connect(address).await.expect("connect");
        let said = say(&mut node, "stats\r\n").await;
        let open = said.lines().find_map(|line| line.strip_prefix("STAT curr_connections "));
        let open: usize = open.expect("a number").parse().expect("a number");
        // Ours, and the one that memcached counts for its listener.
        assert!(open <= 2 + 2, "{open} connections");
    }
    // Whoever says something now and then stays; the others are let go.
    let (mut busy, end) = (clients.pop().expect("many"), Instant::now() + Duration::from_secs(3));
    while Instant::now() < end {
        say(&mut busy, "get a\r\n").await;
        sleep(Duration::from_millis(200)).await;
    }
    for client in &mut clients {
        assert_eq!(client.rest().await.expect("the end"), b"");
    }
    say(&mut busy, "get a\r\n").await;
}

/// He gets everything in the end, and meanwhile nobody waits for him, and no memory grows.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_not_read_from() {
    let name = "a_client_that_does_not_read_is_not_read_from";
    let Some(lab) = enter(name, &NEEDS).await else { return };
    let node = lab.servers.memcached().await.expect("a node");
    let router = lab.servers.router(&patient(&[node.address()])).await.expect("a router");
    let mut other = Wire::connect(&router.address()).await.expect("connect");
    let set = format!("set large 0 0 {VALUE_BYTES}\r\n{}\r\n", "v".repeat(VALUE_BYTES));
    assert_eq!(say(&mut other, &set).await, "STORED\r\n");
    let mut silent = Wire::connect(&router.address()).await.expect("connect");
    let asked = "get large\r\n".repeat(VALUES) + "quit\r\n";
    silent.send(asked.as_bytes()).await.expect("it is sent");
    let (mut most, mut slowest) = (0, Duration::ZERO);
    for _ in 0..100 {
        let asked = Instant::now();
        assert_eq!(say(&mut other, "get none\r\n").await, "END\r\n");
        slowest = slowest.max(asked.elapsed());
        most = most.max(router.memory_kilobytes().expect("it runs"));
        sleep(Duration::from_millis(10)).await;
    }
    assert!(most < MEMORY_KILOBYTES_MAX, "{most} kB");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    let one = format!("VALUE large 0 {VALUE_BYTES}\r\n\r\nEND\r\n").len() + VALUE_BYTES;
    let said = silent.rest().await.expect("everything");
    assert_eq!(said.len(), VALUES * one);
    assert!(said.ends_with(b"END\r\n"));
}

/// A node that answers one request at a time, when it is told to, and what it has been asked.
struct Slow {
    stream: BufReader<TcpStream>,
}

impl Slow {
    /// The next request, if it comes.
    async fn asked(&mut self) -> Option<String> {
        let mut line = String::new();
        timeout(QUIET, self.stream.read_line(&mut line)).await.ok()?.expect("a request");
        Some(line)
    }

    async fn answers(&mut self) {
        self.stream.get_mut().write_all(b"END\r\n").await.expect("an answer");
    }
}

#[tokio::test]
async fn a_connection_to_a_node_has_so_many_requests_open_and_no_more() {
    let name = "a_connection_to_a_node_has_so_many_requests_open_and_no_more";
    let Some(lab) = enter(name, &["mcsqueal"]).await else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = listener.local_addr().expect("an address").to_string();
    let limits = "[nodes]\nconnections_per_thread = 1\noutstanding_max = 4\n";
    let text = patient(&[node]).replace("threads = 2", "threads = 1");
    let router = lab.servers.router(&format!("{text}{limits}")).await.expect("a router");
    let mut clients = Vec::new();
    for at in 0..3 {
        let mut wire = Wire::connect(&router.address()).await.expect("connect");
        let asked = (0..3).fold(String::new(), |text, key| text + &format!("get c{at}k{key}\r\n"));
        wire.send(format!("{asked}quit\r\n").as_bytes()).await.expect("it is sent");
        clients.push(wire);
    }
    let (stream, _) = listener.accept().await.expect("a connection");
    let mut node = Slow { stream: BufReader::new(stream) };
    let mut asked = Vec::new();
    while let Some(line) = node.asked().await {
        asked.push(line);
    }
    assert_eq!(asked.len(), 4, "{asked:?}");
    // Each reply makes room for one more.
    for _ in 0..9 {
        node.answers().await;
        let next = node.asked().await;
        assert_eq!(next.is_some(), asked.len() < 9, "{asked:?} and {next:?}");
        asked.extend(next);
    }
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 9, "{asked:?}");
    for mut wire in clients {
        assert_eq!(wire.rest().await.expect("the end"), b"END\r\n".repeat(3));
    }
}
