//! The cases that every backend of the stream must pass, on Kafka; and what only Kafka can do wrong.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use e2e::lab::enter;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};
use stream::kafka::{Kafka, KafkaCursors, KafkaReader, KafkaWriter, Settings};

use crate::suite::{self, Home};

static TOPICS: AtomicU32 = AtomicU32::new(0);

/// A log of its own in a Kafka that others use as well.
pub(crate) struct Topic {
    pub(crate) settings: Settings,
}

impl Topic {
    pub(crate) fn new(brokers: String) -> Topic {
        let topic = format!("t{}", TOPICS.fetch_add(1, Ordering::Relaxed));
        let settings = Settings {
            partitions: suite::PARTITIONS,
            replication: 1,
            in_sync_min: 1,
            session_timeout: Duration::from_secs(1),
            share_timeout: Duration::from_secs(2),
            ..Settings::new(brokers, topic, suite::now)
        };
        Topic { settings }
    }

    pub(crate) async fn open(&self) -> Kafka {
        Kafka::open(self.settings.clone()).await.expect("the log is there")
    }
}

impl Home for Topic {
    type Writer = KafkaWriter;
    type Reader = KafkaReader;
    type Cursors = KafkaCursors;

    async fn lead(&self) -> KafkaWriter {
        self.open().await.lead().await.expect("leading")
    }

    async fn reader(&self) -> KafkaReader {
        self.open().await.reader().await.expect("a reader")
    }

    async fn cursors(&self, _: &KafkaWriter) -> KafkaCursors {
        self.open().await.cursors().await.expect("cursors")
    }

    async fn desk(&self) -> stream::Desk {
        stream::Desk::Kafka(self.open().await)
    }

    async fn forget(&self, keep: u64) {
        forget(&self.settings.brokers, &self.settings.topic, 0, keep).await;
    }
}

/// Retention removes all records of a partition but the newest `keep`.
pub(crate) async fn forget(brokers: &str, topic: &str, partition: u16, keep: u64) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "test");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let deadline = Duration::from_secs(10);
    let partition = i32::from(partition);
    let (_, end) = consumer.fetch_watermarks(topic, partition, deadline).expect("an end");
    let admin: AdminClient<DefaultClientContext> = config.create().expect("an admin");
    let mut before = TopicPartitionList::new();
    let keep = i64::try_from(keep).expect("few");
    before.add_partition_offset(topic, partition, Offset::Offset(end - keep)).expect("an offset");
    admin.delete_records(&before, &AdminOptions::new()).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn does_what_every_backend_must() {
    let Some(lab) = enter("does_what_every_backend_must", &["kafka"]).await else { return };
    let kafka = lab.servers.kafka().await.expect("kafka");
    suite::all(async || Topic::new(kafka.address())).await;
}
