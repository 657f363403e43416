//! What a node takes of the machine while the sizes of its values change.

use std::{fmt::Write as _, time::Duration};

use e2e::random::Random;
use tokio::time::Instant;

use super::wire::Wire;
use crate::support::{enter, is_long, random};

const MEGABYTES: u64 = 256;
/// Of the limit, at any time.
const PERCENT_MAX: u64 = 105;
/// Of the limit, when it is full: else this test shows nothing.
const PERCENT_MIN: u64 = 85;
/// Bytes of values, one range after the other.
const SIZES: [(u64, u64); 5] =
    [(100, 600), (2_000, 60_000), (1, 200), (60_000, 900_000), (300, 4_000)];
/// More keys than fit, of any size but the largest.
const KEYS: u64 = 2_000_000;
const BATCH_BYTES: usize = 1 << 20;
const MINUTES_LONG: u64 = 60;

#[tokio::test]
async fn memory_is_bounded_whatever_sizes_come() {
    let Some(lab) = enter("memory_is_bounded_whatever_sizes_come", &["mcsqueal"]).await else {
        return;
    };
    let node = lab.servers.cache_node(&["-m", &MEGABYTES.to_string()]).await.expect("it starts");
    let mut wire = Wire::connect(&node.address()).await.expect("connect");
    let mut random = random(900);
    let limit = MEGABYTES << 10;
    let end = Instant::now() + Duration::from_secs(60 * MINUTES_LONG);
    let (mut most, mut sent) = (0, 0);
    loop {
        for sizes in SIZES {
            let before = sent;
            while sent - before < (MEGABYTES << 20) {
                let (batch, bytes) = sets(sizes, &mut random);
                let refused = wire.ask_with_noop(&batch).await.expect("an answer");
                assert!(refused.is_empty(), "{}", String::from_utf8_lossy(&refused));
                sent += bytes;
            }
            let resident = node.memory_kilobytes().expect("its memory");
            assert!(resident * 100 <= limit * PERCENT_MAX, "{resident} of {limit} kB: {sizes:?}");
            most = most.max(resident);
        }
        if !is_long() || Instant::now() >= end {
            break;
        }
    }
    eprintln!("churn: {} MB of values, at most {most} of {limit} kB", sent >> 20);
    assert!(most * 100 >= limit * PERCENT_MIN, "only {most} of {limit} kB");
}

/// Commands that store values of such sizes, a third of them for seconds only; and the bytes of the values.
fn sets((least, most): (u64, u64), random: &mut Random) -> (Vec<u8>, u64) {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_BYTES {
        let (key, size) = (random.below(KEYS), least + random.below(most - least));
        let ttl = if random.one_in(3) { 1 + random.below(20) } else { 0 };
        let mut line = String::new();
        write!(line, "set churn:{key:016} 0 {ttl} {size} noreply\r\n").expect("text");
        batch.extend_from_slice(line.as_bytes());
        batch.resize(batch.len() + usize::try_from(size).expect("small"), b'v');
        batch.extend_from_slice(b"\r\n");
        bytes += size;
    }
    (batch, bytes)
}
