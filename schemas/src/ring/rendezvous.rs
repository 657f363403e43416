//! pymemcache's rendezvous hashing: the node with the highest score owns the key, and a score is
//! murmur3 (32 bits, seed 0) of `host:port-KEY`.

use super::Server;

/// All nodes by the names that are hashed.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    names: Vec<String>,
}

impl Nodes {
    pub(super) fn new(servers: &[Server]) -> Nodes {
        let name = |server: &Server| format!("{}:{}", server.host, server.port);
        Nodes { names: servers.iter().map(name).collect() }
    }

    pub(super) fn owner(&self, key: &[u8]) -> usize {
        let key = Units::of(key);
        let mut best: Option<(u32, &str, usize)> = None;
        for (index, name) in self.names.iter().enumerate() {
            let units = name.chars().map(low_byte).chain([b'-']).chain(key.clone());
            // On equal scores the name that sorts last wins.
            let candidate = (murmur3_32(units), name.as_str(), index);
            best = best.max(Some(candidate));
        }
        best.map_or(0, |(_, _, index)| index)
    }
}

/// What pymemcache hashes: the characters of a `str`, not its bytes, and of each its low 8 bits.
/// Only keys that are not UTF-8 have no characters; they are hashed by their bytes.
#[derive(Clone)]
enum Units<'a> {
    Characters(std::str::Chars<'a>),
    Bytes(std::slice::Iter<'a, u8>),
}

impl<'a> Units<'a> {
    fn of(key: &'a [u8]) -> Units<'a> {
        match str::from_utf8(key) {
            Ok(text) => Units::Characters(text.chars()),
            Err(_) => Units::Bytes(key.iter()),
        }
    }
}

impl Iterator for Units<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        match self {
            Units::Characters(characters) => characters.next().map(low_byte),
            Units::Bytes(bytes) => bytes.next().copied(),
        }
    }
}

fn low_byte(character: char) -> u8 {
    u32::from(character).to_le_bytes()[0]
}

/// Austin Appleby's MurmurHash3, the variant for 32 bits, with seed 0.
fn murmur3_32(mut units: impl Iterator<Item = u8>) -> u32 {
    let mut hash = 0_u32;
    let mut length = 0_u32;
    loop {
        let mut block = [0_u8; 4];
        let mut filled = 0_u32;
        for (slot, unit) in block.iter_mut().zip(units.by_ref()) {
            *slot = unit;
            filled += 1;
        }
        length = length.wrapping_add(filled);
        if filled > 0 {
            hash ^= scramble(u32::from_le_bytes(block));
        }
        if filled < 4 {
            break;
        }
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    finish(hash ^ length)
}

fn scramble(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn finish(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur_reference_values() {
        for (text, hash) in [
            ("", 0),
            ("a", 0x3c25_69b2),
            ("abc", 0xb3dd_93fa),
            ("test", 0xba6b_d213),
            ("Hello, world!", 0xc036_3e43),
        ] {
            assert_eq!(murmur3_32(text.bytes()), hash, "{text:?}");
        }
    }
}
