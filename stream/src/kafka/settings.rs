//! [`Settings`], and the properties of the clients that are made of them.

use std::time::Duration;

use rdkafka::ClientConfig;
use schemas::{config::Property, record::UnixMicros};

use crate::{Metrics, StreamError};

/// What the guarantees rest on, under each of its names; nobody may set these from outside.
const OURS: [&str; 23] = [
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
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "request.required.acks",
    "retries",
    "session.timeout.ms",
    "transactional.id",
];

/// The features that this build has.
const BUILT: &[&str] = &[
    #[cfg(feature = "kafka-tls")]
    TLS,
    #[cfg(feature = "kafka-gssapi")]
    KERBEROS,
];
const TLS: &str = "kafka-tls";
const KERBEROS: &str = "kafka-gssapi";

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
    pub properties: Vec<Property>,
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
            share_timeout: Duration::from_secs(4),
            properties: Vec::new(),
            now,
            metrics: Metrics::default(),
        }
    }

    /// Whether the properties are such that may be set, and that this build can serve.
    pub(super) fn check(&self) -> Result<(), StreamError> {
        let refused = |what| Err(StreamError::Refused { what });
        for Property { name, value } in &self.properties {
            if OURS.contains(&name.as_str()) {
                return refused(format!(
                    "the property {name} may not be set: what the stream promises rests on it"
                ));
            }
            if let Some(feature) = feature_of(name, value)
                && !BUILT.contains(&feature)
            {
                return refused(format!(
                    "the property {name} asks for what this build cannot do: build it with --features {feature}"
                ));
            }
        }
        let asks_for_sasl = |property: &Property| {
            property.name == "security.protocol"
                && property.value.to_ascii_lowercase().starts_with("sasl")
        };
        let is_mechanism = |property: &Property| is_mechanism(&property.name);
        let is_vague =
            self.properties.iter().any(asks_for_sasl) && !self.properties.iter().any(is_mechanism);
        if is_vague && !BUILT.contains(&KERBEROS) {
            return refused(format!(
                "security.protocol asks for SASL without a sasl.mechanism: name one (PLAIN, SCRAM-SHA-512); the usual one, GSSAPI, needs a build with --features {KERBEROS}"
            ));
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
        self.client_with(ClientConfig::new())
    }

    /// The same, in place of `defaults`, which stay where nothing is said about them.
    fn client_with(&self, mut config: ClientConfig) -> ClientConfig {
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", "mcsqueal");
        // Back within a second of the broker's return.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        config.set("socket.keepalive.enable", "true").set("socket.nagle.disable", "true");
        config.set("topic.metadata.refresh.interval.ms", "30000");
        for Property { name, value } in &self.properties {
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
        let mut config = self.client_with(config);
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
        let mut config = self.client_with(config);
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

/// The feature without which a build cannot do what this property asks for.
fn feature_of(name: &str, value: &str) -> Option<&'static str> {
    let value = value.to_ascii_lowercase();
    let is_tls = match name {
        "security.protocol" => value.ends_with("ssl"),
        name if is_mechanism(name) => value.starts_with("scram-") || value == "oauthbearer",
        "enable.ssl.certificate.verification" => true,
        _ => name.starts_with("ssl."),
    };
    let is_kerberos = name.starts_with("sasl.kerberos.") || is_mechanism(name) && value == "gssapi";
    is_tls.then_some(TLS).or(is_kerberos.then_some(KERBEROS))
}

/// Both of its names.
fn is_mechanism(name: &str) -> bool {
    matches!(name, "sasl.mechanism" | "sasl.mechanisms")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property((name, value): (&str, &str)) -> Property {
        Property { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn what_needs_a_feature() {
        let mut table = String::new();
        for (name, value) in [
            ("security.protocol", "plaintext"),
            ("security.protocol", "SASL_PLAINTEXT"),
            ("security.protocol", "ssl"),
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", "ca.pem"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("sasl.mechanism", "GSSAPI"),
            ("sasl.kerberos.keytab", "k"),
            ("sasl.username", "ssl."),
        ] {
            table.push_str(&format!("{name}={value}: {:?}\n", feature_of(name, value)));
        }
        expect_test::expect![[r#"
            security.protocol=plaintext: None
            security.protocol=SASL_PLAINTEXT: None
            security.protocol=ssl: Some("kafka-tls")
            security.protocol=SASL_SSL: Some("kafka-tls")
            ssl.ca.location=ca.pem: Some("kafka-tls")
            sasl.mechanism=PLAIN: None
            sasl.mechanisms=SCRAM-SHA-512: Some("kafka-tls")
            sasl.mechanism=GSSAPI: Some("kafka-gssapi")
            sasl.kerberos.keytab=k: Some("kafka-gssapi")
            sasl.username=ssl.: None
        "#]]
        .assert_eq(&table);
    }

    /// Also where there are defaults of ours, which a property may change.
    #[test]
    fn every_client_gets_the_properties() {
        let given = [("sasl.password", "hush"), ("linger.ms", "7"), ("fetch.wait.max.ms", "8")];
        let mut settings = Settings::new("b:9092".to_owned(), "t".to_owned(), || UnixMicros(0));
        settings.properties = given.map(property).into();
        let member = settings.member("g", Duration::from_secs(1));
        let clients = [settings.client(), settings.producer(), settings.consumer(), member];
        for client in clients {
            for (name, value) in given {
                assert_eq!(client.get(name), Some(value));
            }
        }
    }

    /// Nothing that is a secret is in what is said.
    #[test]
    fn refusals_name_the_property_and_no_value() {
        let mut table = String::new();
        let sasl = ("security.protocol", "sasl_plaintext");
        for properties in [
            vec![("compression.type", "zstd"), ("linger.ms", "5")],
            vec![sasl, ("sasl.mechanism", "PLAIN"), ("sasl.password", "hush")],
            vec![sasl, ("sasl.password", "hush")],
            vec![("metadata.broker.list", "hush:9092")],
            vec![("group.protocol", "consumer")],
        ] {
            let mut settings = Settings::new("b:9092".to_owned(), "t".to_owned(), || UnixMicros(0));
            settings.properties = properties.into_iter().map(property).collect();
            let checked = settings.check().map_err(|err| err.to_string());
            assert!(!format!("{settings:?} {checked:?}").contains("hush"));
            table.push_str(&format!("{checked:?}\n"));
        }
        expect_test::expect![[r#"
            Ok(())
            Ok(())
            Err("the stream cannot be used as it is: security.protocol asks for SASL without a sasl.mechanism: name one (PLAIN, SCRAM-SHA-512); the usual one, GSSAPI, needs a build with --features kafka-gssapi")
            Err("the stream cannot be used as it is: the property metadata.broker.list may not be set: what the stream promises rests on it")
            Err("the stream cannot be used as it is: the property group.protocol may not be set: what the stream promises rests on it")
        "#]]
        .assert_eq(&table);
    }
}
