//! A long run of everything that clients do wrong, beside clients that check every value.

use std::time::Duration;

use e2e::random::Random;
use tokio::time::Instant;

use super::wire::Wire;
use crate::support::{enter, random, tenth_unless_long};

const CLIENTS: u64 = 8;
const KEYS: u64 = 2000;
/// Seconds in a long run.
const SECONDS: u32 = 3600;
/// Seconds at most in a short run.
const SECONDS_SHORT: u32 = 20;
const VALUE_BYTES_MAX: u64 = 4000;

/// No panic, no leak, no wrong value: every value carries its key and a sum of its bytes.
#[tokio::test]
async fn bears_what_clients_do() {
    let Some(lab) = enter("bears_what_clients_do", &["mcsqueal"]).await else { return };
    let mut node = lab.servers.cache_node(&["-m", "16", "-I", "64k"]).await.expect("it starts");
    let seconds = tenth_unless_long(SECONDS);
    let seconds = if seconds == SECONDS { seconds } else { seconds.min(SECONDS_SHORT) };
    let end = Instant::now() + Duration::from_secs(u64::from(seconds));
    let mut running = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        running.spawn(honest(node.address(), end, random(700 + number)));
        running.spawn(rude(node.address(), end, random(800 + number)));
    }
    let (mut checked, mut rudeness) = (0, 0);
    while let Some(done) = running.join_next().await {
        match done.expect("no client panics") {
            Done::Checked(count) => checked += count,
            Done::Rude(count) => rudeness += count,
        }
    }
    assert!(checked > 1000 && rudeness > 100, "{checked} checked, {rudeness} rude");
    let kilobytes = node.memory_kilobytes().expect("its memory");
    assert!(kilobytes < 150_000, "{kilobytes} kB after {checked} values");
    node.terminate().expect("a signal");
    assert!(node.ended().await.expect("it ends"), "it failed");
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

async fn honest(address: String, end: Instant, mut random: Random) -> Done {
    let mut wire = Wire::connect(&address).await.expect("connect");
    let mut checked = 0;
    while Instant::now() < end {
        let key = format!("soak:{}", random.below(KEYS));
        if random.one_in(3) {
            let value = value(&key, &mut random);
            let set =
                [format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
            assert_eq!(wire.ask(&set).await.expect("an answer"), b"STORED\r\n");
        } else {
            let answer = wire.ask(format!("get {key}\r\n").as_bytes()).await.expect("an answer");
            checked += u64::from(is_right(&key, &answer));
        }
        if random.one_in(500) {
            wire = Wire::connect(&address).await.expect("connect");
        }
    }
    Done::Checked(checked)
}

/// Whether there is a value; it must be the right one.
fn is_right(key: &str, answer: &[u8]) -> bool {
    if answer == b"END\r\n" {
        return false;
    }
    let line = answer.iter().position(|byte| *byte == b'\n').expect("a line");
    let value = answer[line + 1..].strip_suffix(b"\r\nEND\r\n").expect("the end");
    let (content, told) = value.split_at(value.len() - 8);
    assert!(content.starts_with(format!("{key} ").as_bytes()), "the value of another key");
    assert_eq!(sum(content).to_le_bytes(), told, "a broken value");
    true
}

/// Half-written requests, garbage, oversize values, and connections that break.
async fn rude(address: String, end: Instant, mut random: Random) -> Done {
    let mut count = 0;
    while Instant::now() < end {
        let mut wire = Wire::connect(&address).await.expect("connect");
        let bytes = match random.below(7) {
            0 => b"set soak:1 0 0 1000\r\nhalf".to_vec(),
            1 => [b"set big 0 0 200000\r\n".as_slice(), &vec![b'v'; 200_000], b"\r\n"].concat(),
            2 => (0..random.below(5000)).map(|_| (random.bits() & 0xff) as u8).collect(),
            3 => b"get ".iter().copied().chain((0..100_000).map(|_| b'k')).collect(),
            4 => b"set big 0 0 2000000000\r\n".to_vec(),
            5 => b"ms a 5 b b b\r\nms YWI= 99999999999 b\r\nmg\r\nma a b\r\n\0\0\0".to_vec(),
            _ => format!("get{}\r\n", " soak:1".repeat(5000)).into_bytes(),
        };
        // The node may have closed already.
        drop(wire.send(&bytes).await);
        if random.one_in(3) {
            tokio::time::sleep(Duration::from_millis(random.below(50))).await;
        }
        count += 1;
    }
    Done::Rude(count)
}
