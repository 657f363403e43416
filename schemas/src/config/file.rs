//! The region file as written. What stands here about each key is also what editors show: the published schema is made of it.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{Danger, OnFloor, auditor::RawAuditor, relay::RawRelay};
use crate::ring::Hashing;

/// A region: one database, the stream of its invalidations, and the cache nodes in front of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "mcsqueal region")]
pub(super) struct RawRegion {
    /// Names the region in logs and metrics.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// Which row feeds which keys: a rules file, or several side by side while new rules are rolled out. Relative paths are relative to this file.
    pub(super) rules: RawRules,
    /// The database whose changes invalidate keys.
    pub(super) source: RawSource,
    /// The invalidation log: `embedded` on this machine, or `kafka`.
    pub(super) stream: RawStream,
    /// One block per cluster: nodes that share the keys among themselves.
    #[serde(default)]
    pub(super) cluster: Vec<RawCluster>,
    /// Where `/metrics` and `/health` are served.
    pub(super) http: Option<RawHttp>,
    /// How the daemon stops.
    #[serde(default)]
    pub(super) shutdown: RawShutdown,
    /// What `mcsqueal auditor` watches.
    #[serde(default)]
    pub(super) auditor: RawAuditor,
}

/// One file, or several side by side.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "give one file, or a list of files")]
#[schemars(rename = "Rules")]
pub(super) enum RawRules {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

/// A MySQL or MariaDB server, and those that may take its place.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Source")]
pub(super) struct RawSource {
    /// Its name on the stream; the tailer's checkpoint is kept under it.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// `host:port`, or all servers that may ever take writes: the one that takes them is read.
    #[schemars(with = "OneOrMore")]
    pub(super) address: Spanned<OneOrMore>,
    /// The account that reads the binlog; `mcsqueal check` prints what it must be granted.
    pub(super) user: String,
    /// The environment variable that has its password.
    pub(super) password_env: Option<String>,
    /// The file whose first line is its password.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) password_file: Option<Spanned<PathBuf>>,
    /// Our id in the replication topology: not that of the source, of a replica, or of another tailer.
    #[schemars(with = "u32")]
    pub(super) server_id: Spanned<u32>,
    /// "required" verifies the server's certificate; "off" is for loopback and trusted networks.
    #[serde(default)]
    pub(super) tls: RawTls,
    /// The authority of the server's certificate, instead of the public ones.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) tls_ca_file: Option<Spanned<PathBuf>>,
    /// Whether keys that statements name, like `/* mcsqueal: user:1 */`, are invalidated: it trusts whoever can write SQL.
    #[serde(default)]
    pub(super) statement_keys: bool,
    /// How often each partition says how far it is, in milliseconds.
    #[schemars(with = "Option<u64>")]
    pub(super) progress_interval_ms: Option<Spanned<u64>>,
    /// The other servers that caches are filled from, `host:port`; they take the same account.
    #[schemars(with = "Vec<String>")]
    #[serde(default)]
    pub(super) replicas: Vec<Spanned<String>>,
    /// What `mcsqueal check` refuses because it could hide changes, and what is run all the same, by the name that it says.
    #[serde(default)]
    pub(super) accept: Vec<Danger>,
    /// Hold-off mode, for several writers at a time and for servers without GTIDs: a changed key is not stored again for so many milliseconds.
    #[schemars(with = "Option<u64>")]
    pub(super) hold_off_ms: Option<Spanned<u64>>,
}

/// `"db-1:3306"`, or `["db-1:3306", "db-2:3306"]`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// Encryption of the connection to the database.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Tls")]
pub(super) enum RawTls {
    /// None.
    Off,
    /// With a verified certificate.
    #[default]
    Required,
}

/// The invalidation log; one of the two, and how it comes to other regions.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Stream")]
pub(super) struct RawStream {
    /// In a file on this machine.
    pub(super) embedded: Option<RawEmbedded>,
    /// In a Kafka, which several machines share.
    #[schemars(with = "Option<RawKafka>")]
    pub(super) kafka: Option<Spanned<RawKafka>>,
    /// How it comes to other regions.
    pub(super) relay: Option<RawRelay>,
}

/// A log in Kafka.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Kafka")]
pub(super) struct RawKafka {
    /// Some of the brokers, `host:port`, separated by commas.
    #[schemars(with = "String")]
    pub(super) brokers: Spanned<String>,
    /// Three topics are made at the first start: this one, and two whose names begin with it.
    #[schemars(with = "String")]
    pub(super) topic: Spanned<String>,
    /// Fixed when the topic is made.
    #[schemars(with = "Option<u16>")]
    pub(super) partitions: Option<Spanned<u16>>,
    /// Replicas of each partition.
    #[schemars(with = "Option<u64>")]
    pub(super) replication: Option<Spanned<u64>>,
    /// How many of them must have a record before it counts as durable.
    #[schemars(with = "Option<u64>")]
    pub(super) in_sync_min: Option<Spanned<u64>>,
    /// How long records are kept, in seconds; a region that was away for longer begins with empty caches.
    #[schemars(with = "Option<u64>")]
    pub(super) retention_s: Option<Spanned<u64>>,
    /// Records on their way to the brokers, in bytes; beyond that, the binlog waits.
    #[schemars(with = "Option<u64>")]
    pub(super) in_flight_bytes_max: Option<Spanned<u64>>,
    /// A writer that is silent for this long is replaced.
    #[schemars(with = "Option<u64>")]
    pub(super) session_timeout_ms: Option<Spanned<u64>>,
    /// The partitions of a process that is silent for this long go to the others.
    #[schemars(with = "Option<u64>")]
    pub(super) share_timeout_ms: Option<Spanned<u64>>,
    /// Any property of librdkafka, but those that the guarantees rest on.
    #[serde(default)]
    pub(super) properties: BTreeMap<String, String>,
    /// Properties that are secrets, each in a file of its own.
    #[schemars(with = "BTreeMap<String, PathBuf>")]
    #[serde(default)]
    pub(super) property_files: BTreeMap<String, Spanned<PathBuf>>,
}

/// A log in one SQLite file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Embedded")]
pub(super) struct RawEmbedded {
    /// The file; made at the first start.
    pub(super) path: PathBuf,
    /// Fixed when the file is made.
    #[schemars(with = "Option<u16>")]
    pub(super) partitions: Option<Spanned<u16>>,
    /// What is more than this is dropped; a node that was away for longer is emptied.
    #[schemars(with = "Option<u64>")]
    pub(super) retention_bytes: Option<Spanned<u64>>,
    /// What is older than this, in seconds, is dropped.
    #[schemars(with = "Option<u64>")]
    pub(super) retention_s: Option<Spanned<u64>>,
}

/// Nodes that share the keys among themselves.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Cluster")]
pub(super) struct RawCluster {
    /// Names the cluster in logs, metrics and cursors.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// How clients spread their keys over the nodes.
    pub(super) hashing: Hashing,
    /// A higher one at each change of how keys are spread: nodes are told by which ring they get their deletes.
    #[serde(default)]
    pub(super) ring_version: u64,
    /// The nodes, in any order; their addresses as clients write them.
    #[schemars(with = "Vec<RawNode>")]
    pub(super) nodes: Vec<Spanned<RawNode>>,
    /// The nodes of before, as long as some client uses them; no nodes, if none does.
    pub(super) former: Option<RawFormer>,
    /// Longest time between a reader's SELECT and its `set`: stock nodes delete each key at once and again after this.
    #[schemars(with = "Option<u64>")]
    pub(super) fill_age_ms_max: Option<Spanned<u64>>,
    /// Whether clients of stock nodes set markers (`r_` and the key) before they write: once every database shows a change, its key is
    /// deleted again, and its marker with it.
    #[serde(default)]
    pub(super) markers: bool,
    /// What stock nodes do when stale keys cannot be listed.
    pub(super) on_floor: Option<OnFloor>,
    /// What the control ports must be shown: a file whose first line has at least 16 bytes.
    pub(super) control_secret_file: Option<PathBuf>,
    /// How the control ports are encrypted.
    pub(super) control_tls: Option<RawControlTls>,
    /// The cluster from which cold nodes of this one become warm; their own files say that they do.
    #[schemars(with = "Option<String>")]
    pub(super) warm_from: Option<Spanned<String>>,
}

/// How keys were spread before the last change of that.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Former")]
pub(super) struct RawFormer {
    /// If it was another one.
    pub(super) hashing: Option<Hashing>,
    /// All nodes, also those that have stayed.
    #[schemars(with = "Vec<RawNode>")]
    pub(super) nodes: Vec<Spanned<RawNode>>,
}

/// TLS to other daemons of ours.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ControlTls")]
pub(super) struct RawControlTls {
    /// The authority of their certificates.
    pub(super) ca_file: PathBuf,
    /// Our certificate, for those that ask for one.
    pub(super) certificate_chain: Option<PathBuf>,
    /// Its private key.
    pub(super) key: Option<PathBuf>,
}

/// A cache node.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Node")]
pub(super) struct RawNode {
    /// `host:port`, as clients write it: they hash this text.
    #[schemars(with = "String")]
    pub(super) address: Spanned<String>,
    /// Its share of the keys; 1 if left out. For `weighted-ch3` in millionths: 1000000 is mcrouter's 1.0.
    #[schemars(with = "Option<u32>")]
    pub(super) weight: Option<Spanned<u32>>,
    /// The control port of a node of ours, `host:port`: it gets each delete once, with its version.
    #[schemars(with = "Option<String>")]
    pub(super) control: Option<Spanned<String>>,
}

/// Metrics and health.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Http")]
pub(super) struct RawHttp {
    /// `ip:port`.
    pub(super) listen: SocketAddr,
}

/// How the daemon stops.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Shutdown")]
pub(super) struct RawShutdown {
    /// How long deletes that are on their way may take after SIGTERM, in milliseconds.
    pub(super) grace_ms: u64,
}

impl Default for RawShutdown {
    fn default() -> RawShutdown {
        RawShutdown { grace_ms: 5000 }
    }
}
