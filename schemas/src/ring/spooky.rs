//! Bob Jenkins' SpookyHash, version 2, in its form for 32 bits: what mcrouter's weights are compared with.

/// Filling that is neither zero nor regular.
const FILLING: u64 = 0xdead_beef_dead_beef;
const WORDS: usize = 12;
const BLOCK_BYTES: usize = WORDS * 8;
/// Below this length, another mixture with only four words.
const LONG_BYTES_MIN: usize = 2 * BLOCK_BYTES;

/// The hash of `bytes`.
pub(super) fn spooky_32(bytes: &[u8], seed: u32) -> u32 {
    let seed = u64::from(seed);
    let hash = if bytes.len() < LONG_BYTES_MIN { short(bytes, seed) } else { long(bytes, seed) };
    u32::try_from(hash & 0xffff_ffff).unwrap_or(0)
}

fn short(bytes: &[u8], seed: u64) -> u64 {
    let mut h = [seed, seed, FILLING, FILLING];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let words = words::<4>(block);
        h[2] = h[2].wrapping_add(words[0]);
        h[3] = h[3].wrapping_add(words[1]);
        short_mix(&mut h);
        h[0] = h[0].wrapping_add(words[2]);
        h[1] = h[1].wrapping_add(words[3]);
    }
    let rest = match rest.split_first_chunk::<16>() {
        Some((block, rest)) => {
            let words = words::<2>(block);
            h[2] = h[2].wrapping_add(words[0]);
            h[3] = h[3].wrapping_add(words[1]);
            short_mix(&mut h);
            rest
        }
        None => rest,
    };
    // The length stands in the last byte, which up to 15 bytes of rest leave free.
    h[3] = h[3].wrapping_add((bytes.len() as u64) << 56);
    if rest.is_empty() {
        h[2] = h[2].wrapping_add(FILLING);
        h[3] = h[3].wrapping_add(FILLING);
    } else {
        let words = words::<2>(rest);
        h[2] = h[2].wrapping_add(words[0]);
        h[3] = h[3].wrapping_add(words[1]);
    }
    short_end(&mut h);
    h[0]
}

fn short_mix(h: &mut [u64; 4]) {
    for (round, turn) in [50, 52, 30, 41, 54, 48, 38, 37, 62, 34, 5, 36].into_iter().enumerate() {
        let [one, two, three] = [2, 3, 0].map(|first| (first + round) % 4);
        h[one] = h[one].rotate_left(turn).wrapping_add(h[two]);
        h[three] ^= h[one];
    }
}

fn short_end(h: &mut [u64; 4]) {
    for (round, turn) in [15, 52, 26, 51, 28, 9, 47, 54, 32, 25, 63].into_iter().enumerate() {
        let [one, two] = [3, 2].map(|first| (first + round) % 4);
        h[one] ^= h[two];
        h[two] = h[two].rotate_left(turn);
        h[one] = h[one].wrapping_add(h[two]);
    }
}

fn long(bytes: &[u8], seed: u64) -> u64 {
    let mut s = [seed, seed, FILLING].repeat(WORDS / 3);
    let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
    for block in blocks {
        long_mix(&mut s, &words(block));
    }
    let mut last = [0; BLOCK_BYTES];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    last[BLOCK_BYTES - 1] = u8::try_from(rest.len()).unwrap_or(0);
    for (word, more) in s.iter_mut().zip(words::<WORDS>(&last)) {
        *word = word.wrapping_add(more);
    }
    for _ in 0..3 {
        long_end(&mut s);
    }
    s[0]
}

fn long_mix(s: &mut [u64], words: &[u64; WORDS]) {
    const TURNS: [u32; WORDS] = [11, 32, 43, 31, 17, 28, 39, 57, 55, 54, 22, 46];
    for (at, turn) in TURNS.into_iter().enumerate() {
        let [one, two, ten, eleven] = [1, 2, 10, 11].map(|more| (at + more) % WORDS);
        s[at] = s[at].wrapping_add(words[at]);
        s[two] ^= s[ten];
        s[eleven] ^= s[at];
        s[at] = s[at].rotate_left(turn);
        s[eleven] = s[eleven].wrapping_add(s[one]);
    }
}

fn long_end(s: &mut [u64]) {
    const TURNS: [u32; WORDS] = [44, 15, 34, 21, 38, 33, 10, 13, 38, 53, 42, 54];
    for (at, turn) in TURNS.into_iter().enumerate() {
        let [one, two, eleven] = [1, 2, 11].map(|more| (at + more) % WORDS);
        s[eleven] = s[eleven].wrapping_add(s[one]);
        s[two] ^= s[eleven];
        s[one] = s[one].rotate_left(turn);
    }
}

/// Little-endian words; zeros where `bytes` ends.
fn words<const COUNT: usize>(bytes: &[u8]) -> [u64; COUNT] {
    let mut out = [0; COUNT];
    for (word, bytes) in out.iter_mut().zip(bytes.chunks(8)) {
        *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the author's own table, which has the hashes of this row of bytes for each length.
    #[test]
    fn the_authors_values() {
        let bytes: Vec<u8> =
            (0..=255_u8).chain(0..=255).map(|byte| byte.wrapping_add(128)).collect();
        for (length, hash) in [
            (0, 0x6bf5_0919),
            (1, 0x70de_1d26),
            (2, 0xa2b3_7298),
            (7, 0xf9f1_a233),
            (8, 0xee19_3982),
            (63, 0x09c1_afb4),
            (64, 0x069c_8bb7),
            (128, 0x94e9_48ec),
            (191, 0xe13d_9e19),
            (192, 0x77e0_12bd),
            (193, 0x2d05_114c),
            (255, 0x2f40_ee0b),
            (256, 0x38ce_bf03),
            (319, 0xf3a1_526c),
            (511, 0xcc1c_8250),
        ] {
            assert_eq!(spooky_32(&bytes[..length], 0), hash, "{length}");
        }
    }
}
