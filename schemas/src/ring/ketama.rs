//! libmemcached's two ketama rings (`update_continuum` and `dispatch_host` there).
//!
//! A node's points on the circle of 32 bits come from hashing `host:port-N` (`host-N` on port 11211)
//! for N from 0. A key belongs to the first point at or after its own hash, around the end to the
//! first of all.

use md5::{Digest, Md5};

use super::{PORT_DEFAULT, Server};

/// Hashes of a node of mean weight in the weighted ring; each MD5 gives four points.
const HASHES_WEIGHTED: u16 = 160 / POINTS_PER_MD5;
const POINTS_PER_MD5: u16 = 4;
/// Points of a node in the plain ring.
const POINTS_PLAIN: u32 = 100;

/// The points of all nodes, in order around the circle.
#[derive(Clone, Debug)]
pub(super) struct Continuum {
    points: Vec<Point>,
    key_hash: KeyHash,
}

/// Sorted by value, then by node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    value: u32,
    node: usize,
}

#[derive(Clone, Copy, Debug)]
enum KeyHash {
    Md5,
    OneAtATime,
}

impl Continuum {
    /// `MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED`.
    pub(super) fn weighted(servers: &[Server]) -> Continuum {
        Continuum::new(weighted_points(servers), KeyHash::Md5)
    }

    /// `MEMCACHED_BEHAVIOR_KETAMA`; libmemcached changes the nodes' side of it, and only that, to the
    /// weighted ring when it is given a node of weight 2 or more.
    pub(super) fn jenkins(servers: &[Server]) -> Continuum {
        let points = if servers.iter().any(|server| server.weight > 1) {
            weighted_points(servers)
        } else {
            plain_points(servers)
        };
        Continuum::new(points, KeyHash::OneAtATime)
    }

    fn new(mut points: Vec<Point>, key_hash: KeyHash) -> Continuum {
        points.sort_unstable();
        Continuum { points, key_hash }
    }

    pub(super) fn owner(&self, key: &[u8]) -> usize {
        let hash = match self.key_hash {
            KeyHash::Md5 => md5_words(key)[0],
            KeyHash::OneAtATime => one_at_a_time(key),
        };
        let next = self.points.partition_point(|point| point.value < hash);
        let point = self.points.get(next).or_else(|| self.points.first());
        point.expect("some node has its share of the weight or more, and so has points").node
    }
}

fn weighted_points(servers: &[Server]) -> Vec<Point> {
    let mut points = Vec::new();
    let weight_total = servers.iter().map(|server| u64::from(server.weight)).sum();
    for (node, server) in servers.iter().enumerate() {
        for number in 0..hashes_of(server.weight, weight_total, servers.len()) {
            let words = md5_words(point_name(server, number).as_bytes());
            points.extend(words.map(|value| Point { value, node }));
        }
    }
    points
}

fn plain_points(servers: &[Server]) -> Vec<Point> {
    let mut points = Vec::new();
    for (node, server) in servers.iter().enumerate() {
        for number in 0..POINTS_PLAIN {
            let value = one_at_a_time(point_name(server, number).as_bytes());
            points.push(Point { value, node });
        }
    }
    points
}

/// How many hashes a node of `weight` gets; every step in single precision and in this order, as
/// libmemcached has it, because the rounding decides the number.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rounding is what must be reproduced; the result is at most 40 x 1024"
)]
fn hashes_of(weight: u32, weight_total: u64, servers: usize) -> u32 {
    let share = weight as f32 / weight_total as f32;
    let points = share * f32::from(HASHES_WEIGHTED * POINTS_PER_MD5);
    (points / f32::from(POINTS_PER_MD5) * servers as f32 + 0.000_000_000_1).floor() as u32
}

fn point_name(server: &Server, number: u32) -> String {
    if server.port == PORT_DEFAULT {
        format!("{}-{number}", server.host)
    } else {
        format!("{}:{}-{number}", server.host, server.port)
    }
}

/// The digest as four little-endian words; the first one is also libmemcached's MD5 hash of a key.
fn md5_words(bytes: &[u8]) -> [u32; 4] {
    let digest: [u8; 16] = Md5::digest(bytes).into();
    let number = u128::from_le_bytes(digest);
    [0, 32, 64, 96].map(|shift| u32::try_from((number >> shift) & 0xffff_ffff).expect("32 bits"))
}

/// Bob Jenkins' hash, libmemcached's default. There it reads `char`, which has a sign on x86 (and none
/// on ARM, where bytes above 127 hash differently): keys outside ASCII follow x86.
fn one_at_a_time(bytes: &[u8]) -> u32 {
    let mut hash = 0_u32;
    for byte in bytes {
        hash = hash.wrapping_add_signed(i32::from(byte.cast_signed()));
        hash = hash.wrapping_add(hash << 10);
        hash ^= hash >> 6;
    }
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    hash.wrapping_add(hash << 15)
}
