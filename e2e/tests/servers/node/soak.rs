//! A long run of everything that clients do wrong, beside clients that check every value.

use std::{collections::HashMap, time::Duration};

use e2e::{http, random::Random, servers::CacheNode};
use tokio::time::{Instant, sleep};

use super::wire::Wire;
use crate::support::{enter, is_long, random};

const CLIENTS: u64 = 8;
/// Keys that all clients write, and keys of each client alone.
const KEYS: u64 = 2000;
const SECONDS: u64 = 120;
const SECONDS_LONG: u64 = 3600;
const VALUE_BYTES_MAX: u64 = 4000;
/// More than an entry may have.
const OVERSIZE: usize = 70_000;
/// Between two requests of a client: others test on the same machine.
const PAUSE: Duration = Duration::from_millis(1);
/// With 16 MB of entries: their overhead, buffers, and what an allocator keeps.
const KILOBYTES_MAX: u64 = 150_000;
/// What the second half may add to the first.
const KILOBYTES_GROWTH_MAX: u64 = 15_000;

/// No panic, no leak, no wrong value: every value carries its key and a sum of its bytes, and what one client alone writes is what
/// it wrote last.
#[tokio::test]
async fn bears_what_clients_do() {
    let Some(lab) = enter("bears_what_clients_do", &["mcsqueal"]).await else { return };
    let mut node = lab.servers.cache_node(&["-m", "16", "-I", "64k"]).await.expect("it starts");
    let seconds = if is_long() { SECONDS_LONG } else { SECONDS };
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let mut running = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let honest = Honest::new(number, node.address(), random(700 + number));
        running.spawn(async move { honest.await.run(end).await });
        running.spawn(rude(node.address(), end, random(800 + number)));
    }
    tokio::time::sleep_until(begin + Duration::from_secs(seconds) / 2).await;
    let halfway = node.memory_kilobytes().expect("its memory");
    let (mut checked, mut rudeness) = (0, 0);
    while let Some(done) = running.join_next().await {
        match done.expect("no client panics") {
            Done::Checked(count) => checked += count,
            Done::Rude(count) => rudeness += count,
        }
    }
    let in_the_end = node.memory_kilobytes().expect("its memory");
    eprintln!(
        "soak: {seconds} s, {checked} values, {rudeness} rude, {halfway} kB, {in_the_end} kB"
    );
    assert!(checked > 50 * seconds && rudeness > 10 * seconds, "{checked}, {rudeness}");
    assert!(in_the_end < KILOBYTES_MAX, "{in_the_end} kB after {checked} values");
    let grown = in_the_end.saturating_sub(halfway);
    assert!(grown < KILOBYTES_GROWTH_MAX, "{halfway} kB halfway, {in_the_end} kB in the end");
    nobody_is_left(&node).await;
    node.terminate().expect("a signal");
    // A panic of one connection would not end the node.
    let log = node.log().expect("its log");
    assert!(!log.contains("panicked"), "{log}");
    assert!(node.ended().await.expect("it ends"), "it failed");
}

/// Connections that broke are given back.
async fn nobody_is_left(node: &CacheNode) {
    let side = node.http().expect("a side port");
    crate::support::until("all connections are gone", Duration::from_secs(10), async || {
        let (_, page) = http::get(side, "/metrics").await.expect("metrics");
        page.lines().any(|line| line == "mcsqueal_node_connections 0")
    })
    .await;
}

enum Done {
    Checked(u64),
    Rude(u64),
}

/// The key, a filler, and the sum.
fn value(key: &str, random: &mut Random) -> Vec<u8> {
    let mut value = format!("{key} ").into_bytes();
    let length = value.len() + usize::try_from(random.below(VALUE_BYTES_MAX)).expect("small");
    value.resize_with(length, || (random.bits() & 0xff) as u8);
    let sum = sum(&value);
    value.extend_from_slice(&sum.to_le_bytes());
    value
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

/// A client that does everything right.
struct Honest {
    number: u64,
    address: String,
    wire: Wire,
    random: Random,
    /// Of this client's own keys, the sum of what it stored last; a key that is not here has no value.
    own: HashMap<String, u64>,
    checked: u64,
}

impl Honest {
    async fn new(number: u64, address: String, random: Random) -> Honest {
        let wire = Wire::connect(&address).await.expect("connect");
        Honest { number, address, wire, random, own: HashMap::new(), checked: 0 }
    }

    async fn run(mut self, end: Instant) -> Done {
        while Instant::now() < end {
            let key = if self.random.one_in(2) {
                format!("soak:{}", self.random.below(KEYS))
            } else {
                format!("soak:{}:{}", self.number, self.random.below(KEYS))
            };
            match self.random.below(10) {
                0..5 => self.read(&key).await,
                5..8 => self.write(&key).await,
                8 => {
                    self.ask(&format!("delete {key}\r\n")).await;
                    self.own.remove(&key);
                }
                _ => self.ask_for_too_much(&key).await,
            }
            if self.random.one_in(500) {
                self.wire = Wire::connect(&self.address).await.expect("connect");
            }
            sleep(PAUSE).await;
        }
        Done::Checked(self.checked)
    }

    async fn ask(&mut self, request: &str) -> Vec<u8> {
        self.wire.ask(request.as_bytes()).await.expect("an answer")
    }

    fn is_own(&self, key: &str) -> bool {
        key.starts_with(&format!("soak:{}:", self.number))
    }

    async fn read(&mut self, key: &str) {
        let value = if self.random.one_in(2) {
            let answer = self.ask(&format!("get {key}\r\n")).await;
            text_value(key, &answer)
        } else {
            let answer = self.ask(&format!("mg {key} v\r\n")).await;
            meta_value(&answer)
        };
        let Some(value) = value else { return };
        let (content, told) = value.split_at(value.len() - 8);
        assert!(content.starts_with(format!("{key} ").as_bytes()), "the value of another key");
        assert_eq!(sum(content).to_le_bytes(), told, "a broken value");
        if self.is_own(key) {
            assert_eq!(self.own.get(key), Some(&sum(content)), "{key}: not what was stored last");
        }
        self.checked += 1;
    }

    async fn write(&mut self, key: &str) {
        let value = value(key, &mut self.random);
        let (head, expected) = if self.random.one_in(2) {
            (format!("set {key} 0 0 {}\r\n", value.len()), "STORED\r\n")
        } else {
            (format!("ms {key} {}\r\n", value.len()), "HD\r\n")
        };
        let request = [head.as_bytes(), &value, b"\r\n"].concat();
        let answer = self.wire.ask(&request).await.expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer), expected);
        if self.is_own(key) {
            self.own.insert(key.to_owned(), sum(&value[..value.len() - 8]));
        }
    }

    /// What cannot be stored leaves nothing behind, not even what was there.
    async fn ask_for_too_much(&mut self, key: &str) {
        let filler = "v".repeat(OVERSIZE);
        let answer = self.ask(&format!("set {key} 0 0 {OVERSIZE}\r\n{filler}\r\n")).await;
        assert_eq!(answer, b"SERVER_ERROR object too large for cache\r\n");
        self.own.remove(key);
    }
}

/// The value that `get` answered with, if there is one.
fn text_value(key: &str, answer: &[u8]) -> Option<Vec<u8>> {
    if answer == b"END\r\n" {
        return None;
    }
    let line = answer.iter().position(|byte| *byte == b'\n').expect("a line");
    assert!(answer.starts_with(format!("VALUE {key} 0 ").as_bytes()), "another answer");
    Some(answer[line + 1..].strip_suffix(b"\r\nEND\r\n").expect("the end").to_vec())
}

/// The value that `mg` answered with, if there is one.
fn meta_value(answer: &[u8]) -> Option<Vec<u8>> {
    if answer == b"EN\r\n" {
        return None;
    }
    let line = answer.iter().position(|byte| *byte == b'\n').expect("a line");
    assert!(answer.starts_with(b"VA "), "another answer");
    Some(answer[line + 1..].strip_suffix(b"\r\n").expect("the end").to_vec())
}

/// Half-written requests, garbage, oversize values, slow senders, and connections that break.
async fn rude(address: String, end: Instant, mut random: Random) -> Done {
    let mut count = 0;
    while Instant::now() < end {
        let mut wire = Wire::connect(&address).await.expect("connect");
        let bytes = match random.below(8) {
            0 => b"set rude 0 0 1000\r\nhalf".to_vec(),
            1 => [b"set big 0 0 200000\r\n".as_slice(), &vec![b'v'; 200_000], b"\r\n"].concat(),
            2 => (0..random.below(5000)).map(|_| (random.bits() & 0xff) as u8).collect(),
            3 => b"get ".iter().copied().chain((0..100_000).map(|_| b'k')).collect(),
            4 => b"set big 0 0 2000000000\r\n".to_vec(),
            5 => b"ms a 5 b b b\r\nms YWI= 99999999999 b\r\nmg\r\nma a b\r\n\0\0\0".to_vec(),
            6 => b"lru_crawler metadump all\r\nstats\r\nstats items\r\nwatch\r\n".to_vec(),
            _ => format!("get{}\r\n", " soak:1".repeat(5000)).into_bytes(),
        };
        // The node may have closed already.
        if random.one_in(4) {
            for byte in bytes.iter().take(20) {
                drop(wire.send(&[*byte]).await);
                sleep(PAUSE).await;
            }
        } else {
            drop(wire.send(&bytes).await);
        }
        sleep(Duration::from_millis(random.below(20))).await;
        if random.one_in(2) {
            wire.reset();
        }
        count += 1;
    }
    Done::Rude(count)
}
