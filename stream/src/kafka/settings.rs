//! [`Settings`], and the properties of the clients that are made of them.

use std::time::Duration;

use rdkafka::ClientConfig;
use schemas::record::UnixMicros;

use crate::{Metrics, StreamError};

/// What the guarantees rest on; nobody may set these from outside.
const OURS: [&str; 16] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.timeout.ms",
    "request.required.acks",
    "retries",
    "transactional.id",
];

/// Where the log is, and how it is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port,...` of some brokers.
    pub brokers: String,
    /// The topic of the records. `TOPIC-state` (checkpoints, epochs, terms) and `TOPIC-cursors` stand beside it.
    pub topic: String,
    /// Partitions of a new topic; one that is there keeps its own.
    pub partitions: u16,
    /// Replicas of each partition that must be there.
    pub replication: u16,
    /// Of these, how many must have a record before it counts as durable.
    pub in_sync_min: u16,
    /// How long records are kept, at least.
    pub retention_age: Duration,
    /// Bytes of records on their way to the brokers; beyond that, appending waits. They are held twice: by us, to be
    /// sent again, and by the client library.
    pub in_flight_bytes_max: usize,
    /// After this without a sign of life, a leader is replaced. The brokers' `group.min.session.timeout.ms` may demand
    /// more.
    pub session_timeout: Duration,
    /// After this without a sign of life, the partitions of a process that shares them go to the others. Likewise.
    pub share_timeout: Duration,
    /// More properties for librdkafka (TLS, SASL, compression); see its CONFIGURATION.md.
    pub properties: Vec<(String, String)>,
    /// The clock.
    pub now: fn() -> UnixMicros,
    /// What is counted.
    pub metrics: Metrics,
}

/// Largest message that the producer makes and topics must take. A tailer's records are far smaller, but one with a
/// single transaction of long keys may exceed its limit by one key.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 20;

impl Settings {
    /// The usual ones for a log of three replicas.
    pub fn new(brokers: String, topic: String, now: fn() -> UnixMicros) -> Settings {
        Settings {
            brokers,
            topic,
            partitions: 16,
            replication: 3,
            in_sync_min: 2,
            retention_age: Duration::from_secs(24 * 3600),
            in_flight_bytes_max: 32 << 20,
            session_timeout: Duration::from_secs(3),
            share_timeout: Duration::from_secs(6),
            properties: Vec::new(),
            now,
            metrics: Metrics::default(),
        }
    }

    /// The first property that nobody may set, if one of ours is among them.
    pub fn refused_property<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        names.find(|name| OURS.contains(name))
    }

    pub(super) fn check(&self) -> Result<(), StreamError> {
        let names = self.properties.iter().map(|(name, _)| name.as_str());
        if let Some(name) = Settings::refused_property(names) {
            let what =
                format!("the property {name} may not be set: what the stream promises rests on it");
            return Err(StreamError::Refused { what });
        }
        Ok(())
    }

    /// The topic of checkpoints, epochs and terms.
    pub fn state_topic(&self) -> String {
        format!("{}-state", self.topic)
    }

    /// The topic of cursors.
    pub fn cursors_topic(&self) -> String {
        format!("{}-cursors", self.topic)
    }

    /// What every client has.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", "mcsqueal");
        // Back within a second of the broker's return.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        config.set("socket.keepalive.enable", "true").set("socket.nagle.disable", "true");
        config.set("topic.metadata.refresh.interval.ms", "30000");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// Nothing is lost, doubled or moved, however long it takes.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // Defaults for latency; a busy producer fills its batches anyhow, because few requests are under way at once.
        config.set("linger.ms", "0").set("compression.type", "lz4");
        config.set("batch.size", "1048576").set("batch.num.messages", "100000");
        config.set("queue.buffering.max.messages", "2000000");
        let kib = (self.in_flight_bytes_max / 1024).saturating_mul(2).saturating_add(65_536);
        config.set("queue.buffering.max.kbytes", kib.min(2_097_151).to_string());
        config.set("retry.backoff.ms", "50").set("retry.backoff.max.ms", "1000");
        let mut config = merged(config, &self.client());
        config.set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
        config.set("enable.idempotence", "true").set("acks", "all");
        config.set("message.timeout.ms", "0");
        config
    }

    /// Reads partitions that it is told, from offsets that it is told.
    pub(super) fn consumer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("fetch.wait.max.ms", "100").set("fetch.error.backoff.ms", "50");
        config.set("fetch.queue.backoff.ms", "5");
        config.set("queued.max.messages.kbytes", "16384").set("queued.min.messages", "1000000");
        config.set("fetch.message.max.bytes", (MESSAGE_BYTES_MAX / 2).to_string());
        let mut config = merged(config, &self.client());
        config.set("group.id", format!("{}-unused", self.topic));
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        // What is gone shows as a hole in the sequences.
        config.set("auto.offset.reset", "earliest");
        config
    }

    /// Looks at single records.
    pub(super) fn looker(&self) -> ClientConfig {
        let mut config = self.consumer();
        config.set("fetch.wait.max.ms", "10").set("queued.min.messages", "1");
        config.set("fetch.message.max.bytes", "16384");
        config
    }

    /// Member of a group.
    pub(super) fn member(&self, group: &str, session_timeout: Duration) -> ClientConfig {
        let mut config = self.client();
        config.set("group.id", group);
        config.set("session.timeout.ms", session_timeout.as_millis().to_string());
        config.set("heartbeat.interval.ms", (session_timeout.as_millis() / 6).max(50).to_string());
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "latest");
        // Whoever joins takes nothing from those who are there, but what is his share.
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config
    }
}

/// `defaults`, unless `config` says otherwise.
fn merged(defaults: ClientConfig, config: &ClientConfig) -> ClientConfig {
    let mut merged = defaults;
    for (name, value) in config.config_map() {
        merged.set(name, value);
    }
    merged
}
