//! A second Kafka, filled by a plain copying consumer, serves a region of its own without any change.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use e2e::{
    busy::{Busy, TOPIC},
    lab::{enter, needs_on_kafka, until},
    servers::{Kind, McsquealOptions, StreamPlace},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::OwnedMessage,
    producer::{BaseProducer, BaseRecord, Producer},
};
use schemas::{
    cursor::{Partition, Place},
    record::Record,
};
use stream::{Reader, kafka::KafkaReader};
use tokio::time::sleep;

use crate::{readers::reader, suite::read_all, tools::Cache};

const GUARD: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 4;
const PLANTED: u32 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_mirrored_kafka_serves_a_region() {
    let needs = needs_on_kafka(Kind::Mysql);
    let Some(lab) = enter("a_mirrored_kafka_serves_a_region", &needs).await else { return };
    let busy = Busy::start_on_kafka(lab, Kind::Mysql).await;
    let origin = busy.kafka.as_ref().expect("on kafka").address();
    let copy = busy.lab.servers.kafka().await.expect("another Kafka");
    let mirror = Mirror::start(origin.clone(), copy.address()).await;

    let far = busy.lab.servers.memcached().await.expect("a memcached");
    let mut region = busy.region.clone();
    region.nodes = vec![far.address()];
    region.stream = StreamPlace::Kafka { brokers: copy.address(), topic: TOPIC.to_owned() };
    let options = McsquealOptions { command: "invalidator", ..McsquealOptions::default() };
    let mut invalidator =
        busy.lab.servers.mcsqueal(&region, &options).await.expect("the invalidator is ready");

    let reader = reader(&origin).await;
    let mut heads = Vec::new();
    for partition in (0..reader.partitions()).map(Partition) {
        heads.push(reader.head(partition).await.expect("a head"));
    }
    let cache = Cache::of(&far.address());
    for number in 0..PLANTED {
        cache.set(&format!("user:{number}")).await;
    }
    sleep(Duration::from_secs(4)).await;
    let changed = users(&reader, &heads).await;
    assert!(changed.len() > 5, "hardly anybody changed: {changed:?}");
    until("every changed key is gone, far away", GUARD, async || {
        let mut left = 0;
        for key in &changed {
            left += u32::from(cache.has(key).await);
        }
        left == 0
    })
    .await;
    invalidator.stop().await.expect("the invalidator stops");
    drop(mirror);
    busy.nothing_is_stale().await;
}

/// The planted keys that were invalidated after `heads`.
async fn users(reader: &KafkaReader, heads: &[Place]) -> BTreeSet<String> {
    let planted: BTreeSet<String> = (0..PLANTED).map(|number| format!("user:{number}")).collect();
    let mut found = BTreeSet::new();
    for (partition, head) in (0..).zip(heads) {
        for entry in read_all(reader, partition, *head).await.0 {
            let Record::Invalidations(invalidations) = entry.record else { continue };
            let keys = invalidations.transactions.into_iter().flat_map(|part| part.keys);
            found.extend(keys.map(|key| key.key.to_string()).filter(|key| planted.contains(key)));
        }
    }
    found
}

/// Copies records with their headers and partitions as they come, and knows nothing of what they say.
struct Mirror {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Mirror {
    async fn start(from: String, to: String) -> Mirror {
        let topics = [(TOPIC.to_owned(), PARTITIONS), (format!("{TOPIC}-state"), 1)];
        let admin: AdminClient<DefaultClientContext> = config(&to).create().expect("an admin");
        for (topic, partitions) in &topics {
            let policy = if *partitions == 1 { "compact" } else { "delete" };
            let new = NewTopic::new(topic, *partitions, TopicReplication::Fixed(1));
            let new = new.set("cleanup.policy", policy);
            admin.create_topics([&new], &AdminOptions::new()).await.expect("made");
        }
        let consumer: BaseConsumer = config(&from).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in &topics {
            for partition in 0..*partitions {
                list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
            }
        }
        consumer.assign(&list).expect("assigned");
        let producer: BaseProducer = config(&to).create().expect("a producer");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                    copy_record(&producer, &message.detach(), message.topic());
                }
                producer.poll(Duration::ZERO);
            }
            producer.flush(GUARD).expect("copied");
        });
        let mirror = Mirror { stop, thread: Some(thread) };
        // The log's name is the first note.
        let consumer: BaseConsumer = config(&to).create().expect("a consumer");
        until("the copy has begun", GUARD, async || {
            let ends = consumer.fetch_watermarks(&topics[1].0, 0, GUARD);
            ends.is_ok_and(|ends| ends.1 > 0)
        })
        .await;
        mirror
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the mirror ends");
        }
    }
}

/// A record as it is, in the same partition of the topic `to`.
pub(crate) fn copy_record(producer: &BaseProducer, message: &OwnedMessage, to: &str) {
    let mut record = BaseRecord::<[u8], [u8]>::to(to).partition(message.partition());
    if let Some(key) = message.key() {
        record = record.key(key);
    }
    if let Some(payload) = message.payload() {
        record = record.payload(payload);
    }
    if let Some(headers) = message.headers() {
        record = record.headers(headers.clone());
    }
    record.timestamp = message.timestamp().to_millis();
    producer.send(record).expect("sent");
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "mirror");
    config
}
