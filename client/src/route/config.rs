//! The routes file as written: pools of nodes, and routes that name pools and one another. What stands here about each key is
//! also what editors show. Whether the names, numbers and nodes fit together is checked by [`Routes::new`](super::Routes::new).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemas::ring::Hashing;
use serde::Deserialize;

use super::ask::{Failure, Op};

/// Pools and routes. Pools and routes share one space of names: wherever a route is named, a pool may be.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "mcsqueal routes")]
pub struct RoutesFile {
    /// The route or pool where requests begin whose key has no routing prefix; may be left out if there is only one pool.
    pub start: Option<String>,
    /// Nodes that share the keys among themselves, by name.
    #[serde(default)]
    pub pool: BTreeMap<String, PoolFile>,
    /// Routes by name.
    #[serde(default)]
    pub route: BTreeMap<String, RouteFile>,
    /// Routing prefixes, `/region/cluster/`, and the route of each: keys that begin with one are sent without it. In a key, `*`
    /// stands for any region or cluster. If there are none, a `/` in a key means nothing.
    #[serde(default)]
    pub prefix: BTreeMap<String, String>,
    /// What happens to keys with a routing prefix that is not listed.
    #[serde(default)]
    pub unknown_prefix: UnknownPrefix,
    /// How many requests may go on to another node after one has not answered in time; the others are answered with the timeout.
    #[serde(default)]
    pub retries: RetriesFile,
}

/// A budget: what is sent twice is work for two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetriesFile {
    /// Of all requests, 0 to 1.
    pub share: f64,
    /// So many at once, when there were none for a while.
    pub burst: f64,
}

impl Default for RetriesFile {
    fn default() -> RetriesFile {
        RetriesFile { share: 0.2, burst: 100.0 }
    }
}

/// What happens to keys with a routing prefix that is not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownPrefix {
    /// They are refused.
    #[default]
    Refuse,
    /// They go to `start`, without the prefix.
    Start,
}

/// Nodes that share the keys among themselves.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolFile {
    /// The nodes, as `host:port` or with more said; their order matters to `ch3`, `weighted-ch3` and `crc32`.
    pub servers: Vec<ServerFile>,
    /// How keys are spread: the same as in the region file and in clients that talk to the nodes themselves.
    #[serde(default = "ch3")]
    pub hashing: Hashing,
    /// Bytes that are hashed after the key; only with `ch3`, `weighted-ch3` and `crc32`.
    #[serde(default)]
    pub salt: String,
    /// What the nodes are.
    #[serde(default)]
    pub kind: Kind,
    /// The pool or route that is asked while a node does not answer; what is stored there lives for 60 seconds at most.
    pub gutter: Option<String>,
    /// The pool or route that takes the place of nodes that do not answer, for as long as they do not.
    pub standby: Option<String>,
    /// Longest wait for an answer, in milliseconds.
    #[serde(default = "a_second")]
    pub server_timeout_ms: u32,
    /// Longest wait for a connection, in milliseconds.
    #[serde(default = "a_second")]
    pub connect_timeout_ms: u32,
    /// Timeouts in a row after which a node is out of use.
    #[serde(default = "three")]
    pub timeouts_until_tko: u32,
    /// When a node that is out of use is probed first, in milliseconds.
    #[serde(default = "a_second")]
    pub probe_ms_first: u32,
    /// Longest time between two probes, in milliseconds; each wait is half as long again as the one before.
    #[serde(default = "a_minute")]
    pub probe_ms_max: u32,
}

/// `"cache-1:11211"`, or `{ address = "cache-1:11211", weight = 2 }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a server is \"host:port\", or a table of address, weight and kind")]
pub enum ServerFile {
    /// `host:port` or `host`.
    Address(String),
    /// More than that.
    Server(Server),
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `host:port`, `host` (port 11211) or `[ipv6]:port`.
    pub address: String,
    /// Its share of the keys. `ketama`: relative to the others, 1 if left out. `weighted-ch3`: in millionths, 1000000 being
    /// mcrouter's 1.0.
    pub weight: Option<u32>,
    /// What it is, if not what the pool says.
    pub kind: Option<Kind>,
}

/// What a node is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A stock memcached: what it missed while it was away must be kept, and told to it before it is asked again.
    #[default]
    Memcached,
    /// A node of ours: it knows itself what it missed, and says when it may be asked again.
    Mcsqueal,
}

/// A route: which of its children a request goes to, and what is made of their answers.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RouteFile {
    /// One of several routes, by the key's hash.
    Hash {
        /// The routes, in the order that the hash counts them in.
        children: Vec<String>,
        /// `ch3`, `weighted-ch3` or `crc32`.
        #[serde(default = "ch3")]
        hashing: Hashing,
        /// Bytes that are hashed after the key.
        #[serde(default)]
        salt: String,
        /// For `weighted-ch3`: one for each child, in millionths.
        #[serde(default)]
        weights: Vec<u32>,
    },
    /// By what the key begins with; the longest prefix that fits is taken.
    Prefix {
        /// Prefixes and their routes.
        prefixes: BTreeMap<String, String>,
        /// The route of all other keys.
        otherwise: String,
    },
    /// By the command.
    Operation {
        /// Commands and their routes.
        operations: BTreeMap<Op, String>,
        /// The route of all other commands.
        otherwise: String,
    },
    /// To all; the worst answer is the answer.
    AllSync {
        /// The routes.
        children: Vec<String>,
    },
    /// To all; the first answer that is no failure is the answer.
    AllFastest {
        /// The routes.
        children: Vec<String>,
    },
    /// To all; the answer that most of them give is the answer.
    AllMajority {
        /// The routes.
        children: Vec<String>,
    },
    /// To the first; if that fails, to the next. Deletes go to all.
    Failover {
        /// The routes, in their order.
        children: Vec<String>,
        /// Which failures lead to the next; all, if left out.
        #[serde(default)]
        errors: FailoverErrors,
        /// At most so many requests go on to the next; without it, all.
        limit: Option<LimitFile>,
    },
    /// To `normal`; if that fails, to `gutter`, where nothing lives for long. Deletes go to both.
    Gutter {
        /// The route of all requests.
        normal: String,
        /// The route of those that failed.
        gutter: String,
        /// What is stored in the gutter lives for so many seconds at most.
        #[serde(default = "sixty")]
        exptime_s: u32,
        /// Which failures lead to the gutter; all, if left out.
        #[serde(default)]
        errors: FailoverErrors,
        /// At most so many requests go to the gutter; without it, all.
        limit: Option<LimitFile>,
    },
    /// Reads go to the first; if that fails or has nothing, to the next. Updates go to the first, deletes to all.
    MissFailover {
        /// The routes, in their order.
        children: Vec<String>,
    },
    /// Reads go to `cold`; what it has not is looked for in `warm`, and added to `cold`. Everything else goes to `cold`.
    WarmUp {
        /// The cluster that is being filled.
        cold: String,
        /// The cluster that it is filled from.
        warm: String,
        /// What is copied lives for so many seconds at most; without it, for as long as in `warm`.
        exptime_s: Option<u32>,
    },
    /// From one route to another, key by key. Deletes go to both.
    RollOver {
        /// The route of before.
        from: String,
        /// The route of after.
        to: String,
        /// The share of keys that go to `to`, 0 to 100: a key that went there at a lower share still does at a higher.
        percent: f64,
        /// Another salt moves other keys first.
        #[serde(default)]
        salt: String,
    },
    /// To any one. Deletes go to all.
    Random {
        /// The routes.
        children: Vec<String>,
    },
    /// To nobody: reads miss, nothing is stored.
    Null {},
    /// To nobody: an error.
    Error {
        /// What is said after `SERVER_ERROR`.
        message: Option<String>,
    },
}

/// Failures that lead to another route: one list, or one for each class of commands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "errors are a list of failures, or such lists for reads and updates")]
pub enum FailoverErrors {
    /// For everything.
    Same(Vec<Failure>),
    /// Each class its own.
    ByClass(ErrorsByClass),
}

/// A list for each class of commands; all failures, where one is left out. Deletes go to all routes anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorsByClass {
    /// Gets of any kind.
    pub reads: Option<Vec<Failure>>,
    /// What changes a value.
    pub updates: Option<Vec<Failure>>,
}

impl Default for FailoverErrors {
    fn default() -> FailoverErrors {
        FailoverErrors::ByClass(ErrorsByClass::default())
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitFile {
    /// Requests in a second.
    pub rate: f64,
    /// Requests at once; as many as in a second, if left out.
    pub burst: Option<f64>,
}

impl PoolFile {
    /// These nodes, and all else as if it were left out.
    pub fn of(servers: Vec<ServerFile>) -> PoolFile {
        PoolFile {
            servers,
            hashing: ch3(),
            salt: String::new(),
            kind: Kind::default(),
            gutter: None,
            standby: None,
            server_timeout_ms: a_second(),
            connect_timeout_ms: a_second(),
            timeouts_until_tko: three(),
            probe_ms_first: a_second(),
            probe_ms_max: a_minute(),
        }
    }
}

impl ServerFile {
    /// As written.
    pub fn address(&self) -> &str {
        match self {
            ServerFile::Address(address) | ServerFile::Server(Server { address, .. }) => address,
        }
    }
}

impl From<Server> for ServerFile {
    fn from(server: Server) -> ServerFile {
        ServerFile::Server(server)
    }
}

fn ch3() -> Hashing {
    Hashing::Ch3
}

fn a_second() -> u32 {
    1000
}

fn a_minute() -> u32 {
    60_000
}

fn three() -> u32 {
    3
}

fn sixty() -> u32 {
    60
}
