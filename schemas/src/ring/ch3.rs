//! mcrouter's hashings, which count the nodes in their order: ch3, which it calls furc hash, ch3 with weights, and crc32.
//!
//! ch3 walks down a binary tree with as many levels as the number of nodes has bits. Each step takes one bit of an endless row:
//! 64 of them are a MurmurHash64A of the key, the next 64 that of those, and so on. A node in a tree of `n` levels keeps its keys
//! while `n` grows, but for those that move to new nodes.

use super::spooky::spooky_32;

/// A whole weight: mcrouter's 1.0.
pub(super) const WEIGHT_WHOLE: u32 = 1_000_000;

const SEED: u64 = 4_193_360_111;
/// mcrouter gives up after so many numbers that are no node; the first node it is, then.
const TRIES: u32 = 32;
/// The same for nodes that pass a key on: this often after the first time.
const TRIES_MORE: u8 = 31;
/// From one level of the tree to the next, so far apart in the row of bits; also the most levels.
const LEVEL_BITS: u32 = 23;
const SEED_WEIGHTED: u32 = 0xface_2014;
/// What a key is hashed up to.
const HASH_STOP: &[u8] = b"|#|";
/// Longer ones are put together on the heap.
const SALTED_BYTES: usize = 384;

/// A hash, and the salt that it has.
#[derive(Clone, Debug)]
pub(super) struct Ordered {
    hash: OrderedHash,
    salt: String,
}

#[derive(Clone, Debug)]
pub(super) enum OrderedHash {
    Ch3 {
        nodes: usize,
    },
    /// For each node, hashes below this stay with it.
    WeightedCh3 {
        below: Vec<u32>,
    },
    Crc32 {
        nodes: usize,
    },
}

impl Ordered {
    pub(super) fn new(hash: OrderedHash, salt: &str) -> Ordered {
        Ordered { hash, salt: salt.to_owned() }
    }

    pub(super) fn owner(&self, key: &[u8]) -> usize {
        let stop = key.windows(HASH_STOP.len()).position(|bytes| bytes == HASH_STOP);
        let key = stop.and_then(|at| key.get(..at)).unwrap_or(key);
        if self.salt.is_empty() {
            self.hash.owner(key)
        } else {
            with_more(key, self.salt.as_bytes(), |salted| self.hash.owner(salted))
        }
    }
}

impl OrderedHash {
    /// Weights in millionths.
    pub(super) fn weighted(weights: impl Iterator<Item = u32>) -> OrderedHash {
        OrderedHash::WeightedCh3 { below: weights.map(below).collect() }
    }

    fn owner(&self, key: &[u8]) -> usize {
        match self {
            OrderedHash::Ch3 { nodes } => ch3(key, *nodes),
            OrderedHash::WeightedCh3 { below } => weighted_ch3(key, below),
            OrderedHash::Crc32 { nodes } => {
                let hash = usize::try_from(crc32(key) & 0x7fff_ffff).unwrap_or(0);
                hash % nodes
            }
        }
    }
}

/// mcrouter multiplies in double precision and drops what is behind the point; a decimal of six digits is the same number there
/// as here, because both are the nearest one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most 2^32 - 1; the truncation is what must be reproduced"
)]
fn below(weight: u32) -> u32 {
    (f64::from(weight) / f64::from(WEIGHT_WHOLE) * f64::from(u32::MAX)) as u32
}

fn weighted_ch3(key: &[u8], below: &[u32]) -> usize {
    let stays = |key: &[u8], node: usize| {
        below.get(node).is_some_and(|&below| spooky_32(key, SEED_WEIGHTED) < below)
    };
    let mut node = ch3(key, below.len());
    if stays(key, node) {
        return node;
    }
    // Then the key with 0 behind it, with 1, ..., with 9, with 01, with 11: the digits from the last to the first.
    for salt in 0..TRIES_MORE {
        let digits = [b'0' + salt % 10, b'0' + salt / 10];
        let digits = if salt < 10 { &digits[..1] } else { &digits[..] };
        let (next, is_it) = with_more(key, digits, |key| {
            let next = ch3(key, below.len());
            (next, stays(key, next))
        });
        node = next;
        if is_it {
            break;
        }
    }
    // All have passed it on; mcrouter takes the last.
    node
}

fn ch3(key: &[u8], nodes: usize) -> usize {
    if nodes <= 1 {
        return 0;
    }
    let first = murmur_64a(key);
    let mut bits = Bits { first, hash: first, word: 0 };
    let mut level = usize::BITS - (nodes - 1).leading_zeros();
    let mut at = level;
    for _ in 0..TRIES {
        while !bits.get(at) {
            level -= 1;
            if level == 0 {
                return 0;
            }
            at = level;
        }
        at += LEVEL_BITS;
        let mut node = 1;
        for _ in 1..level {
            node = node << 1 | usize::from(bits.get(at));
            at += LEVEL_BITS;
        }
        if node < nodes {
            return node;
        }
    }
    0
}

/// The endless row of bits. It is mostly read forwards; for a step back it is made again from its beginning.
struct Bits {
    first: u64,
    hash: u64,
    word: u32,
}

impl Bits {
    fn get(&mut self, at: u32) -> bool {
        let word = at / u64::BITS;
        if word < self.word {
            (self.hash, self.word) = (self.first, 0);
        }
        while self.word < word {
            self.hash = murmur_64a(&self.hash.to_le_bytes());
            self.word += 1;
        }
        self.hash >> (at % u64::BITS) & 1 == 1
    }
}

/// Calls `act` with `key` and `more` behind it.
fn with_more<T>(key: &[u8], more: &[u8], act: impl FnOnce(&[u8]) -> T) -> T {
    let mut buffer = [0_u8; SALTED_BYTES];
    let length = key.len() + more.len();
    match buffer.get_mut(..length) {
        Some(both) => {
            let (left, right) = both.split_at_mut(key.len());
            left.copy_from_slice(key);
            right.copy_from_slice(more);
            act(both)
        }
        None => act(&[key, more].concat()),
    }
}

/// Austin Appleby's MurmurHash2, the variant for machines of 64 bits, with mcrouter's seed.
fn murmur_64a(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (blocks, rest) = bytes.as_chunks::<8>();
    for block in blocks {
        let mut block = u64::from_le_bytes(*block).wrapping_mul(MULTIPLIER);
        block ^= block >> 47;
        hash ^= block.wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |last, &byte| last << 8 | u64::from(byte));
        hash = (hash ^ last).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 47;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 47)
}

/// The CRC of zlib, Ethernet and many others.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc = crc >> 8 ^ CRC_TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)];
    }
    !crc
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    let mut byte = 0_u32;
    while at < table.len() {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// As mcrouter's tests sum up the nodes of many keys.
    fn sum(keys: impl Iterator<Item = String>, owner: impl Fn(&[u8]) -> usize) -> u32 {
        keys.fold(0_u32, |sum, key| {
            sum.wrapping_mul(31).wrapping_add(u32::try_from(owner(key.as_bytes())).unwrap())
        })
    }

    fn short_keys(count: u32) -> impl Iterator<Item = String> {
        (0..count).map(|number| format!("k{number}"))
    }

    fn long_keys(count: u32) -> impl Iterator<Item = String> {
        let base: String = ('A'..='Z').cycle().take(128).collect();
        (0..count).map(move |number| format!("{base}{number}"))
    }

    fn weighted(weights: &[u32]) -> OrderedHash {
        OrderedHash::weighted(weights.iter().copied())
    }

    /// All bytes, from -128 to 127 as mcrouter's test counts them.
    fn all_bytes() -> Vec<u8> {
        (0..=255_u8).map(|byte| byte.wrapping_add(128)).collect()
    }

    #[test]
    fn ch3_is_that_of_mcrouter() {
        assert_eq!([ch3(b"sample", 100), ch3(b"", 100)], [97, 72]);
        assert_eq!([ch3(b"sample", 1), ch3(b"", 1)], [0, 0]);
        assert_eq!([ch3(b"sample", 1 << 23), ch3(b"", 1 << 23)], [5_167_780, 6_173_600]);
        let mut bytes = all_bytes();
        assert_eq!(ch3(&bytes, 99_999), 31_015);
        bytes.reverse();
        assert_eq!(ch3(&bytes, 99_999), 67_101);
        for (nodes, expected) in [
            (2, 1_346_413_954),
            (3, 914_505_363),
            (7, 4_252_552_508),
            (10, 2_894_016_351),
            (16, 2_995_729_350),
            (100, 2_289_223_413),
            (1000, 2_251_851_331),
            (10_000, 1_328_492_545),
            (100_000, 1_053_928_120),
        ] {
            assert_eq!(sum(short_keys(100_000), |key| ch3(key, nodes)), expected, "{nodes}");
        }
    }

    #[test]
    fn weighted_ch3_is_that_of_mcrouter() {
        let (half, none) = (WEIGHT_WHOLE / 2, 0);
        for (weight, nodes, expected) in [
            (half, 2, 2_395_690_262),
            (half, 10, 547_444_706),
            (half, 100, 2_951_198_297),
            (half, 1000, 1_336_857_622),
            (half, 10_000, 3_378_951_161),
            (none, 2, 3_431_444_300),
            (none, 10, 1_290_067_504),
            (none, 100, 2_604_325_093),
            (none, 1000, 337_394_182),
        ] {
            let hash = weighted(&vec![weight; nodes]);
            let found = sum(short_keys(10_000), |key| hash.owner(key));
            assert_eq!(found, expected, "{nodes} of {weight}");
        }
        for (weight, nodes, expected) in [
            (half, 2, 3_784_301_429),
            (half, 10, 707_485_837),
            (half, 100, 4_273_108_085),
            (half, 1000, 954_106_693),
            (none, 2, 2_171_781_178),
            (none, 10, 2_937_312_667),
            (none, 100, 532_711_027),
        ] {
            let hash = weighted(&vec![weight; nodes]);
            let found = sum(long_keys(10_000), |key| hash.owner(key));
            assert_eq!(found, expected, "{nodes} of {weight}, long keys");
        }
    }

    #[test]
    fn weights_that_differ() {
        let mixed = weighted(&[1_000_000, 500_000, 0, 750_000, 1_000_000]);
        let keys = (0..10_000).map(|number| format!("d{number}"));
        assert_eq!(sum(keys, |key| mixed.owner(key)), 2_309_057_571);

        let thousandths = [429, 541, 117, 998, 283, 65, 109, 42, 676, 943];
        let hash = weighted(&thousandths.map(|weight| weight * 1000));
        let mut counts = [0; 10];
        for number in 0..10_000 {
            counts[hash.owner(number.to_string().as_bytes())] += 1;
        }
        assert_eq!(counts, [1016, 1252, 288, 2354, 661, 195, 247, 122, 1668, 2197]);
    }

    #[test]
    fn crc32_is_that_of_mcrouter() {
        let owner = |key: &[u8], nodes| OrderedHash::Crc32 { nodes }.owner(key);
        assert_eq!([owner(b"sample", 100), owner(b"sample", 1), owner(b"", 100)], [7, 0, 0]);
        assert_eq!(owner(b"sample", (1 << 30) - 1), 822_834_884);
        let mut bytes = all_bytes();
        assert_eq!(owner(&bytes, 99_999), 11_697);
        bytes.reverse();
        assert_eq!(owner(&bytes, 99_999), 97_630);
    }

    #[test]
    fn what_is_behind_the_hash_stop_does_not_matter_and_salt_does() {
        let hash = OrderedHash::Ch3 { nodes: 1000 };
        let plain = Ordered::new(hash.clone(), "");
        assert_eq!(plain.owner(b"foo:key|#|etc"), plain.owner(b"foo:key"));
        let salted = Ordered::new(hash, "salt");
        assert_eq!(salted.owner(b"foo:key|#|etc"), plain.owner(b"foo:keysalt"));
        let long = vec![b'k'; SALTED_BYTES];
        assert_eq!(salted.owner(&long), plain.owner(&[&long[..], b"salt"].concat()));
    }
}
