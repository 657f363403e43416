//! The ring: which node a key lives on, bit-compatible with the clients in the field.
//!
//! An invalidation must reach the node to which the application's own client sends the key, so each
//! [`Hashing`] is a copy of what one family of clients computes, tested against the answers of those
//! clients (`tests/ring_vectors.json`, made by `e2e/python/ring_vectors.py`). Sources: libmemcached's
//! `libmemcached/hosts.cc` and `hash.cc`, pymemcache's `client/rendezvous.py` and `client/murmur3.py`, mcrouter's `lib/fbi/hash.c`,
//! `lib/WeightedCh3HashFunc.cpp` and the vectors that it publishes in its own tests.
//!
//! | `hashing` | the client's setting |
//! |---|---|
//! | `ketama` | libmemcached: `MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED`; pylibmc: `behaviors={"ketama_weighted": True}`, with or without `"ketama": True`; php-memcached: `OPT_LIBKETAMA_COMPATIBLE` |
//! | `ketama-jenkins` | libmemcached: `MEMCACHED_BEHAVIOR_KETAMA` and nothing else; pylibmc: `behaviors={"ketama": True}` |
//! | `rendezvous` | pymemcache: `HashClient` with its default `hasher` |
//! | `ch3` | mcrouter: `"hash": "Ch3"`, which is its default |
//! | `weighted-ch3` | mcrouter: `"hash": {"hash_func": "WeightedCh3", "weights": [...]}`; a weight of 1.0 is 1000000 here |
//! | `crc32` | mcrouter: `"hash": "Crc32"` |
//!
//! What a client does beyond that is not followed: a client that ejects dead nodes from its ring
//! (`remove_failed`, `auto_eject`) moves keys to other nodes for a while, and only it knows. A key
//! prefix that the client adds (`namespace`, `OPT_PREFIX_KEY`, `key_prefix`) is not part of what it
//! hashes, but is part of the key that the node sees: such clients cannot be matched by any key alone.
//! pymemcache hashes a key that is passed as `bytes` by its Python representation; keys must be `str`.
//!
//! To the first three, the order of the nodes does not matter; their names do: what the node is called in
//! the client's list of servers is hashed, letter by letter, never what it resolves to. To those of mcrouter the names do not
//! matter, but the order does. They hash a key only up to `|#|`, and may have a salt that is hashed after it.

mod ch3;
mod ketama;
mod rendezvous;
mod spooky;

use std::collections::HashSet;

use crate::key::Key;

/// Most nodes of one ring.
pub const NODES_MAX: usize = 1024;

/// Longest salt.
pub const SALT_BYTES_MAX: usize = 64;

/// memcached's port, where a node's name gives none.
const PORT_DEFAULT: u16 = 11211;

/// How keys are spread over nodes; which client settings mean which stands in the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hashing {
    /// libmemcached's weighted ketama: MD5 for keys and nodes, 40 x 4 points per node of mean weight.
    Ketama,
    /// libmemcached's plain ketama: Jenkins' one-at-a-time hash for keys, and for nodes with 100
    /// points each; as soon as one weight is above 1, the nodes' points are those of `Ketama`.
    KetamaJenkins,
    /// pymemcache's default: rendezvous hashing over murmur3 (32 bits). It knows no weights.
    Rendezvous,
    /// mcrouter's default: keys are spread by the order of the nodes. It knows no weights.
    Ch3,
    /// mcrouter's ch3, where a node passes a part of its keys on to the others. Each node needs a weight, in millionths: 1000000 is
    /// mcrouter's 1.0, and 0 is a node that is being emptied.
    WeightedCh3,
    /// mcrouter's crc32 of the key, modulo the number of nodes: with one node more, nearly all keys move. It knows no weights.
    Crc32,
}

impl Hashing {
    /// As in a file.
    pub fn name(self) -> &'static str {
        match self {
            Hashing::Ketama => "ketama",
            Hashing::KetamaJenkins => "ketama-jenkins",
            Hashing::Rendezvous => "rendezvous",
            Hashing::Ch3 => "ch3",
            Hashing::WeightedCh3 => "weighted-ch3",
            Hashing::Crc32 => "crc32",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Hashing> {
        const ALL: [Hashing; 6] = [
            Hashing::Ketama,
            Hashing::KetamaJenkins,
            Hashing::Rendezvous,
            Hashing::Ch3,
            Hashing::WeightedCh3,
            Hashing::Crc32,
        ];
        ALL.into_iter().find(|hashing| hashing.name() == name)
    }

    /// Whether it is one of mcrouter's, which go by the order of the nodes and may have a salt.
    pub fn is_by_order(self) -> bool {
        matches!(self, Hashing::Ch3 | Hashing::WeightedCh3 | Hashing::Crc32)
    }
}

/// A node's name and weight, as the clients' list of servers has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingNode {
    /// `host:port`, `host` (port 11211) or `[ipv6]:port`.
    pub name: String,
    /// Share of the keys, relative to the others; 1 by default.
    pub weight: u32,
}

/// Spreads keys over nodes.
#[derive(Clone, Debug)]
pub struct Ring {
    points: Points,
}

/// Why nodes make no ring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Somebody must own each key.
    #[error("a ring needs at least one node")]
    Empty,
    /// More than [`NODES_MAX`].
    #[error("a ring has at most {NODES_MAX} nodes, not {nodes}")]
    TooMany { nodes: usize },
    /// Neither `host`, `host:port` nor `[ipv6]:port`.
    #[error("node {name:?} is not a host, host:port or [ipv6]:port")]
    BadName { name: String },
    /// One node twice, perhaps once with and once without the default port.
    #[error("node {name:?} is listed twice")]
    Duplicate { name: String },
    /// libmemcached takes 0 for 1, other clients take it for "none"; so it is better not written.
    #[error("node {name:?} has weight 0; leave it out, or give it a weight of 1 or more")]
    ZeroWeight { name: String },
    /// Those clients know no weights, so a weighted ring would be nobody's.
    #[error("node {name:?} has weight {weight}, but {hashing} hashing has no weights")]
    Weighted { name: String, weight: u32, hashing: &'static str },
    /// Above mcrouter's 1.0; or 1, which is what a weight is that was left out, and surely not meant as a millionth.
    #[error(
        "node {name:?} has weight {weight}, but weighted-ch3 needs millionths: 0, or 2 to 1000000, which is mcrouter's 1.0"
    )]
    NotMillionths { name: String, weight: u32 },
    /// The other clients have none.
    #[error("{hashing} hashing has no salt")]
    Salted { hashing: &'static str },
    /// More than [`SALT_BYTES_MAX`].
    #[error("a salt has at most {SALT_BYTES_MAX} bytes")]
    SaltTooLong,
}

#[derive(Clone, Debug)]
enum Points {
    Ketama(ketama::Continuum),
    Rendezvous(rendezvous::Nodes),
    Ordered(ch3::Ordered),
}

impl Ring {
    /// A ring over `nodes`; [`Ring::owner`] answers with indexes into them.
    pub fn new(hashing: Hashing, nodes: &[RingNode]) -> Result<Ring, RingError> {
        Ring::salted(hashing, nodes, "")
    }

    /// A ring that hashes `salt` after each key.
    pub fn salted(hashing: Hashing, nodes: &[RingNode], salt: &str) -> Result<Ring, RingError> {
        let servers = check(hashing, nodes)?;
        check_weights(hashing, nodes)?;
        if !salt.is_empty() && !hashing.is_by_order() {
            return Err(RingError::Salted { hashing: hashing.name() });
        }
        if salt.len() > SALT_BYTES_MAX {
            return Err(RingError::SaltTooLong);
        }
        let ordered = |hash| Points::Ordered(ch3::Ordered::new(hash, salt));
        let points = match hashing {
            Hashing::Ketama => Points::Ketama(ketama::Continuum::weighted(&servers)),
            Hashing::KetamaJenkins => Points::Ketama(ketama::Continuum::jenkins(&servers)),
            Hashing::Rendezvous => Points::Rendezvous(rendezvous::Nodes::new(&servers)),
            Hashing::Ch3 => ordered(ch3::OrderedHash::Ch3 { nodes: servers.len() }),
            Hashing::WeightedCh3 => {
                let weights = servers.iter().map(|server| server.weight);
                ordered(ch3::OrderedHash::weighted(weights))
            }
            Hashing::Crc32 => ordered(ch3::OrderedHash::Crc32 { nodes: servers.len() }),
        };
        Ok(Ring { points })
    }

    /// Index of the node that owns `key`.
    pub fn owner(&self, key: &Key) -> usize {
        self.owner_of(key.as_bytes())
    }

    /// Index of the node that owns these bytes, which need not be a valid key.
    pub fn owner_of(&self, key: &[u8]) -> usize {
        match &self.points {
            Points::Ketama(continuum) => continuum.owner(key),
            Points::Rendezvous(nodes) => nodes.owner(key),
            Points::Ordered(ordered) => ordered.owner(key),
        }
    }
}

fn check_weights(hashing: Hashing, nodes: &[RingNode]) -> Result<(), RingError> {
    for RingNode { name, weight } in nodes {
        let (name, weight) = (name.clone(), *weight);
        match hashing {
            Hashing::WeightedCh3 if weight == 1 || weight > ch3::WEIGHT_WHOLE => {
                return Err(RingError::NotMillionths { name, weight });
            }
            Hashing::Rendezvous | Hashing::Ch3 | Hashing::Crc32 if weight != 1 => {
                return Err(RingError::Weighted { name, weight, hashing: hashing.name() });
            }
            _ => {}
        }
    }
    Ok(())
}

/// A node's name, taken apart as clients do before they hash it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Server {
    host: String,
    port: u16,
    weight: u32,
}

fn check(hashing: Hashing, nodes: &[RingNode]) -> Result<Vec<Server>, RingError> {
    if nodes.is_empty() {
        return Err(RingError::Empty);
    }
    if nodes.len() > NODES_MAX {
        return Err(RingError::TooMany { nodes: nodes.len() });
    }
    let mut seen = HashSet::new();
    let mut servers = Vec::with_capacity(nodes.len());
    for RingNode { name, weight } in nodes {
        let (host, port) =
            split_name(name).ok_or_else(|| RingError::BadName { name: name.clone() })?;
        if *weight == 0 && hashing != Hashing::WeightedCh3 {
            return Err(RingError::ZeroWeight { name: name.clone() });
        }
        if !seen.insert((host, port)) {
            return Err(RingError::Duplicate { name: name.clone() });
        }
        servers.push(Server { host: host.to_owned(), port, weight: *weight });
    }
    Ok(servers)
}

fn split_name(name: &str) -> Option<(&str, u16)> {
    let (host, port) = if let Some(rest) = name.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
        (host, port)
    } else {
        let (host, port) =
            name.split_once(':').map_or((name, None), |(host, port)| (host, Some(port)));
        if port.is_some_and(|port| port.contains(':')) {
            return None; // A bare IPv6 address: where its port begins is anybody's guess.
        }
        (host, port)
    };
    let port = match port {
        None => PORT_DEFAULT,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None, // `parse` alone would take "+1".
    };
    let blank = |character: char| character.is_whitespace() || character.is_control();
    (!host.is_empty() && !host.contains(blank) && port != 0).then_some((host, port))
}

#[cfg(test)]
mod tests;
