//! The region configuration: one TOML file that says which source feeds which clusters.
//!
//! `region-configs/shop.toml` documents every key, and a test parses it. A file is either valid as a
//! whole or refused as a whole: [`Region::parse`] reports every problem that it finds, each with file,
//! line and key. Pure: relative paths stay relative (to the file's folder), secrets are only named.

mod address;
mod auditor;
mod file;
mod raw;

use std::{fmt, net::SocketAddr, num::NonZeroU16, path::PathBuf, sync::Arc, time::Duration};

pub use address::{Address, AddressError};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::ring::{Hashing, Ring, RingError, RingNode};

/// A valid region configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The region's name, in logs and metrics.
    pub name: Arc<str>,
    /// The files of key rules: one, or several side by side while new rules are rolled out. Never empty.
    pub rules: Vec<PathBuf>,
    /// The database whose changes invalidate keys.
    pub source: Source,
    /// The invalidation log.
    pub stream: Stream,
    /// Cache nodes, cluster by cluster; never empty.
    pub clusters: Vec<Cluster>,
    /// Where `/metrics` and `/health` are served, if at all.
    pub http: Option<SocketAddr>,
    /// How long a daemon that was told to stop may go on with what it began.
    pub shutdown_grace: Duration,
    /// What the auditor watches.
    pub auditor: Auditor,
}

/// What the auditor watches, and when it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auditor {
    /// Where its own side port listens.
    pub listen: Option<SocketAddr>,
    /// The share of all keys.
    pub sample_millionths: u32,
    /// Keys at a time.
    pub watches_max: usize,
    /// When it looks, after a change; rising.
    pub in_flight: Duration,
    pub late: Duration,
    pub lost: Duration,
    /// Schema and table of a row of its own; no canary without.
    pub canary_table: Option<(String, String)>,
    /// How often that is written.
    pub canary_interval: Duration,
    /// What keys should hold.
    pub values: Vec<AuditedValue>,
}

/// What a key should hold, in the words of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedValue {
    /// Which changes concern it: a table or a regex, as in a rule.
    pub table: String,
    /// The key's template.
    pub key: String,
    /// Its parameters are the columns of the key.
    pub sql: String,
    /// A regex: the part of the cached bytes that is compared.
    pub part: Option<String>,
    /// What is cached where there is no row.
    pub absent: Option<String>,
}

/// A MySQL or MariaDB server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The source's name on the stream; checkpoints are kept under it.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// Other servers of its topology, one of which takes its place when it no longer takes writes.
    pub standbys: Vec<Address>,
    /// The account that reads the binlog; `mcsqueal check` prints what it must be granted.
    pub user: String,
    /// Where its password is.
    pub password: Password,
    /// Our id in the replication topology: unique among the source, its replicas and other tailers.
    pub server_id: u32,
    /// Whether the connection is encrypted.
    pub tls: Tls,
    /// Whether keys that statements name in comments are invalidated.
    pub statement_keys: bool,
    /// How often the source is asked for its position, and the answer put on every partition once all of it is there.
    pub progress_interval: Duration,
    /// The other servers that caches are filled from; they take the same account.
    pub replicas: Vec<Address>,
    /// What preflight may find and start all the same.
    pub accept: Vec<Danger>,
    /// Hold-off mode, for several writers at a time: how long a changed key is not stored again. `None`: versions are compared.
    pub hold_off: Option<Duration>,
}

/// What could hide changes, by the name under which a configuration accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Danger {
    /// Statements are logged as they are: each is a floor.
    BinlogFormat,
    /// Rows are logged without some of their columns: what needs those is a floor.
    BinlogRowImage,
    /// Rows are logged without the names of their columns: they are floors.
    BinlogRowMetadata,
    /// Some databases are not logged at all.
    BinlogFilter,
    /// What the server replicates from another is not in its binlog.
    LogReplicaUpdates,
    /// A storage engine whose changes can be on disk and not in the binlog after a crash.
    StorageEngine,
}

impl Danger {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Danger::BinlogFormat => "binlog_format",
            Danger::BinlogRowImage => "binlog_row_image",
            Danger::BinlogRowMetadata => "binlog_row_metadata",
            Danger::BinlogFilter => "binlog_filter",
            Danger::LogReplicaUpdates => "log_replica_updates",
            Danger::StorageEngine => "storage_engine",
        }
    }
}

/// Where a password is read from, at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// The account has none.
    Empty,
    /// An environment variable.
    Env(String),
    /// A file's first line.
    File(PathBuf),
}

/// Encryption of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain TCP; for loopback and trusted networks.
    Off,
    /// TLS with a verified certificate; `ca_file` instead of the public authorities.
    Required { ca_file: Option<PathBuf> },
}

/// The invalidation log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// One SQLite file on this machine.
    Embedded(Embedded),
    /// Topics of a Kafka, which several machines share.
    Kafka(Kafka),
}

/// Settings of the embedded log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The file; made if it is not there.
    pub path: PathBuf,
    /// Partitions; fixed when the file is made.
    pub partitions: NonZeroU16,
    /// The oldest records go when the file holds more than this.
    pub retention_bytes: u64,
    /// Records older than this go.
    pub retention_age: Duration,
}

/// Settings of a log on Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port,...` of some brokers.
    pub brokers: String,
    /// The topic of the records; two more have names that begin with it.
    pub topic: String,
    /// Partitions; fixed when the topic is made.
    pub partitions: NonZeroU16,
    /// Replicas of each partition.
    pub replication: NonZeroU16,
    /// Replicas that have a record before it counts as durable.
    pub in_sync_min: NonZeroU16,
    /// How long records are kept.
    pub retention_age: Duration,
    /// Bytes of records on their way to the brokers.
    pub in_flight_bytes_max: usize,
    /// A writer that is silent for this long is replaced.
    pub session_timeout: Duration,
    /// The partitions of an invalidator that is silent for this long go to the others.
    pub share_timeout: Duration,
    /// Properties for the client library.
    pub properties: Vec<Property>,
    /// More of them, whose values are in files: passwords, keys.
    pub property_files: Vec<(String, PathBuf)>,
}

/// One property for the client library of Kafka. Some are secrets, so no value is ever printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    /// As librdkafka calls it.
    pub name: String,
    /// Whatever it takes.
    pub value: String,
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Property").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Cache nodes that share a key space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's name, in cursors, logs and metrics.
    pub name: Arc<str>,
    /// How its clients spread keys over the nodes.
    pub hashing: Hashing,
    /// A higher one at each change of how keys are spread.
    pub ring_version: u64,
    /// The nodes; never empty, no address twice.
    pub nodes: Vec<Node>,
    /// How keys were spread before, while some clients still do: deletes go to the owners by both.
    pub former: Option<Former>,
    /// Longest time between a reader's SELECT and its `set`: each key is deleted at once, and once
    /// more after this.
    pub fill_age_max: Duration,
    /// Whether clients set markers on stock nodes, which are deleted with the change once every database shows it.
    pub markers: bool,
    /// What a floor means for nodes that know no floors.
    pub on_floor: OnFloor,
    /// What nodes of ours must be shown on their control ports.
    pub control_secret: Option<PathBuf>,
    /// How their control ports are encrypted; `None`: not at all.
    pub control_tls: Option<ControlTls>,
    /// The cluster from which cold nodes of this one become warm.
    pub warm_from: Option<Arc<str>>,
}

/// A ring of before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    pub hashing: Hashing,
    /// Empty: no client uses it any more.
    pub nodes: Vec<Node>,
}

/// Encrypted connections to control ports. Files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlTls {
    /// Nodes must show a certificate that one of these has signed.
    pub ca_file: PathBuf,
    /// What they are shown.
    pub identity: Option<Identity>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub certificate_chain: PathBuf,
    pub key: PathBuf,
}

/// One cache node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it listens; clients hash this text, so write it as they do.
    pub address: Address,
    /// Its share of the keys, relative to the others.
    pub weight: u32,
    /// The control port of a node of ours; `None` for a stock memcached.
    pub control: Option<Address>,
}

impl Cluster {
    /// Which of the nodes owns a key.
    pub fn ring(&self) -> Result<Ring, RingError> {
        let nodes: Vec<RingNode> = self.nodes.iter().map(Node::in_ring).collect();
        Ring::new(self.hashing, &nodes)
    }
}

impl Node {
    /// What clients hash.
    pub fn in_ring(&self) -> RingNode {
        RingNode { name: self.address.to_string(), weight: self.weight }
    }
}

/// What a lane does with a floor (keys are stale that nobody can list) on stock memcached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFloor {
    /// Empties the node. Nothing stale is left.
    FlushAll,
    /// Only raises the alarm: stale values stay until they expire.
    Alarm,
}

/// Why a configuration was refused: every problem found, in the order of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: String,
    problems: Vec<Problem>,
}

#[derive(Debug, PartialEq, Eq)]
struct Problem {
    line: usize,
    what: String,
}

impl Region {
    /// The JSON Schema of region files, for editors.
    pub fn json_schema() -> schemars::Schema {
        schemars::schema_for!(file::RawRegion)
    }

    /// Parses a region file; `file` is only for messages.
    pub fn parse(file: &str, text: &str) -> Result<Region, ConfigError> {
        raw::parse(text).map_err(|problems| ConfigError { file: file.to_owned(), problems })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Problem { line, what }) in self.problems.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}: {what}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const EXAMPLE: &str = include_str!("../../../region-configs/shop.toml");

    #[test]
    fn the_example_is_valid() {
        let region = Region::parse("shop.toml", EXAMPLE).unwrap();
        assert_eq!(region.clusters.len(), 1);
        assert_eq!(region.source.address.to_string(), "127.0.0.1:3306");
    }

    #[test]
    fn a_source_may_have_several_addresses() {
        let text = EXAMPLE.replacen("\"127.0.0.1:3306\"", "[\"db-1:3306\", \"db-2:3306\"]", 1);
        let source = Region::parse("shop.toml", &text).unwrap().source;
        assert_eq!(source.address.to_string(), "db-1:3306");
        let standbys: Vec<String> = source.standbys.iter().map(ToString::to_string).collect();
        assert_eq!(standbys, ["db-2:3306"]);
    }

    #[test]
    fn the_example_on_kafka_is_valid() {
        let text = include_str!("../../../region-configs/shop-kafka.toml");
        let region = Region::parse("shop-kafka.toml", text).unwrap();
        let Stream::Kafka(kafka) = region.stream else { panic!("{:?}", region.stream) };
        assert_eq!((kafka.partitions.get(), kafka.properties.len()), (16, 1));
    }

    #[test]
    fn the_examples_of_two_regions_are_valid() {
        let a = include_str!("../../../region-configs/shop-a.toml");
        let b = include_str!("../../../region-configs/shop-b.toml");
        let [a, b] = [("shop-a.toml", a), ("shop-b.toml", b)]
            .map(|(file, text)| Region::parse(file, text).unwrap());
        assert_eq!((&*a.name, &*b.name), ("shop-a", "shop-b"));
        assert_eq!((a.clusters.len(), b.clusters.len()), (2, 2));
        // One source, one stream, and a replica in B alone.
        assert_eq!(a.source.address, b.source.address);
        assert_eq!((a.source.replicas.len(), b.source.replicas.len()), (0, 1));
        let topic = |region: &Region| match &region.stream {
            Stream::Kafka(kafka) => Some(kafka.topic.clone()),
            Stream::Embedded(_) => None,
        };
        assert!(topic(&a).is_some());
        assert_eq!(topic(&a), topic(&b));
    }

    #[test]
    fn secrets_for_kafka_are_in_files_and_never_printed() {
        let text = include_str!("../../../region-configs/shop-kafka.toml");
        let more = "[stream.kafka.property_files]\n\"sasl.password\" = \"kafka.secret\"\n";
        let with = |inline: &str| {
            let cluster = "# One block per cluster";
            text.replacen(cluster, &format!("{inline}\n{more}{cluster}"), 1)
        };
        let region = Region::parse("k.toml", &with("\"sasl.username\" = \"shop\"")).unwrap();
        let Stream::Kafka(kafka) = region.stream else { panic!("{:?}", region.stream) };
        assert_eq!(kafka.property_files, [("sasl.password".into(), "kafka.secret".into())]);
        expect![[
            r#"[Property { name: "compression.type", .. }, Property { name: "sasl.username", .. }]"#
        ]]
        .assert_eq(&format!("{:?}", kafka.properties));
        let twice = Region::parse("k.toml", &with("\"sasl.password\" = \"hush\"")).unwrap_err();
        expect![
            "k.toml:68: stream.kafka.property_files: sasl.password is among the properties already"
        ]
        .assert_eq(&twice.to_string());
    }

    #[test]
    fn one_stream_and_no_more() {
        check_refused(
            "[stream.embedded]",
            "[stream.kafka]\nbrokers = \"b:9092\"\ntopic = \"t\"\n[stream.embedded]",
            expect!["shop.toml:39: stream: give one of embedded and kafka"],
        );
        let text = include_str!("../../../region-configs/shop-kafka.toml")
            .replace("127.0.0.1:9092", "here")
            .replace("in_sync_min = 2", "in_sync_min = 4");
        expect![[r#"
            k.toml:32: stream.kafka.brokers: "here" is no host:port
            k.toml:40: stream.kafka.in_sync_min: must be from 1 to 3"#]]
        .assert_eq(&Region::parse("k.toml", &text).unwrap_err().to_string());
    }

    fn check_refused(from: &str, to: &str, expect: Expect) {
        assert!(EXAMPLE.contains(from), "edit does not apply: {from}");
        let err = Region::parse("shop.toml", &EXAMPLE.replacen(from, to, 1)).unwrap_err();
        expect.assert_eq(&err.to_string());
    }

    #[test]
    fn rules_may_be_in_several_files() {
        let rules = |text: &str| {
            let text = EXAMPLE.replace("rules = \"shop.rules.toml\"", text);
            Region::parse("shop.toml", &text).map(|region| region.rules)
        };
        let paths = |names: &[&str]| Ok(names.iter().map(PathBuf::from).collect());
        assert_eq!(rules("rules = \"a.toml\""), paths(&["a.toml"]));
        assert_eq!(rules("rules = [\"a.toml\", \"b.toml\"]"), paths(&["a.toml", "b.toml"]));
        check_refused(
            "rules = \"shop.rules.toml\"",
            "rules = []",
            expect!["shop.toml:1: rules: name at least one file"],
        );
    }

    #[test]
    fn unknown_and_mistyped_keys() {
        check_refused(
            "fill_age_ms_max",
            "fill_age_max",
            expect![
                "shop.toml:67: unknown field `fill_age_max`, expected one of `name`, `hashing`, `ring_version`, `nodes`, `former`, `fill_age_ms_max`, `markers`, `on_floor`, `control_secret_file`, `control_tls`, `warm_from`"
            ],
        );
        check_refused(
            "server_id = 4217",
            "server_id = \"4217\"",
            expect![[r#"shop.toml:22: invalid type: string "4217", expected u32"#]],
        );
        check_refused("name = \"shop-eu\"", "", expect!["shop.toml:1: missing field `name`"]);
        check_refused(
            "hashing = \"ketama\"",
            "hashing = \"modulo\"",
            expect![
                "shop.toml:56: unknown variant `modulo`, expected one of `ketama`, `ketama-jenkins`, `rendezvous`, `ch3`, `weighted-ch3`, `crc32`"
            ],
        );
        check_refused(
            "accept = []",
            "accept = [\"everything\"]",
            expect![
                "shop.toml:33: unknown variant `everything`, expected one of `binlog_format`, `binlog_row_image`, `binlog_row_metadata`, `binlog_filter`, `log_replica_updates`, `storage_engine`"
            ],
        );
    }

    #[test]
    fn a_cluster_becomes_warm_from_another_one() {
        let second = |from: &str| {
            let cluster = format!(
                "[[cluster]]\nname = \"new\"\nhashing = \"ketama\"\nwarm_from = \"{from}\"\nnodes = [{{ address = \"127.0.0.1:11213\" }}]\n"
            );
            Region::parse(
                "shop.toml",
                &EXAMPLE.replacen("[http]", &format!("{cluster}\n[http]"), 1),
            )
        };
        let region = second("main").unwrap();
        assert_eq!(region.clusters[1].warm_from.as_deref(), Some("main"));
        for from in ["new", "other"] {
            let refused = second(from).unwrap_err().to_string();
            assert!(refused.contains("cluster.warm_from: there is no other cluster"), "{refused}");
        }
    }

    #[test]
    fn values_that_make_no_sense() {
        check_refused(
            "127.0.0.1:3306",
            "127.0.0.1",
            expect![[r#"shop.toml:13: source.address: "127.0.0.1" is no host:port"#]],
        );
        check_refused(
            "\"127.0.0.1:3306\"",
            "[]",
            expect!["shop.toml:13: source.address: name 1 to 32 servers"],
        );
        check_refused(
            "\"127.0.0.1:3306\"",
            "[\"db-1:3306\", \"db-2\", \"db-1:3306\"]",
            expect![[r#"
                shop.toml:13: source.address: "db-2" is no host:port
                shop.toml:13: source.address: db-1:3306 is listed twice"#]],
        );
        check_refused(
            "server_id = 4217",
            "server_id = 0",
            expect![
                "shop.toml:22: source.server_id: must be from 1 to 4294967295, and unique in the topology"
            ],
        );
        check_refused(
            "password_env = \"MCSQUEAL_SOURCE_PASSWORD\"",
            "password_env = \"A\"\npassword_file = \"b\"",
            expect![
                "shop.toml:18: source.password_file: give one of password_env and password_file"
            ],
        );
        check_refused(
            "{ address = \"127.0.0.1:11211\" },",
            "{ address = \"127.0.0.1:11212\" },",
            expect!["shop.toml:81: cluster.nodes: 127.0.0.1:11212 is listed twice"],
        );
        check_refused(
            "partitions = 1",
            "partitions = 0",
            expect!["shop.toml:43: stream.embedded.partitions: must be from 1 to 1024"],
        );
        check_refused(
            "fill_age_ms_max = 10000",
            "fill_age_ms_max = 0",
            expect!["shop.toml:67: cluster.fill_age_ms_max: must be from 1 to 3600000"],
        );
    }

    #[test]
    fn every_problem_is_reported() {
        let text =
            EXAMPLE.replace("server_id = 4217", "server_id = 0").replace("127.0.0.1:3306", "here");
        expect![[r#"
            shop.toml:13: source.address: "here" is no host:port
            shop.toml:22: source.server_id: must be from 1 to 4294967295, and unique in the topology"#]]
        .assert_eq(&Region::parse("shop.toml", &text).unwrap_err().to_string());
    }
}
