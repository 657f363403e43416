//! How fast this machine is, so that absolute figures can be compared between machines.

use tokio::time::Instant;

/// Memory that is read at random.
const BYTES: usize = 256 << 20;
/// Reads, 64 bytes each.
const READS: u64 = 4_000_000;

/// A fixed loop of CRC32 and random reads over 256 MiB; in millions of rounds per second.
pub fn cpu() -> f64 {
    let memory = vec![0x5a_u8; BYTES];
    let begin = Instant::now();
    let (mut at, mut sum) = (1_u64, 0_u32);
    for _ in 0..READS {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let from = usize::try_from(at >> 36).unwrap_or_default() % (BYTES - 64);
        sum ^= crc32fast::hash(&memory[from..from + 64]);
    }
    std::hint::black_box(sum);
    READS as f64 / begin.elapsed().as_secs_f64() / 1e6
}
